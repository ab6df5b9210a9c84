"""Progress and summary of a training."""

import time
from dataclasses import asdict, dataclass
from typing import Any, Protocol

import torch
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Progress:
    """Progress of a training. Loss is the mean since the last one.

    `validation_f1` is the task's primary metric, of the averaged model; `validation_pos_neg_f1` repeats it for the
    default task.
    """

    step: int
    epoch: float
    loss: float
    lr: float
    tokens_per_s: float
    elapsed_s: float
    remaining_s: float
    validation_f1: float | None = None
    validation_pos_neg_f1: float | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the progress line's fields, rounded to what can be read."""
        digits = {"epoch": 3, "loss": 4, "lr": 7, "tokens_per_s": 0, "elapsed_s": 2, "remaining_s": 2}
        fields = {key: round(value, digits[key]) if key in digits else value for key, value in asdict(self).items()}
        if self.validation_pos_neg_f1 is None:
            del fields["validation_pos_neg_f1"]
        return fields


@dataclass(frozen=True, kw_only=True)
class TrainingResult:
    """Summary of a training. `rows` and `tokens` count repeats too; `train_s` are the seconds in the loop.

    Tokens are counted without padding. `mfu` is the share of the device's peak floating-point operations that the
    training used. `choice` has the number of rows, of rows that fit by the first measurement, and of candidates for
    each row. `ended_early` is the reason for an end before its time and its passes; None if there was none.
    """

    steps: int
    epochs: float
    rows: int
    tokens: int
    train_s: float
    resumed: bool
    precision: str
    device: str
    batch_tokens: int
    tokens_per_s: float
    mfu: float
    choice: dict[str, float]
    ended_early: str | None = None


class Watcher(Protocol):
    """Receiver of a training's progress, at least every two seconds."""

    def __call__(self, progress: Progress, /) -> None:
        """Take note; must return quickly."""


class Tally:
    """Sums since the last report. Losses stay on the device until they are read."""

    def __init__(self) -> None:
        self._started = time.perf_counter()
        self._losses: list[Tensor] = []
        self.tokens = self.steps = 0

    def add(self, loss: Tensor, tokens: int) -> None:
        """Take note of a step."""
        self._losses.append(loss)
        self.tokens += tokens
        self.steps += 1

    def pause(self, seconds: float) -> None:
        """Leave out seconds in which nothing was learned."""
        self._started += seconds

    def age_s(self) -> float:
        """Seconds of training since the last report."""
        return time.perf_counter() - self._started

    def loss(self) -> float:
        """Mean over the steps; waits for the device."""
        return float(torch.stack(self._losses).mean())
