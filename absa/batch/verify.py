"""Proof of a batch job's output against its input: every row once, unchanged, with an answer that fits."""

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from absa.adapters.lake import Lake, open_lake
from absa.batch.job import read_manifest
from absa.batch.reader import PartitionRows, read_partitions
from absa.batch.score import ROW_ID, output_names
from absa.batch.source import inspect
from absa.batch.worker import part_key, quarantine_key
from absa.errors import NotFoundError
from absa.labels import N_LABELS


def verify_batch(output_uri: str, *, input_uri: str | None = None) -> list[str]:
    """What is wrong with a finished job's output, as sentences; none where all is well.

    Args:
        output_uri: folder or s3:// prefix of the job.
        input_uri: where the input is, when not where the manifest says.

    Raises:
        NotFoundError: no job has finished there, or the input is gone.
    """
    output = open_lake(output_uri)
    manifest = read_manifest(output)
    source = inspect(input_uri or manifest["input"])
    if source.digest != manifest["input_digest"]:
        return ["the input is not the one that was scored: its digest differs"]
    wrong: list[str] = []
    number = -1
    for number, rows in enumerate(read_partitions(source, manifest["partition_rows"])):
        wrong += [f"partition {number}: {each}" for each in _check(output, number, rows, manifest)]
    if number + 1 != len(manifest["partitions"]):
        wrong.append(f"the input has {number + 1} partitions, the manifest {len(manifest['partitions'])}")
    extra = [key for key in output.list("part-") if key > part_key(number)]
    return wrong + [f"{key} belongs to no partition" for key in extra]


def _check(output: Lake, number: int, rows: PartitionRows, manifest: dict[str, Any]) -> list[str]:
    try:
        scored = _read(output, part_key(number))
    except NotFoundError:
        return [f"{part_key(number)} is missing"]
    aside = _read(output, quarantine_key(number)) if output.exists(quarantine_key(number)) else None
    numbers = scored.column(ROW_ID).to_pylist()
    aside_numbers = aside.column(ROW_ID).to_pylist() if aside is not None else []
    wrong = []
    if sorted(numbers + aside_numbers) != rows.row_ids.to_pylist():
        return ["its rows are not those of the input, each once"]
    if numbers != sorted(numbers):
        wrong.append("its rows are not in the input's order")
    first = rows.row_ids[0].as_py()
    given = rows.table.take(pa.array([each - first for each in numbers], pa.int64()))
    logged = manifest.get("logged_to") is not None
    names = output_names(given.column_names, logged=logged, output=scored.column_names)
    for name, kept in zip(given.column_names, names, strict=True):
        if scored.column(kept).to_pylist() != given.column(name).to_pylist():
            wrong.append(f"column {name} is not the input's")
    scores = np.array(scored.column("scores").to_pylist(), dtype=np.float32).reshape(-1, N_LABELS)
    if (scores.argmax(axis=1) != np.array(scored.column("label").to_pylist(), dtype=np.int64)).any():
        wrong.append("a label is not the one with the highest score")
    if len(scores) and np.abs(scores.sum(axis=1) - 1).max() > 1e-3:
        wrong.append("scores do not sum to 1")
    if set(scored.column("model_version").to_pylist()) - {manifest["model_version"]}:
        wrong.append("rows of another version")
    return wrong


def _read(output: Lake, key: str) -> pa.Table:
    return pq.read_table(pa.BufferReader(output.read(key)))
