"""Progress and summary of a training."""

import time
from dataclasses import asdict, dataclass
from typing import Any, Protocol

import torch
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Progress:
    """Progress of a training. The loss is the mean since the last report.

    `validation_f1` is the task's primary metric of the averaged model; `validation_pos_neg_f1` repeats it for the
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
        """Return the fields of a progress line, rounded."""
        digits = {"epoch": 3, "loss": 4, "lr": 7, "tokens_per_s": 0, "elapsed_s": 2, "remaining_s": 2}
        fields = {key: round(value, digits[key]) if key in digits else value for key, value in asdict(self).items()}
        if self.validation_pos_neg_f1 is None:
            del fields["validation_pos_neg_f1"]
        return fields


@dataclass(frozen=True, kw_only=True)
class TrainingResult:
    """Summary of a training. `rows` and `tokens` count repeats; `train_s` are the seconds in the loop.

    Tokens are counted without padding. `mfu` is the share of the device's peak floating-point operations that the
    training used. `choice` has the number of all rows, of rows that fit into the time by the first measurement, and of
    candidates per row. `ended_early` is the reason if the training ended before its time and its passes; else None.
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
        """Receive the progress; must return quickly."""


class Tally:
    """Sums since the last report. Losses stay on the device until `loss` is called."""

    def __init__(self) -> None:
        self._started = time.perf_counter()
        self._losses: list[Tensor] = []
        self.tokens = self.steps = 0

    def add(self, loss: Tensor, tokens: int) -> None:
        """Add a step."""
        self._losses.append(loss)
        self.tokens += tokens
        self.steps += 1

    def pause(self, seconds: float) -> None:
        """Exclude seconds without training from the age."""
        self._started += seconds

    def age_s(self) -> float:
        """Seconds of training since the last report."""
        return time.perf_counter() - self._started

    def loss(self) -> float:
        """Return the mean loss over the steps; waits for the device."""
        return float(torch.stack(self._losses).mean())
