"""Forgotten rows are gone everywhere: predictions, feedback, snapshots, tokens, samples; and nothing else is."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from absa.adapters.lake_stores import FolderLake
from absa.data.feedback import labelled_examples
from absa.data.forget import forget_before, forget_unit
from absa.data.ingest import build_snapshot, ingest
from absa.data.snapshot import REPLACED_BY, latest_manifest, load_manifest, load_quarantine, load_side, manifests
from absa.errors import InvalidDataError, UnavailableError
from absa.records.identifiers import unit_hash
from absa.records.layout import feedback_prefix, prediction_prefix
from absa.records.schema import SIDES
from absa.records.tables import FEEDBACK, PREDICTIONS, write_parquet

AT = datetime(2026, 11, 20, 10, 30, tzinfo=UTC)
CANARY = "canary-7f3a"
# Words, not numbers: texts that differ in digits alone are one row.
WORDS = ("ash", "birch", "cedar", "elm", "fir", "gum", "hazel", "ivy", "juniper", "kauri", "larch", "maple")
SHARED = "everybody says the app is fine"


def predicted(number: int, unit: str, text: str, *, hours: int = 0) -> dict:
    return {
        "schema_version": 1, "request_id": f"id-{number:04d}", "at": AT + timedelta(hours=hours), "unit_hash": unit,
        "unit_given": True, "segment": None, "text": text, "aspect": "app", "label": 1, "scores": [0.2, 0.6, 0.2],
        "model_version": "1", "arm": "champion", "experiment": None, "revision": 1, "shadow": False, "cached": False,
        "latency_ms": 1.0, "replica": "r",
    }  # fmt: skip


def told(number: int, *, hours: int = 0) -> dict:
    return {
        "schema_version": 1, "request_id": f"id-{number:04d}", "label": number % 3, "at": AT + timedelta(hours=hours),
        "source": "survey", "sampling_probability": None,
    }  # fmt: skip


def put(lake: FolderLake, prediction: dict, name: str) -> None:
    key = f"{prediction_prefix(prediction['at'])}{name}.parquet"
    write_parquet(lake, key, pa.Table.from_pylist([prediction], schema=PREDICTIONS))


class FullLake(FolderLake):
    """Takes so many changes and then no more."""

    def __init__(self, root: Path, changes: int) -> None:
        super().__init__(root)
        self.changes = changes

    def _count(self) -> None:
        self.changes -= 1
        if self.changes < 0:
            raise UnavailableError("the lake is full")

    def write(self, key: str, data: bytes) -> None:
        self._count()
        super().write(key, data)

    def delete(self, key: str) -> None:
        self._count()
        super().delete(key)


class BusyLake(FolderLake):
    """Somebody else does something after the first snapshot was made anew."""

    def __init__(self, root: Path, meanwhile: Callable[[], object]) -> None:
        super().__init__(root)
        self.meanwhile: Callable[[], object] | None = meanwhile

    def write(self, key: str, data: bytes) -> None:
        super().write(key, data)
        if self.meanwhile is not None and REPLACED_BY.encode() in data:
            meanwhile, self.meanwhile = self.meanwhile, None
            meanwhile()


class HastyLake(FolderLake):
    """Goes away when a snapshot that is there gets another manifest."""

    def write(self, key: str, data: bytes) -> None:
        if key.endswith("/manifest.json") and self.exists(key):
            raise UnavailableError("the lake is gone")
        super().write(key, data)


@pytest.fixture
def lake(tmp_path: Path) -> FolderLake:
    """Three units' predictions and feedback, a snapshot and its child, and everything else that holds texts."""
    lake = FolderLake(tmp_path / "lake")
    rows = [predicted(k, "gone", f"the {CANARY} app in {WORDS[k]}", hours=k % 2) for k in range(12)]
    rows += [predicted(100 + k, "stays", f"the app of somebody else in {WORDS[k]}", hours=30) for k in range(12)]
    rows += [predicted(200, "gone", SHARED), predicted(201, "stays", SHARED.upper(), hours=30)]
    for number, row in enumerate(rows):
        put(lake, row, f"r-{number}")
        label = told(int(row["request_id"][3:]), hours=number % 40)
        key = f"{feedback_prefix(label['at'])}r-{number}.parquet"
        write_parquet(lake, key, pa.Table.from_pylist([label], schema=FEEDBACK))
    end = AT + timedelta(days=3)
    file = tmp_path / "bundled.csv"
    good = "".join(f"the old app in {word} is slow,app,0\n" for word in WORDS)
    file.write_text(f"text,aspect,label\n{good}the {CANARY} App in {WORDS[3]},nothing of it,0\n", encoding="utf-8")
    first = ingest(lake, [file], max_bad_share=0.5)
    learnt = build_snapshot(
        lake, [labelled_examples(lake, AT - timedelta(days=1), end, ["survey"])], parent=first.digest
    )
    more = labelled_examples(lake, AT + timedelta(hours=20), end, ["survey"])
    build_snapshot(lake, [more.with_columns(text=more["text"] + " and more")], parent=learnt.digest)
    lake.write(f"tokens/{learnt.digest}-abc/part", CANARY.encode())
    samples = pa.Table.from_pylist(rows[:2] + rows[12:14], schema=PREDICTIONS)
    write_parquet(lake, "monitoring/reference/1.parquet", samples)
    write_parquet(lake, "batch/job/part-000000.parquet", pa.table({"Text": [rows[0]["text"], "other"], "n": [1, 2]}))
    return lake


