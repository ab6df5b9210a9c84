"""Columns and single texts are keyed alike, near-duplicates share a side, and splits leak no text."""

import sys
import unicodedata

import polars as pl
from hypothesis import given
from hypothesis import strategies as st

from absa.data.key_columns import key_column, key_digests, normalised_column, sha256_column
from absa.data.normalise import marks_and_digits, near_duplicate_key, normalise, points, side, side_key

PIECES = [
    *"aB1 .,!ßÉé\u00a0ﬁ😀\n\t'_$\0がｶﾞ株　…１ςΣİ한",
    "e\u0301",
    "か\u3099",
    "\u1112\u1161\u11ab",
    "ै",
    "ी",
    "👍🏽",
    "❤\ufe0f",
    "𠮟",
]
TEXTS = (
    st.text(max_size=60)
    | st.text(st.characters(max_codepoint=126), max_size=60)
    | st.lists(st.sampled_from(PIECES)).map("".join)
)


@given(st.lists(TEXTS, max_size=20))
def test_a_column_is_keyed_as_its_rows_are(texts):
    column = pl.Series(texts, dtype=pl.String)
    assert normalised_column(column).to_list() == [normalise(text) for text in texts]
    keys = key_column(column)
    assert keys.to_list() == [near_duplicate_key(text) for text in texts]
    words = key_digests(column)
    assert words.tolist() == sha256_column(keys).tolist()
    assert words[:, 0].tolist() == [side_key(text) for text in texts]
    assert all(0 <= point < 1 or point == 1.0 for point in points(words))


def test_each_character_keeps_its_key_within_text():
    """Characters between letters and at both ends; none beyond those that the tables know is dropped."""
    texts = [
        f"{c} Ka{c}\u0938 {c}" for code in range(sys.maxunicode + 1) if not 0xD800 <= code < 0xE000 for c in chr(code)
    ]
    some = [*texts[:0x3400], *texts[0xA000:0x1FFFF:7], *texts[0x20000::997]]
    assert key_column(pl.Series(some)).to_list() == list(map(near_duplicate_key, some))
    beyond = map(chr, range(max(marks_and_digits()) + 1, sys.maxunicode + 1))
    assert not any(unicodedata.category(each)[0] == "P" or each.isspace() or each.isdecimal() for each in beyond)


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
