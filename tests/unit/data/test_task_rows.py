"""Files, snapshots and records of other tasks than the default one."""

import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest

from absa.adapters.lake_stores import FolderLake
from absa.data.account import Account
from absa.data.ingest import build_snapshot, ingest
from absa.data.mapping import DEFAULT_MAPPING, DataMapping
from absa.data.read import Quarantine, read_examples
from absa.data.snapshot import Manifest, load_manifest, load_side
from absa.errors import InvalidDataError, PermanentError
from absa.records.layout import manifest_key
from absa.records.schema import SIDES
from absa.records.tables import PREDICTIONS, aligned
from absa.task import ABSA, TaskSpec

TICKETS = TaskSpec(name="tickets", input="text", labels=("billing", "bug", "praise", "feature request"))
TEXT = DataMapping(task=TICKETS)
TOPIC = DataMapping(task=TaskSpec(name="topics", input="text+topic", labels=("no", "yes")))
HEADED = DataMapping(
    task=TICKETS,
    columns={"text": "Message", "label": "Category", "observed_at": "Created"},
    time_format="%d/%m/%Y %H:%M",
)


@pytest.fixture
def lake(tmp_path: Path) -> FolderLake:
    return FolderLake(tmp_path / "lake")


@pytest.fixture
def read(tmp_path: Path):
    def one(content: str, mapping: DataMapping, name: str = "rows.csv") -> tuple[pl.DataFrame, Quarantine]:
        path = tmp_path / name
        path.write_text(content, encoding="utf-8")
        return read_examples(path, mapping=mapping, max_bad_share=0.6)

    return one


def file(tmp_path: Path, rows: int = 60, name: str = "tickets.csv") -> Path:
    path = tmp_path / name
    lines = [f"ticket {word(n)} about something,{TICKETS.labels[n % 4]}" for n in range(rows)]
    path.write_text("\n".join(["text,label", *lines]) + "\n", encoding="utf-8")
    return path


def word(n: int) -> str:
    return "".join(chr(ord("a") + int(digit)) for digit in str(n))


@pytest.mark.parametrize("ending", ["csv", "jsonl", "parquet"])
def test_plain_text_rows_have_no_aspect(read, tmp_path: Path, ending: str) -> None:
    frame = pl.DataFrame({"Message": ["it crashes", "thank you"], "CATEGORY": ["Bug", "2"], "aspect": ["it", "you"]})
    path = tmp_path / f"rows.{ending}"
    {"csv": frame.write_csv, "jsonl": frame.write_ndjson, "parquet": frame.write_parquet}[ending](path)
    examples, _ = read_examples(path, mapping=HEADED)
    assert examples["aspect"].to_list() == [None, None]
    assert examples["label"].to_list() == [1, 2]
    assert examples["example_id"].n_unique() == 2


def test_topic_need_not_be_in_text(read) -> None:
    examples, quarantine = read("text,topic,label\nwe pay too much,pricing,yes\nok,,no\n", TOPIC)
    assert examples.select("aspect", "label").rows() == [("pricing", 1)]
    assert quarantine.reasons == {"aspect_empty": 1}


def test_times_are_read_in_their_format(read) -> None:
    content = "Message,Category,Created\na,bug,03/04/2026 09:30\nb,bug,2026-05-06T10:00:00Z\nc,bug,13/13/2026 01:00\n"
    examples, quarantine = read(content, HEADED)
    assert examples["observed_at"].to_list() == [
        datetime(2026, 4, 3, 9, 30, tzinfo=UTC), datetime(2026, 5, 6, 10, tzinfo=UTC),
    ]  # fmt: skip
    assert quarantine.reasons == {"observed_at_invalid": 1}


