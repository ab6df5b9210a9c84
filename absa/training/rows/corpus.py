"""Rows to learn from, however many: in memory where they are few, read from their file as they are needed otherwise.

A file is only scanned for its line ends before the training begins (half a gigabyte a second); rows are parsed and
tokenised a chunk at a time, ahead of the loop. So the time to the first step hardly depends on the size of the data.
"""

import json
import mmap
from pathlib import Path
from typing import Final, Protocol

import numpy as np
import numpy.typing as npt

from absa.errors import InvalidDataError
from absa.inference.tokenization import PairTokenizer
from absa.training.rows.tokens import Index, LabelledPair, TokenRows, parse_pair, tokenize

IN_MEMORY_ROWS: Final = 50_000
_SCAN_BYTES: Final = 1 << 24


class Corpus(Protocol):
    """Rows by number, oldest first."""

    def __len__(self) -> int:
        """How many there are."""

    def take(self, rows: Index) -> TokenRows:
        """Some of the rows, in that order."""


class LineFile:
    """A file of JSON lines by row number; nothing but the places of the rows is kept in memory.

    Raises:
        InvalidDataError: the file is missing or has no rows.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            self._starts, self._ends = _scan(path)
        except OSError as error:
            raise InvalidDataError(f"{path.name} cannot be read: {type(error).__name__}") from error
        if not len(self._starts):
            raise InvalidDataError(f"{path.name} has no rows")

    def __len__(self) -> int:
        return len(self._starts)

    def pairs(self, rows: Index) -> list[LabelledPair]:
        """Some of the rows, in that order.

        Raises:
            InvalidDataError: one of them is not text, aspect and label as JSON; names the row.
        """
        if not len(rows):
            return []
        found: dict[int, LabelledPair] = {}
        with self._path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            for row in sorted({int(row) for row in rows}):  # in the file's order: a disk reads forward
                line = content[self._starts[row] : self._ends[row]]
                try:
                    found[row] = parse_pair(json.loads(line))
                except (ValueError, KeyError, TypeError) as error:
                    raise InvalidDataError(
                        f"{self._path.name} row {row + 1}: expected text, aspect and a label of 0, 1 or 2 as JSON"
                    ) from error
        return [found[int(row)] for row in rows]

    def sample(self, most: int, seed: int) -> list[LabelledPair]:
        """All rows, or that many at random where there are more."""
        everything = np.arange(len(self), dtype=np.int64)
        if len(self) > most:
            everything = np.sort(np.random.default_rng(seed).choice(everything, most, replace=False))
        return self.pairs(everything)


class FileCorpus:
    """Rows that are tokenised when they are asked for."""

    def __init__(self, file: LineFile, tokenizer: PairTokenizer) -> None:
        self._file, self._tokenizer = file, tokenizer

    def __len__(self) -> int:
        return len(self._file)

    def take(self, rows: Index) -> TokenRows:
        """Read and tokenise some of the rows."""
        return tokenize(self._file.pairs(rows), self._tokenizer)


def open_corpus(path: Path, tokenizer: PairTokenizer, *, in_memory_rows: int = IN_MEMORY_ROWS) -> Corpus:
    """The rows of a file of JSON lines, oldest first: tokenised at once where they are few.

    Raises:
        InvalidDataError: the file is missing or has no rows; of a small file also: a row is not of the right form.
    """
    file = LineFile(path)
    if len(file) > in_memory_rows:
        return FileCorpus(file, tokenizer)
    return tokenize(file.pairs(np.arange(len(file), dtype=np.int64)), tokenizer)


def _scan(path: Path) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Where the non-empty lines begin and end."""
    ends, offset = [], 0
    with path.open("rb") as file:
        while block := file.read(_SCAN_BYTES):
            ends.append(np.flatnonzero(np.frombuffer(block, np.uint8) == ord("\n")) + offset)
            offset += len(block)
    stops = np.concatenate([*ends, np.array([offset])]).astype(np.int64)
    starts = np.concatenate([np.array([0]), stops[:-1] + 1]).astype(np.int64)
    filled = stops > starts
    return starts[filled], stops[filled]
