"""Batch job: cut the input, score partitions, write each one once; a repeated run scores only missing partitions.

Files under the output:
- `job.json`: description of the job, written once;
- files of each partition, written by workers (absa.batch.partition_job);
- `manifest.json`: the commit of the job, written after the commits of all partitions.
"""

import hashlib
import json
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Protocol

from absa.adapters.lake_stores import open_lake
from absa.batch.batch_input import BatchInput, Partition, cut_partitions, inspect, mapping_for
from absa.batch.batch_log import PredictionLog
from absa.batch.local import LocalProcesses
from absa.batch.partition_job import Assignment, PartitionCommit
from absa.data.files import MAX_BAD_SHARE
from absa.data.mapping import DEFAULT_MAPPING, DataMapping
from absa.errors import AlreadyExistsError, ConflictError, IntegrityError, InvalidDataError, NotFoundError
from absa.inference.package import ModelPackage, load_package
from absa.records.lake import Lake
from absa.records.layout import JOB, JOB_COMMITS, JOB_MANIFEST, JOB_PARTS, job_part_key
from absa.records.schema import SCHEMA_VERSION, iso, utc_now
from absa.task import ABSA, TaskSpec

PARTITION_ROWS: Final = 5_000
_READERS: Final = 16
_SAME: Final = {
    "input_digest": "input",
    "model_version": "version",
    "model_digest": "model package",
    "text_column": "text column",
    "aspect_column": "phrase column",
    "partition_rows": "partition size",
    "logged_to": "prediction log",
}


@dataclass(frozen=True, kw_only=True)
class BatchJob:
    """Description of a job. Two jobs with equal fields give equal output.

    `mapping` is the home's; see `mapping_for` for a package of another task. `max_bad_share` (0 to 1) is the share of
    quarantined rows above which the job fails. If `log_uri` is set, the answers are also written to that lake as
    prediction records; `secret` and `redact_text` are settings of the service, see `PredictionLog`.
    """

    input_uri: str
    output_uri: str
    package: Path
    version: str
    partition_rows: int = PARTITION_ROWS
    max_bad_share: float = MAX_BAD_SHARE
    log_uri: str | None = None
    secret: bytes = field(default=b"", repr=False)
    redact_text: bool = False
    mapping: DataMapping = DEFAULT_MAPPING


@dataclass(frozen=True, kw_only=True)
class BatchProgress:
    """Progress of a job.

    `partitions`, `rows` and `share` (of the input's bytes, 0 to 1) include earlier runs of the job; `rows_per_s` and
    `elapsed_s` are of this run alone. `eta_s` is None until an estimate exists.
    """

    partitions: int
    rows: int
    share: float
    rows_per_s: float
    elapsed_s: float
    eta_s: float | None


@dataclass(frozen=True, kw_only=True)
class BatchResult:
    """Result of a job. `already_done` is True if an earlier run had finished the job, so nothing was scored."""

    manifest: dict[str, Any]
    already_done: bool


class Engines(Protocol):
    """Engine that scores partitions: `LocalProcesses` or `absa.batch.ray_cluster.RayCluster`."""

    def run(
        self,
        assignment: Assignment,
        missing: Callable[[], Iterator[Partition]],
        note: Callable[[PartitionCommit], None],
    ) -> None:
        """Score every partition that `missing` yields, and call `note` when a partition is committed."""