def test_missing_label_stays_missing(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("text,label\nit crashes,\nthanks,praise\n", encoding="utf-8")
    assert read_examples(path, mapping=TEXT, require_label=False)[0]["label"].to_list() == [None, 2]
    with pytest.raises(InvalidDataError, match=r"1 label_missing; .* its label is empty; write billing, bug, "):
        read_examples(path, mapping=TEXT)


@pytest.mark.parametrize(
    ("content", "name", "sentence"),
    [
        ("text,label\na,refund\n", "rows.csv", "its label is not billing, bug, praise or feature request; name the v"),
        ("text,label\na,-1\n", "rows.csv", "1 label_unknown"),
        ("text,label\na,-1,b\n", "rows.csv", "more or fewer fields"),
        ("5\n", "rows.jsonl", "not a JSON object; expected text and label in each"),
        ('{"text": ["a"], "label": 1}\n', "rows.jsonl", "its text is a list or an object; expected text"),
        ("", "rows.csv", "is empty; expected a header and rows"),
        ("title,label\na,bug\n", "rows.csv", "has no column text; expected a header with text, label"),
    ],
)
def test_sentences_of_plain_text_name_no_aspect(read, content: str, name: str, sentence: str) -> None:
    with pytest.raises(InvalidDataError, match=sentence) as refused:
        read(content, TEXT, name)
    assert "aspect" not in str(refused.value)


def test_quoted_text_of_several_lines_is_one_row(read) -> None:
    examples, _ = read('text,label\n"Hello, team\nthanks, bye\nit crashes",bug\nfine,praise\n', TEXT)
    assert examples["text"].to_list() == ["Hello, team\nthanks, bye\nit crashes", "fine"]


def test_quote_around_labelled_rows_is_not_believed(read) -> None:
    examples, quarantine = read('text,label\n"it crashes\nfine,praise\nslow",bug\nx,bug\nz,bug\n', TEXT)
    assert (examples.height, quarantine.reasons) == (2, {"ambiguous_quote": 3})


def test_ingest_of_plain_text_accounts_for_rows(lake: FolderLake, tmp_path: Path) -> None:
    path = file(tmp_path)
    with path.open("a", encoding="utf-8") as more:
        more.write("Ticket B about something!,bug\nticket b about something,praise\n,bug\nlost,\n")
    accounts: list[Account] = []
    manifest = ingest(lake, [path], mapping=TEXT, on_account=accounts.append)
    assert (accounts[0].duplicates, accounts[0].conflicts) == (1, 1)
    assert accounts[0].quarantined == {"label_missing": 1, "text_empty": 1}
    assert sum(manifest.rows[side][str(n)] for side in SIDES for n in range(4)) == 60
    assert pl.concat([load_side(lake, manifest.digest, side) for side in SIDES])["aspect"].null_count() == 60


def test_manifest_keeps_the_task(lake: FolderLake, tmp_path: Path) -> None:
    manifest = ingest(lake, [file(tmp_path)], mapping=TEXT)
    assert load_manifest(lake, manifest.digest).task == TICKETS
    record = json.loads(lake.read(manifest_key(manifest.digest)))
    assert record["task"] == TICKETS.to_json()
    del record["task"]
    assert Manifest.from_json(json.dumps(record)).task == ABSA


def test_equal_rows_of_other_labels_are_another_snapshot(lake: FolderLake, tmp_path: Path) -> None:
    wider = DataMapping(task=replace(TICKETS, labels=(*TICKETS.labels, "refund"), evaluated=()))
    first, second = (ingest(lake, [file(tmp_path)], mapping=each) for each in (TEXT, wider))
    assert (first.digest == second.digest, second.task) == (False, wider.task)


def test_appended_label_takes_rows_over(lake: FolderLake, tmp_path: Path) -> None:
    first = ingest(lake, [file(tmp_path)], mapping=TEXT)
    wider = DataMapping(task=replace(TICKETS, labels=(*TICKETS.labels, "refund"), evaluated=()))
    new = tmp_path / "new.csv"
    new.write_text("text,label\nwhere is my money,refund\n", encoding="utf-8")
    second = ingest(lake, [new], mapping=wider, parent=first.digest)
    assert (second.inherited, second.total_rows, second.task.n_labels) == (60, 61, 5)
    assert build_snapshot(lake, [], parent=second.digest).task == wider.task


def test_parent_of_another_task_is_refused(lake: FolderLake, tmp_path: Path) -> None:
    first = ingest(lake, [file(tmp_path)], mapping=TEXT)
    both = r"expected tickets \(text; billing, bug.*\), got absa \(text\+aspect; negative, neutral, positive\)"
    with pytest.raises(PermanentError, match=both):
        ingest(lake, [file(tmp_path)], mapping=DEFAULT_MAPPING, parent=first.digest)


def test_unused_column_is_named_in_the_account(lake: FolderLake, tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("text,aspect,label\nit crashes,it,bug\n", encoding="utf-8")
    accounts: list[Account] = []
    ingest(lake, [path], mapping=TEXT, on_account=accounts.append)
    unused, undated = accounts[0].notices
    assert unused.endswith("the column aspect is not used: task tickets classifies the text alone")
    assert "no column observed_at: every row counts as observed now" in undated


def test_scores_of_earlier_releases_are_lists(tmp_path: Path) -> None:
    import pyarrow as pa

    fixed = pa.table({"scores": pa.array([[0.1, 0.2, 0.7]], pa.list_(pa.float32(), 3))})
    assert aligned(fixed, PREDICTIONS)["scores"].type == pa.list_(pa.float32())
