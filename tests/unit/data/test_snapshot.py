"""Snapshots: content-addressed, split by text, deduplicated, united with their parent."""

import errno
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from absa.adapters.lake_stores import FolderLake
from absa.data import ingest as ingesting
from absa.data import partitions
from absa.data.account import Account
from absa.data.files import raw_rows
from absa.data.ingest import build_snapshot, ingest
from absa.data.normalise import side
from absa.data.read import EXAMPLE_COLUMNS, with_example_id
from absa.data.snapshot import Manifest, latest_manifest, load_manifest, load_quarantine, load_side, remove_snapshot
from absa.errors import IntegrityError, InvalidDataError, NotFoundError, UnavailableError
from absa.records.schema import SIDES

AT = datetime(2026, 11, 30, 12, tzinfo=UTC)
WORDS = ("red", "green", "blue", "warm", "cold", "new", "old", "odd", "even", "late", "early", "tiny")


@pytest.fixture
def lake(tmp_path: Path) -> FolderLake:
    return FolderLake(tmp_path / "lake")


def example(text="the app", label=0, *, aspect="app", at=AT, source="s", segment=None) -> dict:
    return {
        "schema_version": 1,
        "text": text,
        "aspect": aspect,
        "label": label,
        "observed_at": at,
        "source": source,
        "segment": segment,
    }


def frame(*rows: dict) -> pl.DataFrame:
    schema = {name: kind for name, kind in EXAMPLE_COLUMNS.items() if name != "example_id"}
    return with_example_id(pl.DataFrame(list(rows), schema=schema))


def many(count: int, label: int | None = None) -> pl.DataFrame:
    texts = [f"{a} {b} {c} app" for a in WORDS for b in WORDS for c in WORDS][:count]
    return frame(*(example(text, n % 3 if label is None else label) for n, text in enumerate(texts)))


def everything(lake: FolderLake, manifest: Manifest) -> pl.DataFrame:
    return pl.concat([load_side(lake, manifest.digest, side_) for side_ in SIDES]).sort("text", "aspect")


def test_row_is_in_split_of_its_text(lake):
    manifest = build_snapshot(lake, [many(600)])
    for name in SIDES:
        rows = load_side(lake, manifest.digest, name)
        assert rows.schema == pl.Schema(EXAMPLE_COLUMNS)
        assert rows.height == manifest.side_rows(name) > 0
        assert {side(text) for text in rows["text"]} == {name}
    assert manifest.total_rows == 600
    assert 0.7 < manifest.side_rows("train") / 600 < 0.9


def test_digest_depends_on_rows_only(lake, monkeypatch):
    rows = many(300)
    first = build_snapshot(lake, [rows])
    later = rows.with_columns(pl.col("observed_at") + timedelta(days=1)).reverse()
    assert build_snapshot(lake, [later[:100], later[100:]]).digest == first.digest
    monkeypatch.setattr(ingesting, "PARTITION_BYTES", 2000)
    assert build_snapshot(lake, [rows]).digest == first.digest


@pytest.mark.parametrize(
    "change",
    [
        {"text": "another app"},
        {"label": 1},
        {"aspect": "the"},
        {"segment": "x"},
        {"source": "y"},
    ],
)
def test_digest_changes_with_any_learned_field(lake, change):
    assert build_snapshot(lake, [frame(example())]).digest != build_snapshot(lake, [frame(example(**change))]).digest


def test_near_duplicates_of_same_aspect_are_removed(lake):
    rows = frame(
        example("Order 12 was late!", aspect="order"),
        example("order 999 was late", aspect="Order"),
        example("Order 12 was late!", aspect="late"),
        example("order was very late", aspect="order"),
    )
    manifest = build_snapshot(lake, [rows])
    assert manifest.total_rows == 3
    assert manifest.duplicates_removed == 1
    assert manifest.conflicts_resolved == 0


def test_the_majority_settles_a_conflict(lake):
    rows = frame(example(label=2), example(label=2), example(label=0, at=AT + timedelta(days=1)))
    manifest = build_snapshot(lake, [rows])
    assert everything(lake, manifest)["label"].to_list() == [2]
    assert manifest.conflicts_resolved == 1
    assert manifest.duplicates_removed == 1


def test_tie_is_settled_by_newest_then_row(lake):
    newest_first = frame(example(label=2, at=AT + timedelta(days=1)), example(label=0))
    assert everything(lake, build_snapshot(lake, [newest_first]))["label"].to_list() == [2]
    equally_old = frame(example(label=2), example(label=0))
    assert everything(lake, build_snapshot(lake, [equally_old]))["label"].to_list() == [0]


