"""When two texts count as the same, and which side of a snapshot a text stands on.

Everything hangs on one key: the text after NFKC, casefold and white space collapsed, with digits and punctuation
dropped too. Equal keys are near-duplicates. The first eight bytes of the key's SHA-256 decide the side, so no text
stands on two sides, and none ever changes side as the data grow. Columns of printable ASCII are keyed by Polars
expressions; any other row goes through the same Python function that `near_duplicate_key` is.
"""

import hashlib
import unicodedata
from typing import Final, Literal

import numpy as np
import numpy.typing as npt
import polars as pl

Side = Literal["train", "validation", "test"]
TRAIN_BELOW: Final = 0.8
VALIDATION_BELOW: Final = 0.9
_SPAN: Final = 2.0**64
_ASCII: Final = r"^[\t\n\r -~]*$"
_DROPPED_ASCII: Final = r"[0-9!\"#%&'()*,\-./:;?@\[\\\]_{}]+"  # Unicode categories P and Nd within ASCII

Words = npt.NDArray[np.uint64]
"""SHA-256 digests as (n, 4) unsigned integers, big-endian."""


def normalise(text: str) -> str:
    """NFKC, casefold, white space collapsed to single spaces."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def near_duplicate_key(text: str) -> str:
    """What two texts share when one is a near-duplicate of the other.

    The normalised text without digits and punctuation; a text of nothing else keeps its normalised form, so that
    "10/10" and "5/7" stay apart.
    """
    normalised = normalise(text)
    kept = "".join(c for c in normalised if unicodedata.category(c)[0] != "P" and unicodedata.category(c) != "Nd")
    return " ".join(kept.split()) or normalised


def side_of_point(point: float) -> Side:
    """The side of a point in [0, 1)."""
    if point < TRAIN_BELOW:
        return "train"
    return "validation" if point < VALIDATION_BELOW else "test"


def side(text: str) -> Side:
    """The side that a text stands on in every snapshot."""
    return side_of_point(int.from_bytes(_digest(text)[:8], "big") / _SPAN)


def hold_back_point(text: str) -> float:
    """A point in [0, 1) that is independent of the side: who holds rows back from an ingest compares it to a share."""
    return int.from_bytes(_digest(text)[8:16], "big") / _SPAN


def side_key(text: str) -> int:
    """The near-duplicate key as 64 bits: equal for near-duplicates, cheap to hold by the million."""
    return int.from_bytes(_digest(text)[:8], "big")


def example_id(text: str, aspect: str, source: str) -> str:
    """Digest of text, aspect and source, 32 hexadecimal characters."""
    return hashlib.sha256(f"{text}\0{aspect}\0{source}".encode()).hexdigest()[:32]


def _digest(text: str) -> bytes:
    return hashlib.sha256(near_duplicate_key(text).encode()).digest()


def normalised_column(texts: pl.Series) -> pl.Series:
    """`normalise` of a whole column."""
    fast = texts.to_frame("t").select(pl.col("t").str.to_lowercase().str.replace_all(r"\s+", " ").str.strip_chars(" "))[
        "t"
    ]
    return _with_others(texts, fast, normalise)


def key_column(texts: pl.Series) -> pl.Series:
    """`near_duplicate_key` of a whole column."""
    fast = texts.to_frame("t").select(
        pl.col("t")
        .str.to_lowercase()
        .str.replace_all(_DROPPED_ASCII, "")
        .str.replace_all(r"\s+", " ")
        .str.strip_chars(" ")
    )["t"]
    return _with_others(texts, fast, near_duplicate_key, or_if_empty=True)


def _with_others(texts: pl.Series, fast: pl.Series, exact: object, *, or_if_empty: bool = False) -> pl.Series:
    """The fast column where rows are printable ASCII, the exact function of the row elsewhere."""
    assert callable(exact)
    others = ~texts.str.contains(_ASCII)
    if or_if_empty:
        others = others | (fast.str.len_bytes() == 0)
    at = others.arg_true()
    if len(at):
        fast = fast.scatter(at, pl.Series([exact(text) for text in texts.gather(at).to_list()], dtype=pl.String))
    return fast


def sha256_column(values: pl.Series) -> Words:
    """SHA-256 of each value's UTF-8, (n, 4). The one loop over rows in Python: hashlib costs about 0.5 µs a row."""
    sha256 = hashlib.sha256
    joined = b"".join([sha256(value).digest() for value in values.cast(pl.Binary).to_list()])
    return np.frombuffer(joined, dtype=">u8").reshape(-1, 4).astype(np.uint64)


def sha256_hex_column(values: pl.Series) -> pl.Series:
    """The first 32 hexadecimal characters of each value's SHA-256."""
    sha256 = hashlib.sha256
    digests = [sha256(value).hexdigest()[:32] for value in values.cast(pl.Binary).to_list()]
    return pl.Series("example_id", digests, dtype=pl.String)


def points(words: Words) -> npt.NDArray[np.float64]:
    """The first eight bytes of each digest as a point in [0, 1), (n,)."""
    return words[:, 0].astype(np.float64) / _SPAN


def side_column(words: Words) -> pl.Series:
    """The side of each row, from its key's digest."""
    numbers = np.digitize(points(words), [TRAIN_BELOW, VALIDATION_BELOW])
    return pl.Series("side", np.array(["train", "validation", "test"])[numbers], dtype=pl.String)
