"""Check of a batch job's output against its input: every row once, unchanged, with a consistent answer."""

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from absa.adapters.lake_stores import open_lake
from absa.batch.batch_input import BatchInput, InputFile, Partition, cut_partitions, inspect, mapping_for
from absa.batch.batch_job import read_manifest
from absa.batch.lines import count_lines, header_lines, lines_of_rows, rows_that_hold_rows
from absa.batch.reader import PartitionReader, PartitionRows
from absa.batch.score import ROW_ID, output_names
from absa.data.files.parquet_rows import open_parquet
from absa.data.mapping import DEFAULT_MAPPING, DataMapping
from absa.errors import NotFoundError
from absa.records.lake import Lake
from absa.records.layout import JOB_PARTS, job_part_key, job_quarantine_key
from absa.task import TaskSpec


def verify_batch(output_uri: str, *, input_uri: str | None = None, mapping: DataMapping = DEFAULT_MAPPING) -> list[str]:
    """Return the defects of a finished job's output, as sentences; an empty list if it has none.

    Args:
        output_uri: folder or s3:// prefix of the job.
        input_uri: address of the input, if it differs from the one in the manifest.
        mapping: mapping of the home.

    Raises:
        NotFoundError: the output has no finished job, or the input is missing.
    """
    output = open_lake(output_uri)
    manifest = read_manifest(output)
    task = TaskSpec.from_json(manifest.get("task"))
    source = inspect(input_uri or manifest["input"], mapping_for(mapping, task))
    if source.digest != manifest["input_digest"]:
        return ["the input is not the one that was scored: its digest differs"]
    wrong: list[str] = []
    number, lines = -1, 0
    reader = PartitionReader(source)
    for partition in cut_partitions(source, manifest["partition_rows"]):
        number = partition.number
        found, accounted = _check(output, partition, reader.read(partition), manifest, source)
        wrong += [f"partition {number}: {each}" for each in found]
        lines += accounted
    if number + 1 != len(manifest["partitions"]):
        wrong.append(f"the input has {number + 1} partitions, the manifest {len(manifest['partitions'])}")
    expected = sum(_lines_of_file(each) for each in source.files)
    if lines != expected:
        wrong.append(f"the input has {expected} lines or rows of data, the output accounts for {lines} of them")
    extra = [key for key in output.list(JOB_PARTS) if key > job_part_key(number)]
    return wrong + [f"{key} belongs to no partition" for key in extra]


def _lines_of_file(file: InputFile) -> int:
    """Count the data lines of a text file that are not empty, or the rows of Parquet, without the reader."""
    with file.open() as stream:
        if file.kind == "parquet":
            return open_parquet(stream, file.uri).rows
        lines = count_lines(stream, white_space_counts=file.layout is not None)
    return lines - (header_lines(file.layout.header) if file.layout is not None else 0)


def _check_lines(
    partition: Partition,
    source: BatchInput,
    scored: pa.Table,
    aside: pa.Table | None,
    names: list[str],
    task: TaskSpec,
) -> tuple[list[str], int]:
    """Return defects of a partition's lines, and the number of input lines of its rows.

    `names` are the names of the input's columns in `scored`.
    """
    wrong, lines, first = [], 0, partition.first_row
    aspect = source.aspect if task.phrase_in_text else None
    width = len(source.columns)
    kept = None if aside is None else aside.column_names[-1 - width : -1]  # the last column is the reason
    for span in partition.spans:
        file, end = source.files[span.file], first + span.rows
        for table, columns in ((scored, names), (aside, kept)):
            if table is None or columns is None:
                continue
            ids = table.column(ROW_ID)
            rows = table.filter(pc.and_(pc.greater_equal(ids, first), pc.less(ids, end)))
            if file.layout is None:
                lines += rows.num_rows
                continue
            cells = rows.select(columns).rename_columns(list(source.columns))
            lines += lines_of_rows(cells)
            if table is scored:
                cells = cells.select(list(file.layout.header))
                swallowed = rows_that_hold_rows(cells, file.layout.delimiter, source.text, aspect)
                wrong += [
                    f"row {rows.column(ROW_ID)[index]} holds lines that look like other rows" for index in swallowed
                ]
        first = end
    return wrong, lines


def _check(
    output: Lake, partition: Partition, rows: PartitionRows, manifest: dict[str, Any], source: BatchInput
) -> tuple[list[str], int]:
    """Return the defects of a partition, and the number of input lines of its rows."""
    number = partition.number
    try:
        scored = _read(output, job_part_key(number))
    except NotFoundError:
        return [f"{job_part_key(number)} is missing"], 0
    aside = _read(output, job_quarantine_key(number)) if output.exists(job_quarantine_key(number)) else None
    numbers = scored.column(ROW_ID).to_pylist()
    aside_numbers = aside.column(ROW_ID).to_pylist() if aside is not None else []
    answers = scored.column_names[1 + rows.table.num_columns :]  # an earlier release may have written other columns
    names = output_names(rows.table.column_names, answers)
    task = TaskSpec.from_json(manifest.get("task"))
    wrong, lines = _check_lines(partition, source, scored, aside, names, task)
    if sorted(numbers + aside_numbers) != rows.row_ids.to_pylist():
        return [*wrong, "it does not have each row of the input exactly once"], lines
    if numbers != sorted(numbers):
        wrong.append("its rows are not in the input's order")
    first = rows.row_ids[0].as_py()
    given = rows.table.take(pa.array([each - first for each in numbers], pa.int64()))
    for name, kept in zip(given.column_names, names, strict=True):
        if scored.column(kept).to_pylist() != given.column(name).to_pylist():
            wrong.append(f"column {name} differs from the input's")
    scores = np.array(scored.column("scores").to_pylist(), dtype=np.float32).reshape(-1, task.n_labels)
    if (scores.argmax(axis=1) != np.array(scored.column("label").to_pylist(), dtype=np.int64)).any():
        wrong.append("a label is not the one with the highest score")
    if len(scores) and np.abs(scores.sum(axis=1) - 1).max() > 1e-3:
        wrong.append("scores do not sum to 1")
    if set(scored.column("model_version").to_pylist()) - {manifest["model_version"]}:
        wrong.append("rows of another version")
    return wrong, lines


def _read(output: Lake, key: str) -> pa.Table:
    return pq.read_table(pa.BufferReader(output.read(key)))