def places_of(lake: FolderLake, word: str) -> list[str]:
    """Keys that hold a word, whatever their form."""
    found = []
    for key in lake.list(""):
        if key.endswith(".parquet"):
            held = str(pq.read_table(pa.BufferReader(lake.read(key))).to_pylist())
        else:
            held = lake.read(key).decode()
        if word in held:
            found.append(key)
    return found


def test_forgetting_removes_only_the_units_texts(lake: FolderLake):
    before = latest_manifest(lake)
    assert before is not None
    assert len({key.split("/")[0] for key in places_of(lake, CANARY)}) == 5
    found = forget_unit(lake, "gone")
    assert places_of(lake, CANARY) == []
    assert (found.predictions, found.feedback, found.samples) == (13, 13, 3)
    assert found.examples == 24  # twelve in the snapshot and in its child
    assert len(places_of(lake, "somebody else")) > 12
    after = latest_manifest(lake)
    assert after is not None
    assert after.digest == found.snapshots[before.digest]
    assert after.total_rows == before.total_rows - 12
    assert after.parent in found.snapshots.values()


def test_text_shared_with_another_unit_stays(lake: FolderLake):
    forget_unit(lake, "gone")
    manifest = latest_manifest(lake)
    assert manifest is not None
    texts = [text.lower() for side in SIDES for text in load_side(lake, manifest.digest, side)["text"]]
    assert SHARED in texts


def test_trained_digest_leads_to_remaining_snapshot(lake: FolderLake):
    before = latest_manifest(lake)
    assert before is not None
    found = forget_unit(lake, "gone")
    assert load_manifest(lake, before.digest).digest == found.snapshots[before.digest]
    rows = sum(load_side(lake, before.digest, side).height for side in SIDES)
    assert rows == before.total_rows - 12


def test_snapshot_equal_to_childs_rest_keeps_manifest(tmp_path: Path):
    lake = FolderLake(tmp_path / "lake")
    file = tmp_path / "bundled.csv"
    rows = "".join(f"the old app in {word} is slow,app,0\n" for word in WORDS)
    file.write_text(f"text,aspect,label\n{rows}a row without its word,app,0\n", encoding="utf-8")
    parent = ingest(lake, [file])
    quarantine = load_quarantine(lake, parent.digest)
    assert quarantine.height == 1
    put(lake, predicted(1, "gone", f"the {CANARY} app"), "r")
    label = pa.Table.from_pylist([told(1)], schema=FEEDBACK)
    write_parquet(lake, f"{feedback_prefix(AT)}r.parquet", label)
    taken = labelled_examples(lake, AT - timedelta(days=1), AT + timedelta(days=1), ["survey"])
    child = build_snapshot(lake, [taken], parent=parent.digest, uri="feedback")
    assert forget_unit(lake, "gone").snapshots == {child.digest: parent.digest}
    assert load_quarantine(lake, parent.digest).equals(quarantine)
    assert lake.list(f"snapshots/{child.digest}/") == [f"snapshots/{child.digest}/manifest.json"]
    assert load_manifest(lake, child.digest) == replace(parent, taken_at=child.created_at)


def test_rest_of_newest_snapshot_stays_newest(lake: FolderLake):
    newest = latest_manifest(lake)
    assert newest is not None
    rows = pl.concat([load_side(lake, newest.digest, side) for side in SIDES])
    left = build_snapshot(lake, [rows.filter(~pl.col("text").str.contains(CANARY))])
    build_snapshot(lake, [rows.filter(pl.col("label") == 0)])
    assert build_snapshot(lake, [rows]).digest == newest.digest
    assert forget_unit(lake, "gone").snapshots[newest.digest] == left.digest
    now = latest_manifest(lake)
    assert now is not None
    assert (now.digest, now.created_at) == (left.digest, left.created_at)


def test_forgotten_snapshot_published_again_is_forgotten_again(lake: FolderLake):
    child = manifests(lake)[1]
    rows = [load_side(lake, child.digest, side) for side in SIDES]
    found = forget_unit(BusyLake(lake.root, lambda: build_snapshot(FolderLake(lake.root), rows)), "gone")
    assert places_of(lake, CANARY) == []
    assert load_manifest(lake, child.digest).digest == found.snapshots[child.digest]
    for manifest in manifests(lake):
        assert sum(load_side(lake, manifest.digest, side).height for side in SIDES) == manifest.total_rows > 0