def test_newer_label_wins_over_parents_label(lake):
    parent = build_snapshot(lake, [frame(example(label=0), example("my site", 1, aspect="site"))])
    newer = frame(example(label=2, at=AT + timedelta(days=1)), example("our shop", 1, aspect="shop"))
    child = build_snapshot(lake, [newer], parent=parent.digest)
    labels = dict(everything(lake, child).select("text", "label").iter_rows())
    assert labels == {"the app": 2, "my site": 1, "our shop": 1}
    assert child.parent == parent.digest
    assert child.conflicts_resolved == 1


def test_older_label_does_not_replace_parents(lake):
    parent = build_snapshot(lake, [frame(example(label=0))])
    older = frame(*[example(label=2, at=AT - timedelta(days=1))] * 3)
    assert build_snapshot(lake, [older], parent=parent.digest).digest == parent.digest


def test_row_seen_again_keeps_its_age(lake):
    parent = build_snapshot(lake, [frame(example(label=0))])
    again = build_snapshot(lake, [frame(example(label=0, at=AT + timedelta(days=9)))], parent=parent.digest)
    assert again.digest == parent.digest
    assert everything(lake, again)["observed_at"].to_list() == [AT]


def test_ingest_of_same_file_gives_same_snapshot(lake, tmp_path):
    file = tmp_path / "rows.csv"
    many(200).select("text", "aspect", "label").write_csv(file)
    first = ingest(lake, [file])
    assert ingest(lake, [file], parent=first.digest).digest == first.digest
    assert ingest(lake, [file]) == first


def test_file_ingested_again_is_newest_snapshot(lake, tmp_path):
    file = tmp_path / "labels.csv"
    made: list[Manifest] = []
    for label in (0, 2, 0):
        frame(example(label=label)).select("text", "aspect", "label").write_csv(file)
        newest = latest_manifest(lake)
        made.append(ingest(lake, [file], parent=newest.digest if newest else None))
        newest = latest_manifest(lake)
        assert newest == made[-1]
        assert everything(lake, newest)["label"].to_list() == [label]
    first, edited, again = made
    assert (again.digest, again.created_at, again.parent) == (first.digest, first.created_at, None)
    assert again.last_taken > edited.last_taken


def test_newest_snapshot_taken_again_is_unchanged(lake):
    build_snapshot(lake, [many(3)])
    kept = {key: lake.read(key) for key in lake.list("")}
    build_snapshot(lake, [many(3)])
    assert {key: lake.read(key) for key in lake.list("")} == kept


@pytest.mark.parametrize("something_left", [True, False])
def test_removed_rows_that_return_make_old_snapshot(lake, something_left):
    removed, left = build_snapshot(lake, [many(20)]), build_snapshot(lake, [many(10)])
    remove_snapshot(lake, removed, left.digest if something_left else None)
    lake.write(f"snapshots/{removed.digest}/train/part-00007.parquet", b"left by a kill")
    again = build_snapshot(lake, [many(20)])
    assert again.digest == removed.digest
    assert latest_manifest(lake) == load_manifest(lake, removed.digest) == again
    assert everything(lake, again).height == again.total_rows == 20


def test_manifest_without_taken_again_time_is_read(lake):
    manifest = build_snapshot(lake, [many(3)])
    record = json.loads(manifest.to_json())
    del record["taken_at"]
    assert Manifest.from_json(json.dumps(record)) == manifest


def test_manifest_counts_sources_and_quarantine(lake, tmp_path):
    good, mixed = tmp_path / "in" / "a.csv", tmp_path / "in" / "b.jsonl"
    good.parent.mkdir()
    many(100).select("text", "aspect", "label", pl.lit("shop").alias("segment")).write_csv(good)
    rows = [{"text": f"{word} site", "aspect": "site", "label": 1} for word in WORDS]
    mixed.write_text("\n".join(json.dumps(row) for row in [*rows, {"text": "x", "aspect": "y", "label": 1}]))
    manifest = ingest(lake, [tmp_path / "in"])
    assert [(s["uri"], s["rows"], s["bytes"]) for s in manifest.sources] == [
        (str(good), 100, good.stat().st_size),
        (str(mixed), 12, mixed.stat().st_size),
    ]
    assert manifest.quarantined == {"aspect_not_in_text": 1}
    assert manifest.segments == {"shop": 100}
    kept = load_quarantine(lake, manifest.digest)
    assert kept.select("row", "reason", "uri").row(0) == (13, "aspect_not_in_text", str(mixed))
    assert load_manifest(lake, manifest.digest) == manifest == latest_manifest(lake)


