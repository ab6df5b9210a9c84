"""Feedback of simulated customers: its rate, delay, bias and errors."""

import random
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from absa.task import N_LABELS


@dataclass(frozen=True, kw_only=True, slots=True)
class CustomerSaid:
    """Feedback of one customer on one answer.

    `label` is None if the customer gives no feedback. If `only_if_wrong` is True, a right answer gets no feedback.
    `delay_s` counts from the answer.
    """

    label: int | None
    only_if_wrong: bool
    delay_s: float


@dataclass(frozen=True, kw_only=True, slots=True)
class ToldLabels:
    """Labels that n answers get.

    `labels` (n,) are from customers, -1 for an answer without feedback, and arrive `delay_s` (n,) after the answer.
    `audited` (n,) marks answers that an audit labels, always rightly, with the known chance `audit_share`.
    """

    labels: npt.NDArray[np.int64]
    delay_s: npt.NDArray[np.float64]
    audited: npt.NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True, slots=True)
class FeedbackHabits:
    """Habits of the customers who give feedback. Shares are 0 to 1.

    Args:
        answer_rate_right: share of right answers that get feedback.
        answer_rate_wrong: share of wrong answers that get feedback, at least `answer_rate_right`; by default equal.
        delay_mean_s: mean time from the answer to its feedback, in seconds.
        delay_spread: sigma of lognormal delays with this mean (2: the median is about an eighth of the mean, and few
            delays are many times the mean); 0: exponential delays.
        error_rate: share of the feedback whose label is not the true one.
        audit_share: share of all answers, drawn at random, that an audit labels.
    """

    answer_rate_right: float = 0.5
    answer_rate_wrong: float | None = None
    delay_mean_s: float = 5.0
    delay_spread: float = 0.0
    error_rate: float = 0.02
    audit_share: float = 0.0

    def __post_init__(self) -> None:
        for name in ("answer_rate_right", "rate_wrong", "error_rate", "audit_share"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name}: expected a share from 0 to 1, got {getattr(self, name)}")
        if self.rate_wrong < self.answer_rate_right:
            raise ValueError(
                f"answer_rate_wrong: expected at least answer_rate_right ({self.answer_rate_right}), "
                f"got {self.rate_wrong}"
            )
        if self.delay_mean_s < 0 or self.delay_spread < 0:
            raise ValueError(
                f"delay_mean_s and delay_spread: expected 0 or more, got {self.delay_mean_s} and {self.delay_spread}"
            )

    @property
    def rate_wrong(self) -> float:
        """Share of wrong answers that get feedback."""
        return self.answer_rate_right if self.answer_rate_wrong is None else self.answer_rate_wrong

    def say(self, truth: int, random_: random.Random, *, n_labels: int = N_LABELS) -> CustomerSaid:
        """Return the feedback of one customer before the answer is known; `truth` is the true label."""
        chances = [random_.random() for _ in range(4)]
        delay_s = 0.0
        if self.delay_mean_s and not self.delay_spread:
            delay_s = random_.expovariate(1 / self.delay_mean_s)
        elif self.delay_mean_s:
            delay_s = random_.lognormvariate(self._log_median, self.delay_spread)
        label = truth if chances[1] >= self.error_rate else (truth + 1 + int(chances[3] * (n_labels - 1))) % n_labels
        return CustomerSaid(
            label=label if chances[0] < self.rate_wrong else None,
            only_if_wrong=chances[0] >= self.answer_rate_right,
            delay_s=delay_s,
        )

    def tell(
        self,
        truth: npt.NDArray[np.int64],
        answers: npt.NDArray[np.int64],
        rng: np.random.Generator,
        *,
        n_labels: int = N_LABELS,
    ) -> ToldLabels:
        """Return the labels that answers (n,) with known true labels (n,) get."""
        n = len(truth)
        rate = np.where(answers == truth, self.answer_rate_right, self.rate_wrong)
        wrong = rng.random(n) < self.error_rate
        said = np.where(wrong, (truth + rng.integers(1, n_labels, n)) % n_labels, truth)
        delay_s = np.zeros(n)
        if self.delay_mean_s and not self.delay_spread:
            delay_s = rng.exponential(self.delay_mean_s, n)
        elif self.delay_mean_s:
            delay_s = rng.lognormal(self._log_median, self.delay_spread, n)
        return ToldLabels(
            labels=np.where(rng.random(n) < rate, said, -1),
            delay_s=delay_s,
            audited=rng.random(n) < self.audit_share,
        )

    @property
    def _log_median(self) -> float:
        return float(np.log(self.delay_mean_s) - self.delay_spread**2 / 2)


LATE_AND_BIASED: Final = FeedbackHabits(
    answer_rate_right=0.05, answer_rate_wrong=0.15, delay_mean_s=86_400.0, delay_spread=2.0, audit_share=0.02
)
"""Feedback after minutes to weeks (median three hours, one in a hundred after two weeks), more on wrong answers."""
