"""Token shards: what was written is read, a broken one is refused, and a pass reads them in the order they are made."""

import json
import threading
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save

from absa.errors import IntegrityError, InvalidDataError, TransientError
from absa.inference.tokenization import Template
from absa.records.files import write_whole
from absa.task import ABSA, TaskSpec
from absa.training.rows.batches import Form
from absa.training.rows.choice import Choice
from absa.training.rows.shards import PLAN_FILE, ShardCorpus, TokenPlan, open_shard, pack_shard, shard_name
from absa.training.rows.stream import BatchStream, Position
from absa.training.rows.tokens import TokenRows, join


def rows(count: int, first: int = 0) -> TokenRows:
    texts = [np.full(1 + row % 5, 10 + row, np.uint16) for row in range(first, first + count)]
    made = join(texts, [text[:1] for text in texts], [row % 3 for row in range(count)], Template.bert(1, 2))
    return TokenRows(**vars(made) | {"observed": np.arange(first, first + count, dtype=np.float64)})


def write(folder: Path, counts: list[int], *, made: int | None = None) -> Path:
    plan = TokenPlan(snapshot="s" * 64, tokenizer="t", side="train", max_tokens=64, rows=tuple(counts))
    (folder / PLAN_FILE).write_text(plan.to_json())
    for number, count in enumerate(counts[:made]):
        content = pack_shard(rows(count, sum(counts[:number])))
        write_whole(folder / shard_name("train", number), content)  # as the lake does: a reader may wait for it
    return folder


def first_ids(some: TokenRows) -> list[int]:
    return [int(some.text(row)[0]) for row in range(len(some))]


def test_observation_times_need_no_tokens(tmp_path: Path) -> None:
    corpus = ShardCorpus(write(tmp_path, [5, 3, 4]))
    index = np.array([11, 0, 6])
    assert corpus.observed(index).tolist() == corpus.take(index).observed.tolist() == [11.0, 0.0, 6.0]


@given(count=st.integers(0, 40))
@settings(max_examples=20)
def test_a_shard_gives_back_what_was_packed(tmp_path_factory: pytest.TempPathFactory, count: int) -> None:
    path = tmp_path_factory.mktemp("shards") / "one.safetensors"
    path.write_bytes(pack_shard(rows(count)))
    read = open_shard(path)
    assert read.special == Template.bert(1, 2)
    for name in ("texts", "text_ends", "aspects", "aspect_ends", "labels", "observed"):
        assert getattr(read, name).tolist() == getattr(rows(count), name).tolist()


def test_ids_above_65535_take_four_bytes(tmp_path: Path) -> None:
    template = Template((0,), (2, 2), (2,))
    text = np.array([70_000, 250_001], np.uint32)
    (tmp_path / "one.safetensors").write_bytes(pack_shard(join([text], [text[1:]], [1], template)))
    read = open_shard(tmp_path / "one.safetensors")
    assert (read.text(0).tolist(), read.aspect(0).tolist(), read.texts.itemsize) == ([70_000, 250_001], [250_001], 4)
    assert read.special == template


def test_shards_of_earlier_releases_are_read(tmp_path: Path) -> None:
    arrays = {name: getattr(rows(3), name) for name in ("texts", "aspects", "labels")}
    arrays |= {name: getattr(rows(3), name).astype(np.uint32) for name in ("text_ends", "aspect_ends", "observed")}
    (tmp_path / "one.safetensors").write_bytes(save(arrays, metadata={"first": "1", "separator": "2"}))
    assert open_shard(tmp_path / "one.safetensors").special == Template.bert(1, 2)


def test_plan_keeps_the_task_for_its_readers(tmp_path: Path) -> None:
    task = TaskSpec(name="tickets", input="text", labels=("billing", "bug"))
    plan = TokenPlan(snapshot="s", tokenizer="t", side="train", max_tokens=64, rows=(3,), task=task)
    (tmp_path / PLAN_FILE).write_text(plan.to_json())
    assert TokenPlan.read(tmp_path) == plan
    (tmp_path / PLAN_FILE).write_text(json.dumps({k: v for k, v in json.loads(plan.to_json()).items() if k != "task"}))
    assert TokenPlan.read(tmp_path).task == ABSA


@pytest.mark.parametrize("spoil", [lambda data: data[:-1], lambda data: b"x" + data[1:], lambda _: b""])
def test_a_broken_shard_is_refused(tmp_path: Path, spoil: object) -> None:
    path = tmp_path / "one.safetensors"
    path.write_bytes(spoil(pack_shard(rows(9))))  # type: ignore[operator]
    with pytest.raises(IntegrityError, match=r"one\.safetensors cannot be used"):
        open_shard(path)


def test_rows_come_in_requested_order_from_shards(tmp_path: Path) -> None:
    corpus = ShardCorpus(write(tmp_path, [4, 0, 6, 3]))
    assert len(corpus) == 13
    assert first_ids(corpus.take(np.array([12, 0, 5, 5, 4, 3]))) == [22, 10, 15, 15, 14, 13]


def test_first_pass_reads_growing_shards_once(tmp_path: Path) -> None:
    corpus = ShardCorpus(write(tmp_path, [4, 6, 3]))
    assert corpus.block(0, 0, 2, 7).tolist() == [2, 3, 4, 5, 6]
    for epoch in range(3):
        blocks = [corpus.block(epoch, 0, start, start + 5) for start in (0, 5, 10)]
        assert sorted(np.concatenate(blocks).tolist()) == list(range(13))


def test_training_starts_on_first_shard_and_waits(tmp_path: Path) -> None:
    corpus = ShardCorpus(write(tmp_path, [40, 40], made=1))
    stream = BatchStream(corpus, layout=Form(tokens=40, most=1), seed=0, choice=Choice(chunk_rows=20)).from_position(
        Position()
    )
    seen = 0
    while seen < 20:
        seen += next(stream)[2].count
    later = threading.Timer(0.2, lambda: write(tmp_path, [40, 40]))
    later.start()
    while seen < 80:
        seen += next(stream)[2].count
    later.join()
    stream.close()
    assert seen == 80


def test_a_shard_that_does_not_come_is_said(tmp_path: Path) -> None:
    corpus = ShardCorpus(write(tmp_path, [4, 4], made=1), left_s=lambda: 0.1)
    with pytest.raises(TransientError, match="shard 1"):
        corpus.take(np.array([5]))


def test_a_shard_of_other_rows_is_refused(tmp_path: Path) -> None:
    write(tmp_path, [4])
    (tmp_path / shard_name("train", 0)).write_bytes(pack_shard(rows(5)))
    with pytest.raises(IntegrityError, match="expected 4 rows, got 5"):
        ShardCorpus(tmp_path).take(np.array([0]))


@pytest.mark.parametrize("content", [None, "{", '{"rows": 3}', '{"snapshot": "s"}'])
def test_shards_without_a_plan_are_refused(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / PLAN_FILE).write_text(content)
    with pytest.raises(InvalidDataError, match=r"plan\.json"):
        ShardCorpus(tmp_path)


def test_shards_without_rows_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidDataError, match="no rows"):
        ShardCorpus(write(tmp_path, [0, 0]))


def test_a_pass_without_a_recent_row_is_said(tmp_path: Path) -> None:
    corpus = ShardCorpus(write(tmp_path, [8]))
    stream = BatchStream(corpus, layout=Form(tokens=40, most=1), seed=0, choice=Choice(since=1e9, replay=2.0))
    with pytest.raises(InvalidDataError, match="no row was observed since"):
        next(stream.from_position(Position()))
