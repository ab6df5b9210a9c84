"""Tests of taking a filled label queue: what spreadsheets and scripts write, and the account of every row."""

import csv
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from absa.data.mapping import DEFAULT_CODES, data_mapping
from absa.errors import InvalidDataError
from absa.records.lake import Lake
from absa.records.schema import Window
from absa.records.windows import load_window
from absa.sinks import csv_text
from flows.cli.traffic_commands import account_lines
from monitoring.labels import label_import
from monitoring.labels.label_import import LabelRow, import_labels, read_label_file, settle_labels
from monitoring.labels.label_queue import ask_labels, write_queue
from tests.unit.monitoring.conftest import Traffic

Windows = Callable[[int], Window]
WRONG_LABEL = label_import.wrong_label(DEFAULT_CODES)
HEADER = "request_id,label,sampling_probability\n"


@pytest.fixture
def queue(lake: Lake, traffic: Traffic, window: Windows, tmp_path: Path) -> Path:
    """An export of ten rows whose texts a spreadsheet could misread."""
    traffic.send(window(0), 10, labelled=0.0)
    (key,) = lake.list("predictions/")
    path = Path(lake.url(key))
    texts = ["=1+1", "größer; -1", 'say "no"', "a\nb", "+49", "@me", "\tx", "plain", "'=x", "1,5"]
    pl.read_parquet(path).with_columns(pl.Series("text", texts)).write_parquet(path)
    write_queue(ask_labels(lake, window(0), count=100), tmp_path / "queue.csv")
    return tmp_path / "queue.csv"


def filled(queue: Path, label: Callable[[int], str]) -> tuple[list[str], list[list[str]]]:
    """The header and rows of an export, each with a label by its predicted one."""
    header, *rows = csv.reader(queue.open(encoding="utf-8-sig", newline=""))
    for row in rows:
        row[header.index("label")] = label(int(row[header.index("predicted")]))
    return header, rows


def save(
    path: Path, header: list[str], rows: list[list[str]], *, separator: str = ",", encoding: str = "utf-8"
) -> Path:
    with path.open("w", encoding=encoding, newline="") as file:
        csv.writer(file, delimiter=separator).writerows([header, *rows])
    return path


def decimal_comma(rows: list[list[str]]) -> list[list[str]]:
    return [[*row[:5], *(cell.replace(".", ",") for cell in row[5:])] for row in rows]


def test_queue_file_has_bom_and_its_texts(queue: Path, lake: Lake, window: Windows) -> None:
    assert queue.read_bytes().startswith(b"\xef\xbb\xbf")
    rows = list(csv.DictReader(queue.open(encoding="utf-8-sig", newline="")))
    assert not [cell for row in rows for cell in row.values() if cell[:1] in set("=+-@\t\r")]
    logged = load_window(lake, window(0)).rows
    texts = dict(logged.select("request_id", "text").iter_rows())
    assert {row["request_id"]: csv_text(row["text"]) for row in rows} == texts


@pytest.mark.parametrize(
    "form", ["as exported", "german spreadsheet", "decimal comma label", "pandas", "words", "other columns", "utf-16",
             "tabs", "ansi", "old mac"],
)  # fmt: skip
def test_import_every_tool_takes_all_labels(form: str, queue: Path, lake: Lake, window: Windows) -> None:
    names = ("negative", "NEUTRAL ", "Positive")
    label: Callable[[int], str] = {
        "decimal comma label": lambda k: f"{k},0", "pandas": lambda k: f"{k}.0", "words": lambda k: names[k],
    }.get(form, str)  # fmt: skip
    header, rows = filled(queue, label)
    match form:
        case "german spreadsheet" | "decimal comma label":
            save(queue, header, decimal_comma(rows), separator=";", encoding="utf-8-sig")
        case "other columns":
            order = [7, 3, 0, 6]
            save(queue, [("Label", "WHY", " Request ID", "Sampling-Probability")[k] for k in range(4)],
                 [[row[k] for k in order] for row in rows])  # fmt: skip
        case "utf-16" | "tabs":
            save(queue, header, rows, separator="\t", encoding="utf-16" if form == "utf-16" else "utf-8")
        case "old mac":
            save(queue, header, [[*row[:1], "a text", *row[2:]] for row in rows])
            queue.write_bytes(queue.read_bytes().replace(b"\r\n", b"\r"))
        case "ansi":
            save(queue, header, rows, separator=";", encoding="cp1252")
        case _:
            save(queue, header, rows)
    done = import_labels(lake, queue)
    assert (done.rows, done.taken, done.unlabelled, done.refused) == (10, 10, 0, {})
    logged = load_window(lake, window(0)).rows
    assert logged["feedback_label"].to_list() == logged["label"].to_list()
    assert logged["sampling_probability"].to_list() == [1.0] * 10


def test_import_without_text_column_takes_labels(queue: Path, lake: Lake) -> None:
    header, rows = filled(queue, str)
    save(queue, [header[0], *header[3:]], [[row[0], *row[3:]] for row in rows])
    assert import_labels(lake, queue).taken == 10


