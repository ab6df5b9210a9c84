"""Rows as token ids in flat arrays, with text and phrase separate, so that batches are cut and joined cheaply."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from absa.errors import InvalidDataError
from absa.inference.tokenization import PairTokenizer, Template
from absa.task import ABSA, TaskSpec

Ids = npt.NDArray[np.generic]
"""Type of token ids: uint16, or uint32 if the vocabulary has more than 65,536 words."""
Index = npt.NDArray[np.int64]
Targets = npt.NDArray[np.float32]


@dataclass(frozen=True)
class LabelledPair:
    """Labelled row of a training. `aspect` is an aspect or a topic; None for plain text."""

    text: str
    aspect: str | None
    label: int
    segment: str | None = None


def read_pairs(path: Path, task: TaskSpec = ABSA) -> list[LabelledPair]:
    """Read a file of JSON lines with text, label and, if the task has a phrase, aspect; empty lines are skipped.

    Raises:
        InvalidDataError: the file cannot be read or has no rows, or a line has another form; the message names the
            line.
    """
    pairs = []
    try:
        with path.open(encoding="utf-8", newline="\n") as lines:
            for number, line in enumerate(lines, 1):
                if line.strip():
                    pairs.append(_pair(line, f"{path.name} line {number}", task))
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidDataError(f"{path.name} cannot be read: {type(error).__name__}") from error
    if not pairs:
        raise InvalidDataError(f"{path.name} has no rows")
    return pairs


def _pair(line: str, place: str, task: TaskSpec) -> LabelledPair:
    try:
        row = json.loads(line)
        aspect = None if task.phrase is None else str(row["aspect"])
        pair = LabelledPair(str(row["text"]), aspect, int(row["label"]), row.get("segment"))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        expected = "text and label" if task.phrase is None else "text, aspect and label"
        raise InvalidDataError(f"{place}: expected {expected} as JSON") from error
    if not 0 <= pair.label < task.n_labels:
        raise InvalidDataError(f"{place}: expected a label of 0 to {task.n_labels - 1}, got {pair.label}")
    return pair


@dataclass(frozen=True)
class TokenRows:
    """Concatenated token ids of many rows, without special tokens.

    Row i has the text `texts[text_ends[i - 1]:text_ends[i]]`; aspects are stored in the same way. `special` has the
    special tokens of a row. `observed` is the time of each row in seconds since the epoch; None if unknown.
    `targets` (n, labels) are teachers' probabilities of the labels; None: `labels` are the targets.
    `numbers` are the numbers of the rows in the corpus, -1 for a row that is made for a single pass; None if unknown.
    """

    texts: Ids
    text_ends: Index
    aspects: Ids
    aspect_ends: Index
    labels: npt.NDArray[np.int8]
    special: Template
    observed: npt.NDArray[np.float64] | None = None
    targets: Targets | None = None
    numbers: Index | None = None

    def __len__(self) -> int:
        return len(self.labels)

    def text(self, row: int) -> Ids:
        """Return the ids of a row's text."""
        return self.texts[self.text_ends[row - 1] if row else 0 : self.text_ends[row]]

    def aspect(self, row: int) -> Ids:
        """Return the ids of a row's aspect."""
        return self.aspects[self.aspect_ends[row - 1] if row else 0 : self.aspect_ends[row]]

    @property
    def lengths(self) -> Index:
        """Number of tokens of each row, special tokens included."""
        texts = np.diff(self.text_ends, prepend=0)
        return texts + np.diff(self.aspect_ends, prepend=0) + self.special.tokens

    def take(self, rows: Sequence[int] | Index) -> "TokenRows":
        """Return some of the rows, in that order."""
        index = np.asarray(rows, dtype=np.int64)
        texts, text_ends = pick(self.texts, self.text_ends, index)
        aspects, aspect_ends = pick(self.aspects, self.aspect_ends, index)
        observed = None if self.observed is None else self.observed[index]
        targets = None if self.targets is None else self.targets[index]
        numbers = None if self.numbers is None else self.numbers[index]
        labels = self.labels[index]
        return TokenRows(texts, text_ends, aspects, aspect_ends, labels, self.special, observed, targets, numbers)


def pick(values: Ids, ends: Index, rows: Index) -> tuple[Ids, Index]:
    """Return some of many concatenated sequences: their values, and the end of each."""
    starts = np.where(rows > 0, ends[np.maximum(rows, 1) - 1], 0)
    lengths = ends[rows] - starts
    return gather(values, starts, lengths), np.cumsum(lengths, dtype=np.int64)


def gather(values: Ids, starts: Index, lengths: Index) -> Ids:
    """Return parts of an array, concatenated. No loop over the parts."""
    ends = np.cumsum(lengths, dtype=np.int64)
    if not len(ends):
        return values[:0]
    return np.asarray(values[np.arange(ends[-1]) + np.repeat(starts - (ends - lengths), lengths)])


