"""Near-duplicate key of a text, and its side (train, validation or test).

The key is the text after NFKC and casefold, with white space collapsed, without digits and punctuation. Texts with
equal keys are near-duplicates. The first eight bytes of the key's SHA-256 decide the side, so no text is on two sides,
and a text keeps its side while the data grow. `key_columns` makes the same keys for whole columns.
"""

import hashlib
import unicodedata
from functools import cache
from typing import Final, Literal

import numpy as np
import numpy.typing as npt

from absa.inference.aspect_span import normalise

Side = Literal["train", "validation", "test"]
TRAIN_BELOW: Final = 0.8
VALIDATION_BELOW: Final = 0.9
_SPAN: Final = 2.0**64
_LAST_PLANE_OF_MARKS: Final = 0x20000  # no later plane has punctuation or digits; a test asserts it

Words = npt.NDArray[np.uint64]
"""SHA-256 digests as (n, 4) unsigned integers, big-endian."""


def near_duplicate_key(text: str) -> str:
    """Return the key that is equal for near-duplicate texts.

    The key is the normalised text without digits and punctuation. The key of a text that has nothing else is its
    normalised form, so that "10/10" and "5/7" have different keys.
    """
    normalised = normalise(text)
    return " ".join(normalised.translate(marks_and_digits()).split()) or normalised


@cache
def marks_and_digits() -> dict[int, None]:
    """Return every punctuation mark and decimal digit of Unicode, as a table for `str.translate`."""
    categories = ((code, unicodedata.category(chr(code))) for code in range(_LAST_PLANE_OF_MARKS))
    return {code: None for code, category in categories if category[0] == "P" or category == "Nd"}


def side_of_point(point: float) -> Side:
    """Return the side of a point in [0, 1)."""
    if point < TRAIN_BELOW:
        return "train"
    return "validation" if point < VALIDATION_BELOW else "test"


def side(text: str) -> Side:
    """Return the side of a text in every snapshot; `recent_split` moves some recent texts to the test side."""
    return side_of_point(int.from_bytes(_digest(text)[:8], "big") / _SPAN)


def hold_back_point(text: str) -> float:
    """Return a point in [0, 1) that is independent of the split; a hold-out has the texts below its share."""
    return int.from_bytes(_digest(text)[8:16], "big") / _SPAN


def side_key(text: str) -> int:
    """Return 64 bits of the near-duplicate key's hash: equal for near-duplicates, small for millions of texts."""
    return int.from_bytes(_digest(text)[:8], "big")


def _digest(text: str) -> bytes:
    return hashlib.sha256(near_duplicate_key(text).encode()).digest()


def points(words: Words) -> npt.NDArray[np.float64]:
    """Return the first eight bytes of each digest as a point in [0, 1), (n,)."""
    return words[:, 0].astype(np.float64) / _SPAN
