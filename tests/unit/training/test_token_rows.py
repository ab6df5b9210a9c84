"""Rows kept as token ids."""

import numpy as np
import pytest

from absa.inference.tokenization import PairTokenizer
from absa.modeling.bases import TOKENIZER, find_base
from absa.training.batches import assemble
from absa.training.tokens import LabelledPair, tokenize


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