def join(
    texts: Sequence[Ids],
    aspects: Sequence[Ids],
    labels: Iterable[int] | npt.NDArray[np.int8],
    special: Template,
) -> TokenRows:
    """Return rows in concatenated form."""
    empty = np.zeros(0, np.uint16)
    return TokenRows(
        texts=np.concatenate([empty, *texts]),
        text_ends=np.cumsum([len(text) for text in texts], dtype=np.int64),
        aspects=np.concatenate([empty, *aspects]),
        aspect_ends=np.cumsum([len(aspect) for aspect in aspects], dtype=np.int64),
        labels=np.fromiter(labels, dtype=np.int8),
        special=special,
    )


def stack(parts: Sequence[TokenRows]) -> TokenRows:
    """Return the rows of all parts, one part after the other. If only some parts have numbers, other rows get -1."""
    if len(parts) == 1:
        return parts[0]
    numbered = any(part.numbers is not None for part in parts)
    numbers = [np.full(len(part), -1) if part.numbers is None else part.numbers for part in parts]
    known = [part.observed for part in parts if part.observed is not None]
    targets = [part.targets for part in parts if part.targets is not None]
    return TokenRows(
        texts=np.concatenate([part.texts for part in parts]),
        text_ends=_end_to_end([part.text_ends for part in parts]),
        aspects=np.concatenate([part.aspects for part in parts]),
        aspect_ends=_end_to_end([part.aspect_ends for part in parts]),
        labels=np.concatenate([part.labels for part in parts]),
        special=parts[0].special,
        observed=np.concatenate(known) if len(known) == len(parts) else None,
        targets=np.concatenate(targets) if len(targets) == len(parts) else None,
        numbers=np.concatenate(numbers) if numbered else None,
    )


def _end_to_end(ends: Sequence[Index]) -> Index:
    offsets = np.cumsum([0, *(int(each[-1]) if len(each) else 0 for each in ends[:-1])])
    return np.concatenate([each + offset for each, offset in zip(ends, offsets, strict=True)])


def tokenize(pairs: Sequence[LabelledPair], tokenizer: PairTokenizer) -> TokenRows:
    """Encode rows with the tokenizer of inference, so that training and serving use equal ids."""
    aspects = [pair.aspect for pair in pairs if pair.aspect is not None]
    return tokenize_columns(
        [pair.text for pair in pairs],
        aspects if aspects or not pairs else None,
        np.fromiter((pair.label for pair in pairs), np.int8, len(pairs)),
        tokenizer,
    )


def tokenize_columns(
    texts: Sequence[str],
    aspects: Sequence[str] | None,
    labels: npt.NDArray[np.int8],
    tokenizer: PairTokenizer,
    observed: npt.NDArray[np.float64] | None = None,
) -> TokenRows:
    """Encode columns of rows. The ids are those of `PairTokenizer.encode`, which is many times slower.

    Without aspects the rows are plain texts.
    """
    apart = tokenizer.encode_apart(texts, aspects)
    if apart is None:
        return _by_pairs(texts, aspects, labels, tokenizer, observed)
    whole = np.flatnonzero(apart.text_lengths >= 1)
    kept = apart.text_lengths[whole]
    aspect_ids, aspect_ends = pick(apart.aspect_ids, apart.aspect_ends, whole)
    seen = None if observed is None else observed[whole]
    rows = TokenRows(
        texts=gather(apart.text_ids, apart.text_starts[whole], kept),
        text_ends=np.cumsum(kept, dtype=np.int64),
        aspects=aspect_ids,
        aspect_ends=aspect_ends,
        labels=labels[whole],
        special=tokenizer.template,
        observed=seen,
    )
    if len(whole) == len(labels):
        return rows
    rest = np.flatnonzero(apart.text_lengths < 1)  # few rows: the text is empty, or the aspect leaves no room for it
    others = _by_pairs(
        [texts[int(row)] for row in rest], None if aspects is None else [aspects[int(row)] for row in rest],
        labels[rest], tokenizer, None if observed is None else observed[rest],
    )  # fmt: skip
    return stack([rows, others]).take(np.argsort(np.concatenate([whole, rest])))


def _by_pairs(
    texts: Sequence[str],
    aspects: Sequence[str] | None,
    labels: npt.NDArray[np.int8],
    tokenizer: PairTokenizer,
    observed: npt.NDArray[np.float64] | None,
) -> TokenRows:
    phrases: Sequence[str | None] = [None] * len(texts) if aspects is None else aspects
    encoded = tokenizer.encode(list(zip(texts, phrases, strict=True)))
    mine, theirs = [], []
    for row in encoded:
        text, aspect = tokenizer.split(row)
        mine.append(text)
        theirs.append(aspect)
    rows = join(mine, theirs, labels, tokenizer.template)
    return replace(rows, observed=observed)
