"""Reading a user's file: what is accepted, what is set aside, and the sentence that says why."""

from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest

from absa.data.files import MAX_TEXT_CHARACTERS, raw_rows
from absa.data.read import EXAMPLE_COLUMNS, read_examples
from absa.errors import InvalidDataError

AT = datetime(2026, 11, 30, 12, tzinfo=UTC)


@pytest.fixture
def write(tmp_path: Path):
    def write_file(content: str | bytes, name: str = "rows.csv") -> Path:
        path = tmp_path / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return write_file


def test_headers_in_any_case_and_order_are_read(write):
    examples, quarantine = read_examples(write("LABEL, Aspect,Extra,TeXt\n2,app,x,I like the app\n"), observed_at=AT)
    assert examples.columns == list(EXAMPLE_COLUMNS)
    assert examples.schema == pl.Schema(EXAMPLE_COLUMNS)
    row = examples.row(0, named=True)
    assert (row["text"], row["aspect"], row["label"], row["segment"]) == ("I like the app", "app", 2, None)
    assert (row["source"], row["observed_at"]) == ("rows.csv", AT)
    assert quarantine.reasons == {}


@pytest.mark.parametrize(
    ("written", "label"),
    [("0", 0), (" 1 ", 1), ("2.0", 2), ("negative", 0), ("Neutral", 1), ("POSITIVE", 2)],
)
def test_labels_come_as_numbers_or_names(write, written, label):
    examples, _ = read_examples(write(f"text,aspect,label\nthe app,app,{written}\n"))
    assert examples["label"].to_list() == [label]


def test_quoted_commas_quotes_and_newlines_are_kept(write):
    examples, _ = read_examples(write('text,aspect,label\r\n"a ""big"" app,\nreally",app,0\r\n'))
    assert examples["text"].to_list() == ['a "big" app,\nreally']


@pytest.mark.parametrize("delimiter", ["\t", ";"])
def test_other_delimiters_are_recognised_by_the_header(write, delimiter):
    rows = [["text", "aspect", "label"], ["the app, and more", "app", "0"]]
    examples, _ = read_examples(write("\n".join(delimiter.join(row) for row in rows) + "\n"))
    assert examples["text"].to_list() == ["the app, and more"]


def test_byte_order_mark_is_not_header(write):
    examples, _ = read_examples(write(b"\xef\xbb\xbftext,aspect,label\nthe app,app,0\n"))
    assert examples.height == 1


def test_an_aspect_is_found_whatever_its_case(write):
    content = "text,aspect,label\nThe APP is fine,app,2\nHauptstraße ist laut,HAUPTSTRASSE,0\nÉTÉ was hot,été,1\n"
    examples, quarantine = read_examples(write(content))
    assert examples.height == 3
    assert quarantine.reasons == {}


def test_bad_rows_are_quarantined_with_number_and_reason(write):
    rows = ["the app,app,0"] * 9
    bad = ["the app,site,0", "the app,app,3", ",app,0", "the app,,0", "the app,app,", "the app", "the app,app,1,2"]
    path = write("text,aspect,label\n" + "\n".join(rows + bad + rows) + "\n")
    examples, quarantine = read_examples(path, max_bad_share=0.5)
    assert examples.height == 18
    assert sorted(quarantine.rows.select("row", "reason").iter_rows()) == [
        (11, "aspect_not_in_text"),
        (12, "label_outside_0_2"),
        (13, "text_empty"),
        (14, "aspect_empty"),
        (15, "label_missing"),
        (16, "malformed_row"),
        (17, "malformed_row"),
    ]
    assert quarantine.rows["uri"].unique().to_list() == [str(path)]


def test_rows_after_a_malformed_one_keep_their_numbers(write):
    content = "text,aspect,label\na app,app,0\nbroken\nthe app,site,0\n"
    _, quarantine = read_examples(write(content), max_bad_share=0.9)
    assert dict(quarantine.rows.select("reason", "row").iter_rows()) == {"malformed_row": 3, "aspect_not_in_text": 4}


def test_an_overlong_text_is_set_aside(write):
    long = "app " * (MAX_TEXT_CHARACTERS // 4 + 1)
    _, quarantine = read_examples(write(f"text,aspect,label\nthe app,app,0\n{long},app,0\n"), max_bad_share=0.5)
    assert quarantine.reasons == {"text_too_long": 1}


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ("the app,app,7", "row 3: its label is not 0"),
        ("the app,site,1", "row 3: its aspect is not in its text"),
        ("the app,app,", "row 3: its label is empty"),
    ],
)
def test_many_bad_rows_are_one_sentence_without_text(write, row, says):
    path = write(f"text,aspect,label\nthe app,app,0\n{row}\n")
    with pytest.raises(InvalidDataError) as caught:
        read_examples(path)
    message = str(caught.value)
    assert str(path) in message
    assert says in message
    assert "the app" not in message


def test_a_tenth_of_bad_rows_is_still_accepted(write):
    content = "text,aspect,label\n" + "the app,app,0\n" * 9 + "the app,app,9\n"
    examples, _ = read_examples(write(content))
    assert examples.height == 9


