"""Composition of texts from two rows, so that the aspect decides the label: `great search, but the app is slow`.

Feedback rarely praises one thing and blames another in one text, and a model without such texts learns to ignore the
aspect. Two joined rows make a text with two aspects whose labels are known. The idea comes from contrastive
augmentation for ABSA (Wang et al. 2022, https://aclanthology.org/2022.coling-1.581).
"""

from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import numpy.typing as npt

from absa.inference.tokenization import PairTokenizer
from absa.task import ABSA, TaskSpec
from absa.training.rows.contrast import contrast_pairs
from absa.training.rows.tokens import Ids, Index, TokenRows, gather, stack, tokenize
from absa.training.training_settings import TrainingSettings

_CONNECTORS: Final = (
    ", but", " but", ", and", " and", ". ", ". ", "; ", ", though", ", although", ". However,", ", while", " yet",
    ". On the other hand,", ". Also,", ", whereas", " - ", "! ", ", too bad",
)  # fmt: skip
_CONNECTORS_OF_ANY_LANGUAGE: Final = (", ", ". ", ". ", "; ", " - ", "! ")
_ENDINGS: Final = ".!?,;"
_DROPS_ENDING: Final = 0.7  # probability that the first text loses the mark at its end
_TRIES: Final = 3
_SCARCE: Final = 1 / 3  # part of the share if not all rows fit, because a joined text costs the time of another row
_CONTRAST_ROWS: Final = 4_000  # distinct rows from which each chunk draws


@dataclass(frozen=True)
class Connectors:
    """Token ids of the words between two texts, and of the marks that end a text."""

    between: tuple[Ids, ...]
    endings: frozenset[int]

    @classmethod
    def of(cls, tokenizer: PairTokenizer, task: TaskSpec = ABSA) -> "Connectors":
        """Encode the connectors with a tokenizer: English words for the default task, marks for any other."""

        def ids(text: str) -> Ids:
            return tokenizer.split(tokenizer.encode([(text, "x")])[0])[0]

        first = len(ids("a"))  # many tokenizers have special tokens for the start of a text
        words = _CONNECTORS if task.extends(ABSA) else _CONNECTORS_OF_ANY_LANGUAGE
        between = tuple(ids(f"a{text}")[first:] for text in words)
        return cls(between, frozenset(int(ids(f"a{mark}")[-1]) for mark in _ENDINGS))