def test_half_rewritten_snapshot_names_its_origin_in_end(lake: FolderLake):
    before = latest_manifest(lake)
    assert before is not None
    with pytest.raises(UnavailableError):
        forget_unit(HastyLake(lake.root), "gone")
    assert not all(manifest.sources for manifest in manifests(lake))
    forget_unit(lake, "gone")
    assert all(manifest.sources for manifest in manifests(lake))
    after = latest_manifest(lake)
    assert after is not None
    assert (after.sources, after.digest) == (before.sources, load_manifest(lake, before.digest).digest)


def test_forgetting_twice_or_an_unknown_unit_changes_nothing(lake: FolderLake):
    forget_unit(lake, "gone")
    kept = {key: lake.read(key) for key in lake.list("")}
    assert not forget_unit(lake, "gone").anything
    assert not forget_unit(lake, "nobody").anything
    assert {key: lake.read(key) for key in lake.list("")} == kept


def test_snapshot_published_during_forgetting_is_cleaned(lake: FolderLake):
    read_before = labelled_examples(lake, AT - timedelta(days=1), AT + timedelta(days=3), ["survey"])
    assert any(CANARY in text for text in read_before["text"])
    forget_unit(BusyLake(lake.root, lambda: build_snapshot(FolderLake(lake.root), [read_before])), "gone")
    assert places_of(lake, CANARY) == []
    manifest = latest_manifest(lake)
    assert manifest is not None
    assert sum(load_side(lake, manifest.digest, side).height for side in SIDES) == manifest.total_rows > 0


@pytest.mark.parametrize("changes", [1, 9, 20])
def test_interrupted_forgetting_is_finished_by_next(lake: FolderLake, changes: int):
    with pytest.raises(UnavailableError):
        forget_unit(FullLake(lake.root, changes), "gone")
    forget_unit(lake, "gone")
    assert places_of(lake, CANARY) == []
    manifest = latest_manifest(lake)
    assert manifest is not None
    assert sum(load_side(lake, manifest.digest, side).height for side in SIDES) == manifest.total_rows > 0


def test_old_texts_are_forgotten_with_learned_models(lake: FolderLake):
    assert not forget_before(lake, AT - timedelta(days=1)).anything
    found = forget_before(lake, AT + timedelta(hours=20))
    assert found.predictions == 13
    assert places_of(lake, CANARY) == []
    assert len(places_of(lake, "somebody else")) > 12


def test_bad_rows_of_refused_files_are_forgotten(lake: FolderLake, tmp_path: Path):
    text = f"the {CANARY} App in {WORDS[3]}"
    rows = [f"{text},nothing of it,0", f'"{CANARY},broken', "somebody else's app,site,0"]
    file = tmp_path / "refused.csv"
    file.write_text("\n".join(["text,aspect,label", *rows]))
    with pytest.raises(InvalidDataError, match="kept in"):
        ingest(lake, [file])
    [key] = [key for key in places_of(lake, CANARY) if key.startswith("quarantine/")]
    forget_unit(lake, "gone")
    assert pl.read_parquet(lake.read(key))["text"].to_list() == ["somebody else's app"]


def test_rows_of_files_are_forgotten_by_unit(tmp_path: Path) -> None:
    lake, secret = FolderLake(tmp_path / "lake"), b"secret"
    file = tmp_path / "rows.csv"
    rows = [f"{word} app,app,1,acct-{n % 2}" for n, word in enumerate(WORDS)]
    file.write_text("\n".join(["text,aspect,label,unit", *rows, ",app,1,acct-1"]) + "\n", encoding="utf-8")
    manifest = ingest(lake, [file], unit_secret=secret)
    found = forget_unit(lake, unit_hash("acct-1", secret))
    left = latest_manifest(lake)
    assert left is not None
    assert (found.examples, left.total_rows, left.digest == manifest.digest) == (6, 6, False)
    texts = pl.concat([load_side(lake, left.digest, side) for side in SIDES])["text"].to_list()
    assert sorted(texts) == [f"{word} app" for word in WORDS[::2]]
    assert load_quarantine(lake, left.digest).is_empty()


def test_units_without_a_secret_are_left_out(tmp_path: Path) -> None:
    lake, file = FolderLake(tmp_path / "lake"), tmp_path / "rows.csv"
    file.write_text("text,aspect,label,unit\nthe app,app,1,acct-1\n", encoding="utf-8")
    manifest = ingest(lake, [file])
    assert pl.concat([load_side(lake, manifest.digest, side) for side in SIDES])["unit_hash"].to_list() == [None]
