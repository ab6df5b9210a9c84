"""Ingest, batch and evaluation.py agree on what a row of a file is, and on which file cannot be used."""

import json
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from absa.batch.batch_input import cut_partitions, inspect
from absa.batch.reader import PartitionReader
from absa.data.files import quoting
from absa.data.files.source_files import find_sources
from absa.data.mapping import DataMapping
from absa.data.read import read_examples
from absa.errors import InvalidDataError
from absa.src.evaluation import read_input

TEXTS = [f"the app called {name} is fine" for name in ("ada", "bob", "cleo", "dora", "eve", "finn")]
Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write_file(content: str | bytes, name: str) -> Path:
        path = tmp_path / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return write_file


def ingested(path: Path) -> list[str]:
    return read_examples(path, max_bad_share=1.0)[0]["text"].to_list()


def in_batch(path: Path) -> list[str]:
    """Texts of a batch's rows that can be read, cut into partitions of two rows."""
    source = inspect(str(path))
    found: list[str] = []
    for rows in map(PartitionReader(source).read, cut_partitions(source, 2)):
        readable = pl.Series(rows.unreadable).is_null()
        found += pl.DataFrame(rows.table).filter(readable)[source.text].to_list()
    return found


def evaluated(path: Path) -> list[str]:
    return [text for text, _ in read_input(path).pairs]


READERS = pytest.mark.parametrize("read", [ingested, in_batch, evaluated])


def lines(*texts: str, **more: object) -> list[str]:
    return [json.dumps({"text": text, "aspect": "app", "label": 1, **more}) for text in texts]


def table(texts: list[str], delimiter: str = ",", line_end: str = "\n") -> str:
    return line_end.join(
        ["text,aspect,label".replace(",", delimiter), *(delimiter.join([text, "app", "1"]) for text in texts), ""]
    )


@READERS
@pytest.mark.parametrize(
    ("content", "name"),
    [
        (table(TEXTS), "plain.csv"),
        (table(TEXTS, line_end="\r"), "cr.csv"),
        (table(TEXTS, line_end="\r\n"), "crlf.csv"),
        ("\ufeff\n\n" + table(TEXTS, "\t"), "empty_first_lines.tsv"),
        (table(TEXTS).replace("\n", "\n\n"), "empty_lines.csv"),
        ("\ufeff" + "\n".join(lines(*TEXTS)), "bom.jsonl"),
        ("\n \n" + "\n\n".join(lines(*TEXTS)), "empty_lines.ndjson"),
        ("\r".join(lines(*TEXTS)), "cr.jsonl"),
        ("\n".join(lines(*TEXTS, segment=float("nan"), observed_at=float("inf"))), "nan.jsonl"),
        ("\n".join(lines(*TEXTS)), "lines.json"),
    ],
)
def test_files_of_every_form_have_the_same_rows(write, read, content, name):
    assert read(write(content, name)) == TEXTS


@READERS
@pytest.mark.parametrize(("delimiter", "name"), [("\t", "rows.tsv"), (",", "rows.csv"), (";", "rows.csv")])
def test_stray_quote_is_read_as_written(write, read, delimiter, name):
    texts = [TEXTS[0], '"' + TEXTS[1], *TEXTS[2:4], 'the "best" app', '"love it" said the app', *TEXTS[4:]]
    assert read(write(table(texts, delimiter), name)) == texts


@READERS
@pytest.mark.parametrize(
    ("content", "name", "sentence"),
    [
        ("text,aspect,label,label\nthe app,app,0,1\n", "rows.csv", "two columns named label; keep one"),
        ("text,aspect,label,Text \nthe app,app,0,the site\n", "rows.csv", "two columns named text; keep one"),
        ('{"text":"the app","Text":"b","aspect":"app","label":0}\n', "rows.jsonl", "two columns named text; keep one"),
        (
            "[" + ",".join(lines(*TEXTS)) + ",\n",
            "rows.json",
            "starts as a JSON array and cannot be read as one: line 2",
        ),
        ("", "rows.csv", "is empty"),
    ],
)
def test_unusable_file_gets_the_same_sentence(write, read, content, name, sentence):
    with pytest.raises(InvalidDataError, match=sentence):
        read(write(content, name))


@READERS
def test_elements_of_json_array_are_rows(write, read):
    assert read(write("[" + ",\n".join(line.strip() for line in lines(*TEXTS)) + "]", "rows.json")) == TEXTS


@READERS
@pytest.mark.parametrize(
    ("column", "values"),
    [("text", [["the app"]]), ("text", [{"a": 1}]), ("aspect", [["app"]]), ("text", [b"the app"]), ("text", [5])],
)
def test_parquet_column_of_another_type_is_named(tmp_path, read, column, values):
    cells = {"text": ["the app"], "aspect": ["app"], "label": [1]} | {column: values}
    pq.write_table(pa.table(cells), tmp_path / "rows.parquet")
    with pytest.raises(InvalidDataError, match=rf"column {column} of .* is .*; expected text"):
        read(tmp_path / "rows.parquet")


@READERS
@pytest.mark.parametrize(("start", "name"), [("text,aspect,label\n", "rows.csv"), (lines("the app")[0], "rows.jsonl")])
def test_line_longer_than_memory_is_refused(write, read, monkeypatch, start, name):
    monkeypatch.setattr(quoting, "MAX_LINE_BYTES", 16 << 20)
    with pytest.raises(InvalidDataError, match=r"line 2 of .* is longer than 16 MB"):
        read(write(start.rstrip("\n") + "\n" + "the app " * (5 << 20), name))