@dataclass(frozen=True)
class Composer:
    """Function that joins a random share of the rows with rows of another label, and adds rows of contrast sets.

    Two rows are joined only if the result is not too long, and if neither text has the first token of the other row's
    aspect. There is no loop over rows, because a GPU learns from a hundred thousand rows per second.
    """

    connectors: Connectors
    share: float
    max_tokens: int
    labels: int = ABSA.n_labels
    contrast: TokenRows | None = None
    contrast_share: float = 0.0

    @classmethod
    def of(cls, tokenizer: PairTokenizer, settings: TrainingSettings, task: TaskSpec = ABSA) -> "Composer | None":
        """Return the composer of some settings; None if they neither join rows nor add contrast sets for the task."""
        contrast = None
        if settings.contrast_share and task.extends(ABSA):
            contrast = tokenize(contrast_pairs(_CONTRAST_ROWS, settings.seed), tokenizer)
        if contrast is None and (not settings.compose_share or not task.phrase_in_text):
            return None
        return cls(
            Connectors.of(tokenizer, task),
            settings.compose_share,
            settings.max_tokens,
            task.n_labels,
            contrast,
            settings.contrast_share,
        )

    def __call__(self, rows: TokenRows, chance: np.random.Generator, scarce: bool = False) -> TokenRows:
        """Return the rows in their order, some of them joined, then rows of contrast sets.

        A share of the texts is joined with another text; the share is smaller if `scarce` is True because the time is
        too short for all rows. Aspects and labels do not change.
        """
        rows = self._with_contrasts(rows, chance)
        if not len(rows.texts) or not len(rows.aspects):
            return rows
        mine, theirs, words = self._pairs(rows, chance, self.share * (_SCARCE if scarce else 1.0))
        swapped = chance.random(len(mine)) < 0.5
        first, second = np.where(swapped, theirs, mine), np.where(swapped, mine, theirs)
        lengths = np.diff(rows.text_ends, prepend=0)
        starts = rows.text_ends - lengths
        between, word_starts, word_lengths = self._words(len(rows.texts))
        ended = np.isin(rows.texts[np.maximum(rows.text_ends[first] - 1, 0)], list(self.connectors.endings))
        cut = ended & (lengths[first] > 1) & (chance.random(len(mine)) < _DROPS_ENDING)
        piece_starts, piece_lengths = np.zeros((len(rows), 3), np.int64), np.zeros((len(rows), 3), np.int64)
        piece_starts[:, 0], piece_lengths[:, 0] = starts, lengths
        piece_starts[mine] = np.stack([starts[first], word_starts[words], starts[second]], axis=1)
        piece_lengths[mine] = np.stack([lengths[first] - cut, word_lengths[words], lengths[second]], axis=1)
        texts = gather(np.concatenate([rows.texts, between]), piece_starts.reshape(-1), piece_lengths.reshape(-1))
        numbers = rows.numbers
        if numbers is not None:
            numbers = numbers.copy()
            numbers[mine] = -1
        ends = np.cumsum(piece_lengths.sum(axis=1), dtype=np.int64)
        return replace(rows, texts=texts, text_ends=ends, numbers=numbers)

    def _with_contrasts(self, rows: TokenRows, chance: np.random.Generator) -> TokenRows:
        count = round(self.contrast_share * len(rows))
        if self.contrast is None or not count:
            return rows
        drawn = self.contrast.take(chance.integers(0, len(self.contrast), count))
        if rows.targets is not None:
            drawn = replace(drawn, targets=np.eye(rows.targets.shape[1], dtype=np.float32)[drawn.labels])
        return stack([rows, drawn])

    def _pairs(self, rows: TokenRows, chance: np.random.Generator, share: float) -> tuple[Index, Index, Index]:
        """Return the plan of the joins: rows, their partners and connectors."""
        lengths = np.diff(rows.text_ends, prepend=0)
        asked = np.diff(rows.aspect_ends, prepend=0)
        room = self.max_tokens - rows.special.tokens - lengths - asked
        heads = np.where(asked > 0, rows.aspects[np.minimum(rows.aspect_ends - asked, len(rows.aspects) - 1)], 0)
        spoken = _Spoken(rows, lengths)
        by_label = [np.flatnonzero(rows.labels == label) for label in range(self.labels)]
        _, _, word_lengths = self._words(0)
        left = np.flatnonzero(chance.random(len(rows)) < share)
        found: list[tuple[Index, Index, Index]] = []
        for _ in range(_TRIES):
            wanted = (rows.labels[left] + chance.integers(1, self.labels, len(left))) % self.labels
            draw, words = chance.random(len(left)), chance.integers(0, len(word_lengths), len(left))
            other = left.copy()  # a row is never joined with itself, so its own index means no partner
            for label, having in enumerate(by_label):
                if len(having):
                    here = wanted == label
                    other[here] = having[(draw[here] * len(having)).astype(np.int64)]
            good = (other != left) & (lengths[other] + word_lengths[words] <= room[left])
            good &= ~spoken(other, heads[left]) & ~spoken(left, heads[other])
            found.append((left[good], other[good], words[good]))
            left = left[~good]
        mine, theirs, words = (np.concatenate(each) for each in zip(*found, strict=True))
        return mine, theirs, words

    def _words(self, offset: int) -> tuple[Ids, Index, Index]:
        """Return the concatenated ids of the connectors, their starts after `offset` ids, and their lengths."""
        lengths = np.array([len(words) for words in self.connectors.between], np.int64)
        return np.concatenate(self.connectors.between), offset + np.cumsum(lengths) - lengths, lengths


class _Spoken:
    """Lookup of tokens in the texts of rows."""

    def __init__(self, rows: TokenRows, lengths: Index) -> None:
        of = np.repeat(np.arange(len(rows), dtype=np.int64), lengths)
        self._keys = np.sort((of << 32) | rows.texts.astype(np.int64))

    def __call__(self, rows: Index, tokens: Ids | Index) -> npt.NDArray[np.bool_]:
        if not len(self._keys):
            return np.zeros(len(rows), np.bool_)
        keys = (rows << 32) | tokens.astype(np.int64)
        at = np.minimum(np.searchsorted(self._keys, keys), len(self._keys) - 1)
        return np.asarray(self._keys[at] == keys)
