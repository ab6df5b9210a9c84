"""Reader of a user's file: labelled examples, and the rows that cannot be used.

Header names, in any case: text, aspect (for tasks that have a phrase), label, and optionally segment, observed_at and
source, or the names that section [data] of evergreen.toml gives them. A bad row is quarantined with its reason. If too
large a share of the rows is bad, or the whole file cannot be read, an InvalidDataError states this in one sentence
without a customer's text.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import polars as pl

from absa.data.files import MAX_BAD_SHARE, MAX_TEXT_CHARACTERS
from absa.data.files.raw_rows import scan_file
from absa.data.files.reasons import NOT_A_LABEL, NOT_A_SENTIMENT, reason_sentence
from absa.data.files.times import TIME, other_times, times
from absa.data.key_columns import hex_column, sha256_column
from absa.data.mapping import DEFAULT_MAPPING, DataMapping, check_coding
from absa.data.normalise import Words
from absa.errors import InvalidDataError
from absa.inference.aspect_span import has_aspect
from absa.records import tables
from absa.records.identifiers import unit_hash
from absa.records.schema import SCHEMA_VERSION, utc_now
from absa.task import ABSA

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
    """Return the valid rows of one file (columns of `EXAMPLE_COLUMNS`), and the rows that were set aside.

    Args:
        path: a .csv, .tsv, .jsonl, .ndjson or .parquet file.
        source: origin of the labels of rows that name no source; by default the file's name.
        observed_at: time of rows that have no time; by default now.
        require_label: False if the label column may be missing or empty, as in files to predict on.
        max_bad_share: largest accepted share of bad rows, 0 to 1.
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
    """Raise an error if a file has no row, no valid row, or too large a share of bad rows.

    Args:
        name: name of the file.
        valid_rows: number of rows that can be used.
        reasons: number of rows that cannot be used, per reason.
        bad: bad rows; not all are needed, but the first one must be included.
        max_bad_share: largest share (0 to 1) that is accepted.
        kept: place of the bad rows, for the message.
        mapping: form of the file, for the message.

    Raises:
        InvalidDataError: the message has the counts per reason, and the reason and number of the first bad row.
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
    """Return True if all rows of a file are bad, or more than `max_bad_share` (0 to 1) of them. Pure."""
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
    """Split raw rows (columns of `RAW` or `SCANNED`) into examples without example_id, and bad rows. Pure.

    Units are hashed with `unit_secret`; without a secret they are left out.
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
        .then(pl.lit(NOT_A_SENTIMENT if mapping.task.labels == ABSA.labels else NOT_A_LABEL))
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
    """Return a mask of the rows whose aspect is in their text."""
    text, aspect = pl.col("text"), pl.col("aspect")
    found = given.select(found=text.str.contains(aspect, literal=True))["found"]
    other = (~found & (given["aspect"] != "")).arg_true()
    if len(other):  # compares without regard to case
        lower = text.str.to_lowercase().str.contains(aspect.str.to_lowercase(), literal=True)
        found = found.scatter(other, given[other].select(found=lower)["found"])
    unsure = (~found & (given["aspect"] != "")).arg_true()
    if not len(unsure):
        return found
    # lower case finds most aspects; the exact rule also handles casefold, Unicode forms and white space
    pairs = given[unsure].select("text", "aspect").iter_rows()
    return found.scatter(unsure, pl.Series([has_aspect(text, aspect) for text, aspect in pairs], dtype=pl.Boolean))


def with_example_id(examples: pl.DataFrame) -> pl.DataFrame:
    """Return the rows in the columns of `EXAMPLE_COLUMNS`, with example_id."""
    return examples.with_columns(example_id=hex_column(example_digests(examples))).select(list(EXAMPLE_COLUMNS))


def example_digests(examples: pl.DataFrame) -> Words:
    """Return the SHA-256 over text, aspect (or an empty text) and source per row, (n, 4); it starts with example_id."""
    parts = ("text", pl.col("aspect").fill_null(""), "source")
    return sha256_column(examples.select(pl.concat_str(*parts, separator="\0"))["text"])


def code_column(written: pl.Series) -> pl.Series:
    """Return `mapping.normal_code` of each value of a column."""
    codes = written.str.strip_chars().str.to_lowercase()
    if codes.str.contains(".", literal=True).any():
        codes = codes.str.replace(r"^([+-]?\d+)\.0*$", "$1")
    return codes


def telling_codes(raw: pl.DataFrame) -> dict[str, int]:
    """Count the labels of raw rows that show if a file uses the codes -1, 0, 1 or 0, 1, 2."""
    codes = code_column(raw["label"])
    return {code: int((codes == code).sum()) for code in ("-1", "2")}


def add_codes(total: dict[str, int], more: Mapping[str, int]) -> None:
    """Add the counts of a block to the counts of its file."""
    for code, count in more.items():
        total[code] = total.get(code, 0) + count