def test_ingest_of_bad_file_leaves_lake_empty(lake, tmp_path):
    good, bad = tmp_path / "a.csv", tmp_path / "b.csv"
    many(50).select("text", "aspect", "label").write_csv(good)
    bad.write_text("text,aspect,label\nthe app,app,9\n")
    with pytest.raises(InvalidDataError, match=r"b\.csv: 1 of 1 rows cannot be used.*row 2: its label"):
        ingest(lake, [good, bad])
    assert lake.list("snapshots/") == []
    assert latest_manifest(lake) is None


def test_missing_paths_and_unknown_parents_are_named(lake, tmp_path):
    (tmp_path / "empty").mkdir()
    for path in ("nowhere.csv", "empty"):
        with pytest.raises(InvalidDataError, match=path):
            ingest(lake, [tmp_path / path])
    with pytest.raises(NotFoundError):
        build_snapshot(lake, [many(3)], parent="0" * 64)
    with pytest.raises(InvalidDataError, match="no labelled rows"):
        build_snapshot(lake, [many(0)])


def test_full_disk_is_one_sentence_and_lake_empty(lake, tmp_path, monkeypatch):
    file = tmp_path / "rows.csv"
    many(20).select("text", "aspect", "label").write_csv(file)

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(partitions.pa, "OSFile", full)
    with pytest.raises(UnavailableError, match=r"cannot write to .*No space left on device"):
        ingest(lake, [file])
    assert lake.list("snapshots/") == []


def test_rows_without_a_label_are_left_out(lake):
    assert build_snapshot(lake, [many(5), frame(example("a bare app", None))]).total_rows == 5


def test_manifest_of_later_release_is_read(lake):
    manifest = build_snapshot(lake, [many(3)])
    later = json.dumps(json.loads(manifest.to_json()) | {"invented_later": 1})
    assert Manifest.from_json(later) == manifest


@pytest.mark.parametrize("content", [b"", b"[]", b"{}"])
def test_damaged_manifest_is_named(lake, content):
    key = f"snapshots/{build_snapshot(lake, [many(3)]).digest}/manifest.json"
    lake.write(key, content)
    with pytest.raises(IntegrityError, match="is not the manifest of a snapshot: restore it from a backup") as caught:
        latest_manifest(lake)
    assert lake.url(key) in str(caught.value)


def test_processes_and_blocks_give_same_snapshot(lake, tmp_path, monkeypatch):
    file = tmp_path / "rows.csv"
    many(1500).select("text", "aspect", "label").write_csv(file)
    alone = ingest(lake, [file])
    seen: list[int] = []
    monkeypatch.setattr(ingesting, "POOL_FROM_BYTES", 0)
    monkeypatch.setattr(ingesting, "PARTITION_BYTES", 10_000)
    monkeypatch.setattr(raw_rows, "BLOCK_BYTES", 8_000)
    pooled = ingest(lake, [file], processes=2, on_progress=seen.append)
    assert pooled.digest == alone.digest
    assert len(seen) > 3
    assert seen == sorted(seen)
    assert seen[-1] == file.stat().st_size


def test_near_duplicates_leave_empty_partitions(lake, tmp_path, monkeypatch):
    monkeypatch.setattr(ingesting, "PARTITION_BYTES", 500)
    file = tmp_path / "rows.csv"
    frame(*(example(f"the app costs {n}", n % 3) for n in range(100))).select("text", "aspect", "label").write_csv(file)
    accounts: list[Account] = []
    assert ingest(lake, [file], on_account=accounts.append).total_rows == 1
    assert (accounts[0].rows_in, accounts[0].kept) == (100, 1)


def mixed_rows(path: Path) -> int:
    """Write a file with rows of every fate; returns how many rows it has."""
    rows = many(60).select("text", "aspect", "label").rows()
    rows += rows[:5]  # duplicates
    rows += [(text, aspect, (label + 1) % 3) for text, aspect, label in rows[5:8]]  # conflicts
    rows += [("the app", "site", 1), ("", "app", 1)]  # quarantined
    if path.suffix == ".parquet":
        pl.DataFrame(rows, schema=["text", "aspect", "label"], orient="row").write_parquet(path)
        return len(rows)
    if path.suffix == ".jsonl":
        lines = [json.dumps(dict(zip(("text", "aspect", "label"), row, strict=True))) for row in rows]
        path.write_text("\n".join([*lines, "not JSON"]) + "\n\n")
    else:
        delimiter = "\t" if path.suffix == ".tsv" else ","
        lines = [delimiter.join(map(str, row)) for row in [("text", "aspect", "label"), *rows]]
        path.write_text("\n".join([*lines, '"of more\nthan one line"' + f"{delimiter}a" * 3, ""]))
    return len(rows) + (1 if path.suffix == ".jsonl" else 2)


