"""Rows from a file, however many: nothing lost, bad ones named, and a sample of all where time is short."""

import json
from pathlib import Path

import numpy as np
import pytest

from absa.errors import InvalidDataError
from absa.inference.tokenization import PairTokenizer
from absa.modeling.bases import TOKENIZER, find_base
from absa.training.rows.choice import Choice, order_of_pass
from absa.training.rows.corpus import FileCorpus, LineFile, open_corpus
from absa.training.rows.stream import BatchStream, Position
from absa.training.rows.tokens import LabelledPair, TokenRows


def write(path: Path, lines: list[str]) -> Path:
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


def row(text: str, label: int = 0) -> str:
    return json.dumps({"text": text, "aspect": "x", "label": label}, ensure_ascii=False)


def everything(path: Path) -> list[LabelledPair]:
    file = LineFile(path)
    return file.pairs(np.arange(len(file)))


def test_empty_lines_and_a_missing_last_line_end_are_no_rows(tmp_path: Path) -> None:
    path = write(tmp_path / "train.jsonl", ["", row("a"), "", row("b"), row("c")])
    assert [pair.text for pair in everything(path)] == ["a", "b", "c"]


def test_a_line_separator_within_a_text_ends_no_row(tmp_path: Path) -> None:
    assert everything(write(tmp_path / "train.jsonl", [row("a\u2028b")])) == [LabelledPair("a\u2028b", "x", 0)]


def test_rows_come_in_the_order_asked_for_repeats_included(tmp_path: Path) -> None:
    path = write(tmp_path / "train.jsonl", [row(text) for text in "abc"])
    assert [pair.text for pair in LineFile(path).pairs(np.array([2, 0, 2]))] == ["c", "a", "c"]


@pytest.mark.parametrize("line", ["{", '{"text": "secret"}', '{"text": "secret", "aspect": "a", "label": 3}', "[1]"])
def test_a_bad_row_is_named_by_its_number_and_never_quoted(tmp_path: Path, line: str) -> None:
    path = write(tmp_path / "train.jsonl", [row("secret"), line])
    with pytest.raises(InvalidDataError, match=r"train\.jsonl row 2") as caught:
        everything(path)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("content", ["", "\n\n"])
def test_a_file_without_rows_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "train.jsonl").write_text(content)
    with pytest.raises(InvalidDataError, match="no rows"):
        LineFile(tmp_path / "train.jsonl")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidDataError, match=r"train\.jsonl cannot be read"):
        LineFile(tmp_path / "train.jsonl")


def test_a_sample_is_the_same_for_the_same_seed(tmp_path: Path) -> None:
    file = LineFile(write(tmp_path / "validation.jsonl", [row(f"t{number}") for number in range(50)]))
    assert file.sample(10, seed=1) == file.sample(10, seed=1)
    assert len(set(file.sample(10, seed=1))) == 10
    assert len(file.sample(500, seed=1)) == 50


def test_a_large_file_gives_the_very_batches_of_a_small_one(tmp_path: Path) -> None:
    path = write(tmp_path / "train.jsonl", [row(f"word {number} x" + " y" * (number % 7)) for number in range(90)])
    tokenizer = PairTokenizer.from_file(find_base("minilm-l6") / TOKENIZER, 64)
    small, large = open_corpus(path, tokenizer), open_corpus(path, tokenizer, in_memory_rows=10)
    assert isinstance(small, TokenRows)
    assert isinstance(large, FileCorpus)
    streams = [
        BatchStream(rows, batch_tokens=120, seed=4, choice=Choice(chunk_rows=40)).from_position(Position())
        for rows in (small, large)
    ]
    for _ in range(12):
        one, other = (next(stream) for stream in streams)
        assert one[:2] == other[:2]
        assert one[2].input_ids.tolist() == other[2].input_ids.tolist()


def test_a_pass_that_is_cut_short_has_seen_more_of_what_is_new_and_some_of_everything() -> None:
    order = order_of_pass(10_000, seed=0, epoch=0, prefer_new=True)
    assert sorted(order.tolist()) == list(range(10_000))
    quarters = np.histogram(order[:2_000], bins=4, range=(0, 10_000))[0]
    assert list(quarters) == sorted(quarters)
    assert quarters[0] > 150
    assert quarters[3] > 2 * quarters[0]
