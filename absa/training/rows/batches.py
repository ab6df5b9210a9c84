"""Batches of a step: lines of tokens with whole rows one after the other, in random order.

Lines of one width give all batches the same shape: kernels are compiled once, and there is almost no padding. Encoders
that cannot separate the rows of a line get one row per line; lines are then as wide as the longest row of a batch.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from absa.training.rows.tokens import Index, TokenRows

LINE_TOKENS: Final = 128
NO_LABEL: Final = -100  # label of a missing row; torch's cross entropy ignores it
ROWS_A_LINE: Final = 16  # largest number per line; rows of less than 8 tokens are rare
_POOL_BATCHES: Final = 24  # single rows are sorted by length within so many batches: little padding, and still random


@dataclass(frozen=True)
class Batch:
    """Rows of one step in L lines of T tokens and at most R rows."""

    input_ids: npt.NDArray[np.int32]  # (L, T), 0 where there is no token
    token_types: npt.NDArray[np.int8]  # (L, T), 1 at the phrase
    rows: npt.NDArray[np.int8]  # (L, T), number of the token's row in its line, -1 where there is no token
    places: npt.NDArray[np.int16]  # (L, T), of the token in its row
    index: Index  # (L, R), index of the row among the given rows, -1 where there is none
    labels: npt.NDArray[np.int64]  # (L, R), NO_LABEL where there is no row
    tokens: int  # without padding
    targets: npt.NDArray[np.float32] | None = None  # (L, R, labels), probabilities from teachers
    numbers: Index | None = None  # (L, R), `numbers` of `TokenRows`, -1 where there is no row

    @property
    def mask(self) -> npt.NDArray[np.bool_] | None:
        """True where there is a token (L, T); None if no line is padded."""
        present = self.rows >= 0
        return None if present.all() else present

    @property
    def count(self) -> int:
        """Number of rows."""
        return int((self.labels != NO_LABEL).sum())


class Plan(NamedTuple):
    """Rows of a batch, and the line of each row."""

    rows: Index
    line_of: Index
    lines: int


@dataclass(frozen=True, kw_only=True)
class Form:
    """Form of batches.

    Attributes:
        tokens: number of tokens of a batch, padding included.
        width: number of tokens of a line, at least that of the longest row.
        most: largest number of rows of a line. If it is 1, lines are as wide as the longest row of a batch.
        full: True if batches are filled up with empty lines, so that all have one shape.
    """

    tokens: int
    width: int = LINE_TOKENS
    most: int = ROWS_A_LINE
    full: bool = False

    @property
    def lines(self) -> int:
        """Number of lines of a batch if rows share lines."""
        return max(1, self.tokens // self.width)

    def plan(self, lengths: Index, chance: np.random.Generator) -> list[Plan]:
        """Cut rows into batches, in random order. Every row is in exactly one batch."""
        if not len(lengths):
            return []
        return _plan_single(lengths, self.tokens, chance) if self.most == 1 else self._plan_lines(lengths, chance)

    def assemble(self, rows: TokenRows, plan: Plan) -> Batch:
        """Write the rows of a batch with their special tokens. No loop over rows."""
        return assemble(rows, plan.rows) if self.most == 1 else lay(rows, plan, width=self.width, most=self.most)

    def _plan_lines(self, lengths: Index, chance: np.random.Generator) -> list[Plan]:
        line_of, made = pack(lengths, self.width, self.most)
        line_of = chance.permutation(made)[line_of]
        order = np.argsort(line_of, kind="stable")
        batches = -(-made // self.lines)
        bounds = np.arange(batches + 1) * made // batches  # nearly equal parts, so that no batch is a small remainder
        cuts = np.searchsorted(line_of[order], bounds)
        return [
            Plan(
                order[cuts[batch] : cuts[batch + 1]],
                line_of[order[cuts[batch] : cuts[batch + 1]]] - bounds[batch],
                self.lines if self.full else int(bounds[batch + 1] - bounds[batch]),
            )
            for batch in range(batches)
        ]


def pack(lengths: Index, width: int, most: int) -> tuple[Index, int]:
    """Assign rows to lines of `width` tokens; return the line of each row, and the number of lines.

    The method is best fit, longest rows first. Rows of equal length are assigned together, without a loop over rows.

    Args:
        lengths: number of tokens of each row, 1 to `width`.
        width: number of tokens of a line.
        most: largest number of rows of a line.
    """
    line_of, held = np.zeros(len(lengths), np.int64), np.zeros(len(lengths), np.int64)
    order = np.argsort(-lengths, kind="stable")
    room: dict[int, Index] = {}  # lines by their number of free tokens
    made = 0
    for equal in np.split(order, np.flatnonzero(np.diff(lengths[order])) + 1):
        left, size = equal, int(lengths[equal[0]]) if len(equal) else 0
        while len(left):
            gap = min((free for free in room if free >= size), default=0)
            if not gap:
                opened = -(-len(left) // min(width // size, most))
                gap, room[width] = width, np.arange(made, made + opened)
                made += opened
            lines = room.pop(gap)
            used, rest = lines[: len(left)], lines[len(left) :]
            line_of[left[: len(used)]] = used
            left = left[len(used) :]
            held[used] += 1
            for free, which in ((gap, rest), (gap - size, used[held[used] < most])):
                if free and len(which):
                    room[free] = np.concatenate([room.get(free, which[:0]), which])
    return line_of, made


def lay(rows: TokenRows, plan: Plan, *, width: int, most: int) -> Batch:
    """Write rows into their lines. No loop over rows."""
    prefix, between, suffix = (np.array(each, np.int64) for each in rows.special)
    picked, count = rows.take(plan.rows), len(plan.rows)
    texts, aspects = np.diff(picked.text_ends, prepend=0), np.diff(picked.aspect_ends, prepend=0)
    lengths = texts + aspects + rows.special.tokens
    number, before = _within_lines(plan.line_of, lengths)
    starts = plan.line_of * width + before
    parted = len(prefix) + texts  # end of each text in its row
    asked = parted + len(between)  # start of each aspect in its row
    input_ids = np.zeros(plan.lines * width, np.int32)
    for values, ends, sizes, offsets in (
        (picked.texts, picked.text_ends, texts, starts + len(prefix)),
        (picked.aspects, picked.aspect_ends, aspects, starts + asked),
    ):
        input_ids[np.arange(len(values)) + np.repeat(offsets - (ends - sizes), sizes)] = values
    for tokens, offsets in ((prefix, starts), (between, starts + parted), (suffix, starts + asked + aspects)):
        input_ids[offsets[:, None] + np.arange(len(tokens))] = tokens
    place = np.arange(lengths.sum()) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    at = np.repeat(starts, lengths) + place
    of, token_types = np.full(plan.lines * width, -1, np.int8), np.zeros(plan.lines * width, np.int8)
    places = np.zeros(plan.lines * width, np.int16)
    of[at], places[at] = np.repeat(number, lengths), place
    if len(between) + len(rows.aspects):  # in plain text, the suffix is not part of a second sequence
        token_types[at] = place >= np.repeat(asked, lengths)
    labels = np.full((plan.lines, most), NO_LABEL, np.int64)
    index = np.full((plan.lines, most), -1, np.int64)
    labels[plan.line_of, number], index[plan.line_of, number] = picked.labels, np.arange(count)
    targets = None
    if picked.targets is not None:
        targets = np.zeros((plan.lines, most, picked.targets.shape[1]), np.float32)
        targets[plan.line_of, number] = picked.targets
    numbers = None
    if picked.numbers is not None:
        numbers = np.full((plan.lines, most), -1, np.int64)
        numbers[plan.line_of, number] = picked.numbers
    shape = (plan.lines, width)
    return Batch(
        input_ids.reshape(shape), token_types.reshape(shape), of.reshape(shape), places.reshape(shape), index, labels,
        int(lengths.sum()), targets, numbers,
    )  # fmt: skip


class Moved(NamedTuple):
    """New places of the tokens of some rows in fewer lines."""

    before: Index  # place of each token in the batch's concatenated lines
    after: Index  # place of each token in the concatenated new lines
    rows: npt.NDArray[np.int8]  # number of each token's row in its new line
    lines: int  # number of new lines, which are as wide as the old ones


def move(rows: npt.NDArray[np.int8], wanted: npt.NDArray[np.bool_], most: int) -> Moved:
    """Plan the move of some rows of a batch into as few lines as possible. No loop over rows.

    Args:
        rows: number of each token's row in its line (L, T).
        wanted: True at all tokens of the rows to move (L, T).
        most: rows of a line at most.
    """
    width, before = rows.shape[1], np.flatnonzero(wanted)
    keys = before // width * most + rows.reshape(-1)[before]
    first = np.flatnonzero(np.diff(keys, prepend=-1))  # tokens of a row are consecutive
    lengths = np.diff(np.append(first, len(keys)))
    line_of, lines = pack(lengths, width, most)
    number, held = _within_lines(line_of, lengths)
    after = np.arange(len(keys)) + np.repeat(line_of * width + held - first, lengths)
    return Moved(before, after, np.repeat(number, lengths).astype(np.int8), lines)


def _within_lines(line_of: Index, lengths: Index) -> tuple[Index, Index]:
    """Return each row's number in its line, and the number of tokens before the row in its line."""
    order = np.argsort(line_of, kind="stable")
    sizes, lines = lengths[order], line_of[order]
    first = np.flatnonzero(np.diff(lines, prepend=-1))
    group = np.repeat(first, np.diff(np.append(first, len(order))))
    ends = np.cumsum(sizes)
    number, before = np.empty_like(order), np.empty_like(order)
    number[order] = np.arange(len(order)) - group
    before[order] = (ends - sizes) - (ends - sizes)[group]
    return number, before