@pytest.mark.parametrize("ending", ["csv", "tsv", "jsonl", "parquet"])
def test_every_row_of_a_file_is_accounted_for(lake, tmp_path, ending):
    path = tmp_path / f"rows.{ending}"
    rows = mixed_rows(path)
    accounts: list[Account] = []
    parent = build_snapshot(lake, [frame(example("an older site", aspect="site"))])
    manifest = ingest(lake, [path], parent=parent.digest, on_account=accounts.append)
    [account] = accounts
    bad = {"parquet": 2, "jsonl": 3}.get(ending, 4)
    assert (account.read, account.inherited, account.kept) == (rows, 1, manifest.total_rows)
    assert (account.duplicates, account.conflicts, sum(account.quarantined.values())) == (5, 3, bad)
    assert account.rows_in == account.rows_out
    assert account.sentences[0] == (
        f"{rows + 1} rows ({rows} read, 1 of the snapshot before) = 61 kept + 5 duplicates + "
        f"3 conflicts resolved + {bad} quarantined"
    )
    read_rows = sum(source["rows"] for source in manifest.sources) + sum(manifest.quarantined.values())
    assert read_rows + manifest.inherited == account.rows_out


def test_rows_ingested_again_are_accounted_for(lake, tmp_path):
    file = tmp_path / "rows.csv"
    many(30).select("text", "aspect", "label").write_csv(file)
    first = ingest(lake, [file])
    accounts: list[Account] = []
    assert ingest(lake, [file], parent=first.digest, on_account=accounts.append).digest == first.digest
    assert (accounts[0].rows_in, accounts[0].kept, accounts[0].duplicates) == (60, 30, 30)


def test_bad_rows_of_refused_file_are_kept(lake, tmp_path):
    file = tmp_path / "rows.csv"
    file.write_text('text,aspect,label\nthe app,app,1\nthe app,app,7\nthe app,site,1\nthe "app,1\n')
    counts = "3 of 4 rows cannot be used .*: 1 aspect_not_in_text, 1 label_outside_0_2, 1 malformed_row; "
    with pytest.raises(InvalidDataError, match=counts + "the first is row 3: its label .* kept in .*quarantine/"):
        ingest(lake, [file])
    [key] = lake.list("quarantine/")
    kept = pl.read_parquet(lake.read(key))
    assert kept.select("row", "text", "label").rows() == [
        (3, "the app", "7"),
        (4, "the app", "1"),
        (5, 'the "app,1', None),
    ]


def test_lines_inside_a_quote_count_as_rows(lake, tmp_path):
    file = tmp_path / "rows.csv"
    rows = [f"the app {word},app,1" for word in WORDS]
    file.write_text("\n".join(["text,aspect,label", *rows, '"Best app ever,app,2', *rows[:4], 'my 15",app,1', ""]))
    with pytest.raises(InvalidDataError, match=r"6 of 18 rows cannot be used .* encloses what looks like other rows"):
        ingest(lake, [file])


def test_stray_quotes_are_named(lake, tmp_path):
    file = tmp_path / "rows.csv"
    file.write_text('text,aspect,label\nthe app,app,1\n"the site,site,1\nthe shop,shop,2\n')
    accounts: list[Account] = []
    assert ingest(lake, [file], on_account=accounts.append).total_rows == 3
    assert accounts[0].sentences[1].startswith(f"{file} line 3: a double quote opens a field and does not close it")


def test_kept_bad_rows_are_bounded(lake, tmp_path, monkeypatch):
    monkeypatch.setattr(ingesting, "QUARANTINE_BYTES", 3000)
    file = tmp_path / "rows.csv"
    rows = [f"{a} {b} app,app,1" for a in WORDS for b in WORDS] + [f"{'x' * 1000},app,1"] * 10
    file.write_text("\n".join(["text,aspect,label", *rows]))
    manifest = ingest(lake, [file])
    assert manifest.quarantined == {"aspect_not_in_text": 10}
    assert load_quarantine(lake, manifest.digest).height == 2
