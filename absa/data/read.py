"""Read labelled examples from a user's file in bounded memory, and set aside the rows that cannot be used.

CSV (or tab- or semicolon-separated), JSON lines and Parquet, with header names in any case: text, aspect, label, and
optionally segment, observed_at and source. Rows are numbered as a spreadsheet shows them: the header is row 1. A bad
row is quarantined with its reason; when more than a share of the rows is bad, or the file as a whole cannot be read,
an InvalidDataError says so in one sentence that quotes no customer's text.
"""

import csv
import io
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any, Final

import polars as pl

from absa.data.normalise import Words, hex_column, sha256_column
from absa.errors import InvalidDataError
from absa.inference.aspect_span import has_aspect
from absa.labels import SENTIMENTS
from absa.schema import SCHEMA_VERSION, utc_now

MAX_BAD_SHARE: Final = 0.1
MAX_TEXT_CHARACTERS: Final = 20_000
BLOCK_BYTES: Final = 16 << 20
COLUMNS: Final = ("text", "aspect", "label", "segment", "observed_at", "source")
RAW: Final = {"row": pl.Int64, **dict.fromkeys(COLUMNS, pl.String)}
_TIME: Final = pl.Datetime("us", "UTC")
EXAMPLES: Final = {
    "schema_version": pl.Int16,
    "example_id": pl.String,
    "text": pl.String,
    "aspect": pl.String,
    "label": pl.Int8,
    "observed_at": _TIME,
    "source": pl.String,
    "segment": pl.String,
}
QUARANTINED: Final = {
    "row": pl.Int64,
    "reason": pl.String,
    "text": pl.String,
    "aspect": pl.String,
    "label": pl.String,
    "segment": pl.String,
    "source": pl.String,
    "uri": pl.String,
}
SENTENCES: Final = {
    "malformed_row": "it has more or fewer fields than the header; put texts that hold commas between double quotes",
    "text_empty": "its text is empty",
    "aspect_empty": "its aspect is empty",
    "text_too_long": f"its text is longer than {MAX_TEXT_CHARACTERS} characters",
    "label_missing": "its label is empty; write 0 for negative, 1 for neutral, 2 for positive",
    "label_outside_0_2": "its label is not 0 (negative), 1 (neutral) or 2 (positive)",
    "aspect_not_in_text": "its aspect does not stand in its text",
    "observed_at_invalid": "its observed_at is not a time such as 2026-11-30T12:00:00Z",
}
_LABELS: Final = {
    **{str(n): n for n in range(3)},
    **{f"{n}.0": n for n in range(3)},
    **{name: n for n, name in enumerate(SENTIMENTS)},
}


@dataclass(kw_only=True)
class Quarantine:
    """Rows that were set aside, each with its row number and reason."""

    rows: pl.DataFrame = field(default_factory=lambda: pl.DataFrame(schema=QUARANTINED))

    @property
    def reasons(self) -> dict[str, int]:
        """How many rows were set aside per reason."""
        return dict(sorted(self.rows.group_by("reason").len().iter_rows()))


def read_examples(
    path: str | Path,
    *,
    source: str | None = None,
    observed_at: datetime | None = None,
    require_label: bool = True,
    max_bad_share: float = MAX_BAD_SHARE,
) -> tuple[pl.DataFrame, Quarantine]:
    """The valid rows of one file (columns of `EXAMPLES`), and what was set aside.

    Args:
        path: a .csv, .tsv, .jsonl, .ndjson or .parquet file.
        source: who gave the labels; a row's own source column wins; by default the file's name.
        observed_at: the time of rows that have none of their own; by default now.
        require_label: False for files to predict on: the label column may be missing or empty.
        max_bad_share: more bad rows than this (0 to 1) are an error.

    Raises:
        InvalidDataError: the file cannot be read as a whole, or too many of its rows are bad.
    """
    path = Path(path)
    at = observed_at or utc_now()
    valid: list[pl.DataFrame] = []
    bad: list[pl.DataFrame] = []
    for raw in scan_file(path, require_label=require_label):
        examples, quarantined = validate(
            raw, uri=str(path), source=source or path.name, observed_at=at, require_label=require_label
        )
        valid.append(with_example_id(examples))
        bad.append(quarantined)
    quarantine = Quarantine(rows=pl.concat(bad))
    examples = pl.concat(valid)
    check_bad_share(str(path), examples.height, quarantine.rows, max_bad_share)
    return examples, quarantine


