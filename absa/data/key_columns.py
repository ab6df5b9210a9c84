"""Keys and hashes of whole columns of texts; equal to the ones that `normalise` returns for each text.

Texts are joined with zero bytes between them and converted together by functions that run in C: ASCII texts by
`bytes.translate`, other texts by a table with the form of each character. The table lacks characters that combine with
the character before them, or that become several characters. Texts with such characters are joined too and normalised
by `unicodedata`. Texts with zero bytes are converted one by one.
"""

import hashlib
import sys
import unicodedata
from collections.abc import Callable, Iterable
from functools import cache
from typing import Final

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa

from absa.data.normalise import Words, marks_and_digits, near_duplicate_key
from absa.inference.aspect_span import normalise

_BEYOND_TABLE: Final = 0x20000  # characters above it are rare: ideographs, tags, private use
_GONE: Final = 0xFFFFFFFF
_UNKNOWN: Final = 0xFFFFFFFE
_SPACE: Final = ord(" ")
_HANGUL_THAT_JOINS: Final = (*range(0x1161, 0x1176), *range(0x11A8, 0x11C3))  # vowels and finals

_Table = npt.NDArray[np.uint32]


def key_column(texts: pl.Series) -> pl.Series:
    """Return `near_duplicate_key` of each text of a column without nulls."""
    return _column(_keys(texts))


def normalised_column(texts: pl.Series) -> pl.Series:
    """Return `normalise` of each text of a column without nulls."""
    return _column(_forms(texts, keyed=False))


def key_digests(texts: pl.Series) -> Words:
    """Return the SHA-256 of each text's key, (n, 4)."""
    return _sha256(_keys(texts))


def sha256_column(values: pl.Series) -> Words:
    """Return the SHA-256 of each value's UTF-8, (n, 4)."""
    return _sha256(values.cast(pl.Binary).to_list())


def hex_column(words: Words) -> pl.Series:
    """Return the first 32 hexadecimal characters of each digest."""
    characters = np.frombuffer(words[:, :2].astype(">u8").tobytes().hex().encode(), dtype=np.uint8)
    offsets = np.arange(0, 32 * len(words) + 1, 32, dtype=np.int64)
    column = pa.LargeStringArray.from_buffers(len(words), pa.py_buffer(offsets), pa.py_buffer(characters))
    return pl.Series("example_id", column, dtype=pl.String)


def _column(forms: list[bytes]) -> pl.Series:
    return pl.Series(forms, dtype=pl.Binary).cast(pl.String)


def _sha256(values: Iterable[bytes]) -> Words:
    sha256 = hashlib.sha256  # the only loop over rows in Python; a call takes as long as the hash
    joined = b"".join([sha256(value).digest() for value in values])
    return np.frombuffer(joined, dtype=">u8").reshape(-1, 4).astype(np.uint64)


def _keys(texts: pl.Series) -> list[bytes]:
    keys = _forms(texts, keyed=True)
    if b"" in keys:  # texts that consist of digits and punctuation
        for row in [row for row, key in enumerate(keys) if not key]:
            keys[row] = near_duplicate_key(texts[row]).encode()
    return keys


def _forms(texts: pl.Series, *, keyed: bool) -> list[bytes]:
    """Return the UTF-8 of each normalised text, without digits and punctuation if `keyed`."""
    ascii_alone = texts.str.len_bytes() == texts.str.len_chars()
    return _apart(texts, ascii_alone, _of_ascii, _of_any, keyed=keyed)


_Former = Callable[..., list[bytes]]


def _apart(texts: pl.Series, chosen: pl.Series, of_chosen: _Former, of_others: _Former, *, keyed: bool) -> list[bytes]:
    """Return the forms of a column: one function converts the chosen texts, the other one the rest."""
    if chosen.all():
        return of_chosen(texts, keyed=keyed) if len(texts) else []
    if not chosen.any():
        return of_others(texts, keyed=keyed)
    forms = np.empty(len(texts), dtype=object)
    mask = chosen.to_numpy()
    forms[mask] = of_chosen(texts.filter(chosen), keyed=keyed)
    forms[~mask] = of_others(texts.filter(~chosen), keyed=keyed)
    return list(forms)


def _joined(texts: pl.Series) -> str:
    return str(texts.str.join("\0").item())


def _of_ascii(texts: pl.Series, *, keyed: bool) -> list[bytes]:
    joined = _joined(texts)
    if joined.count("\0") != len(texts) - 1:
        return _around_zero_bytes(texts, _of_ascii, keyed=keyed)
    table, gone = _ascii_table(keyed=keyed)
    return _split(joined.encode().translate(table, gone))


