"""Answers of a batch as prediction records in the lake, for monitoring and for feedback on the answers.

Every record is written once. The time of a partition is claimed, create-only, before its first record is written.
Request ids and keys are computed from this time, the job and the row. So a partition that is written again after a
kill replaces its own records.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

import pyarrow as pa

from absa.adapters.lake_stores import open_lake
from absa.batch.batch_input import BatchInput
from absa.batch.score import REQUEST_ID, output_names
from absa.errors import AlreadyExistsError
from absa.records.identifiers import unit_hash, uuid7
from absa.records.layout import job_time_key, prediction_prefix
from absa.records.schema import SCHEMA_VERSION, iso, parse_iso
from absa.records.tables import PREDICTIONS, aligned, write_parquet

ARM: Final = "batch"


@dataclass(frozen=True, kw_only=True)
class PredictionLog:
    """Log of the answers of one job.

    `job` is the digest of the job (hex). The output at `output_uri` holds the claimed times. `secret` is the key of the
    service with which units are hashed, if the input has a column of units. With `redact_text` the lake gets neither
    text nor aspect.
    """

    lake_uri: str
    output_uri: str
    job: str
    secret: bytes = field(default=b"", repr=False)
    redact_text: bool = False

    def claim_time(self, number: int, now: datetime) -> datetime:
        """Return the time of a partition's records: the first time that any process claimed for it."""
        output, key = open_lake(self.output_uri), job_time_key(number)
        try:
            output.create(key, json.dumps({"at": iso(now)}).encode())
        except AlreadyExistsError:
            return parse_iso(json.loads(output.read(key))["at"])
        return parse_iso(iso(now))

    def request_ids(self, row_ids: Sequence[int], at: datetime) -> list[str]:
        """Return a UUIDv7 (RFC 9562) per row: its time is the partition's, its other bits are a hash of job and row."""
        milliseconds = int(at.timestamp() * 1000)
        return [uuid7(milliseconds, hashlib.sha256(f"{self.job}:{row}".encode()).digest()[:10]) for row in row_ids]

    def write(self, number: int, scored: pa.Table, source: BatchInput) -> None:
        """Write the scored rows of a partition to the lake."""
        n = scored.num_rows
        if not n:
            return
        at = scored.column("scored_at")[0].as_py()
        answers = scored.column_names[1 + len(source.columns) :]
        named = dict(zip(source.columns, output_names(source.columns, answers), strict=True))

        def text_of(column: str | None) -> Any:
            return pa.nulls(n, pa.string()) if column is None else scored.column(named[column]).cast(pa.string())

        units = text_of(source.unit).to_pylist() if self.secret else [None] * n
        columns: dict[str, Any] = {
            "schema_version": [SCHEMA_VERSION] * n,
            REQUEST_ID: scored.column(REQUEST_ID),
            "at": scored.column("scored_at"),
            "unit_hash": [unit_hash(unit, self.secret) if unit else None for unit in units],
            "unit_given": [bool(unit) for unit in units],
            "segment": text_of(source.segment),
            "text": pa.nulls(n, pa.string()) if self.redact_text else text_of(source.text),
            "aspect": pa.nulls(n, pa.string()) if self.redact_text else text_of(source.aspect),
            "label": scored.column("label"),
            "scores": scored.column("scores"),
            "truncated": scored.column("truncated"),
            "model_version": scored.column("model_version"),
            "arm": [ARM] * n,
            "shadow": [False] * n,
            "cached": [False] * n,
            "replica": [f"{ARM}-{self.job}"] * n,
        }
        key = f"{prediction_prefix(at)}{ARM}-{self.job}-{number:06d}.parquet"
        write_parquet(open_lake(self.lake_uri), key, aligned(pa.table(columns), PREDICTIONS))
