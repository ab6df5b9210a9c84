"""Span of an aspect in its text: the one rule for where an aspect is, shared by ingest, serving, batch and training.

An aspect is found without regard to case first. Where that fails, both sides are compared in the form of `aspect_key`:
the normalised form that decides which texts are equal, with typographic quotes and hyphens as the plain ones. Offsets
are always those of the text as it was given.
"""

import re
import unicodedata
from collections.abc import Sequence
from functools import lru_cache
from typing import Final, NamedTuple

_PLAIN: Final = str.maketrans(
    dict.fromkeys("\u2018\u2019\u201a\u201b\u2032\u02bc`", "'")
    | dict.fromkeys("\u201c\u201d\u201e\u201f\u00ab\u00bb", '"')
    | dict.fromkeys("\u2010\u2012\u2013\u2014\u2015\u2212", "-")
)
# Words of ASCII with single spaces between (without a last letter that a mark may follow), white space, any character.
_PIECE: Final = re.compile(r"(?:[!-~]+ )*[!-~]+(?![^\x00-\x7f])|\s+|.", re.DOTALL)
_FIRST_MARK: Final = "\u0300"  # no character below continues another
_SHORT: Final = 200  # characters that are normalised within microseconds, whatever they are
_MARKS_TOGETHER: Final = 30  # as in stream-safe text (Unicode UAX #15); more would be sorted in quadratic time


class AspectSpan(NamedTuple):
    """Half-open range of characters [start, end) of a text."""

    start: int
    end: int


def normalise(text: str) -> str:
    """NFKC, casefold, white space collapsed to single spaces."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def aspect_key(text: str) -> str:
    """Normalised text with typographic quotes and hyphens as ' " and -."""
    return normalise(text).translate(_PLAIN)


def has_aspect(text: str, aspect: str) -> bool:
    """Return True if `find_aspect` finds the aspect; cheaper where only that matters."""
    return bool(aspect) and (
        aspect in text or aspect.casefold() in text.casefold() or _find_normalised(text, aspect) is not None
    )


def find_aspect(text: str, aspect: str, *, whole_words: bool = False) -> AspectSpan | None:
    """Find the first occurrence of an aspect in a text.

    Occurrences that differ in case alone come before those that differ in Unicode form, white space or quotes. The
    latter are not looked for in a text of over 200 characters with more than 30 marks on one character.

    Args:
        text: any text.
        aspect: phrase to find; white space at its ends matters only to an occurrence that differs in case alone.
        whole_words: prefer the first occurrence outside a longer word ("app" in "happy app").

    Returns:
        The span in `text`, or None. The spanned text equals the aspect after casefolding, or else in `aspect_key`. The
        exception is an occurrence inside a character that casefolding expands ("s" in "ß"): its span is that character.
    """
    folded, wanted = text.casefold(), aspect.casefold()
    if not wanted:
        return None
    if wanted not in folded:
        return _find_normalised(text, aspect, whole_words=whole_words)
    starts: Sequence[int]
    if len(folded) == len(text):  # casefolding never shortens, so each character gave one
        starts = range(len(text))
    else:
        starts = [at for at, character in enumerate(text) for _ in character.casefold()]
    return _search(text, folded, wanted, starts, starts, aligned=False, whole_words=whole_words)


def _find_normalised(text: str, aspect: str, *, whole_words: bool = False) -> AspectSpan | None:
    if not _is_stream_safe(text):
        return None
    wanted = aspect_key(aspect)
    if not wanted or wanted not in aspect_key(text):
        return None
    key, starts, lasts = _key_with_offsets(text)
    return _search(text, key, wanted, starts, lasts, aligned=True, whole_words=whole_words)


def _search(
    text: str,
    key: str,
    wanted: str,
    starts: Sequence[int],
    lasts: Sequence[int],
    *,
    aligned: bool,
    whole_words: bool,
) -> AspectSpan | None:
    """Find a phrase in a key whose character k comes from the text's characters starts[k] to lasts[k].

    With `aligned`, an occurrence that begins or ends inside what one stretch of the text gave does not count.
    """
    first: AspectSpan | None = None
    at = key.find(wanted)
    while at >= 0:
        end = at + len(wanted)
        inside = aligned and (
            (at > 0 and starts[at - 1] == starts[at]) or (end < len(key) and starts[end] == starts[end - 1])
        )
        if not inside:
            span = AspectSpan(starts[at], lasts[end - 1] + 1)
            if not whole_words or _is_whole(text, span):
                return span
            first = first or span
        at = key.find(wanted, at + 1)
    return first


def _is_whole(text: str, span: AspectSpan) -> bool:
    return not (_splits_word(text, span.start) or _splits_word(text, span.end))


def _splits_word(text: str, at: int) -> bool:
    return 0 < at < len(text) and text[at - 1].isalnum() and text[at].isalnum()


def _key_with_offsets(text: str) -> tuple[str, list[int], list[int]]:
    """`aspect_key` of a text, and for each of its characters the first and the last character it comes from.

    Normalisation changes nothing across the start of a stretch, so the key is made stretch by stretch.
    """
    key: list[str] = []
    starts: list[int] = []
    lasts: list[int] = []

    def add(characters: str, start: int, last: int) -> None:
        for character in characters:
            if not character.isspace():
                key.append(character)
            elif key and key[-1] != " ":
                key.append(" ")
            else:
                continue
            starts.append(start)
            lasts.append(last)

    for start, end in _stretches(text):
        stretch = text[start:end]
        if stretch.isascii() and len(stretch) > 1 and not stretch[0].isspace():
            key.extend(stretch.lower())
            starts.extend(range(start, end))
            lasts.extend(range(start, end))
        else:
            add(unicodedata.normalize("NFKC", stretch).casefold(), start, end - 1)
    if key and key[-1] == " ":
        key.pop()
    return "".join(key).translate(_PLAIN), starts, lasts


def _stretches(text: str) -> list[tuple[int, int]]:
    """Cut a text where normalisation cannot reach across: before every character that continues no other."""
    found: list[tuple[int, int]] = []
    for piece in _PIECE.finditer(text):
        start, end = piece.span()
        if found and end - start == 1 and continues(text[start]):
            start = found.pop()[0]
        found.append((start, end))
    return found


def _is_stream_safe(text: str) -> bool:
    if len(text) <= _SHORT or text.isascii():
        return True
    return b"\1" * (_MARKS_TOGETHER + 1) not in bytes(map(continues, text))


@lru_cache(maxsize=4096)
def continues(character: str) -> bool:
    """Return True for a character that normalisation may join with, or reorder against, the one before it.

    These are marks, the vowels and finals of Hangul, and whatever is decomposed into something that begins so.
    """
    if character < _FIRST_MARK:
        return False
    first = unicodedata.normalize("NFKD", character)[0]
    return unicodedata.category(first)[0] == "M" or "\u1160" <= first <= "\u11ff"
