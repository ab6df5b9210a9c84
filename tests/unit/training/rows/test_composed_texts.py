"""Texts joined from two keep the asked aspect's label, and stay within the longest pair."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from absa.inference.tokenization import Template
from absa.training.rows.compose import Composer, Connectors
from absa.training.rows.tokens import TokenRows, join

BUT = np.array([9], np.uint16)
STOP = 8
CONNECTORS = Connectors((BUT,), frozenset({STOP}))


def contains(text: np.ndarray, words: np.ndarray) -> bool:
    """Return whether the words are side by side in the text."""
    return any((text[at : at + len(words)] == words).all() for at in range(len(text) - len(words) + 1))


def rows_of(count: int, length: int = 4) -> TokenRows:
    texts = [np.arange(100 * row, 100 * row + length, dtype=np.uint16) + 1000 for row in range(count)]
    return join(texts, [text[:1] for text in texts], [row % 3 for row in range(count)], Template.bert(1, 2))


def test_joined_text_holds_both_texts_and_connector() -> None:
    rows = rows_of(6)
    composed = Composer(CONNECTORS, 0.999, 64)(rows, np.random.default_rng(0))
    for row in range(6):
        text = composed.text(row)
        assert len(text) == 9
        assert contains(text, rows.text(row))
        assert contains(text, BUT)


def test_aspects_and_labels_stay() -> None:
    rows = rows_of(30)
    composed = Composer(CONNECTORS, 0.5, 64)(rows, np.random.default_rng(0))
    assert composed.labels.tolist() == rows.labels.tolist()
    assert composed.aspects.tolist() == rows.aspects.tolist()


def test_the_other_text_has_another_label() -> None:
    rows = rows_of(30)
    composed = Composer(CONNECTORS, 0.999, 64)(rows, np.random.default_rng(0))
    for row in range(30):
        others = {(int(token) - 1000) // 100 for token in composed.text(row) if token >= 1000} - {row}
        assert {int(rows.labels[other]) for other in others}.isdisjoint({int(rows.labels[row])})


@given(share=st.floats(0, 0.99), room=st.integers(8, 40))
def test_no_pair_outgrows_the_model(share: float, room: int) -> None:
    composed = Composer(CONNECTORS, share, room)(rows_of(20), np.random.default_rng(1))
    assert composed.lengths.max() <= room


def test_text_about_asked_aspect_is_not_joined() -> None:
    same = np.array([50, 51], np.uint16)
    rows = join([same, same], [same[:1], same[:1]], [0, 2], Template.bert(1, 2))
    composed = Composer(CONNECTORS, 0.999, 64)(rows, np.random.default_rng(0))
    assert composed.texts.tolist() == rows.texts.tolist()


def test_rows_of_one_label_are_not_joined() -> None:
    rows = join([np.array([5, 6], np.uint16)] * 4, [np.array([5], np.uint16)] * 4, [1] * 4, Template.bert(1, 2))
    composed = Composer(CONNECTORS, 0.999, 64)(rows, np.random.default_rng(0))
    assert composed.texts.tolist() == rows.texts.tolist()


def test_mark_at_first_texts_end_is_mostly_dropped() -> None:
    ended = [np.array([1000 + 10 * row, STOP], np.uint16) for row in range(300)]
    rows = join(ended, [text[:1] for text in ended], [row % 3 for row in range(300)], Template.bert(1, 2))
    composed = Composer(CONNECTORS, 0.999, 64)(rows, np.random.default_rng(0))
    kept = np.mean([composed.text(row).tolist().count(STOP) == 2 for row in range(300)])
    assert 0.15 < kept < 0.45


def test_unjoined_rows_stay_unchanged() -> None:
    rows = rows_of(60)
    composed = Composer(CONNECTORS, 0.3, 64)(rows, np.random.default_rng(0))
    same = [row for row in range(60) if composed.text(row).tolist() == rows.text(row).tolist()]
    assert 25 < len(same) < 55
    assert all(contains(composed.text(row), rows.text(row)) for row in range(60))


def test_fewer_texts_are_joined_when_time_is_scarce() -> None:
    rows, composer = rows_of(300), Composer(CONNECTORS, 0.9, 64)
    whole, scarce = (composer(rows, np.random.default_rng(0), scarce).lengths.sum() for scarce in (False, True))
    alone = rows.lengths.sum()
    assert 0 < scarce - alone < 0.6 * (whole - alone)
