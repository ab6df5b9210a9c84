"""Label import: writes the labels of a filled queue to the lake. The result accounts for every row of the file.

The file comes from a spreadsheet or a script. Only request_id, label and sampling_probability are read, in any order of
columns. A changed text does not matter.
"""

import csv
import hashlib
import io
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

import polars as pl
import pyarrow as pa

from absa.data.mapping import DEFAULT_CODES, check_coding, normal_code
from absa.errors import InvalidDataError
from absa.records.identifiers import request_time
from absa.records.lake import Lake
from absa.records.layout import feedback_prefix, prediction_prefix
from absa.records.rows import Feedback
from absa.records.schema import microseconds, utc_now
from absa.records.tables import FEEDBACK, PREDICTIONS, table_of, write_parquet
from absa.records.windows import SERVED, read_keys
from absa.sinks import csv_text

SOURCE: Final = "labels"
NEEDED: Final = ("request_id", "label", "sampling_probability")
WRONG_CELLS: Final = "has another number of cells than the header"
WRONG_CHANCE: Final = "has a sampling_probability that is not above 0 and at most 1"
UNKNOWN: Final = "has a request_id that no prediction has"
TWO_LABELS: Final = "has a request_id that another row gives another label"
REPEATED: Final = "has a request_id and label that an earlier row has"
_SEPARATORS: Final = (",", ";", "\t")
_UTF16: Final = (b"\xff\xfe", b"\xfe\xff")
_ZIP: Final = b"PK\x03\x04"
_KEYS: Final = pa.schema([PREDICTIONS.field("request_id"), PREDICTIONS.field("shadow")])


@dataclass(frozen=True, kw_only=True)
class LabelRow:
    """One row with a label. `line` is the line of the file at which the row starts; the header is line 1."""

    line: int
    request_id: str
    label: int
    sampling_probability: float


@dataclass(frozen=True, kw_only=True)
class LabelFile:
    """Filled queue as read. `refused` has the lines of the rows that cannot be taken, by reason.

    `place` is the unit of the numbers in `refused`: line, or task if the file has no lines.
    """

    rows: int
    unlabelled: int
    labels: tuple[LabelRow, ...]
    refused: Mapping[str, tuple[int, ...]]
    place: str = "line"


@dataclass(frozen=True, kw_only=True)
class ImportedLabels:
    """Account of an import: `rows` = `taken` + `unlabelled` + the number of lines in `refused`, listed by reason.

    For `place` see `LabelFile`.
    """

    rows: int
    taken: int
    unlabelled: int
    refused: Mapping[str, tuple[int, ...]]
    place: str = "line"


def wrong_label(codes: Mapping[str, int]) -> str:
    """Return the reason to refuse a row whose label is none of the codes."""
    return f"has a label other than {', '.join(codes)}"


def import_labels(
    lake: Lake,
    path: Path,
    *,
    source: str = SOURCE,
    at: datetime | None = None,
    codes: Mapping[str, int] = DEFAULT_CODES,
    reader_of: Callable[[bytes], Callable[..., LabelFile]] | None = None,
) -> ImportedLabels:
    """Write the labels of a filled queue to the lake as feedback, with their sampling probability.

    A row that cannot be taken is refused with its reason; the others are taken.

    Args:
        lake: has the predictions that were exported.
        path: CSV with the columns of `NEEDED`; separated by comma, semicolon or tab.
        source: feedback source of the labels.
        at: time of receipt; now by default.
        codes: label of each value that the file may write (`DataMapping.codes`).
        reader_of: chooses the reader by the file's content; None: the file is CSV.

    Raises:
        InvalidDataError: the file is missing or is not a CSV file, a column is missing or named twice, or the labels
            are coded -1, 0, 1 without a mapping. Nothing is written then.
    """
    at = at or utc_now()
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise InvalidDataError(f"there is no file {path}: name the filled queue") from None
    read = (reader_of(content) if reader_of else read_label_file)(content, name=str(path), codes=codes)
    labels, refused = settle_labels(read.labels, predicted_requests(lake, [row.request_id for row in read.labels]))
    if labels:
        at_us = microseconds(at)
        rows = [Feedback(row.request_id, row.label, at_us, source, row.sampling_probability) for row in labels]
        digest = hashlib.sha256(repr(rows).encode()).hexdigest()[:16]
        write_parquet(lake, f"{feedback_prefix(at)}{source}-{digest}.parquet", table_of(rows, FEEDBACK))
    return ImportedLabels(
        rows=read.rows,
        taken=len(labels),
        unlabelled=read.unlabelled,
        refused={**read.refused, **refused},
        place=read.place,
    )


