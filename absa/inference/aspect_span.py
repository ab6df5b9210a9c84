"""Span of an aspect in its text. Ingest, serving, batch and training share this rule.

An aspect is first searched without regard to case. If it is not found, text and aspect are compared in the form of
`aspect_key`: normalised, with plain quotes and hyphens instead of typographic ones. Offsets are always those of the
original text.
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
# ASCII words with single spaces between them (without a last letter before other characters, which may be marks), or
# white space, or any one character.
_PIECE: Final = re.compile(r"(?:[!-~]+ )*[!-~]+(?![^\x00-\x7f])|\s+|.", re.DOTALL)
_FIRST_MARK: Final = "\u0300"  # no character below it continues another character
_SHORT: Final = 200  # so many characters of any kind are normalised within microseconds
_MARKS_TOGETHER: Final = 30  # as in stream-safe text (Unicode UAX #15); sorting more takes quadratic time


class AspectSpan(NamedTuple):
    """Half-open range of characters [start, end) of a text."""

    start: int
    end: int


def normalise(text: str) -> str:
    """Return the text in NFKC, casefolded, with white space collapsed to single spaces."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def aspect_key(text: str) -> str:
    """Return the normalised text with ' " and - instead of typographic quotes and hyphens."""
    return normalise(text).translate(_PLAIN)


def has_aspect(text: str, aspect: str) -> bool:
    """Return True if `find_aspect` finds the aspect; cheaper than `find_aspect`."""
    return bool(aspect) and (
        aspect in text or aspect.casefold() in text.casefold() or _find_normalised(text, aspect) is not None
    )


def find_aspect(text: str, aspect: str, *, whole_words: bool = False) -> AspectSpan | None:
    """Find the first occurrence of an aspect in a text.

    An occurrence that differs only in case is preferred to one that differs in Unicode form, white space or quotes. The
    latter are not searched in a text of over 200 characters with more than 30 marks on one character.

    Args:
        text: any text.
        aspect: phrase to find; white space at its ends is only significant for occurrences that differ only in case.
        whole_words: prefer the first occurrence that is not part of a longer word ("app" in "happy app").

    Returns:
        The span in `text`, or None. The text of the span equals the aspect after casefolding, or has an equal
        `aspect_key`. There is one exception: if casefolding expands a character ("ß" to "ss") and the aspect is only a
        part of the result ("s"), the span is the whole character.
    """
    folded, wanted = text.casefold(), aspect.casefold()
    if not wanted:
        return None
    if wanted not in folded:
        return _find_normalised(text, aspect, whole_words=whole_words)
    starts: Sequence[int]
    if len(folded) == len(text):  # casefolding never shortens, so each character became one character
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

    If `aligned`, an occurrence that starts or ends inside the characters of one stretch does not count.
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
    """Return `aspect_key` of a text, and the first and last character of the text for each character of the key.

    Normalisation does not join characters across the start of a stretch, so the key is made stretch by stretch.
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
    """Cut a text before every character that does not continue another one: no normalisation crosses these places."""
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

    These are marks, the vowels and finals of Hangul, and characters whose decomposition starts with one of them.
    """
    if character < _FIRST_MARK:
        return False
    first = unicodedata.normalize("NFKD", character)[0]
    return unicodedata.category(first)[0] == "M" or "\u1160" <= first <= "\u11ff"
