"""Batches of a step: rows of near-equal length up to a number of tokens, in random order."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from absa.training.rows.tokens import Index, TokenRows

_POOL_BATCHES: Final = 24  # rows are sorted by length in pools of so many batches: little padding, much chance


@dataclass(frozen=True)
class Batch:
    """One step's rows, padded to the longest of them. `mask` is None where no row is padded."""

    input_ids: npt.NDArray[np.int64]  # (B, T)
    token_types: npt.NDArray[np.int64]  # (B, T)
    mask: npt.NDArray[np.bool_] | None  # (B, T)
    labels: npt.NDArray[np.int64]  # (B,)
    tokens: int  # real ones
    targets: npt.NDArray[np.float32] | None = None  # (B, labels), where a teacher says more than the label does


def cut(lengths: Index, batch_tokens: int, *, padding: bool) -> list[Index]:
    """Cut rows, sorted by length, into batches of at most that many tokens with their padding.

    A row that is longer is a batch of its own. Every row is in exactly one batch. Without padding a batch holds
    rows of one length, so nothing is masked; that takes enough rows of each length to fill batches.
    """
    order = np.argsort(lengths, kind="stable")
    if not padding:
        return _cut_equal(lengths[order], order, batch_tokens)
    batches: list[Index] = []
    begin = 0
    for end in range(1, len(order) + 1):
        if end == len(order) or (end + 1 - begin) * int(lengths[order[end]]) > batch_tokens:
            batches.append(order[begin:end])
            begin = end
    return batches


def _cut_equal(lengths: Index, order: Index, batch_tokens: int) -> list[Index]:
    starts = np.flatnonzero(np.diff(lengths, prepend=-1))
    batches: list[Index] = []
    for start, stop in zip(starts, [*starts[1:], len(order)], strict=True):
        rows = max(1, batch_tokens // int(lengths[start]))
        batches.extend(order[begin : min(begin + rows, stop)] for begin in range(start, stop, rows))
    return batches


def plan(lengths: Index, batch_tokens: int, chance: np.random.Generator, *, padding: bool) -> list[Index]:
    """Cut rows into batches of like length, with padding or of one length, in random order and with random company."""
    if not len(lengths):
        return []
    order = chance.permutation(len(lengths))
    pool = max(1, int(_POOL_BATCHES * batch_tokens / float(lengths.mean()))) if padding else len(order)
    batches: list[Index] = []
    for start in range(0, len(order), pool):
        rows = order[start : start + pool]
        batches.extend(rows[each] for each in cut(lengths[rows], batch_tokens, padding=padding))
    return [batches[index] for index in chance.permutation(len(batches))]


def assemble(rows: TokenRows, index: Index) -> Batch:
    """Write some rows with their special tokens, padded with 0. No loop over rows."""
    prefix, between, suffix = (np.array(each, np.int64) for each in rows.special)
    picked = rows.take(index)
    count = len(picked)
    texts, aspects = np.diff(picked.text_ends, prepend=0), np.diff(picked.aspect_ends, prepend=0)
    lengths = texts + aspects + rows.special.tokens
    width = int(lengths.max())
    input_ids = np.zeros(count * width, np.int64)
    row_starts = np.arange(count) * width
    parted = len(prefix) + texts  # where texts end
    asked = parted + len(between)  # where aspects begin
    for values, ends, sizes, offsets in (
        (picked.texts, picked.text_ends, texts, row_starts + len(prefix)),
        (picked.aspects, picked.aspect_ends, aspects, row_starts + asked),
    ):
        input_ids[np.arange(len(values)) + np.repeat(offsets - (ends - sizes), sizes)] = values
    for tokens, offsets in (
        (prefix, row_starts),
        (between, row_starts + parted),
        (suffix, row_starts + asked + aspects),
    ):
        input_ids[offsets[:, None] + np.arange(len(tokens))] = tokens
    places = np.arange(width)[None, :]
    present = places < lengths[:, None]
    token_types = ((places >= asked[:, None]) & present).astype(np.int64)
    if not len(between) + len(rows.aspects):
        token_types[:] = 0  # plain text has no second sequence, whose separator the suffix would be
    return Batch(
        input_ids.reshape(count, width),
        token_types,
        present if lengths.min() < width else None,
        picked.labels.astype(np.int64),
        int(lengths.sum()),
        picked.targets,
    )


def for_scoring(rows: TokenRows, batch_tokens: int = 2_048) -> Iterator[tuple[Index, Batch]]:
    """All rows once in batches of like length: (indices, batch)."""
    for index in cut(rows.lengths, batch_tokens, padding=True):
        yield index, assemble(rows, index)
