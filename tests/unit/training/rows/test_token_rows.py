"""Labelled rows in a file, and as token ids."""

import json
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from absa.errors import InvalidDataError
from absa.inference.tokenization import PairTokenizer
from absa.modeling.bases import TOKENIZER, find_base
from absa.training.rows.batches import assemble
from absa.training.rows.tokens import LabelledPair, read_pairs, tokenize, tokenize_columns


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
    assert batch.labels.tolist() == [2, 0, 1]


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


@pytest.mark.parametrize(("content", "said"), [("\n\n", "has no rows"), (None, "cannot be read")])
def test_read_pairs_refuses_a_file_without_rows(tmp_path: Path, content: str | None, said: str) -> None:
    path = tmp_path / "rows.jsonl"
    if content is not None:
        path.write_text(content)
    with pytest.raises(InvalidDataError, match=rf"rows\.jsonl {said}"):
        read_pairs(path)