def check_bad_share(
    name: str, valid_rows: int, bad: pl.DataFrame, max_bad_share: float, *, bad_rows: int | None = None
) -> None:
    """Raise when a file has no row, no valid row, or too large a share of bad rows.

    Args:
        bad: the bad rows, or those of them that hold the first.
        bad_rows: how many there are, where `bad` does not hold all.

    Raises:
        InvalidDataError: with the first bad row and its reason.
    """
    count = bad.height if bad_rows is None else bad_rows
    total = valid_rows + count
    if total == 0:
        raise InvalidDataError(f"{name} has a header but no rows")
    if count and (valid_rows == 0 or count / total > max_bad_share):
        row, reason = bad.sort("row").select("row", "reason").row(0)
        share = f"{count} of {total} rows cannot be used (at most {max_bad_share:.0%} may be bad)"
        raise InvalidDataError(f"{name}: {share}; the first is row {row}: {SENTENCES[reason]}")


def validate(
    raw: pl.DataFrame, *, uri: str, source: str, observed_at: datetime, require_label: bool = True
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Split raw rows (columns of `RAW`) into examples, without example_id yet, and quarantined rows. Pure."""
    name = pl.col("label").str.strip_chars().str.to_lowercase()
    given = raw.with_columns(
        text=pl.col("text").fill_null("").str.strip_chars(),
        aspect=pl.col("aspect").fill_null("").str.strip_chars(),
        segment=pl.col("segment").str.strip_chars().replace({"": None}),
        source=pl.col("source").str.strip_chars().replace({"": None}).fill_null(source),
        written=pl.col("label"),
        label=name.replace_strict(_LABELS, default=None, return_dtype=pl.Int8),
        unlabelled=name.fill_null("") == "",
        malformed=pl.col("text").is_null() & pl.col("aspect").is_null() & pl.col("label").is_null(),
        dated=pl.col("observed_at").str.strip_chars().fill_null(""),
    ).with_columns(
        observed_at=pl.when(pl.col("dated") == "")
        .then(pl.lit(observed_at.astimezone(UTC)).cast(_TIME))
        .otherwise(_times(pl.col("dated"))),
        found=pl.col("text").str.to_lowercase().str.contains(pl.col("aspect").str.to_lowercase(), literal=True),
    )
    unsure = given.select((~pl.col("found") & (pl.col("aspect") != "")).alias("u"))["u"].arg_true()
    if len(unsure):  # lower case finds most; casefold, Unicode forms and white space are left to the exact rule
        pairs = given[unsure].select("text", "aspect").iter_rows()
        exact = pl.Series([has_aspect(text, aspect) for text, aspect in pairs], dtype=pl.Boolean)
        given = given.with_columns(given["found"].scatter(unsure, exact))
    no_label = pl.col("unlabelled") if require_label else pl.lit(value=False)
    reason = (
        pl.when(pl.col("malformed"))
        .then(pl.lit("malformed_row"))
        .when(pl.col("text") == "")
        .then(pl.lit("text_empty"))
        .when(pl.col("aspect") == "")
        .then(pl.lit("aspect_empty"))
        .when(pl.col("text").str.len_chars() > MAX_TEXT_CHARACTERS)
        .then(pl.lit("text_too_long"))
        .when(no_label)
        .then(pl.lit("label_missing"))
        .when(pl.col("label").is_null() & ~pl.col("unlabelled"))
        .then(pl.lit("label_outside_0_2"))
        .when(~pl.col("found"))
        .then(pl.lit("aspect_not_in_text"))
        .when(pl.col("observed_at").is_null())
        .then(pl.lit("observed_at_invalid"))
    )
    judged = given.with_columns(reason=reason, uri=pl.lit(uri), schema_version=pl.lit(SCHEMA_VERSION, pl.Int16))
    valid = judged.filter(pl.col("reason").is_null()).select("row", *(c for c in EXAMPLES if c != "example_id"))
    bad = judged.filter(pl.col("reason").is_not_null()).with_columns(label=pl.col("written")).select(list(QUARANTINED))
    return valid, bad


def with_example_id(examples: pl.DataFrame) -> pl.DataFrame:
    """The same rows in the columns of `EXAMPLES`, example_id computed."""
    return examples.with_columns(example_id=hex_column(example_digests(examples))).select(list(EXAMPLES))


def example_digests(examples: pl.DataFrame) -> Words:
    """SHA-256 over text, aspect and source of each row, (n, 4); example_id is how it begins."""
    return sha256_column(examples.select(pl.concat_str("text", "aspect", "source", separator="\0"))["text"])


def _times(column: pl.Expr) -> pl.Expr:
    """ISO 8601 times; one without a zone is UTC; null where it is none."""
    zoned = column.str.to_datetime("%+", time_unit="us", time_zone="UTC", strict=False)
    plain = column.str.replace(" ", "T").str.to_datetime("%Y-%m-%dT%H:%M:%S%.f", time_unit="us", strict=False)
    day = column.str.to_datetime("%Y-%m-%d", time_unit="us", strict=False)
    return pl.coalesce(zoned, plain.dt.replace_time_zone("UTC"), day.dt.replace_time_zone("UTC"))


def scan_file(path: Path, *, require_label: bool = True) -> Iterator[pl.DataFrame]:
    """The raw rows of a file in blocks (columns of `RAW`), rows numbered from 2.

    Raises:
        InvalidDataError: missing, empty, not UTF-8, a column is missing, or the format is broken.
    """
    if path.is_dir() or not path.exists():
        raise InvalidDataError(
            f"{path} is {'a folder' if path.is_dir() else 'missing'}; expected a CSV, JSONL or Parquet file"
        )
    if path.stat().st_size == 0:
        raise InvalidDataError(f"{path} is empty; expected the columns text, aspect and label")
    try:
        opened = path.open("rb")
    except OSError as error:
        raise InvalidDataError(f"{path} cannot be read: {error.strerror}") from None
    with opened as file:
        yield from scan_stream(file, str(path), require_label=require_label)


def scan_stream(file: IO[bytes], name: str, *, require_label: bool = True) -> Iterator[pl.DataFrame]:
    """`scan_file` over an open seekable stream; the name's ending says the format."""
    ending = name.lower().rsplit(".", 1)[-1]
    if ending == "parquet":
        return _scan_parquet(file, name, require_label)
    if ending in {"jsonl", "ndjson"}:
        return _scan_jsonl(file, name, require_label)
    return _scan_csv(file, name, require_label)


def _chosen(header: list[str], name: str, require_label: bool) -> dict[str, str]:
    """Which of the file's own column names holds which of ours."""
    ours: dict[str, str] = {}
    for column in header:
        known = column.strip().lower()
        if known in COLUMNS:
            if known in ours:
                raise InvalidDataError(f"{name} has two columns named {known}; keep one")
            ours[known] = column
    wanted = ("text", "aspect", "label") if require_label else ("text", "aspect")
    missing = [column for column in wanted if column not in ours]
    if missing:
        absent = " and no column ".join(missing)
        raise InvalidDataError(
            f"{name} has no column {absent}; expected a header with {', '.join(wanted)} (in any case)"
        )
    return ours


def _in_raw_form(frame: pl.DataFrame, ours: dict[str, str], first_row: int) -> pl.DataFrame:
    columns = [
        pl.col(ours[c]).cast(pl.String).alias(c) if c in ours else pl.lit(None, pl.String).alias(c) for c in COLUMNS
    ]
    return frame.select(pl.int_range(first_row, first_row + pl.len(), dtype=pl.Int64).alias("row"), *columns)


def _not_utf8(file: IO[bytes], name: str) -> InvalidDataError:
    file.seek(0)
    for number, line in enumerate(file, 1):
        try:
            line.decode()
        except UnicodeDecodeError as error:
            return InvalidDataError(f"{name} is not UTF-8 at line {number}, byte {error.start + 1}; save it as UTF-8")
    return InvalidDataError(f"{name} is not UTF-8; save it as UTF-8")


def _csv_header(file: IO[bytes], name: str) -> tuple[list[str], str]:
    """The header's names as the file writes them, and the delimiter."""
    start = file.read(64 << 10)
    file.seek(0)
    line = start.removeprefix(b"\xef\xbb\xbf").split(b"\n", 1)[0].rstrip(b"\r")
    try:
        text = line.decode()
    except UnicodeDecodeError:
        raise _not_utf8(file, name) from None
    if "\0" in text:
        raise InvalidDataError(f"{name} is not a CSV file in UTF-8: its header holds zero bytes")
    headers = [(next(csv.reader([text], delimiter=d), []), d) for d in (",", "\t", ";")]
    return max(headers, key=lambda header: sum(c.strip().lower() in COLUMNS for c in header[0]))


def _scan_csv(file: IO[bytes], name: str, require_label: bool) -> Iterator[pl.DataFrame]:
    import pyarrow as pa
    from pyarrow import csv as arrow_csv

    header, delimiter = _csv_header(file, name)
    ours = _chosen(header, name, require_label)
    malformed: list[int] = []

    def set_aside(row: Any) -> str:
        malformed.append(row.number)
        return "skip"

    try:
        blocks = arrow_csv.open_csv(
            file,
            read_options=arrow_csv.ReadOptions(use_threads=False, block_size=BLOCK_BYTES),  # threads lose row numbers
            parse_options=arrow_csv.ParseOptions(
                delimiter=delimiter, newlines_in_values=True, invalid_row_handler=set_aside
            ),
            convert_options=arrow_csv.ConvertOptions(
                include_columns=list(ours.values()),
                column_types=dict.fromkeys(ours.values(), pa.string()),
                strings_can_be_null=False,
            ),
        )
        position, told = 2, 0
        for block in blocks:
            frame = pl.DataFrame(pa.Table.from_batches([block]))
            raw = _in_raw_form(frame, ours, position)
            for number in malformed[told:]:  # a skipped row moves the ones after it
                raw = raw.with_columns(row=pl.col("row") + (pl.col("row") >= number).cast(pl.Int64))
            position += frame.height + len(malformed) - told
            yield pl.concat([raw, _malformed(malformed[told:])])
            told = len(malformed)
        if told < len(malformed) or position == 2:
            yield _malformed(malformed[told:])
    except pa.ArrowInvalid as error:
        if "UTF8" in str(error) or "utf-8" in str(error).lower():
            raise _not_utf8(file, name) from None
        if "straddling" in str(error):
            raise InvalidDataError(f"{name}: a double quote is opened and never closed") from None
        raise InvalidDataError(f"{name} is not a CSV file that can be read; check its quotes and delimiter") from None


def _malformed(numbers: list[int]) -> pl.DataFrame:
    """Rows that did not fit the header: no field can be trusted, so all of them are null."""
    return pl.DataFrame({"row": numbers}, schema={"row": pl.Int64}).with_columns(
        *(pl.lit(None, pl.String).alias(column) for column in COLUMNS)
    )


def _scan_jsonl(file: IO[bytes], name: str, require_label: bool) -> Iterator[pl.DataFrame]:
    ours = {column: column for column in COLUMNS} | _chosen(_json_names(file, name), name, require_label)
    file.seek(0)
    schema = dict.fromkeys(ours.values(), pl.String)
    position, rest = 1, b""
    while block := file.read(BLOCK_BYTES):
        whole, newline, rest = (rest + block).rpartition(b"\n")
        if newline:
            yield (raw := _json_lines(whole, schema, ours, position, file, name))
            position += raw.height
    if rest.strip():
        yield _json_lines(rest, schema, ours, position, file, name)


def _json_names(file: IO[bytes], name: str) -> list[str]:
    """The names in the objects of the first block: writers leave out what is null, so line 1 need not have all."""
    import json

    names: dict[str, None] = {}
    for number, line in enumerate(file.readlines(BLOCK_BYTES), 1):
        try:
            names.update(dict.fromkeys(json.loads(line).keys()))
        except UnicodeDecodeError:
            raise _not_utf8(file, name) from None
        except (ValueError, AttributeError):
            if number == 1:
                raise InvalidDataError(
                    f"{name}: line 1 is not a JSON object; expected text, aspect and label in each"
                ) from None
    return list(names)


def _json_lines(
    block: bytes, schema: dict[str, Any], ours: dict[str, str], position: int, file: IO[bytes], name: str
) -> pl.DataFrame:
    import json

    try:
        block.decode()
        return _in_raw_form(pl.read_ndjson(io.BytesIO(block), schema=schema), ours, position)
    except UnicodeDecodeError:
        raise _not_utf8(file, name) from None
    except pl.exceptions.PolarsError:
        for number, line in enumerate(block.splitlines(), position):
            try:
                json.loads(line or b"null")
            except ValueError:
                raise InvalidDataError(f"{name}: line {number} is not a JSON object") from None
        raise InvalidDataError(f"{name} holds lines that are not JSON objects of text, aspect and label") from None


def _scan_parquet(file: IO[bytes], name: str, require_label: bool) -> Iterator[pl.DataFrame]:
    import pyarrow as pa
    from pyarrow import parquet

    try:
        source = parquet.ParquetFile(file)
        ours = _chosen(source.schema_arrow.names, name, require_label)
        position = 2
        for batch in source.iter_batches(batch_size=200_000, columns=list(ours.values())):
            raw = _in_raw_form(pl.DataFrame(pa.Table.from_batches([batch])), ours, position)
            position += raw.height
            yield raw
        if position == 2:
            yield _malformed([])
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, OSError):
        raise InvalidDataError(f"{name} is not a Parquet file that can be read") from None
