"""Partition function: read one partition, score it, write it, commit it. Local processes and Ray use the same one.

Files of each partition under the output:
- `part-<number>.parquet`, and `quarantine/part-<number>.parquet` if rows were set aside;
- `done/<number>.json`: the commit with counts, written after the data.

Every write is atomic. A partition that is written again after a kill has the same rows and the same names.
"""

import json
from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

import pyarrow as pa

from absa.adapters.lake_stores import open_lake
from absa.batch.batch_input import BatchInput, Partition
from absa.batch.batch_log import PredictionLog
from absa.batch.reader import PartitionReader
from absa.batch.score import LINE, REASON, ROW_ID, score_partition
from absa.inference.engine import Engine
from absa.records.layout import job_commit_key, job_part_key, job_quarantine_key
from absa.records.schema import utc_now
from absa.records.tables import write_parquet


@dataclass(frozen=True, kw_only=True)
class Assignment:
    """Settings of a worker: the input, the folder of the model package, the output, and the name of the version."""

    source: BatchInput
    output_uri: str
    package: Path
    version: str
    log: PredictionLog | None = None


@dataclass(frozen=True, kw_only=True)
class PartitionCommit:
    """Commit of one partition. `size` is the number of input bytes of the partition.

    `first_bad` names the first quarantined row. `as_written` counts the rows with a double quote that was read as an
    ordinary character; `first_as_written` names the first of them.
    """

    number: int
    rows: int
    quarantined: dict[str, int] = field(default_factory=dict)
    by_label: dict[str, int] = field(default_factory=dict)
    size: int = 0
    first_bad: str | None = None
    as_written: int = 0
    first_as_written: str | None = None

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> Self:
        """Read a commit of this or an earlier release, which named the counts of labels `by_sentiment`."""
        counted = content.pop("by_sentiment", {})
        return cls(**{"by_label": counted, **content})

    @property
    def total(self) -> int:
        """Number of all rows, the quarantined ones included."""
        return self.rows + sum(self.quarantined.values())


class PartitionWorker:
    """One engine and one reader. Not safe to use from several threads.

    Raises:
        IntegrityError: the package is broken.
    """

    def __init__(self, assignment: Assignment) -> None:
        self._assignment = assignment
        self._engine = Engine.load(assignment.package)
        self._reader = PartitionReader(assignment.source)
        self._output = open_lake(assignment.output_uri)

    def score(self, partition: Partition) -> PartitionCommit:
        """Score a partition into the output.

        Raises:
            InvalidDataError: the input has changed.
            UnavailableError: the input or the output is unavailable.
        """
        given, log = self._assignment, self._assignment.log
        rows = self._reader.read(partition)
        found = score_partition(
            self._engine,
            rows,
            text=given.source.text,
            aspect=given.source.aspect,
            version=given.version,
            scored_at=utc_now() if log is None else log.claim_time(partition.number, utc_now()),
            request_ids=None if log is None else log.request_ids,
        )
        write_parquet(self._output, job_part_key(partition.number), found.scored)
        if found.quarantined.num_rows:
            write_parquet(self._output, job_quarantine_key(partition.number), found.quarantined)
        if log is not None:
            log.write(partition.number, found.scored, given.source)
        labels = Counter(found.scored.column("label").to_pylist())
        counts = PartitionCommit(
            number=partition.number,
            rows=found.scored.num_rows,
            quarantined=dict(sorted(Counter(found.quarantined.column(REASON).to_pylist()).items())),
            by_label={name: labels[label] for label, name in enumerate(self._engine.task.labels)},
            size=partition.size,
            first_bad=_first_bad(found.quarantined, partition, given.source),
            as_written=len(rows.as_written),
            first_as_written=f"{rows.as_written[0][0]} line {rows.as_written[0][1]}" if rows.as_written else None,
        )
        self._output.write(job_commit_key(partition.number), json.dumps(asdict(counts)).encode())
        return counts


def _first_bad(quarantined: pa.Table, partition: Partition, source: BatchInput) -> str | None:
    """Return file, line or row, and reason of the first quarantined row of a partition; None if there is none."""
    if not quarantined.num_rows:
        return None
    first = quarantined.slice(0, 1).select([ROW_ID, LINE, REASON]).to_pylist()[0]
    at = first[ROW_ID] - partition.first_row
    for span in partition.spans:
        if at < span.rows:
            break
        at -= span.rows
    place = f"line {first[LINE]}" if first[LINE] is not None else f"row {span.start + at + 1}"
    return f"{source.files[span.file].uri} {place}: {first[REASON]}"
