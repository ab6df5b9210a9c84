"""Rows as token ids in flat arrays, text and aspect apart, so that batches are cut and composed cheaply."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from absa.inference.tokenization import PairTokenizer
from absa.labels import N_LABELS

Ids = npt.NDArray[np.uint16]
Index = npt.NDArray[np.int64]

SPECIAL_TOKENS: Final = 3  # [CLS] text [SEP] aspect [SEP]


@dataclass(frozen=True)
class LabelledPair:
    """One row as the trainer takes it."""

    text: str
    aspect: str
    label: int
    segment: str | None = None


def parse_pair(row: dict[str, Any]) -> LabelledPair:
    """Read a row from its JSON object.

    Raises:
        KeyError: a field is missing.
        ValueError: the label is not 0, 1 or 2.
        TypeError: it is no object.
    """
    pair = LabelledPair(str(row["text"]), str(row["aspect"]), int(row["label"]), row.get("segment"))
    if not 0 <= pair.label < N_LABELS:
        raise ValueError(f"label {pair.label} is not 0, 1 or 2")
    return pair


@dataclass(frozen=True)
class TokenRows:
    """Token ids of many rows end to end, without the special tokens.

    Row i has the text `texts[text_ends[i - 1]:text_ends[i]]` and the aspect likewise. `special` holds the ids of
    [CLS] and [SEP].
    """

    texts: Ids
    text_ends: Index
    aspects: Ids
    aspect_ends: Index
    labels: npt.NDArray[np.int8]
    special: tuple[int, int]

    def __len__(self) -> int:
        return len(self.labels)

    def text(self, row: int) -> Ids:
        """Ids of a row's text."""
        return self.texts[self.text_ends[row - 1] if row else 0 : self.text_ends[row]]

    def aspect(self, row: int) -> Ids:
        """Ids of a row's aspect."""
        return self.aspects[self.aspect_ends[row - 1] if row else 0 : self.aspect_ends[row]]

    @property
    def lengths(self) -> Index:
        """Tokens of each row, the special ones included."""
        texts = np.diff(self.text_ends, prepend=0)
        return texts + np.diff(self.aspect_ends, prepend=0) + SPECIAL_TOKENS

    def take(self, rows: Sequence[int] | Index) -> "TokenRows":
        """Some of the rows, in that order."""
        return join(
            [self.text(int(row)) for row in rows],
            [self.aspect(int(row)) for row in rows],
            self.labels[np.asarray(rows, dtype=np.int64)],
            self.special,
        )


def join(
    texts: Sequence[Ids], aspects: Sequence[Ids], labels: Iterable[int] | npt.NDArray[np.int8], special: tuple[int, int]
) -> TokenRows:
    """Put rows end to end."""
    empty = np.zeros(0, np.uint16)
    return TokenRows(
        texts=np.concatenate([empty, *texts]),
        text_ends=np.cumsum([len(text) for text in texts], dtype=np.int64),
        aspects=np.concatenate([empty, *aspects]),
        aspect_ends=np.cumsum([len(aspect) for aspect in aspects], dtype=np.int64),
        labels=np.fromiter(labels, dtype=np.int8),
        special=special,
    )


def tokenize(pairs: Sequence[LabelledPair], tokenizer: PairTokenizer) -> TokenRows:
    """Encode rows with the tokenizer that inference uses: what the model learns from is what it is asked."""
    encoded = tokenizer.encode([(pair.text, pair.aspect) for pair in pairs])
    texts, aspects = [], []
    for row in encoded:
        ids = row.input_ids.astype(np.uint16)
        boundary = int(np.argmax(row.token_type_ids))  # the first token of the aspect
        texts.append(ids[1 : boundary - 1])
        aspects.append(ids[boundary:-1])
    first = encoded[0].input_ids
    return join(texts, aspects, (pair.label for pair in pairs), (int(first[0]), int(first[-1])))
