"""Recognition of tasks in files: columns by name and content, labels, input form, dates."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import polars as pl
import pytest

from absa.data.read import read_examples
from absa.data.recognition.file_sample import read_sample
from absa.data.recognition.recognise import Recognition, recognise, recognised_lines, task_name
from absa.errors import InvalidDataError
from absa.task import ABSA, TaskSpec
from tests.unit.data.recognition.files import delimited, intents, texts

N = 60


def find(columns: Mapping[str, Sequence[str]], known: TaskSpec | None = None) -> Recognition:
    return recognise(pl.DataFrame(columns, schema=dict.fromkeys(columns, pl.String)), "x.csv", name="x", known=known)


def cycle(*values: str) -> list[str]:
    return [values[n % len(values)] for n in range(N)]


def numbered(form: str, step: int = 1) -> list[str]:
    return [form.format(n // step) for n in range(N)]


SPANS = [text.split()[1] for text in texts(N)]
DATES = [f"{1 + n % 28:02d}/{1 + n % 12:02d}/2026" for n in range(N)]


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        (
            {"text": texts(N), "label": intents(N)},
            {"text": "text", "label": "label"},
        ),
        (
            {"ticket_id": numbered("T-{}"), "Kommentar": texts(N), "Kategorie": intents(N), "Erstellt am": DATES},
            {"text": "Kommentar", "label": "Kategorie", "observed_at": "Erstellt am"},
        ),
        (
            {"userId": numbered("u{}", 4), "message": texts(N), "intent": intents(N), "country": cycle("DE", "FR")},
            {"text": "message", "label": "intent", "unit": "userId", "segment": "country"},
        ),
        (
            {"Subject": cycle("Help", "Question", "Hi"), "Body": texts(N), "Ticket type": intents(N)},
            {"text": "Body", "label": "Ticket type"},
        ),
        (
            {"c1": numbered("{}"), "c2": intents(N), "c3": texts(N)},
            {"text": "c3", "label": "c2"},
        ),
        (
            {"Comentario": texts(N), "Etiqueta": intents(N), "Fecha": DATES, "Cliente": numbered("C{}", 3)},
            {"text": "Comentario", "label": "Etiqueta", "observed_at": "Fecha", "unit": "Cliente"},
        ),
        (
            {"评论内容": texts(N), "标签": intents(N), "日期": DATES},
            {"text": "评论内容", "label": "标签", "observed_at": "日期"},
        ),
        (
            {"message": texts(N), "topic": intents(N), "plan": cycle("Free", "Team")},
            {"text": "message", "label": "topic", "segment": "plan"},
        ),
        (
            {"Review": texts(N), "Stars": cycle("1", "2", "3", "4", "5"), "Country": cycle("DE", "FR")},
            {"text": "Review", "label": "Stars", "segment": "Country"},
        ),
        (
            {"Feedback ID": numbered("F{}"), "Feedback": texts(N), "Feedback date": DATES, "Feedback type": intents(N)},
            {"text": "Feedback", "label": "Feedback type", "observed_at": "Feedback date"},
        ),
    ],
)  # fmt: skip
def test_columns_are_found_by_name_and_content(columns: dict[str, list[str]], expected: dict[str, str]) -> None:
    found = find(columns)
    assert found.columns == expected
    assert found.task.input == "text"
    assert found.mapping.task == found.task


@pytest.mark.parametrize("name", ["Aspect", "Topic", "Product area", "Thema", "c7"])
def test_phrases_in_texts_are_aspects(name: str) -> None:
    found = find({"text": texts(N), name: SPANS, "label": intents(N)})
    assert (found.task.input, found.columns["aspect"]) == ("text+aspect", name)


def test_phrases_outside_texts_are_topics() -> None:
    found = find({"text": texts(N), "Area": cycle("pricing", "support"), "asked": cycle("no", "yes", "no")})
    assert found.task.input == "text+topic"
    assert found.columns == {"text": "text", "topic": "Area", "label": "asked"}
    assert found.task.labels == ("no", "yes")


def test_some_phrases_outside_texts_make_topics() -> None:
    phrases = [*SPANS[: N - 6], *["pricing"] * 6]
    found = find({"text": texts(N), "aspect": phrases, "label": intents(N)})
    assert found.task.input == "text+topic"
    assert "90% in their texts" in found.sentences["topic"]


@pytest.mark.parametrize(
    "values",
    [
        ("Negative", "neutral", "POSITIVE"),
        ("neg", "neu", "pos"),
        ("-1", "0", "1"),
        ("négatif", "neutre", "positif"),
        ("negativo", "neutro", "positivo"),
        ("0", "1", "2"),
    ],
)
def test_sentiments_about_aspects_are_the_default_task(values: tuple[str, ...], tmp_path: Path) -> None:
    columns = {"comment": texts(N), "feature": SPANS, "polarity": cycle(*values)}
    found = find(columns)
    assert found.task == ABSA
    assert "[task]" not in found.sections()
    file = tmp_path / "x.csv"
    file.write_text(delimited(columns), encoding="utf-8")
    examples, _ = read_examples(file, mapping=found.mapping)
    assert examples["label"].to_list() == [n % 3 for n in range(N)]


def test_sentiments_of_plain_text_keep_their_metric() -> None:
    found = find({"text": texts(N), "sentiment": cycle("positive", "Negative", "neutral")})
    assert (found.task.input, found.task.labels, found.task.evaluated) == ("text", ABSA.labels, ABSA.evaluated)


def test_values_in_any_case_are_one_label() -> None:
    found = find({"text": texts(N), "label": cycle("Bug", "Bug", "bug ", "BUG", "Feature  request", "feature request")})
    assert found.task.labels == ("Bug", "Feature  request".replace("  ", " "))
    assert found.mapping.number("feature  REQUEST") == found.mapping.number("Feature request") == 1


def test_numbers_are_labels_in_order() -> None:
    assert find({"text": texts(N), "rating": cycle("10", "9", "1.0")}).task.labels == ("1", "9", "10")


def test_rare_values_are_left_out_and_named() -> None:
    found = find({"text": texts(240), "label": [*intents(239), "bilng"]})
    assert found.task.labels == ("billing", "bug", "praise")
    assert "left out as rare: 'bilng'" in found.sentences["label"]


def test_labels_of_the_home_stay_in_order() -> None:
    known = TaskSpec(name="home", input="text", labels=("praise", "Bug"))
    task = find({"text": texts(N), "label": intents(N)}, known).task
    assert (task.name, task.labels) == ("home", ("praise", "Bug", "billing"))
    assert task.extends(known)


@pytest.mark.parametrize(
    ("columns", "sentence"),
    [
        (
            {"a": numbered("{}"), "b": DATES},
            "x.csv has no column that looks like texts; its columns are a, b",
        ),
        ({"text": texts(N), "n": numbered("{}")}, "x.csv has no column that looks like labels, 2 to 127"),
        ({"text": texts(N), "label": cycle("bug")}, "no column that looks like labels"),
        ({"text": [""] * N}, "its columns are none with a value"),
    ],
)
def test_file_without_a_role_is_refused(columns: dict[str, list[str]], sentence: str) -> None:
    with pytest.raises(InvalidDataError, match=sentence):
        find(columns)


def test_few_rows_are_enough() -> None:
    assert find({"text": texts(3), "label": ["billing", "bug", "praise"]}).task.n_labels == 3


def test_empty_cells_are_counted() -> None:
    found = find({"text": texts(N), "label": [*intents(N - 2), "", ""]})
    assert found.sentences["label"].endswith("; 2 of 60 rows have none")


def test_preview_shows_rows_as_they_are_read() -> None:
    columns = {"Message": texts(N), "Type": cycle("Bug", "Praise"), "Date": DATES, "Topic": cycle("pricing", "search")}
    frame = pl.DataFrame(columns)
    lines = recognise(frame, "x.csv", name="x").preview(frame)
    assert len(lines) == 5
    assert lines[1].endswith("->  Praise | topic search | observed_at 2026-02-02")


def test_lines_name_columns_without_a_role() -> None:
    lines = list(recognised_lines(find({"Row": numbered("{}"), "text": texts(N), "label": intents(N)})))
    assert lines[0].startswith("task x: text; labels billing, bug, praise; f1 is the macro F1 of")
    assert lines[-1].split() == ["not", "used", "Row"]


@pytest.mark.parametrize(
    ("file", "name"), [("My Tickets (1).csv", "my_tickets_1"), ("Überblick.csv", "berblick"), ("评论.csv", "task")]
)
def test_task_is_named_as_its_file(file: str, name: str) -> None:
    assert task_name(file) == name


@pytest.mark.parametrize(
    ("ending", "write"),
    [
        ("csv", lambda c: "\ufeff" + delimited(c, end="\r\n")),
        ("csv", lambda c: delimited(c, ";")),
        ("tsv", lambda c: delimited(c, "\t")),
        ("jsonl", lambda c: pl.DataFrame(c).write_ndjson()),
        ("json", lambda c: pl.DataFrame(c).write_ndjson()),
    ],
)
def test_file_of_every_form_is_recognised_and_read(ending: str, write, tmp_path: Path) -> None:
    columns = {"Title; with, marks": cycle("a; b", "c, d"), "Message": texts(N), "Reason": intents(N), "Date": DATES}
    file = tmp_path / f"rows.{ending}"
    file.write_text(write(columns), encoding="utf-8", newline="")
    sample = read_sample(file)
    found = recognise(sample.rows, file.name, name="rows")
    assert found.columns == {"text": "Message", "label": "Reason", "observed_at": "Date"}
    examples, quarantine = read_examples(file, mapping=found.mapping)
    assert (examples.height, quarantine.reasons) == (N, {})


def test_parquet_with_its_own_types_is_recognised(tmp_path: Path) -> None:
    frame = pl.DataFrame({"text": texts(N), "label": [n % 3 for n in range(N)], "tags": [["a"]] * N})
    frame.write_parquet(tmp_path / "rows.parquet")
    sample = read_sample(tmp_path / "rows.parquet", rows=40)
    assert (sample.rows.height, sample.more, sample.rows.columns) == (40, True, ["text", "label"])
    assert recognise(sample.rows, "rows.parquet", name="rows").task.labels == ("0", "1", "2")


@pytest.mark.parametrize(
    ("content", "name", "sentence"),
    [
        (b"PK\x03\x04zz", "export.ods", "export.ods is a workbook; expected CSV, JSONL, Parquet or .xlsx: save its"),
        (b"", "rows.csv", "is empty; expected a header and rows"),
        (b"text,label\n", "rows.csv", "has a header but no rows"),
        (b"t\xe9xt,label\nx,y\n", "rows.csv", "is not UTF-8 at line 1, byte 2"),
        (b"PK\x03\x04\x00\x00,a\n1,2\n", "rows.csv", "its header holds zero bytes"),
        (b'[{"text": "a"}', "rows.json", "starts as a JSON array and cannot be read as one"),
        (b"1\n2\n", "rows.jsonl", "no line is a JSON object"),
        (b"PAR1", "rows.parquet", "is not a Parquet file that can be read"),
    ],
)
def test_unreadable_file_gets_one_sentence(content: bytes, name: str, sentence: str, tmp_path: Path) -> None:
    file = tmp_path / name
    file.write_bytes(content)
    with pytest.raises(InvalidDataError, match=sentence):
        read_sample(file)


def test_columns_of_one_name_are_left_out(tmp_path: Path) -> None:
    file = tmp_path / "rows.csv"
    file.write_text("text,Note id,note ID,,label\na b,x,y,,bug\nc d,x,y,,praise\n", encoding="utf-8")
    assert read_sample(file).rows.columns == ["text", "label"]


@pytest.mark.parametrize("header", ["text,label,Label", "text,text,label", "Aspect,aspect,text"])
def test_doubled_column_of_a_role_is_refused(header: str, tmp_path: Path) -> None:
    file = tmp_path / "rows.csv"
    file.write_text(f"{header}\na,b,c\n", encoding="utf-8")
    with pytest.raises(InvalidDataError, match=r"has two columns named (label|text|aspect); keep one"):
        read_sample(file)


def test_list_of_texts_is_refused(tmp_path: Path) -> None:
    pl.DataFrame({"text": [["a"]], "label": ["b"]}).write_parquet(tmp_path / "rows.parquet")
    with pytest.raises(InvalidDataError, match=r"column text of .* is .*list.*; expected text"):
        read_sample(tmp_path / "rows.parquet")


def test_spreadsheet_export_is_recognised_and_read(tmp_path: Path) -> None:
    """BOM, CRLF, cells of several lines, empty cells, topics in any case and beside the text, days before months."""
    feedback = [*texts(N - 2), "Way too expensive\nAnother thing: we are on the Team plan.", ""]
    columns = {
        "Feedback ID": numbered("FB-1{:03}"),
        "Date": DATES,
        "Account ID": numbered("ACC-{:04}", 4),
        "Feedback": feedback,
        "Topic": [*SPANS[: N - 8], *cycle("Pricing", "pricing", "Customer Support", "")[:8]],
        "Sentiment": [*cycle("Negative", "Neutral", "Positive")[: N - 1], ""],
        "Plan": cycle("Free", "", "Team"),
    }
    file = tmp_path / "feedback.csv"
    file.write_text("\ufeff" + delimited(columns, end="\r\n"), encoding="utf-8", newline="")
    found = recognise(read_sample(file).rows, file.name, name=file.stem)
    assert found.task == TaskSpec(
        name="feedback", input="text+topic", labels=ABSA.labels, evaluated=("negative", "positive")
    )
    assert found.columns == {
        "text": "Feedback", "topic": "Topic", "label": "Sentiment", "observed_at": "Date", "unit": "Account ID",
        "segment": "Plan",
    }  # fmt: skip
    assert (found.unused, found.time_format) == (("Feedback ID",), "%d/%m/%Y")
    examples, quarantine = read_examples(file, mapping=found.mapping)
    assert (examples.height, quarantine.reasons) == (N - 2, {"aspect_empty": 1, "text_empty": 1})
    assert examples["label"].to_list()[:3] == [0, 1, 2]
    assert examples["segment"].null_count() == 19
