"""Promise per window: the number of certain answers, and of right ones among them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import polars as pl

from absa.policies import StalenessPolicy
from absa.records.verdict import VersionFigures
from absa.task import TaskSpec
from monitoring.drift.sample import sample_of
from monitoring.drift.sequential import RightAnswers, SlowLoss, detect_slow_loss

_EXACT: Final = 10**9  # number of labels assigned to a promise, so that it counts as exact


@dataclass(frozen=True, kw_only=True)
class KeptPromise:
    """Result of a promise in one window.

    `answers` were given under the promise, `certain` of them were certain, and `right` of the `labelled` certain ones
    were right (unsolicited labels, the first of each unit). `test` is the detector of slow loss on certain answers over
    all windows since the version became champion.
    """

    promise: float
    answers: int
    certain: int
    right: int
    labelled: int
    test: SlowLoss

    @property
    def coverage(self) -> float:
        """Share of answers that are certain."""
        return self.certain / self.answers


def kept_promise(
    rows: pl.DataFrame,
    promise: float | None,
    policy: StalenessPolicy,
    task: TaskSpec,
    *,
    earlier: Sequence[RightAnswers] = (),
    report_ratio: float = 1.0,
) -> KeptPromise | None:
    """Return the result of a promise on a window's rows; None if nothing was promised.

    Args:
        rows: the version's rows of the window.
        promise: share of right answers among certain ones.
        policy: gives the rate of false alarms.
        task: task of the home.
        earlier: certain labelled answers of the windows before, under the same promise.
        report_ratio: ratio of the rates at which wrong and right answers may be reported.
    """
    if promise is None:
        return None
    given = rows.filter(pl.col("certain").is_not_null())
    if not given.height:
        return None
    certain = given.filter(pl.col("certain"))
    now = RightAnswers.of(sample_of(certain, task))
    promised = RightAnswers(right=round(promise * _EXACT), labelled=_EXACT).reported(report_ratio)
    test = detect_slow_loss(promised, [*earlier, now], rate=policy.false_alarm_rate)[-1]
    return KeptPromise(
        promise=promise, answers=given.height, certain=certain.height, right=now.right, labelled=now.labelled, test=test
    )


def recorded_answers(figures: VersionFigures | None, promise: float | None) -> RightAnswers | None:
    """Read the certain labelled answers of a verdict record; None under another promise."""
    if figures is None or promise is None or figures.promise != promise:
        return None
    return RightAnswers(right=figures.certain_right or 0, labelled=figures.certain_labelled or 0)