def run_batch(
    job: BatchJob,
    *,
    engines: Engines | None = None,
    on_progress: Callable[[BatchProgress], None] = lambda _: None,
) -> BatchResult:
    """Score an input into an output, or finish the job of an earlier run.

    Args:
        job: description of the job.
        engines: processes that score; by default one per core of this machine.
        on_progress: called after every partition.

    Raises:
        InvalidDataError: the input cannot be read, or more of its rows are bad than the job allows.
        ConflictError: the output belongs to another input, version or partition size.
        IntegrityError: the package is broken.
        NotFoundError: a cluster's workers wrote to another disk than the one that this process reads.
        TransientError: workers were killed repeatedly, or the input, the output or the cluster is unavailable.
    """
    _keep_apart(job)
    package, output = load_package(job.package), open_lake(job.output_uri)
    source = inspect(job.input_uri, mapping_for(job.mapping, package.config.task))
    identity = _identity(job, source, package)
    _claim(output, identity, job.output_uri)
    if output.exists(JOB_MANIFEST):
        return BatchResult(manifest=json.loads(output.read(JOB_MANIFEST)), already_done=True)

    started_at = utc_now()
    state = _State(source, _committed(output), on_progress)
    total = rows_read = 0

    def missing() -> Iterator[Partition]:
        nonlocal total, rows_read
        rows_read = 0
        for partition in cut_partitions(source, job.partition_rows):
            total, rows_read = partition.number + 1, rows_read + partition.rows
            if partition.number not in state.counts:
                yield partition

    assignment = Assignment(
        source=source,
        output_uri=job.output_uri,
        package=job.package,
        version=job.version,
        log=None if job.log_uri is None else PredictionLog(
            lake_uri=job.log_uri, output_uri=job.output_uri, job=identity["job"], secret=job.secret,
            redact_text=job.redact_text,
        ),
    )  # fmt: skip
    (engines or LocalProcesses()).run(assignment, missing, state.note)
    counts = [state.counts[number] for number in range(total)]
    _check_written(output, total)
    manifest = _manifest(identity, package.config.task, counts, rows_read)
    _check_bad_share(manifest, job)
    manifest |= {
        "started_at": iso(started_at),
        "finished_at": iso(utc_now()),
        "elapsed_s": round(state.elapsed_s, 3),
    }
    output.write(JOB_MANIFEST, json.dumps(manifest, indent=1).encode())
    return BatchResult(manifest=manifest, already_done=False)


class _State:
    """Committed partitions, and the speed of the job."""

    def __init__(
        self, source: BatchInput, counts: dict[int, PartitionCommit], on_progress: Callable[[BatchProgress], None]
    ) -> None:
        self.counts = counts
        self._size = source.size
        self._on_progress = on_progress
        self._started = time.monotonic()
        self._rows = self._rows_before = sum(each.total for each in counts.values())
        self._done = self._done_before = sum(each.size for each in counts.values())

    @property
    def elapsed_s(self) -> float:
        return time.monotonic() - self._started

    def note(self, found: PartitionCommit) -> None:
        """Add a commit and report the progress of the job."""
        if found.number in self.counts:
            return
        self.counts[found.number] = found
        self._rows += found.total
        self._done += found.size
        elapsed_s = max(self.elapsed_s, 1e-9)
        now = self._done - self._done_before
        self._on_progress(
            BatchProgress(
                partitions=len(self.counts),
                rows=self._rows,
                share=min(1.0, self._done / self._size),
                rows_per_s=(self._rows - self._rows_before) / elapsed_s,
                elapsed_s=elapsed_s,
                eta_s=max(0.0, (self._size - self._done) * elapsed_s / now) if now else None,
            )
        )


def _keep_apart(job: BatchJob) -> None:
    """Refuse an output inside the input, because the next run would read it as input."""
    given, output = job.input_uri.rstrip("/"), job.output_uri.rstrip("/")
    if not given.startswith("s3://") and not output.startswith("s3://"):
        given, output = str(Path(given).resolve()), str(Path(output.removeprefix("file://")).resolve())
    if f"{output}/".startswith(f"{given}/"):
        raise InvalidDataError(
            f"the output {job.output_uri} is inside the input {job.input_uri}; choose another output"
        )


def _identity(job: BatchJob, source: BatchInput, package: ModelPackage) -> dict[str, Any]:
    """Return the fields of the job that job.json and the manifest hold."""
    same = [source.digest, package.digest, job.version, str(job.partition_rows), job.output_uri]
    return {
        "schema_version": SCHEMA_VERSION,
        "job": hashlib.sha256("\n".join(same).encode()).hexdigest()[:12],
        "input": job.input_uri,
        "input_digest": source.digest,
        "files": [{"uri": each.uri, "size": each.size, "digest": each.digest} for each in source.files],
        "task": package.config.task.to_json(),
        "text_column": source.text,
        **({} if source.aspect is None else {"aspect_column": source.aspect}),
        "model_version": job.version,
        "model_digest": package.digest,
        "partition_rows": job.partition_rows,
        "logged_to": job.log_uri,
    }


