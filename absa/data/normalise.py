"""Keys of equal and near-duplicate texts, and the split that a text belongs to.

Everything hangs on one key: the text after NFKC, casefold and white space collapsed, with digits and punctuation
dropped too. Equal keys are near-duplicates. The first eight bytes of the key's SHA-256 decide the side, so no text
stands on two sides, and none ever changes side as the data grow. Rows of ASCII are keyed by Polars expressions; any
other row goes through the same Python function that keys a single text.
"""

import hashlib
import sys
import unicodedata
from collections.abc import Callable
from functools import cache
from typing import Final, Literal

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa

from absa.inference.aspect_span import normalise

Side = Literal["train", "validation", "test"]
TRAIN_BELOW: Final = 0.8
VALIDATION_BELOW: Final = 0.9
_SPAN: Final = 2.0**64
_SPACES_TO_COLLAPSE: Final = ("  ", "\t", "\n", "\r", "\v", "\f", "\x1c", "\x1d", "\x1e", "\x1f")
_DROPPED_ASCII: Final = r"[0-9!\"#%&'()*,\-./:;?@\[\\\]_{}]+"  # Unicode categories P and Nd within ASCII

Words = npt.NDArray[np.uint64]
"""SHA-256 digests as (n, 4) unsigned integers, big-endian."""


def near_duplicate_key(text: str) -> str:
    """Return the key that near-duplicate texts share.

    The normalised text without digits and punctuation; a text of nothing else keeps its normalised form, so that
    "10/10" and "5/7" stay apart.
    """
    normalised = normalise(text)
    return " ".join(normalised.translate(_dropped()).split()) or normalised


@cache
def _dropped() -> dict[int, None]:
    """Every punctuation mark and decimal digit of Unicode, as `str.translate` takes what it drops."""
    categories = ((code, unicodedata.category(chr(code))) for code in range(sys.maxunicode + 1))
    return {code: None for code, category in categories if category[0] == "P" or category == "Nd"}


def side_of_point(point: float) -> Side:
    """Return the side of a point in [0, 1)."""
    if point < TRAIN_BELOW:
        return "train"
    return "validation" if point < VALIDATION_BELOW else "test"


def side(text: str) -> Side:
    """Return the side that a text stands on in every snapshot."""
    return side_of_point(int.from_bytes(_digest(text)[:8], "big") / _SPAN)


def hold_back_point(text: str) -> float:
    """Return a point in [0, 1) that is independent of the split: a hold-out compares it with its share."""
    return int.from_bytes(_digest(text)[8:16], "big") / _SPAN


def side_key(text: str) -> int:
    """Return the near-duplicate key as 64 bits: equal for near-duplicates, cheap to hold by the million."""
    return int.from_bytes(_digest(text)[:8], "big")


def _digest(text: str) -> bytes:
    return hashlib.sha256(near_duplicate_key(text).encode()).digest()


def normalised_column(texts: pl.Series) -> pl.Series:
    """`normalise` of a whole column."""
    return _with_others(texts, _collapsed(texts.str.to_lowercase()), normalise)


def key_column(texts: pl.Series) -> pl.Series:
    """`near_duplicate_key` of a whole column."""
    fast = _collapsed(texts.str.to_lowercase().str.replace_all(_DROPPED_ASCII, ""))
    return _with_others(texts, fast, near_duplicate_key, empty_too=True)


def _collapsed(texts: pl.Series) -> pl.Series:
    """White space of ASCII rows collapsed. Few rows have any to collapse, and a regex on all of them is dear."""
    texts = texts.str.strip_chars(" ")
    at = texts.str.contains_any(list(_SPACES_TO_COLLAPSE)).arg_true()
    if len(at) == 0:
        return texts
    return texts.scatter(at, texts.gather(at).str.replace_all(r"[\s\x1c-\x1f]+", " ").str.strip_chars(" "))


def _with_others(
    texts: pl.Series, fast: pl.Series, exact: Callable[[str], str], *, empty_too: bool = False
) -> pl.Series:
    """Return the fast column where rows are ASCII, the exact function of the row elsewhere."""
    others = texts.str.len_bytes() != texts.str.len_chars()
    if empty_too:
        others = others | (fast.str.len_bytes() == 0)
    at = others.arg_true()
    if len(at) == 0:
        return fast
    return fast.scatter(at, pl.Series([exact(text) for text in texts.gather(at).to_list()], dtype=pl.String))


def sha256_column(values: pl.Series) -> Words:
    """SHA-256 of each value's UTF-8, (n, 4). The one loop over rows in Python: hashlib costs about 0.5 µs each."""
    sha256 = hashlib.sha256
    joined = b"".join([sha256(value).digest() for value in values.cast(pl.Binary).to_list()])
    return np.frombuffer(joined, dtype=">u8").reshape(-1, 4).astype(np.uint64)


def hex_column(words: Words) -> pl.Series:
    """Return the first 32 hexadecimal characters of each digest."""
    characters = np.frombuffer(words[:, :2].astype(">u8").tobytes().hex().encode(), dtype=np.uint8)
    offsets = np.arange(0, 32 * len(words) + 1, 32, dtype=np.int64)
    column = pa.LargeStringArray.from_buffers(len(words), pa.py_buffer(offsets), pa.py_buffer(characters))
    return pl.Series("example_id", column, dtype=pl.String)


def points(words: Words) -> npt.NDArray[np.float64]:
    """Return the first eight bytes of each digest as a point in [0, 1), (n,)."""
    return words[:, 0].astype(np.float64) / _SPAN
