"""Bounded cache of answers; the least recently used one is dropped first."""

from collections import OrderedDict
from typing import Final, NamedTuple

Key = tuple[str, str, str | None]  # model digest, text, aspect or topic

_MAX_CHARS: Final = 2_000  # a longer text rarely repeats, and would fill the memory


class CachedAnswer(NamedTuple):
    """Scores in label order, and True if a part of the text was left out."""

    scores: list[float]
    truncated: bool


class AnswerCache:
    """Answers by model, text and phrase. Not safe for several threads.

    Args:
        entries: largest number of answers; 0: none are kept. Memory stays below entries x 10 KB, because answers to
            long texts are not kept.
    """

    def __init__(self, entries: int) -> None:
        self._entries = entries
        self._kept: OrderedDict[Key, CachedAnswer] = OrderedDict()

    def __len__(self) -> int:
        return len(self._kept)

    def get(self, key: Key) -> CachedAnswer | None:
        """Return the answer, or None."""
        answer = self._kept.get(key)
        if answer is not None:
            self._kept.move_to_end(key)
        return answer

    def put(self, key: Key, answer: CachedAnswer) -> None:
        """Keep an answer, unless its text is too long."""
        if not self._entries or len(key[1]) + len(key[2] or "") > _MAX_CHARS:
            return
        self._kept[key] = answer
        if len(self._kept) > self._entries:
            self._kept.popitem(last=False)

    def keep_only(self, digests: frozenset[str]) -> None:
        """Drop the answers of other models."""
        for key in [key for key in self._kept if key[0] not in digests]:
            del self._kept[key]
