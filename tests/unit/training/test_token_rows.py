"""Rows read from JSON lines and kept as token ids."""

import json
from pathlib import Path

import numpy as np
import pytest

from absa.errors import InvalidDataError
from absa.inference.tokenization import PairTokenizer
from absa.modeling.bases import TOKENIZER, find_base
from absa.training.batches import assemble
from absa.training.tokens import LabelledPair, read_pairs, tokenize


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


@pytest.mark.parametrize(
    ("line", "said"),
    [("{", "line 2"), ('{"text": "a"}', "line 2"), ('{"text": "a", "aspect": "a", "label": 3}', "label 3")],
)
def test_a_bad_row_is_named_by_its_line_and_never_quoted(tmp_path: Path, line: str, said: str) -> None:
    path = tmp_path / "train.jsonl"
    path.write_text(json.dumps({"text": "secret", "aspect": "secret", "label": 0}) + "\n" + line)
    with pytest.raises(InvalidDataError, match=said) as caught:
        read_pairs(path)
    assert "secret" not in str(caught.value)


def test_a_line_separator_within_a_text_ends_no_row(tmp_path: Path) -> None:
    path = tmp_path / "train.jsonl"
    path.write_text(json.dumps({"text": "a\u2028b", "aspect": "a", "label": 0}, ensure_ascii=False), encoding="utf-8")
    assert read_pairs(path) == [LabelledPair("a\u2028b", "a", 0)]


def test_a_file_without_rows_is_refused(tmp_path: Path) -> None:
    (tmp_path / "train.jsonl").write_text("\n\n")
    with pytest.raises(InvalidDataError, match="no rows"):
        read_pairs(tmp_path / "train.jsonl")