def _plan_single(lengths: Index, batch_tokens: int, chance: np.random.Generator) -> list[Plan]:
    order = chance.permutation(len(lengths))
    pool = max(1, int(_POOL_BATCHES * batch_tokens / float(lengths.mean())))
    batches: list[Index] = []
    for start in range(0, len(order), pool):
        rows = order[start : start + pool]
        batches.extend(rows[each] for each in cut(lengths[rows], batch_tokens))
    return [_single(batches[index]) for index in chance.permutation(len(batches))]


def _single(rows: Index) -> Plan:
    return Plan(rows, np.arange(len(rows)), len(rows))


def cut(lengths: Index, batch_tokens: int) -> list[Index]:
    """Cut rows, sorted by length, into batches of at most `batch_tokens` tokens, padding included.

    A longer row is a batch by itself. Every row is in exactly one batch.
    """
    order = np.argsort(lengths, kind="stable")
    batches: list[Index] = []
    begin = 0
    for end in range(1, len(order) + 1):
        if end == len(order) or (end + 1 - begin) * int(lengths[order[end]]) > batch_tokens:
            batches.append(order[begin:end])
            begin = end
    return batches


def for_scoring(rows: TokenRows, batch_tokens: int = 2_048) -> Iterator[tuple[Index, Batch]]:
    """Yield all rows once, one per line, in batches of similar length: (indices, batch)."""
    for index in cut(rows.lengths, batch_tokens):
        yield index, assemble(rows, index)


def assemble(rows: TokenRows, index: Index) -> Batch:
    """Write some rows, one per line, padded to the longest row."""
    return lay(rows, _single(index), width=int(rows.lengths[index].max()), most=1)
