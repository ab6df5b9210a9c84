"""Read labelled examples from a user's file in bounded memory, and set aside the rows that cannot be used.

CSV (or tab- or semicolon-separated), JSON lines and Parquet, with header names in any case: text, aspect (for tasks
that have a phrase), label, and optionally segment, observed_at and source, or the names that section [data] of
evergreen.toml gives them. The number of a row is its line in the file; of Parquet, which has no lines, that in a
spreadsheet, where the header is row 1. A bad row is quarantined with its reason; when more than a share of
the rows is bad, or the file as a whole cannot be read, an InvalidDataError states this in one sentence that quotes no
customer's text.
"""

import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any, Final

import polars as pl

from absa.data.files import MAX_BAD_SHARE, MAX_TEXT_CHARACTERS, json_lines
from absa.data.files.delimited import (
    AMBIGUOUS_QUOTE,
    BLOCK_BYTES,
    MALFORMED,
    STRAY_QUOTE,
    not_utf8,
    read_layout,
    scan_blocks,
)
from absa.data.files.delimited_rows import read_rows
from absa.data.files.json_lines import NOT_AN_OBJECT, NOT_TEXT
from absa.data.files.quoting import INVALID_UTF8
from absa.data.files.source_files import kind_of, readable
from absa.data.files.times import TIME, other_times, times
from absa.data.key_columns import hex_column, sha256_column
from absa.data.mapping import DEFAULT_MAPPING, FILE_COLUMNS, DataMapping, check_coding
from absa.data.normalise import Words
from absa.errors import InvalidDataError
from absa.inference.aspect_span import has_aspect
from absa.records import tables
from absa.records.identifiers import unit_hash
from absa.records.schema import SCHEMA_VERSION, utc_now
from absa.task import ABSA, listed

_FRAME_ROWS: Final = 200_000
_INPUTS: Final = FILE_COLUMNS[:2]  # text and aspect

RAW: Final = {"row": pl.Int64, **dict.fromkeys(FILE_COLUMNS, pl.String)}
SCANNED: Final = {
    "row": pl.Int64,
    "reason": pl.String,  # why the row cannot be read (null where it can); its text is then the line as written
    "as_written": pl.Boolean,  # a double quote in it was not believed
    **dict.fromkeys(FILE_COLUMNS, pl.String),
}
EXAMPLE_COLUMNS: Final = dict(pl.DataFrame(tables.EXAMPLES.empty_table()).schema)
QUARANTINED: Final = {
    "row": pl.Int64,
    "reason": pl.String,
    "text": pl.String,
    "aspect": pl.String,
    "label": pl.String,
    "segment": pl.String,
    "source": pl.String,
    "uri": pl.String,
    "unit_hash": pl.String,
}
_NOT_A_SENTIMENT: Final = "label_outside_0_2"
_NOT_A_LABEL: Final = "label_unknown"
_NAMED_LABELS: Final = 10
_EXAMPLE_TIME: Final = datetime(2026, 11, 30, 12, tzinfo=UTC)
UNREADABLE: Final = (MALFORMED, STRAY_QUOTE, AMBIGUOUS_QUOTE, NOT_AN_OBJECT, NOT_TEXT, INVALID_UTF8)
"""Reasons of rows that are quarantined as the line that they are."""
_SENTENCES: Final = {
    "malformed_row": "it has more or fewer fields than the header; put texts that hold commas between double quotes",
    "stray_quote": "a double quote opens a field on line {row} and does not close it; double it or remove it",
    "ambiguous_quote": "a double quote around line {row} encloses what looks like other rows; double it or remove it",
    "not_an_object": "line {row} is not a JSON object; expected {columns} in each",
    "not_text": "its {inputs} is a list or an object; expected text",
    "invalid_utf8": "it holds half of a character (a lone surrogate) or bytes that are not UTF-8; write it as UTF-8",
    "text_empty": "its text is empty",
    "aspect_empty": "its {phrase} is empty",
    "text_too_long": f"its text is longer than {MAX_TEXT_CHARACTERS} characters",
    "label_missing": "its label is empty; write {labels}",
    _NOT_A_SENTIMENT: "its label is not 0 (negative), 1 (neutral) or 2 (positive)",
    _NOT_A_LABEL: "its label is not {labels}; name the value in [data.labels] of evergreen.toml, or append "
    "it to labels of [task]",
    "aspect_not_in_text": "its aspect does not stand in its text",
    "observed_at_invalid": "its {observed_at} is not a time such as {time}",
}