def test_import_bad_rows_are_counted_by_reason(queue: Path, lake: Lake) -> None:
    header, rows = filled(queue, str)
    rows[0][7] = ""
    rows[1][0] = "not-an-id"
    rows[2][0] = ""
    rows[3][0] = f"ffffffff-ffff{rows[3][0][13:]}"
    rows[4][7] = "3"
    rows[5][6] = "often"
    rows[6] = rows[6][:5]
    rows += [rows[7], [*rows[8][:7], str((int(rows[8][7]) + 1) % 3)]]
    done = import_labels(lake, save(queue, header, rows))
    counts = {reason: len(lines) for reason, lines in done.refused.items()}
    assert counts == {
        label_import.UNKNOWN: 3,
        WRONG_LABEL: 1,
        label_import.WRONG_CHANCE: 1,
        label_import.WRONG_CELLS: 1,
        label_import.REPEATED: 1,
        label_import.TWO_LABELS: 2,
    }
    assert (done.rows, done.taken, done.unlabelled) == (12, 2, 1)
    first, *reasons = account_lines(done)
    assert first == "12 rows read = 2 labels taken + 1 without a label + 9 refused"
    assert any(f"3 refused: the row {label_import.UNKNOWN}" in line for line in reasons)
    assert len(reasons) == 6


@given(
    cells=st.lists(
        st.tuples(
            st.sampled_from(["a", "b", "c", "unknown", ""]),
            st.sampled_from(["", "0", "1.0", "positive", "x", "7", "nan"]),
            st.sampled_from(["1", "0,5", "0", "", "inf"]),
        )
    )
)
def test_import_any_rows_add_up(cells: list[tuple[str, str, str]]) -> None:
    text = HEADER + "".join(f'"{a}","{b}","{c}"\n' for a, b, c in cells)
    read = read_label_file(text.encode(), name="queue.csv")
    taken, refused = settle_labels(read.labels, {"a", "b", "c"})
    assert read.rows == len(cells)
    counted = sum(map(len, [*read.refused.values(), *refused.values()]))
    assert read.rows == len(taken) + read.unlabelled + counted


def test_refused_rows_are_named_by_line_of_file() -> None:
    content = 'text,request_id,label,sampling_probability\n"two\nlines",a,0,1\n\nx,b,7,1\n'
    read = read_label_file(content.encode(), name="queue.csv")
    assert read.labels == (LabelRow(line=2, request_id="a", label=0, sampling_probability=1.0),)
    assert read.refused == {WRONG_LABEL: (5,)}


def test_import_shadow_answers_are_no_predictions(
    lake: Lake, traffic: Traffic, window: Windows, tmp_path: Path
) -> None:
    (request,) = traffic.send(window(0), 1, labelled=0.0, shadow=True)
    (tmp_path / "queue.csv").write_text(f"{HEADER}{request},0,1\n")
    done = import_labels(lake, tmp_path / "queue.csv")
    assert done.refused == {label_import.UNKNOWN: (2,)}
    assert lake.list("feedback/") == []


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"request_id,label\na,1\n", "no column sampling_probability"),
        (b"request_id;Label;label;sampling_probability\na;1;1;1\n", "2 columns named label; keep one"),
        (b"", "no column request_id"),
        (b"PK\x03\x04rest", "save the sheet as CSV"),
        (
            b'request_id,label,sampling_probability\na,1,1\n"b,1,1\nc,1,1\n',
            "line 3: the row that starts here is not CSV",
        ),
    ],
)
def test_import_unreadable_file_names_reason(content: bytes, said: str, lake: Lake, tmp_path: Path) -> None:
    (tmp_path / "queue.csv").write_bytes(content)
    with pytest.raises(InvalidDataError, match=said):
        import_labels(lake, tmp_path / "queue.csv")
    assert lake.list("feedback/") == []


def test_import_missing_file_is_named(lake: Lake, tmp_path: Path) -> None:
    with pytest.raises(InvalidDataError, match="there is no file"):
        import_labels(lake, tmp_path / "none.csv")


@pytest.mark.parametrize("form", ["{}", "{}.0", "{},0", "'{}"])
def test_import_minus_coding_is_refused_whole(form: str, queue: Path, lake: Lake) -> None:
    """Read as 0, 1, 2 its neutral rows would be negative ones, its positive rows neutral ones."""
    header, rows = filled(queue, lambda k: form.format(k - 1))
    rows[0][7], rows[1][7], rows[2][7] = form.format(-1), form.format(0), form.format(1)
    with pytest.raises(InvalidDataError, match=r"codes its labels as -1, 0, 1; expected .*\[data\.labels\]"):
        import_labels(lake, save(queue, header, rows))
    assert lake.list("feedback/") == []


def test_import_mapped_coding_takes_mapped_labels(queue: Path, lake: Lake, window: Windows) -> None:
    codes = data_mapping({"data": {"labels": {"-1": "negative", "0": "neutral", "1": "positive"}}}).codes
    header, rows = filled(queue, lambda k: ("-1", "0.0", "POSITIVE")[k])
    assert import_labels(lake, save(queue, header, rows), codes=codes).taken == 10
    logged = load_window(lake, window(0)).rows
    assert logged["feedback_label"].to_list() == logged["label"].to_list()
    read = read_label_file(f"{HEADER}a,2,1\n".encode(), name="queue.csv", codes=codes)
    assert read.refused == {"has a label other than negative, neutral, positive, -1, 0, 1": (2,)}