def _of_any(texts: pl.Series, *, keyed: bool) -> list[bytes]:
    joined = _joined(texts)
    if joined.count("\0") != len(texts) - 1:
        return _around_zero_bytes(texts, _of_any, keyed=keyed)
    codes = _codes(joined)
    becomes = _table(keyed=keyed)[codes]
    unknown = np.flatnonzero(becomes == _UNKNOWN)
    if not len(unknown):
        return _split(_encoded(becomes))
    ends = np.append(np.flatnonzero(codes == 0), len(codes))
    known = np.ones(len(texts), dtype=np.bool_)
    known[np.searchsorted(ends, unknown)] = False
    lengths = np.diff(ends, prepend=-1)  # with the zero byte after each text but the last
    lengths[-1] -= 1
    of_known = becomes[np.repeat(known, lengths)]

    def from_table(texts: pl.Series, **_: bool) -> list[bytes]:
        return _split(_encoded(of_known))[: len(texts)]  # the column's last text may be another one

    return _apart(texts, pl.Series(known), from_table, _of_combining, keyed=keyed)


def _of_combining(texts: pl.Series, *, keyed: bool) -> list[bytes]:
    codes = _codes(unicodedata.normalize("NFKC", _joined(texts)).casefold())
    return _split(_encoded(_last_table(keyed=keyed)[codes]))


def _around_zero_bytes(texts: pl.Series, former: _Former, *, keyed: bool) -> list[bytes]:
    def one_by_one(texts: pl.Series, **_: bool) -> list[bytes]:
        exact = near_duplicate_key if keyed else normalise
        return [exact(text).encode() for text in texts.to_list()]

    return _apart(texts, texts.str.contains("\0", literal=True), one_by_one, former, keyed=keyed)


def _codes(text: str) -> npt.NDArray[np.uint32]:
    return np.frombuffer(text.encode("utf-32-le"), np.uint32)


def _encoded(codes: npt.NDArray[np.uint32]) -> bytes:
    stays: bytes = codes[codes != _GONE].tobytes()
    return stays.decode("utf-32-le").encode()


def _split(joined: bytes) -> list[bytes]:
    """Split texts at zero bytes and collapse their spaces; they have no other white space."""
    codes = np.frombuffer(joined, np.uint8)
    after = codes[1:]
    extra = (codes[:-1] == _SPACE) & ((after == _SPACE) | (after == 0))
    if extra.any():
        joined = codes[np.append(~extra, True)].tobytes()
    return joined.replace(b"\0 ", b"\0").strip(b" ").split(b"\0")


@cache
def _ascii_table(*, keyed: bool) -> tuple[bytes, bytes]:
    """Return the form of each byte, and the bytes to drop, as arguments of `bytes.translate`."""
    becomes = _last_table(keyed=keyed)[:128].tolist()
    lower = bytes(_SPACE if code == _SPACE else ord(chr(n).lower()) for n, code in enumerate(becomes))
    return lower + bytes(range(128, 256)), bytes(n for n, code in enumerate(becomes) if code == _GONE)


@cache
def _last_table(*, keyed: bool) -> _Table:
    """Return the form of each character of a casefolded NFKC text: the character, a space, or nothing."""
    table = np.arange(sys.maxunicode + 1, dtype=np.uint32)
    table[[code for code in range(_BEYOND_TABLE) if chr(code).isspace()]] = _SPACE
    if keyed:
        table[list(marks_and_digits())] = _GONE
    return table


@cache
def _table(*, keyed: bool) -> _Table:
    """Return the form of each character that does not depend on its neighbours; other characters are `_UNKNOWN`.

    A character depends on the character before it if its decomposition starts with a mark that has a combining class,
    or with the second half of a composition (Unicode Standard Annex 15).
    """
    last = _last_table(keyed=keyed)
    table = np.full(sys.maxunicode + 1, _UNKNOWN, dtype=np.uint32)
    table[:_BEYOND_TABLE] = last[:_BEYOND_TABLE]
    characters = list(map(chr, range(1, _BEYOND_TABLE)))
    apart = "\0".join(characters)
    starts = [form[0] for form in unicodedata.normalize("NFKD", apart).split("\0")]
    forms = unicodedata.normalize("NFKC", apart).casefold().split("\0")
    seconds = set(map(chr, _HANGUL_THAT_JOINS))
    for code, (character, start, form) in enumerate(zip(characters, starts, forms, strict=True), 1):
        if form != character:
            stays = [now for each in form if (now := int(last[ord(each)])) != _GONE]
            table[code] = _UNKNOWN if len(stays) > 1 else stays[0] if stays else _GONE
        if start != character:
            parts = unicodedata.decomposition(character).split()
            if len(parts) == 2 and parts[0][0] != "<":
                seconds.add(chr(int(parts[1], 16)))
    depends = [code for code, start in enumerate(starts, 1) if start in seconds or unicodedata.combining(start)]
    table[depends] = _UNKNOWN
    return table