@pytest.mark.parametrize(
    ("content", "name", "says"),
    [
        ("", "rows.csv", "is empty"),
        ("text,aspect,label\n", "rows.csv", "has a header but no rows"),
        ("text,aspect\nthe app,app\n", "rows.csv", "no column label"),
        ("review,aspect,label\nthe app,app,0\n", "rows.csv", "no column text"),
        ("text,Text,aspect,label\na,a,a,0\n", "rows.csv", "two columns named text"),
        (b"text,aspect,label\nthe app,app,0\ncaf\xe9,caf,0\n", "rows.csv", "not UTF-8 at line 3, byte 4"),
        ("text,aspect,label\nthe app,app,0\n".encode("utf-16"), "rows.csv", "not UTF-8"),
        (b"\x00\x01PAR", "rows.parquet", "not a Parquet file"),
        ("nonsense", "rows.jsonl", "line 1 is not a JSON object"),
        ('{"text":"a","aspect":"a","label":0}\n{"text": oops\n', "rows.jsonl", "line 2 is not a JSON object"),
        ('{"text":"a","aspect":"a"}\n', "rows.jsonl", "no column label"),
    ],
)
def test_unusable_file_is_named_with_reason(write, content, name, says):
    path = write(content, name)
    with pytest.raises(InvalidDataError, match=says) as caught:
        read_examples(path)
    assert str(path) in str(caught.value)


def test_a_missing_file_and_a_folder_are_named(tmp_path):
    for path in (tmp_path / "nowhere.csv", tmp_path):
        with pytest.raises(InvalidDataError, match=str(path)):
            read_examples(path)


def test_jsonl_and_parquet_give_csv_examples(write, tmp_path):
    frame = pl.DataFrame(
        {"text": ["the app, ok", "bad site 😤"], "aspect": ["app", "site"], "label": [1, 0], "segment": ["a", None]}
    )
    frame.write_csv(tmp_path / "rows.csv")
    frame.write_ndjson(tmp_path / "rows.jsonl")
    frame.write_parquet(tmp_path / "rows.parquet")
    read_back = [
        read_examples(tmp_path / f"rows.{ending}", source="s", observed_at=AT)[0]
        for ending in ("csv", "jsonl", "parquet")
    ]
    assert read_back[0].height == 2
    assert read_back[0].equals(read_back[1])
    assert read_back[0].equals(read_back[2])


def test_names_missing_in_first_json_line_are_read(write):
    content = (
        '{"text":"the app","aspect":"app"}\n'
        '{"text":"the app","aspect":"app","Label":2,"segment":"a","observed_at":"2026-01-02","source":"survey"}\n'
    )
    examples, quarantine = read_examples(write(content, "rows.jsonl"), observed_at=AT, max_bad_share=0.9)
    assert quarantine.reasons == {"label_missing": 1}
    row = examples.row(0, named=True)
    assert (row["label"], row["segment"], row["source"]) == (2, "a", "survey")
    assert row["observed_at"] == datetime(2026, 1, 2, tzinfo=UTC)


def test_json_name_after_first_block_is_read(write, monkeypatch):
    monkeypatch.setattr(raw_rows, "BLOCK_BYTES", 1 << 12)
    line = '{"text":"the app","aspect":"app","label":1'
    examples, _ = read_examples(write(f"{line}}}\n" * 300 + f'{line},"segment":"a"}}\n', "rows.jsonl"))
    assert examples["segment"].to_list() == [None] * 300 + ["a"]


def test_files_to_predict_on_need_no_label(write):
    examples, _ = read_examples(write("text,aspect\nthe app,app\n"), require_label=False)
    assert examples["label"].to_list() == [None]


def test_row_may_bring_time_and_source(write):
    content = (
        "text,aspect,label,observed_at,source\nthe app,app,0,2026-01-02T03:04:05Z,survey\n"
        "the app,app,0,2026-01-02 03:04:05,\nthe app,app,0,2026-01-02,\nthe app,app,0,soon,\n"
    )
    examples, quarantine = read_examples(write(content), observed_at=AT, max_bad_share=0.5)
    assert examples["observed_at"].to_list()[:2] == [datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)] * 2
    assert examples["source"].to_list() == ["survey", "rows.csv", "rows.csv"]
    assert quarantine.reasons == {"observed_at_invalid": 1}


@pytest.mark.parametrize("ending", ["csv", "jsonl", "parquet"])
def test_file_longer_than_block_loses_no_row(tmp_path, monkeypatch, ending):
    monkeypatch.setattr(raw_rows, "BLOCK_BYTES", 1 << 12)
    frame = pl.DataFrame({"text": [f"the app {n}" for n in range(2000)], "aspect": "app", "label": 1})
    path = tmp_path / f"rows.{ending}"
    {"csv": frame.write_csv, "jsonl": frame.write_ndjson, "parquet": frame.write_parquet}[ending](path)
    examples, _ = read_examples(path)
    assert examples["text"].to_list() == frame["text"].to_list()