BAD_LINES = [
    (json.dumps({"text": "love the app \ud83d", "aspect": "app", "label": 1}), "invalid_utf8"),
    ('{"text": "the app", "x": ' + "[" * 100_000 + "]" * 100_000 + "}", "not_an_object"),
    ('{"text": "the app"', "not_an_object"),
    ('"the app"', "not_an_object"),
    ('{"text": ["the app"], "aspect": "app", "label": 1}', "not_text"),
]


@pytest.mark.parametrize(("line", "reason"), BAD_LINES)
def test_unusable_json_line_is_one_quarantined_row(write, line, reason):
    path = write("\n\n".join([*lines(*TEXTS), line, *lines(*TEXTS)]), "rows.jsonl")
    examples, quarantine = read_examples(path)
    assert examples["text"].to_list() == TEXTS * 2
    assert quarantine.rows.select("row", "reason").rows() == [(13, reason)]
    assert quarantine.rows["text"][0]
    source = inspect(str(path))
    rows = PartitionReader(source).read(next(iter(cut_partitions(source, 100))))
    assert [why for why in rows.unreadable.to_pylist() if why] == [reason]
    assert rows.lines[6].as_py() == 13
    with pytest.raises(InvalidDataError, match="line 13"):
        read_input(path)


def test_whole_surrogate_pairs_and_escaped_backslashes_are_read(write):
    texts = ["the app 😀", "the app \\ud83d"]
    path = write("\n".join(lines(*texts)), "rows.jsonl")
    assert "\\ud83d" in path.read_text()
    assert ingested(path) == in_batch(path) == evaluated(path) == texts


@READERS
def test_repeated_json_name_has_its_first_value(write, read):
    other = json.dumps({"text": "[the app]", "aspect": "app", "label": 1})  # sends a block the slower way
    path = write('{"text":"the app","text":"the site","aspect":"app","label":1}\n' + other, "rows.jsonl")
    assert read(path) == ["the app", "[the app]"]


def test_labels_are_names_or_whole_numbers(tmp_path, write):
    written = ["Negative", "neutral", " POSITIVE ", "0", "1.0", "2.00"]
    cells = [f"{text},app,{label}" for text, label in zip(TEXTS, written, strict=True)]
    path = write("\n".join(["text,aspect,label", *cells]), "rows.csv")
    assert read_examples(path)[0]["label"].to_list() == read_input(path).labels == [0, 1, 2, 0, 1, 2]
    for number, labels in enumerate(([0.0, 1.0, 2.0], [Decimal("0.00"), Decimal("1.00"), Decimal("2.00")], [0, 1, 2])):
        path = tmp_path / f"rows{number}.parquet"
        pq.write_table(pa.table({"text": TEXTS[:3], "aspect": ["app"] * 3, "label": labels}), path)
        assert read_examples(path)[0]["label"].to_list() == read_input(path).labels == [0, 1, 2]


@pytest.mark.parametrize("label", ["-1", "-1.0", " -1 "])
def test_labels_coded_minus_1_to_1_are_refused(write, label):
    cells = [f"{text},app,{code}" for text, code in zip(TEXTS, ["1", "1", "1", "0", "0", label], strict=True)]
    path = write("\n".join(["text,aspect,label", *cells]), "rows.csv")
    codes = DataMapping(codes={"-1": 0, "0": 1, "1": 2})
    for read in (lambda: read_examples(path, max_bad_share=1.0), lambda: read_input(path)):
        with pytest.raises(InvalidDataError, match=r"codes its labels as -1, 0, 1; .* \[data\.labels\]"):
            read()
    assert (
        read_examples(path, mapping=codes)[0]["label"].to_list() == read_input(path, codes).labels == [2, 2, 2, 1, 1, 0]
    )


def test_minus_1_beside_2_is_a_bad_label(write):
    cells = [f"{text},app,{code}" for text, code in zip(TEXTS, ["2", "1", "1", "0", "0", "-1"], strict=True)]
    path = write("\n".join(["text,aspect,label", *cells]), "rows.csv")
    assert read_examples(path, max_bad_share=0.5)[1].reasons == {"label_outside_0_2": 1}


def test_nan_labels_are_missing(tmp_path):
    path = tmp_path / "rows.parquet"
    pq.write_table(pa.table({"text": TEXTS[:2], "aspect": ["app"] * 2, "label": [1.0, float("nan")]}), path)
    assert read_examples(path, max_bad_share=0.5)[1].reasons == {"label_missing": 1}
    assert read_input(path).labels is None


@pytest.mark.parametrize(("name", "bad"), [("rows.csv", "the app,site,1"), ("rows.jsonl", '{"text":"","aspect":"a"}')])
def test_row_numbers_are_line_numbers(write, name, bad):
    good = lines(*TEXTS) if name.endswith("jsonl") else table(TEXTS).splitlines()
    path = write("\n\n".join([*good, bad]), name)
    _, quarantine = read_examples(path, max_bad_share=0.5)
    number = path.read_text().splitlines().index(bad) + 1
    assert quarantine.rows["row"].to_list() == [number]
    with pytest.raises(InvalidDataError, match=f"the first is row {number}:"):
        read_examples(path)


def test_hidden_files_and_folders_are_not_input(tmp_path):
    for name in ("a.csv", ".ipynb_checkpoints/a-checkpoint.csv", ".hidden.csv", "deep/.git/x.jsonl", "deep/b.csv"):
        (tmp_path / name).parent.mkdir(exist_ok=True, parents=True)
        (tmp_path / name).write_text(table(TEXTS[:2]))
    found = [source.uri for source in find_sources(str(tmp_path))]
    assert found == [str(tmp_path / "a.csv"), str(tmp_path / "deep" / "b.csv")]
    assert [each.uri for each in inspect(str(tmp_path)).files] == found
