"""Split of recent texts: enough of them are tested, no text is on two sides, and they return to the train side."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from absa.adapters.lake_stores import FolderLake
from absa.data.forget import forget_unit
from absa.data.ingest import build_snapshot
from absa.data.normalise import side
from absa.data.read import EXAMPLE_COLUMNS, with_example_id
from absa.data.recent_split import (
    ENOUGH_ROWS,
    RecentRows,
    RecentSplit,
    expected_test_rows,
    labels_for_gate,
    share_tested,
    smallest_gain,
)
from absa.data.snapshot import Manifest, leaked_texts, load_manifest, load_side
from absa.records.schema import SIDES

AT = datetime(2026, 11, 30, 12, tzinfo=UTC)
LATER = AT + timedelta(days=1)
WORDS = ("red", "green", "blue", "warm", "cold", "new", "old", "odd", "even", "late", "early", "tiny")
TEXTS = [f"{a} {b} {c} app" for a in WORDS for b in WORDS for c in WORDS]
RECENT = RecentRows(since=AT)


@pytest.fixture
def lake(tmp_path: Path) -> FolderLake:
    return FolderLake(tmp_path / "lake")


def frame(texts: list[str], at: datetime, label: int | None = None) -> pl.DataFrame:
    rows = [
        {"text": text, "aspect": "app", "label": n % 3 if label is None else label, "observed_at": at, "source": "s"}
        | {"schema_version": 1, "segment": None, "unit_hash": f"unit-{n}"}
        for n, text in enumerate(texts)
    ]
    schema = {name: kind for name, kind in EXAMPLE_COLUMNS.items() if name != "example_id"}
    return with_example_id(pl.DataFrame(rows, schema=schema))


def sides(lake: FolderLake, manifest: Manifest) -> dict[str, str]:
    """Side of each text."""
    found = [(text, name) for name in SIDES for text in load_side(lake, manifest.digest, name)["text"].unique()]
    assert len(found) == len(dict(found))
    return dict(found)


def taken(lake: FolderLake, *, old: int = 600, new: int = 240) -> tuple[Manifest, Manifest]:
    """Snapshot of old texts, and one that adds new texts and tests more of them."""
    before = build_snapshot(lake, [frame(TEXTS[:old], AT)])
    after = build_snapshot(lake, [frame(TEXTS[old : old + new], LATER)], parent=before.digest, recent=RECENT)
    return before, after


def test_half_of_few_recent_texts_is_tested(lake):
    before, after = taken(lake)
    assert after.recent is not None
    assert (after.recent.since, after.recent.share, after.recent.rows) == (AT, 0.5, 240)
    found = sides(lake, after)
    tested = [text for text in TEXTS[600:840] if found[text] == "test"]
    assert 100 <= len(tested) == after.recent.test_rows <= 140
    assert {text: found[text] for text in TEXTS[:600]} == sides(lake, before)
    assert {side(text) for text in tested} == {"train", "test"}
    assert {name for text, name in found.items() if side(text) == "validation"} == {"validation"}
    assert leaked_texts(lake, after.digest, load_side(lake, after.digest, "test")["text"]) == 0


def test_champion_with_recent_texts_returns_them(lake):
    _, after = taken(lake)
    recent = RecentRows(since=LATER)
    later = build_snapshot(
        lake, [frame(TEXTS[840:1000], LATER + timedelta(days=1))], parent=after.digest, recent=recent
    )
    found = sides(lake, later)
    assert {text: found[text] for text in TEXTS[:840]} == {text: side(text) for text in TEXTS[:840]}


def test_text_that_champion_knows_is_not_recent(lake):
    before, _ = taken(lake)
    again = build_snapshot(lake, [frame(TEXTS[:600], LATER, label=0)], parent=before.digest, recent=RECENT)
    assert again.recent is not None
    assert again.recent.rows == 0
    assert sides(lake, again) == sides(lake, before)


def test_many_recent_texts_keep_common_split(lake):
    manifest = build_snapshot(lake, [frame(TEXTS, LATER)], recent=replace(RECENT, wanted=100))
    plain = build_snapshot(lake, [frame(TEXTS, LATER)])
    assert manifest.digest == plain.digest
    assert sides(lake, manifest) == {text: side(text) for text in TEXTS}


def test_equal_rows_of_other_split_are_another_snapshot(lake):
    before, after = taken(lake)
    plain = build_snapshot(lake, [frame(TEXTS[600:840], LATER)], parent=before.digest)
    again = build_snapshot(lake, [frame(TEXTS[600:840], LATER)], parent=before.digest, recent=RECENT)
    assert plain.total_rows == after.total_rows
    assert plain.digest != after.digest == again.digest


def test_split_depends_on_neither_partitions_nor_order(lake, monkeypatch):
    _, after = taken(lake)
    monkeypatch.setattr("absa.data.ingest.PARTITION_BYTES", 4000)
    rows = pl.concat([frame(TEXTS[600:840], LATER), frame(TEXTS[:600], AT)]).reverse()
    parted = build_snapshot(lake, [rows], recent=RECENT)
    assert (parted.digest, parted.recent) == (after.digest, after.recent)


def test_larger_share_holds_out_all_of_smaller():
    points = pl.Series([n / 1000 for n in range(1000)]).to_numpy()
    few, many = (RecentSplit(since=AT, share=share).holds_out(points) for share in (0.2, 0.5))
    assert (few.sum(), many.sum()) == (100, 400)
    assert not (few & ~many).any()
    assert not RecentSplit(since=AT, share=0.1).holds_out(points).any()


def test_forgetting_keeps_texts_on_their_side(lake):
    _, after = taken(lake)
    earlier = sides(lake, after)
    forgotten = forget_unit(lake, "unit-7")
    kept = load_manifest(lake, str(forgotten.snapshots[after.digest]))
    assert sides(lake, kept) == {text: name for text, name in earlier.items() if text not in {TEXTS[7], TEXTS[607]}}
    assert kept.recent is not None
    assert kept.recent.rows == 239


def test_manifest_keeps_its_recent_split(lake):
    _, after = taken(lake)
    assert load_manifest(lake, after.digest) == after == Manifest.from_json(after.to_json())


@pytest.mark.parametrize("needed", [1, 50, 100, 470, 1047, 5000])
def test_labels_for_gate_give_enough_test_rows(needed):
    labels = labels_for_gate(needed)
    share = share_tested(labels, max(ENOUGH_ROWS, 2 * needed))
    assert share == 0.5
    assert labels * share - 1.645 * (labels * share * (1 - share)) ** 0.5 >= needed - 0.01
    assert labels <= 2 * needed + 6 * needed**0.5 + 4


@pytest.mark.parametrize(
    ("labels", "share", "points"), [(225, 0.5, 9.2), (2_000, 0.5, 3.1), (5_000, 0.21, 3.0), (20_000, 0.1, 2.2)]
)
def test_power_is_as_data_page_shows(labels, share, points):
    tested = expected_test_rows(labels, 100)
    assert (round(tested / labels, 2), round(100 * smallest_gain(tested), 1)) == (share, points)


def test_gate_that_needs_no_rows_needs_no_labels():
    assert labels_for_gate(0) == 0


def test_more_rows_see_a_smaller_gain():
    gains = [smallest_gain(rows) for rows in (0, 100, 1000, ENOUGH_ROWS)]
    assert gains == sorted(gains, reverse=True)
    assert gains[-1] <= 0.03 < gains[-2]
    assert expected_test_rows(200, 100) == 100
    assert expected_test_rows(100_000, 100) == 10_000
