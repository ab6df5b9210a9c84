"""Answers that were given before: bounded, least recently used out first."""

from collections import OrderedDict
from typing import Final

Key = tuple[str, str, str]  # model digest, text, aspect
Scores = list[float]

_MAX_CHARS: Final = 2_000  # a longer text is unlikely to come again, and would fill the memory


class AnswerCache:
    """Scores by model, text and aspect. Not for several threads.

    Args:
        entries: most answers kept; 0 keeps none. With texts of at most 2,000 characters it stays below
            entries x 10 KB.
    """

    def __init__(self, entries: int) -> None:
        self._entries = entries
        self._kept: OrderedDict[Key, Scores] = OrderedDict()

    def __len__(self) -> int:
        return len(self._kept)

    def get(self, key: Key) -> Scores | None:
        """The scores, or None."""
        scores = self._kept.get(key)
        if scores is not None:
            self._kept.move_to_end(key)
        return scores

    def put(self, key: Key, scores: Scores) -> None:
        """Keep an answer."""
        if not self._entries or len(key[1]) + len(key[2]) > _MAX_CHARS:
            return
        self._kept[key] = scores
        if len(self._kept) > self._entries:
            self._kept.popitem(last=False)

    def keep_only(self, digests: frozenset[str]) -> None:
        """Forget the answers of models that are gone."""
        for key in [key for key in self._kept if key[0] not in digests]:
            del self._kept[key]
