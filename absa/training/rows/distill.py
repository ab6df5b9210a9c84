"""Distillation: targets of a student from teachers' scores, mixed with the label if a row has one.

Hinton et al. 2015, arXiv:1503.02531. The scores of several teachers are averaged.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Self

import numpy as np

from absa.errors import InvalidDataError
from absa.records.files import whole_file
from absa.training.rows.shards import ShardCorpus
from absa.training.rows.tokens import Targets, TokenRows, stack

TEACHER_FILE: Final = "teacher.json"
PAIRS_FILE: Final = "pairs.jsonl"
ANSWERS_FILE: Final = "answers.npz"


@dataclass(frozen=True)
class Answers:
    """Scores of teachers; NaN for a row that no teacher scored in its time.

    Attributes:
        labelled: scores of the train side's rows, in the order of its token shards (n, labels).
        pairs: scores of pairs without labels (m, labels).
    """

    labelled: Targets
    pairs: Targets

    @classmethod
    def mean(cls, teachers: Sequence["Answers"]) -> "Answers":
        """Return the mean of several teachers; for each row, over the teachers that scored it."""
        return cls(*(_mean([getattr(each, name) for each in teachers]) for name in ("labelled", "pairs")))

    def write(self, file: Path) -> None:
        """Write a file atomically."""
        with whole_file(file) as out:
            np.savez(out, labelled=self.labelled, pairs=self.pairs)

    @classmethod
    def read(cls, file: Path) -> Self:
        """Read a file of `write`.

        Raises:
            InvalidDataError: the file is missing or has another form.
        """
        try:
            with np.load(file) as found:
                return cls(found["labelled"], found["pairs"])
        except (OSError, ValueError, KeyError, EOFError) as error:
            raise InvalidDataError(f"{file} holds no answers of teachers: {type(error).__name__}") from error


def taught(labelled: TokenRows, unlabelled: TokenRows | None, teachers: Sequence[Targets], weight: float) -> TokenRows:
    """Return rows with targets for a student.

    Args:
        labelled: rows with a label; without an answer of a teacher, the target is the label alone.
        unlabelled: rows whose target is the teachers' answer; rows without an answer are left out.
        teachers: scores (n, labels) of each teacher for the labelled and then the unlabelled rows; NaN: no answer.
        weight: share of the teachers in a labelled row's target, 0 to 1; the rest is the label's.

    Raises:
        ValueError: there is no teacher, or the numbers of rows and scores differ.
    """
    if not teachers:
        raise ValueError("a student needs a teacher")
    said = _mean(teachers)
    rows = labelled if unlabelled is None else stack([labelled, unlabelled])
    if said.ndim != 2 or len(said) != len(rows):
        raise ValueError(f"expected scores of {len(rows)} rows, got {said.shape}")
    targets, first = said.copy(), len(labelled)
    known = np.eye(said.shape[1], dtype=np.float32)[labelled.labels.astype(np.int64)]
    mixed = weight * said[:first] + (1 - weight) * known
    targets[:first] = np.where(np.isnan(mixed), known, mixed)
    answered = np.flatnonzero(~np.isnan(targets).any(axis=1))
    found = replace(rows, targets=targets)
    if len(answered) < len(rows):
        found = found.take(answered)
    assert found.targets is not None
    return replace(found, labels=found.targets.argmax(1).astype(np.int8))


class TaughtCorpus(ShardCorpus):
    """Token shards whose rows have targets from teachers, with the pairs without labels as the last shard.

    Args:
        folder: folder with the plan and the shards of the train side.
        pairs: pairs without labels, in the order of `answers`; None: there are none.
        answers: answers of the teachers.
        weight: share of the teachers in a labelled row's target, 0 to 1.
        left_s: see `ShardCorpus`.

    Raises:
        InvalidDataError: the answers have another number of rows.
    """

    def __init__(
        self, folder: Path, pairs: TokenRows | None, answers: Answers, weight: float, *, left_s: Callable[[], float]
    ) -> None:
        super().__init__(folder, left_s=left_s)
        counts = (len(answers.labelled), len(answers.pairs))
        if counts != (expected := (len(self), 0 if pairs is None else len(pairs))):
            raise InvalidDataError(f"expected teachers' answers of {expected} rows, got {counts}")
        self._answers, self._weight, self._unlabelled = answers, weight, None
        if pairs is not None and len(pairs):
            nothing = pairs.take(np.zeros(0, np.int64))
            self._unlabelled = taught(nothing, pairs, [answers.pairs], weight)
            self.plan = replace(self.plan, rows=(*self.plan.rows, len(self._unlabelled)))
            self.bounds = np.append(self.bounds, self.bounds[-1] + len(self._unlabelled))

    def _shard(self, number: int) -> TokenRows:
        if self._unlabelled is not None and number == len(self.plan.rows) - 1:
            if self._unlabelled.observed is None and (seen := self._shard(0).observed) is not None:
                newest = np.full(len(self._unlabelled), seen.max(initial=0.0))  # time of the newest labelled row
                self._unlabelled = replace(self._unlabelled, observed=newest)
            return self._unlabelled
        rows = super()._shard(number)
        if rows.targets is None:
            here = slice(self.bounds[number], self.bounds[number + 1])
            rows = self._open[number] = taught(rows, None, [self._answers.labelled[here]], self._weight)
        return rows


def _mean(scores: Sequence[Targets]) -> Targets:
    """Return the mean over teachers, without NaN."""
    each = np.asarray(scores, np.float64)
    known = ~np.isnan(each)
    total, count = np.where(known, each, 0.0).sum(axis=0), known.sum(axis=0)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan).astype(np.float32)