@dataclass(kw_only=True)
class Quarantine:
    """Rows that were set aside, each with its row number and reason."""

    rows: pl.DataFrame = field(default_factory=lambda: pl.DataFrame(schema=QUARANTINED))

    @property
    def reasons(self) -> dict[str, int]:
        """Rows set aside, by reason."""
        return dict(sorted(self.rows.group_by("reason").len().iter_rows()))


def read_examples(
    path: str | Path,
    *,
    source: str | None = None,
    observed_at: datetime | None = None,
    require_label: bool = True,
    max_bad_share: float = MAX_BAD_SHARE,
    mapping: DataMapping = DEFAULT_MAPPING,
) -> tuple[pl.DataFrame, Quarantine]:
    """Return the valid rows of one file (columns of `EXAMPLE_COLUMNS`), and what was set aside.

    Args:
        path: a .csv, .tsv, .jsonl, .ndjson or .parquet file.
        source: who gave the labels; a row's own source column wins; by default the file's name.
        observed_at: the time of rows that have none of their own; by default now.
        require_label: False for files to predict on: the label column may be missing or empty.
        max_bad_share: more bad rows than this (0 to 1) are an error.
        mapping: task, and the form of the file.

    Raises:
        InvalidDataError: the file cannot be read as a whole, its labels are coded in another way, or too many of its
            rows are bad.
    """
    path = Path(path)
    at = observed_at or utc_now()
    valid: list[pl.DataFrame] = []
    bad: list[pl.DataFrame] = []
    codes: dict[str, int] = {}
    for raw in scan_file(path, require_label=require_label, mapping=mapping):
        examples, quarantined = validate(
            raw,
            uri=str(path),
            source=source or path.name,
            observed_at=at,
            require_label=require_label,
            mapping=mapping,
        )
        add_codes(codes, telling_codes(raw))
        valid.append(with_example_id(examples))
        bad.append(quarantined)
    quarantine = Quarantine(rows=pl.concat(bad))
    examples = pl.concat(valid)
    check_coding(str(path), mapping.codes, codes)
    check_bad_share(str(path), examples.height, quarantine.reasons, quarantine.rows, max_bad_share, mapping=mapping)
    return examples, quarantine


def check_bad_share(
    name: str,
    valid_rows: int,
    reasons: Mapping[str, int],
    bad: pl.DataFrame,
    max_bad_share: float,
    *,
    kept: str = "",
    mapping: DataMapping = DEFAULT_MAPPING,
) -> None:
    """Raise when a file has no row, no valid row, or too large a share of bad rows.

    Args:
        name: of the file.
        valid_rows: how many rows can be used.
        reasons: how many cannot, per reason.
        bad: the bad rows, or those of them that hold the first.
        max_bad_share: largest share (0 to 1) that is accepted.
        kept: where the bad rows are kept, for the sentence.
        mapping: the form of the file, for the sentence.

    Raises:
        InvalidDataError: with the counts per reason, and the first bad row.
    """
    count = sum(reasons.values())
    total = valid_rows + count
    if total == 0:
        raise InvalidDataError(f"{name} has a header but no rows")
    if too_many_bad(valid_rows, count, max_bad_share):
        row, reason = bad.sort("row").select("row", "reason").row(0)
        share = f"{count} of {total} rows cannot be used (at most {max_bad_share:.0%} may be bad)"
        counts = ", ".join(f"{number} {each}" for each, number in sorted(reasons.items()))
        first = f"the first is row {row}: {reason_sentence(reason, row, mapping)}"
        raise InvalidDataError(f"{name}: {share}: {counts}; {first}{f'; they are kept in {kept}' if kept else ''}")