def read_label_file(content: bytes, *, name: str, codes: Mapping[str, int] = DEFAULT_CODES) -> LabelFile:
    """Read a filled queue. Pure.

    Labels are codes (`0`, also as `0.0` or `0,0`) or names in any case. Columns may be in any order, with names in any
    case.

    Args:
        content: the file; UTF-8 or UTF-16. Another encoding damages only the text, which is not read.
        name: name of the file in error messages.
        codes: label of each value that the file may write.

    Raises:
        InvalidDataError: the content is not CSV, a column is missing or named twice, or see `mapping.check_coding`.
    """
    if content.startswith(_ZIP):
        raise InvalidDataError(f"{name} is a workbook or an archive; expected a CSV file: save the sheet as CSV UTF-8")
    text = content.decode("utf-16" if content.startswith(_UTF16) else "utf-8-sig", errors="replace")
    refused: defaultdict[str, list[int]] = defaultdict(list)
    labels, rows, unlabelled, line = [], 0, 0, 1
    written: Counter[str] = Counter()
    try:
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=_separator(text), strict=True)
        header = next(reader, [])
        places = _places(header, name)
        line = reader.line_num + 1
        for cells in reader:
            if cells:
                rows += 1
                found = _label_row(cells, line, places, len(header), codes)
                written[_code(cells[places["label"]]) if len(cells) == len(header) else ""] += 1
                if found is None:
                    unlabelled += 1
                elif isinstance(found, str):
                    refused[found].append(line)
                else:
                    labels.append(found)
            line = reader.line_num + 1
    except csv.Error as error:
        raise InvalidDataError(
            f"{name} line {line}: the row that starts here is not CSV ({error}); close its quotes, or export the queue "
            "again"
        ) from None
    check_coding(name, codes, written)
    return LabelFile(
        rows=rows,
        unlabelled=unlabelled,
        labels=tuple(labels),
        refused={reason: tuple(lines) for reason, lines in refused.items()},
    )


def settle_labels(
    labels: Sequence[LabelRow], known: Collection[str]
) -> tuple[list[LabelRow], dict[str, tuple[int, ...]]]:
    """Return the rows to take, and the lines of refused rows by reason: unknown, contradicting or repeated. Pure."""
    refused: defaultdict[str, list[int]] = defaultdict(list)
    taken: dict[str, LabelRow] = {}
    given: defaultdict[str, set[int]] = defaultdict(set)
    for row in labels:
        given[row.request_id].add(row.label)
    for row in labels:
        if row.request_id not in known:
            refused[UNKNOWN].append(row.line)
        elif len(given[row.request_id]) > 1:
            refused[TWO_LABELS].append(row.line)
        elif row.request_id in taken:
            refused[REPEATED].append(row.line)
        else:
            taken[row.request_id] = row
    return list(taken.values()), {reason: tuple(lines) for reason, lines in refused.items()}


def predicted_requests(lake: Lake, requests: Iterable[str]) -> set[str]:
    """Return the requests with a served prediction in the log. Only the hours in the requests' ids are read."""
    wanted = {request: at for request in requests if (at := request_time(request)) is not None}
    prefixes = sorted({prediction_prefix(at) for at in wanted.values()})
    names = pl.Series(sorted(wanted), dtype=pl.String)
    known: set[str] = set()
    for part in read_keys(lake, prefixes, _KEYS):
        known |= set(part.filter(SERVED & pl.col("request_id").is_in(names.implode()))["request_id"])
    return known


def _separator(text: str) -> str:
    """Return the separator that finds the needed columns in the header, else the one that finds the most columns."""
    first = re.split(r"[\r\n]", text, maxsplit=1)[0]
    headers = {each: next(csv.reader([first], delimiter=each), []) for each in _SEPARATORS}
    return max(_SEPARATORS, key=lambda each: (len({*NEEDED} & {*map(_column, headers[each])}), len(headers[each])))


def _column(cell: str) -> str:
    return re.sub(r"[\s-]+", "_", cell.strip().casefold())


def _places(header: Sequence[str], name: str) -> dict[str, int]:
    columns = [_column(cell) for cell in header]
    for needed in NEEDED:
        if columns.count(needed) > 1:
            raise InvalidDataError(f"{name} has {columns.count(needed)} columns named {needed}; keep one")
    missing = [needed for needed in NEEDED if needed not in columns]
    if missing:
        raise InvalidDataError(f"{name} has no column {', '.join(missing)}; export the queue again")
    return {needed: columns.index(needed) for needed in NEEDED}


def _label_row(
    cells: Sequence[str], line: int, places: Mapping[str, int], width: int, codes: Mapping[str, int]
) -> LabelRow | str | None:
    """Return a row with a label, the reason to refuse it, or None without a label."""
    if not any(cell.strip() for cell in cells):
        return None
    if len(cells) != width:
        return WRONG_CELLS
    request, label, probability = (csv_text(cells[places[needed]]).strip() for needed in NEEDED)
    if not label:
        return None
    number = codes.get(_code(label))
    if number is None:
        return wrong_label(codes)
    chance = sampling_chance(probability)
    if chance is None:
        return WRONG_CHANCE
    return LabelRow(line=line, request_id=request, label=number, sampling_probability=chance)


def _code(cell: str) -> str:
    """Return a label's cell normalised for the comparison with codes; a decimal comma is allowed."""
    return normal_code(_with_point(csv_text(cell)))


def _with_point(cell: str) -> str:
    return cell if "." in cell else cell.replace(",", ".")


def sampling_chance(cell: str) -> float | None:
    """Read a chance with a decimal point or comma; None if it is not above 0 and at most 1."""
    try:
        chance = float(_with_point(cell))
    except ValueError:
        return None
    return chance if 0.0 < chance <= 1.0 else None
