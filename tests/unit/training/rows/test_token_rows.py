"""Labelled rows in a file, and as token ids."""

import json
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from absa.errors import InvalidDataError
from absa.inference.tokenization import PairTokenizer
from absa.modeling.bases import TOKENIZER, find_base
from absa.task import TaskSpec
from absa.training.rows.batches import assemble
from absa.training.rows.compose import Composer
from absa.training.rows.tokens import LabelledPair, read_pairs, tokenize, tokenize_columns
from absa.training.training_settings import TrainingSettings

TICKETS = TaskSpec(name="tickets", input="text", labels=("billing", "bug", "praise", "login", "refund"))
TOPICS = replace(TICKETS, input="text+topic")


@pytest.fixture(scope="module")
def tokenizer() -> PairTokenizer:
    return PairTokenizer.from_file(find_base("minilm-l6") / TOKENIZER, 16)


def test_batches_hold_the_very_ids_that_inference_makes(tokenizer: PairTokenizer) -> None:
    pairs = [
        LabelledPair("the app is great", "app", 2),
        LabelledPair("Naïve café 😍 " * 30, "café", 0),
        LabelledPair("x", "x", 1),
    ]
    batch = assemble(tokenize(pairs, tokenizer), np.arange(3))
    for row, encoded in enumerate(tokenizer.encode([(pair.text, pair.aspect) for pair in pairs])):
        assert batch.input_ids[row, : encoded.tokens].tolist() == encoded.input_ids.tolist()
        assert batch.token_types[row, : encoded.tokens].tolist() == encoded.token_type_ids.tolist()
    assert batch.labels[:, 0].tolist() == [2, 0, 1]


@pytest.mark.parametrize("fast", [True, False])
@pytest.mark.parametrize(("task", "phrase"), [(TICKETS, None), (TOPICS, "refund"), (TOPICS, "great")])
def test_rows_of_any_form_have_ids_of_inference(task: TaskSpec, phrase: str | None, fast: bool) -> None:
    tokenizer = PairTokenizer.from_file(find_base("minilm-l6") / TOKENIZER, 16, task=task, fast=fast)
    pairs = [LabelledPair("the app is great", phrase, 4), LabelledPair("Naïve café " * 30, phrase, 0)]
    batch = assemble(tokenize(pairs, tokenizer), np.arange(2))
    for row, encoded in enumerate(tokenizer.encode([(pair.text, pair.aspect) for pair in pairs])):
        assert batch.input_ids[row, : encoded.tokens].tolist() == encoded.input_ids.tolist()
        assert batch.token_types[row, : encoded.tokens].tolist() == encoded.token_type_ids.tolist()
    assert batch.token_types.any() == (phrase is not None)
    assert batch.labels[:, 0].tolist() == [4, 0]


def test_only_texts_with_aspects_are_composed(tokenizer: PairTokenizer) -> None:
    settings = TrainingSettings()
    assert Composer.of(tokenizer, settings) is not None
    assert Composer.of(tokenizer, settings, TICKETS) is None
    assert Composer.of(tokenizer, settings, TOPICS) is None
    other = Composer.of(tokenizer, settings, replace(TICKETS, input="text+aspect"))
    assert other is not None
    assert (other.labels, len(other.connectors.between)) == (5, 6)


def test_rows_are_taken_in_the_order_asked_for(tokenizer: PairTokenizer) -> None:
    rows = tokenize([LabelledPair(word, word, index % 3) for index, word in enumerate("abcde")], tokenizer)
    taken = rows.take([4, 0])
    assert taken.labels.tolist() == [1, 0]
    assert taken.text(0).tolist() == rows.text(4).tolist()


def odd_texts() -> st.SearchStrategy[str]:
    """Texts of what tokenizers differ in."""
    return st.text(st.sampled_from("aZé ß\u0130漢ไ٣.,!'-#@[]\n\u00a0\u200b\u0301\ufb01😍\x07"), min_size=0, max_size=60)


@given(
    pairs=st.lists(st.tuples(odd_texts(), odd_texts()), min_size=1, max_size=12),
    spans=st.lists(st.tuples(odd_texts(), st.integers(0, 50), st.integers(1, 4)), max_size=6),
    most=st.sampled_from([8, 16, 64]),
)
@settings(max_examples=60)
def test_columns_give_the_reference_tokenizers_ids(
    pairs: list[tuple[str, str]], spans: list[tuple[str, int, int]], most: int
) -> None:
    path = find_base("minilm-l6") / TOKENIZER
    pairs += [(text, text[start : start + length]) for text, start, length in spans]
    fast, reference = _tokenizers(path, most)
    assert fast.is_fast
    assert not reference.is_fast
    rows = tokenize_columns(
        [text for text, _ in pairs], [aspect for _, aspect in pairs], np.zeros(len(pairs), np.int8), fast
    )
    batch = assemble(rows, np.arange(len(pairs)))
    for row, encoded in enumerate(reference.encode(pairs)):
        assert batch.input_ids[row, : encoded.tokens].tolist() == encoded.input_ids.tolist()


@cache
def _tokenizers(path: Path, most: int) -> tuple[PairTokenizer, PairTokenizer]:
    return PairTokenizer.from_file(path, most), PairTokenizer.from_file(path, most, fast=False)


def line(text: str, label: int = 0) -> str:
    return json.dumps({"text": text, "aspect": "x", "label": label}, ensure_ascii=False)


def test_read_pairs_skips_empty_lines(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join(["", line("a\u2028b"), "", line("b", 2)]), encoding="utf-8")
    assert read_pairs(path) == [LabelledPair("a\u2028b", "x", 0), LabelledPair("b", "x", 2)]


@pytest.mark.parametrize("bad", ["{", '{"text": "secret"}', '{"text": "secret", "aspect": "a", "label": 3}', "[1]"])
def test_read_pairs_names_a_bad_line(tmp_path: Path, bad: str) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(f"{line('secret')}\n{bad}", encoding="utf-8")
    with pytest.raises(InvalidDataError, match=r"rows\.jsonl line 2") as caught:
        read_pairs(path)
    assert "secret" not in str(caught.value)


def test_plain_text_rows_need_no_aspect(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"text": "a", "label": 4}\n')
    assert read_pairs(path, TICKETS) == [LabelledPair("a", None, 4)]
    with pytest.raises(InvalidDataError, match="expected text, aspect and label"):
        read_pairs(path, TOPICS)
    path.write_text('{"text": "a", "label": 5}\n')
    with pytest.raises(InvalidDataError, match="expected a label of 0 to 4, got 5"):
        read_pairs(path, TICKETS)


@pytest.mark.parametrize(("content", "said"), [("\n\n", "has no rows"), (None, "cannot be read")])
def test_read_pairs_refuses_a_file_without_rows(tmp_path: Path, content: str | None, said: str) -> None:
    path = tmp_path / "rows.jsonl"
    if content is not None:
        path.write_text(content)
    with pytest.raises(InvalidDataError, match=rf"rows\.jsonl {said}"):
        read_pairs(path)
