"""Pairs of a text and an aspect in it that no row has. The aspects come from other rows.

A student learns from a teacher's scores of these pairs what an aspect is, without further labels.
"""

import re
from collections import defaultdict
from collections.abc import Iterable
from random import Random
from typing import Final

_SHORTEST_ASPECT: Final = 3  # characters; shorter aspects are in too many texts
_WORD: Final = re.compile(r"\w+")


def unasked_pairs(
    texts: Iterable[str], aspects: Iterable[str], asked: Iterable[tuple[str, str]], *, most: int | None = None
) -> list[tuple[str, str]]:
    """Return pairs of a text and an aspect that occurs in it as whole words, except the pairs that rows have.

    Args:
        texts: texts to search.
        aspects: aspects to search for, without regard to case.
        asked: pairs of text and aspect that rows have.
        most: largest number of pairs; texts are then searched in a random order that is equal for equal texts.
    """
    known = {(text, aspect.casefold()) for text, aspect in asked}
    by_first: defaultdict[str, list[str]] = defaultdict(list)
    for aspect in sorted({each.casefold().strip() for each in aspects}):
        if len(aspect) >= _SHORTEST_ASPECT and (first := _WORD.match(aspect)):
            by_first[first[0]].append(aspect)
    different = list(dict.fromkeys(texts))
    if most is not None:
        different.sort()
        Random(0).shuffle(different)
    found: dict[tuple[str, str], None] = {}
    for text in different:
        low = text.casefold()
        for word in _WORD.finditer(low):
            for aspect in by_first.get(word[0], ()):
                after = low[word.start() + len(aspect) :][:1]
                whole = low.startswith(aspect, word.start()) and not _WORD.match(after)
                if whole and (text, aspect) not in known:
                    found[text, aspect] = None
        if most is not None and len(found) >= most:
            break
    return list(found)[:most]
