"""Deadlines of a run and of its training, common to all phases and processes."""

import time
from dataclasses import dataclass
from typing import Protocol, Self


class Limit(Protocol):
    """End of a training, in wall-clock time (seconds since the epoch)."""

    @property
    def ends_at(self) -> float:
        """End of the training; it may move during the training."""

    @property
    def run_ends_at(self) -> float:
        """End of the whole run; it never moves, so it identifies the run."""

    @property
    def first_step_by(self) -> float:
        """Latest time of a training's first step."""

    def remaining_s(self) -> float:
        """Return the seconds until `ends_at`; negative after it."""


@dataclass(frozen=True)
class Deadline:
    """Fixed point in wall-clock time (seconds since the epoch), valid across restarts."""

    ends_at: float

    @classmethod
    def after(cls, seconds: float) -> Self:
        """Return the deadline of a budget in seconds that starts now."""
        return cls(time.time() + seconds)

    @property
    def run_ends_at(self) -> float:
        """End of the whole run, here equal to `ends_at`."""
        return self.ends_at

    @property
    def first_step_by(self) -> float:
        """Latest time of a training's first step, here equal to `ends_at`."""
        return self.ends_at

    def remaining_s(self) -> float:
        """Return the seconds left; negative after the deadline."""
        return self.ends_at - time.time()