def too_many_bad(valid_rows: int, bad_rows: int, max_bad_share: float) -> bool:
    """Tell whether a file has bad rows alone, or more than a share (0 to 1) of them. Pure."""
    return bad_rows > 0 and (valid_rows == 0 or bad_rows / (valid_rows + bad_rows) > max_bad_share)


def validate(
    raw: pl.DataFrame,
    *,
    uri: str,
    source: str,
    observed_at: datetime,
    require_label: bool = True,
    mapping: DataMapping = DEFAULT_MAPPING,
    unit_secret: bytes | None = None,
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Split raw rows (columns of `RAW` or `SCANNED`) into examples, still without example_id, and bad rows. Pure.

    Units are hashed with `unit_secret`, and left out without one.
    """
    codes = code_column(raw["label"])
    given = raw.with_columns(
        unreadable=pl.col("reason") if "reason" in raw.columns else pl.lit(None, pl.String),
        text=pl.col("text").fill_null("").str.strip_chars(),
        aspect=pl.col("aspect").fill_null("").str.strip_chars() if mapping.task.phrase else pl.lit(None, pl.String),
        segment=pl.col("segment").str.strip_chars().replace({"": None}),
        source=pl.col("source").str.strip_chars().replace({"": None}).fill_null(source),
        written=pl.col("label"),
        label=codes.replace_strict(dict(mapping.codes), default=None, return_dtype=pl.Int8),
        unlabelled=codes.fill_null("") == "",
        unit_hash=_unit_hashes(raw["unit"], unit_secret),
        dated=pl.col("observed_at").str.strip_chars().fill_null(""),
    ).with_columns(
        observed_at=pl.when(pl.col("dated") == "")
        .then(pl.lit(observed_at.astimezone(UTC)).cast(TIME))
        .otherwise(times(pl.col("dated"), mapping.time_format)),
        found=pl.lit(value=True),
    )
    if mapping.task.input == "text+aspect":
        given = given.with_columns(_found(given))
    undated = given["observed_at"].is_null().arg_true()
    if len(undated):
        found = given[undated].select(other_times(pl.col("dated")).alias("at"))["at"]
        given = given.with_columns(given["observed_at"].scatter(undated, found))
    no_label = pl.col("unlabelled") if require_label else pl.lit(value=False)
    reason = (
        pl.when(pl.col("unreadable").is_not_null())
        .then(pl.col("unreadable"))
        .when(pl.col("text") == "")
        .then(pl.lit("text_empty"))
        .when(pl.col("aspect") == "")
        .then(pl.lit("aspect_empty"))
        .when(pl.col("text").str.len_chars() > MAX_TEXT_CHARACTERS)
        .then(pl.lit("text_too_long"))
        .when(no_label)
        .then(pl.lit("label_missing"))
        .when(pl.col("label").is_null() & ~pl.col("unlabelled"))
        .then(pl.lit(_NOT_A_SENTIMENT if mapping.task.labels == ABSA.labels else _NOT_A_LABEL))
        .when(~pl.col("found"))
        .then(pl.lit("aspect_not_in_text"))
        .when(pl.col("observed_at").is_null())
        .then(pl.lit("observed_at_invalid"))
    )
    judged = given.with_columns(reason=reason, uri=pl.lit(uri), schema_version=pl.lit(SCHEMA_VERSION, pl.Int16))
    valid = judged.filter(pl.col("reason").is_null()).select("row", *(c for c in EXAMPLE_COLUMNS if c != "example_id"))
    bad = judged.filter(pl.col("reason").is_not_null()).with_columns(label=pl.col("written")).select(list(QUARANTINED))
    return valid, bad


def _unit_hashes(units: pl.Series, secret: bytes | None) -> pl.Series:
    """Return the hash of each unit; null for empty ones, and for all without a secret."""
    given = units.str.strip_chars().replace("", None)
    different = given.drop_nulls().unique()
    if secret is None or different.is_empty():
        return pl.Series([None], dtype=pl.String).new_from_index(0, len(units))
    hashes = {unit: unit_hash(unit, secret) for unit in different}
    return given.replace_strict(hashes, default=None, return_dtype=pl.String)


def _found(given: pl.DataFrame) -> pl.Series:
    """Return whether the aspect of each row is in its text."""
    lower = pl.col("text").str.to_lowercase().str.contains(pl.col("aspect").str.to_lowercase(), literal=True)
    found = given.select(found=lower)["found"]
    unsure = (~found & (given["aspect"] != "")).arg_true()
    if not len(unsure):
        return found
    # lower case finds most; casefold, Unicode forms and white space are left to the exact rule
    pairs = given[unsure].select("text", "aspect").iter_rows()
    return found.scatter(unsure, pl.Series([has_aspect(text, aspect) for text, aspect in pairs], dtype=pl.Boolean))


def reason_sentence(reason: str, row: int, mapping: DataMapping = DEFAULT_MAPPING) -> str:
    """Return why a row cannot be used, for the user.

    Args:
        reason: in the quarantine.
        row: its line in the file.
        mapping: task, and the form of the file.
    """
    task = mapping.task
    if task.labels == ABSA.labels:
        labels = ", ".join(f"{number} for {name}" for number, name in enumerate(task.labels))
    else:
        more = [f"{task.n_labels - _NAMED_LABELS} more"] if task.n_labels > _NAMED_LABELS else []
        labels = listed([*task.labels[:_NAMED_LABELS], *more], "or")
    return _SENTENCES[reason].format(
        row=row,
        columns=listed([mapping.shown(column) for column in mapping.required(label=True)], "and"),
        inputs=listed([mapping.shown(column) for column in mapping.inputs], "or"),
        phrase=task.phrase,
        labels=labels,
        observed_at=mapping.shown("observed_at"),
        time=_EXAMPLE_TIME.strftime(mapping.time_format or "%Y-%m-%dT%H:%M:%SZ"),
    )


def with_example_id(examples: pl.DataFrame) -> pl.DataFrame:
    """Return the same rows in the columns of `EXAMPLE_COLUMNS`, example_id computed."""
    return examples.with_columns(example_id=hex_column(example_digests(examples))).select(list(EXAMPLE_COLUMNS))


def example_digests(examples: pl.DataFrame) -> Words:
    """SHA-256 over text, aspect (empty without one) and source of each row, (n, 4); example_id is how it begins."""
    parts = ("text", pl.col("aspect").fill_null(""), "source")
    return sha256_column(examples.select(pl.concat_str(*parts, separator="\0"))["text"])


def code_column(written: pl.Series) -> pl.Series:
    """`mapping.normal_code` of a whole column."""
    codes = written.str.strip_chars().str.to_lowercase()
    if codes.str.contains(".", literal=True).any():
        codes = codes.str.replace(r"^([+-]?\d+)\.0*$", "$1")
    return codes


def telling_codes(raw: pl.DataFrame) -> dict[str, int]:
    """Count the labels of raw rows that tell codes -1, 0, 1 from 0, 1, 2."""
    codes = code_column(raw["label"])
    return {code: int((codes == code).sum()) for code in ("-1", "2")}


def add_codes(total: dict[str, int], more: Mapping[str, int]) -> None:
    """Add the counts of a block to those of its file."""
    for code, count in more.items():
        total[code] = total.get(code, 0) + count


def scan_file(
    path: Path, *, require_label: bool = True, mapping: DataMapping = DEFAULT_MAPPING
) -> Iterator[pl.DataFrame]:
    """Yield the raw rows of a file in blocks (columns of `SCANNED`), numbered by their lines.

    Raises:
        InvalidDataError: missing, empty, not UTF-8, a column is missing, or the format is broken.
    """
    if path.is_dir() or not path.exists():
        raise InvalidDataError(
            f"{path} is {'a folder' if path.is_dir() else 'missing'}; expected a CSV, JSONL or Parquet file"
        )
    if path.stat().st_size == 0:
        raise InvalidDataError(f"{path} is empty; expected a header and rows")
    try:
        opened = path.open("rb")
    except OSError as error:
        raise InvalidDataError(f"{path} cannot be read: {error.strerror}") from None
    with opened as file:
        yield from scan_stream(readable(file, str(path)), str(path), require_label=require_label, mapping=mapping)


def scan_stream(
    file: IO[bytes],
    name: str,
    *,
    require_label: bool = True,
    mapping: DataMapping = DEFAULT_MAPPING,
    on_notice: Callable[[str], None] = lambda _: None,
) -> Iterator[pl.DataFrame]:
    """Scan an open seekable stream like `scan_file`; the name's ending decides the format.

    `on_notice` receives a sentence about a column that the task does not use.
    """
    scan = {"parquet": _scan_parquet, "jsonl": _scan_jsonl, "csv": _scan_csv}[kind_of(name)]
    nothing = True
    choose = _Choice(name=name, mapping=mapping, require_label=require_label, on_notice=on_notice)
    for raw in scan(file, name, choose):
        nothing = False
        yield raw
    if nothing:
        yield pl.DataFrame(schema=SCANNED)


@dataclass(frozen=True, kw_only=True)
class _Choice:
    """Choice of a file's columns by its header."""

    name: str
    mapping: DataMapping
    require_label: bool
    on_notice: Callable[[str], None]

    def __call__(self, header: Sequence[str]) -> dict[str, str]:
        if notice := self.mapping.unread(header, self.name):
            self.on_notice(notice)
        chosen = self.mapping.choose(header, self.name, self.mapping.required(label=self.require_label))
        if self.require_label and "observed_at" not in chosen:
            self.on_notice(
                f"{self.name}: no column {self.mapping.shown('observed_at')}: every row counts as observed now, so the "
                "gate cannot tell recent rows from older ones; name the column of times as observed_at in [data]"
            )
        return chosen


def _in_raw_form(frame: pl.DataFrame, ours: Mapping[str, str], first_row: int) -> pl.DataFrame:
    """Name and type the columns of a frame all of whose rows could be read."""
    columns = []
    for name in FILE_COLUMNS:
        column = pl.lit(None, pl.String)
        if name in ours:
            column, dtype = pl.col(ours[name]), frame.schema[ours[name]]
            if dtype.is_float():
                column = column.fill_nan(None)
            if isinstance(dtype, pl.Datetime) and dtype.time_zone is not None:
                column = column.dt.convert_time_zone("UTC").dt.replace_time_zone(None)
        columns.append(column.cast(pl.String).alias(name))
    return frame.select(
        row=pl.int_range(first_row, first_row + pl.len(), dtype=pl.Int64),
        reason=pl.lit(None, pl.String),
        as_written=pl.lit(value=False),
    ).hstack(frame.select(columns))


def _scan_csv(file: IO[bytes], name: str, choose: _Choice) -> Iterator[pl.DataFrame]:
    layout = read_layout(file, name, choose.mapping)
    ours = choose(layout.header)
    wanted = [layout.header.index(column) for column in ours.values()]
    for _, data, records in scan_blocks(file, layout, BLOCK_BYTES):
        rows = read_rows(data, records, layout, wanted)
        reasons = pl.Series("reason", rows.reasons, dtype=pl.String)
        if (reasons == INVALID_UTF8).any():
            raise not_utf8(file, name)
        frame = pl.DataFrame(rows.table)
        frame.columns = list(ours)
        lines = pl.Series("row", rows.lines, dtype=pl.Int64)
        as_written = lines.is_in(rows.as_written).alias("as_written")
        missing = [pl.lit(None, pl.String).alias(column) for column in FILE_COLUMNS if column not in ours]
        yield frame.with_columns(lines, reasons, as_written, *missing).select(list(SCANNED))


def _scan_jsonl(file: IO[bytes], name: str, choose: _Choice) -> Iterator[pl.DataFrame]:
    ours: dict[str, str] | None = None
    for _, line, block in json_lines.scan_lines(file, name, BLOCK_BYTES):
        if ours is None:
            names = _json_names(block, line, name, choose.mapping)
            if names is None:  # white space alone
                continue
            known = [column for column in FILE_COLUMNS if choose.mapping.names(column)]
            ours = {column: choose.mapping.shown(column) for column in known} | choose(names)
        yield _json_block(block, line, ours, file, name)


def _json_names(block: bytes, line: int, name: str, mapping: DataMapping) -> list[str] | None:
    """Return the names in the first block's objects: writers omit nulls, so line 1 may lack some."""
    names: dict[str, None] = {}
    first, objects = 0, 0
    for start, end, number in json_lines.rows_of(block, line):
        first = first or number
        row = json_lines.parse_line(block[start:end])
        if isinstance(row, dict):
            names.update(dict.fromkeys(row))
            objects += 1
    if first and not objects:
        raise InvalidDataError(f"{name}: {reason_sentence('not_an_object', first, mapping)}")
    return list(names) if objects else None


def _json_block(block: bytes, line: int, ours: Mapping[str, str], file: IO[bytes], name: str) -> pl.DataFrame:
    try:
        block.decode()
        if not json_lines.may_hold_half_characters(block):
            frame = pl.read_ndjson(io.BytesIO(block), schema=dict.fromkeys(ours.values(), pl.String))
            lines = _json_lines(block, line, frame.height)
            inputs = [ours[column] for column in _INPUTS if column in ours]
            shown = frame.select(pl.col(inputs).str.contains(r"^[\[{]").any())  # lists, perhaps
            if lines is not None and not any(shown.row(0)):
                return _in_raw_form(frame, ours, line).with_columns(lines)
    except UnicodeDecodeError:
        raise not_utf8(file, name) from None
    except pl.exceptions.PolarsError:
        pass  # a line is not an object, or not what JSON allows: line by line it is found
    records = [_json_record(block[start:end], number, ours) for start, end, number in json_lines.rows_of(block, line)]
    return pl.DataFrame(records, schema=SCANNED, orient="row")


def _json_lines(block: bytes, line: int, rows: int) -> pl.Series | None:
    """Return the line of each row; None where there are other rows than lines."""
    last = 0 if block.endswith(b"\n") else 1
    if b"\r" not in block and block.count(b"\n") + last == rows:
        return pl.Series("row", range(line, line + rows), dtype=pl.Int64)
    numbers = [number for _, _, number in json_lines.rows_of(block, line)]
    return pl.Series("row", numbers, dtype=pl.Int64) if len(numbers) == rows else None


def _json_record(data: bytes, line: int, ours: Mapping[str, str]) -> tuple[Any, ...]:
    row = json_lines.parse_line(data)
    if isinstance(row, dict):
        values = [row.get(ours[column]) if column in ours else None for column in FILE_COLUMNS]
        if not any(isinstance(value, list | dict) for value in values[: len(_INPUTS)]):
            return line, None, False, *map(json_lines.as_text, values)
        row = NOT_TEXT
    return line, row, False, data.decode(errors="replace"), *[None] * (len(FILE_COLUMNS) - 1)


def _scan_parquet(file: IO[bytes], name: str, choose: _Choice) -> Iterator[pl.DataFrame]:
    import pyarrow as pa

    from absa.data.files.parquet_rows import open_parquet, scan_rows, text_type_error

    source = open_parquet(file, name)
    ours = choose(source.schema.names)
    for ours_name, column in ours.items():
        type_ = source.schema.field(column).type
        if error := text_type_error(name, column, type_, text=ours_name in _INPUTS):
            raise error
    position, held, waiting = 2, 0, list[pa.RecordBatch]()

    def frame() -> pl.DataFrame:
        return _in_raw_form(pl.DataFrame(pa.Table.from_batches(waiting)), ours, position)

    for batch in scan_rows(source, name, list(ours.values())):
        waiting.append(batch)
        held += batch.nbytes
        if held >= BLOCK_BYTES * 2 or sum(each.num_rows for each in waiting) >= _FRAME_ROWS:
            yield (raw := frame())
            position, held, waiting = position + raw.height, 0, []
    if waiting:
        yield frame()
