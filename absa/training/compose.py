"""Texts that were joined from two, so that the aspect decides: `great search, but the app is slow`.

Feedback rarely praises one thing and blames another in one breath, and a model that never saw it learns to ignore the
aspect. Two rows with known labels, joined, are a text with two aspects whose answers are known. The idea is that of
contrastive augmentation for ABSA (Wang et al. 2022, https://aclanthology.org/2022.coling-1.581).
"""

from dataclasses import dataclass
from typing import Final

import numpy as np

from absa.inference.tokenization import PairTokenizer
from absa.labels import N_LABELS
from absa.training.tokens import SPECIAL_TOKENS, Ids, Index, TokenRows, join

_CONNECTORS: Final = (
    ", but", " but", ", and", " and", ". ", ". ", "; ", ", though", ", although", ". However,", ", while", " yet",
    ". On the other hand,", ". Also,", ", whereas", " - ", "! ", ", too bad",
)  # fmt: skip
_ENDINGS: Final = ".!?,;"
_DROPS_ENDING: Final = 0.7  # how often the first text loses the mark at its end
_TRIES: Final = 3


@dataclass(frozen=True)
class Connectors:
    """Token ids of the words between two texts, and of the marks that end a text."""

    between: tuple[Ids, ...]
    endings: frozenset[int]

    @classmethod
    def of(cls, tokenizer: PairTokenizer) -> "Connectors":
        """Encode the connectors with a tokenizer."""

        def ids(text: str) -> Ids:
            encoded = tokenizer.encode([(text, "x")])[0]
            return encoded.input_ids[1 : int(np.argmax(encoded.token_type_ids)) - 1].astype(np.uint16)

        return cls(tuple(ids(text) for text in _CONNECTORS), frozenset(int(ids(mark)[0]) for mark in _ENDINGS))


@dataclass(frozen=True)
class Composer:
    """Joins a share of the rows with others of another label, at random.

    Two rows are joined only where both fit into the longest pair and neither text speaks of the other's aspect.
    """

    connectors: Connectors
    share: float
    max_tokens: int

    def __call__(self, rows: TokenRows, chance: np.random.Generator) -> TokenRows:
        """The rows, in their order, a share of their texts joined with another's; aspects and labels stay."""
        by_label = [np.flatnonzero(rows.labels == label) for label in range(N_LABELS)]
        chosen = chance.random(len(rows)) < self.share
        texts = [self._join(rows, row, by_label, chance) if chosen[row] else rows.text(row) for row in range(len(rows))]
        return join(texts, [rows.aspect(row) for row in range(len(rows))], rows.labels, rows.special)

    def _join(self, rows: TokenRows, row: int, by_label: list[Index], chance: np.random.Generator) -> Ids:
        mine, aspect = rows.text(row), rows.aspect(row)
        others = by_label[int((rows.labels[row] + chance.integers(1, N_LABELS)) % N_LABELS)]
        room = self.max_tokens - SPECIAL_TOKENS - len(mine) - len(aspect)
        for _ in range(_TRIES if len(others) else 0):
            other = int(chance.choice(others))
            theirs = rows.text(other)
            connector = self.connectors.between[int(chance.integers(len(self.connectors.between)))]
            if len(theirs) + len(connector) > room:
                continue
            if contains(theirs, aspect) or contains(mine, rows.aspect(other)):
                continue
            first, second = (mine, theirs) if chance.random() < 0.5 else (theirs, mine)
            if len(first) > 1 and int(first[-1]) in self.connectors.endings and chance.random() < _DROPS_ENDING:
                first = first[:-1]
            return np.concatenate([first, connector, second])
        return mine


def contains(text: Ids, words: Ids) -> bool:
    """Whether the words stand side by side in the text."""
    if not len(words) or len(words) > len(text):
        return False
    windows = np.lib.stride_tricks.sliding_window_view(text, len(words))
    return bool((windows == words).all(axis=1).any())
