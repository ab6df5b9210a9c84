"""Token shards of a snapshot: the ids that inference makes, each shard made once, in processes as in this one."""

import hashlib
import json
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from absa.adapters.lake_stores import FolderLake
from absa.data.ingest import build_snapshot
from absa.data.snapshot import load_manifest, load_side, replace_snapshot, sample_side, side_keys
from absa.data.token_shards import main, make_shards, plan_shards
from absa.inference.tokenization import PairTokenizer
from absa.modeling.folders import TOKENIZER, find_base
from absa.records.layout import shards_prefix
from absa.records.schema import utc_now
from absa.training.rows.shards import ShardCorpus, shard_name, tokenizer_digest

PATH = find_base("minilm-l6") / TOKENIZER


def snapshot(lake: FolderLake, count: int = 60, *, recent: int = 0) -> str:
    """A snapshot of so many rows; the `recent` last of them were observed now, the others a day before, if any are."""
    now = utc_now()
    texts = [f"row {chr(97 + n % 26)}{chr(97 + n // 26)} says the app is slow" for n in range(count)]
    frame = pl.DataFrame(
        {
            "text": texts,
            "aspect": "app",
            "label": [n % 3 for n in range(count)],
            "observed_at": [now - timedelta(days=1)] * (count - recent) + [now] * recent if recent else now,
            "source": "test",
            "segment": None,
        },
        schema_overrides={"label": pl.Int8, "observed_at": pl.Datetime("us", "UTC"), "segment": pl.String},
    )
    return build_snapshot(lake, [frame]).digest


def test_shards_hold_the_ids_that_inference_makes(tmp_path: Path) -> None:
    lake = FolderLake(tmp_path)
    digest = snapshot(lake)
    plan = plan_shards(lake, digest, PATH, 16)
    assert make_shards(lake, plan, PATH) == len(plan.rows) == len(side_keys(lake, digest, "train"))
    corpus = ShardCorpus(Path(lake.url(shards_prefix(digest, plan.tokenizer))))
    rows = load_side(lake, digest, "train")
    assert len(corpus) == rows.height
    read = corpus.take(np.arange(len(corpus)))
    encoded = PairTokenizer.from_file(PATH, 16, fast=False).encode(list(rows.select("text", "aspect").iter_rows()))
    for row, each in enumerate(encoded):
        assert read.text(row).tolist() == each.input_ids[1 : int(np.argmax(each.token_type_ids)) - 1].tolist()
    assert read.labels.tolist() == rows["label"].to_list()
    assert read.observed is not None
    assert 0 <= read.observed[0] - rows["observed_at"][0].timestamp() < 1


def test_existing_shard_is_not_made_again(tmp_path: Path) -> None:
    lake = FolderLake(tmp_path)
    plan = plan_shards(lake, snapshot(lake), PATH, 16)
    assert make_shards(lake, plan, PATH) == len(plan.rows)
    assert make_shards(lake, plan, PATH) == 0


def test_shards_of_an_earlier_format_are_made_again(tmp_path: Path) -> None:
    lake = FolderLake(tmp_path)
    plan = plan_shards(lake, snapshot(lake), PATH, 16)
    folder = shards_prefix(plan.snapshot, plan.tokenizer)
    lake.write(f"{folder}train-00000.tokens", b"EVGTOK1\n")
    assert make_shards(lake, plan, PATH) == len(plan.rows)
    corpus = ShardCorpus(Path(lake.url(folder)))
    assert len(corpus.take(np.arange(len(corpus)))) == sum(plan.rows)


def test_other_tokenizer_or_length_has_own_shards(tmp_path: Path) -> None:
    lake = FolderLake(tmp_path)
    digest = snapshot(lake)
    assert plan_shards(lake, digest, PATH, 16).tokenizer != plan_shards(lake, digest, PATH, 32).tokenizer


def test_shards_of_earlier_cut_rule_are_unused() -> None:
    """Releases that cut the end of a text named their shards by tokenizer and length alone."""
    assert tokenizer_digest(b"{}", 128) != hashlib.sha256(b"{}:128").hexdigest()


def test_copies_come_where_the_lake_is_no_folder(tmp_path: Path) -> None:
    lake = FolderLake(tmp_path / "lake")
    plan = plan_shards(lake, snapshot(lake), PATH, 16)
    make_shards(lake, plan, PATH, into=tmp_path / "copies")
    assert make_shards(lake, plan, PATH, into=tmp_path / "copies") == 0
    assert (tmp_path / "copies" / shard_name("train", 0)).is_file()


def test_snapshot_of_earlier_release_is_counted_from_files(tmp_path: Path) -> None:
    lake = FolderLake(tmp_path)
    digest = snapshot(lake)
    expected = plan_shards(lake, digest, PATH, 16)
    key = f"snapshots/{digest}/manifest.json"
    record = json.loads(lake.read(key))
    del record["parts"]
    lake.write(key, json.dumps(record).encode())
    assert load_manifest(lake, digest).parts == {}
    assert plan_shards(lake, digest, PATH, 16) == expected


def test_replaced_snapshot_gives_shards_of_its_successor(tmp_path: Path) -> None:
    lake = FolderLake(tmp_path)
    old, new = (load_manifest(lake, snapshot(lake, count)) for count in (60, 40))
    replace_snapshot(lake, old, new)
    plan = plan_shards(lake, old.digest, PATH, 16)
    assert plan == plan_shards(lake, new.digest, PATH, 16)
    assert make_shards(lake, plan, PATH) == len(plan.rows)
    assert sum(plan.rows) == new.side_rows("train")


def test_an_unknown_snapshot_is_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = main(["--lake", str(tmp_path), "--snapshot", "0" * 64, "--tokenizer", str(PATH)])
    assert code == 1
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize("recent", [10, 100, 190])
def test_sample_of_split_is_bounded_with_recent_rows(tmp_path: Path, recent: int) -> None:
    lake = FolderLake(tmp_path)
    digest = snapshot(lake, 200, recent=recent)
    everything = load_side(lake, digest, "train")
    since = everything["observed_at"].min()
    assert isinstance(since, datetime)
    new, old = ((everything["observed_at"] > since).sum(), (everything["observed_at"] == since).sum())
    assert sample_side(lake, digest, "train", 10_000, since=since).height == everything.height
    assert sample_side(lake, digest, "train", 40).height == 40
    sampled = sample_side(lake, digest, "train", 40, since=since)
    assert sampled.height == 40
    assert (sampled["observed_at"] > since).sum() == min(new, max(20, 40 - old))
