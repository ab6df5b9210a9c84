"""Columns and single texts are keyed alike, near-duplicates share a side, and splits leak no text."""

import polars as pl
from hypothesis import given
from hypothesis import strategies as st

from absa.data.normalise import (
    key_column,
    near_duplicate_key,
    normalise,
    normalised_column,
    points,
    sha256_column,
    side,
    side_key,
)

TEXTS = st.text(max_size=60) | st.text(st.sampled_from("aB1 .,!ßÉé\u00a0ﬁ😀\n\t'_$"), max_size=40)


@given(st.lists(TEXTS, max_size=20))
def test_a_column_is_keyed_as_its_rows_are(texts):
    column = pl.Series(texts, dtype=pl.String)
    assert normalised_column(column).to_list() == [normalise(text) for text in texts]
    keys = key_column(column)
    assert keys.to_list() == [near_duplicate_key(text) for text in texts]
    words = sha256_column(keys)
    assert words[:, 0].tolist() == [side_key(text) for text in texts]
    assert all(0 <= point < 1 or point == 1.0 for point in points(words))


@given(st.text(st.characters(max_codepoint=0x24F), max_size=60))
def test_normalising_and_keying_twice_changes_nothing(text):
    assert normalise(normalise(text)) == normalise(text)
    assert near_duplicate_key(near_duplicate_key(text)) == near_duplicate_key(text)


@given(st.text(st.sampled_from("abc XYZ"), min_size=1, max_size=30).filter(str.strip), st.data())
def test_digits_punctuation_and_case_keep_split(text, data):
    noisy = "".join(data.draw(st.sampled_from(["", "!", "7", ", ", "…"])) * (c == " ") + c for c in text)
    noisy = "  " + noisy.swapcase().replace(" ", "  ") + "?! 42"
    assert side(noisy) == side(text)
    assert side_key(noisy) == side_key(text)