def _claim(output: Lake, identity: dict[str, Any], uri: str) -> None:
    """Claim the output for this job; only one of several concurrent jobs succeeds."""
    try:
        output.create(JOB, json.dumps(identity, indent=1).encode())
    except AlreadyExistsError:
        there = json.loads(output.read(JOB))
        if other := [said for name, said in _SAME.items() if there.get(name) != identity.get(name)]:
            raise ConflictError(
                f"{uri} holds the output of a job with another {' and another '.join(other)}; choose another output"
            ) from None


def _committed(output: Lake) -> dict[int, PartitionCommit]:
    with ThreadPoolExecutor(_READERS) as pool:
        records = [
            PartitionCommit.from_json(json.loads(each)) for each in pool.map(output.read, output.list(JOB_COMMITS))
        ]
    return {each.number: each for each in records}


def _check_written(output: Lake, total: int) -> None:
    """Refuse an output that lacks partitions: a cluster's machines may have no access to this machine's disk."""
    there = set(output.list(JOB_PARTS))
    if lost := [number for number in range(total) if job_part_key(number) not in there]:
        raise NotFoundError(
            f"{len(lost)} of {total} partitions are not in {output.uri}; workers of other machines need an output "
            "that all of them share, such as s3://bucket/prefix"
        )


def _manifest(
    identity: dict[str, Any], task: TaskSpec, counts: list[PartitionCommit], rows_read: int
) -> dict[str, Any]:
    """Return the manifest of a job whose partitions are committed. Only the default task has `by_sentiment`.

    Raises:
        IntegrityError: the number of rows read is not the number of rows scored and quarantined.
    """
    if (accounted := sum(each.total for each in counts)) != rows_read:
        raise IntegrityError(f"{rows_read} rows of {identity['input']} were read, {accounted} are in the output")
    quarantined: Counter[str] = Counter()
    labels: Counter[str] = Counter()
    for each in counts:
        quarantined.update(each.quarantined)
        labels.update(each.by_label)
    by_label = {name: labels[name] for name in task.labels}
    return {
        **identity,
        "rows_read": rows_read,
        "rows": sum(each.rows for each in counts),
        "quarantined": dict(sorted(quarantined.items())),
        "by_label": by_label,
        **({"by_sentiment": by_label} if task.extends(ABSA) else {}),
        "first_bad": next((each.first_bad for each in counts if each.first_bad), None),
        "as_written": sum(each.as_written for each in counts),
        "first_as_written": next((each.first_as_written for each in counts if each.first_as_written), None),
        "partitions": [
            {"number": each.number, "rows": each.rows, "quarantined": each.total - each.rows} for each in counts
        ],
    }


def _check_bad_share(manifest: dict[str, Any], job: BatchJob) -> None:
    bad = sum(manifest["quarantined"].values())
    total = manifest["rows"] + bad
    if total == 0:
        raise InvalidDataError(f"{job.input_uri} holds no rows")
    if bad / total > job.max_bad_share:
        reasons = ", ".join(f"{count} {reason}" for reason, count in manifest["quarantined"].items())
        raise InvalidDataError(
            f"{bad} of {total} rows of {job.input_uri} cannot be scored ({reasons}), at most {job.max_bad_share:.0%} "
            f"may be bad; the first is {manifest['first_bad']}; they are in {job.output_uri}/quarantine"
        )


def read_manifest(output: Lake) -> dict[str, Any]:
    """Return the manifest of a finished job.

    Raises:
        NotFoundError: the output has no finished job.
    """
    try:
        manifest: dict[str, Any] = json.loads(output.read(JOB_MANIFEST))
    except NotFoundError:
        raise NotFoundError(f"no batch job has finished at {output.uri}; run it again to finish it") from None
    return manifest
