"""The moment at which a run must be over, shared by all of its phases and processes."""

import time
from dataclasses import dataclass
from typing import Self


@dataclass(frozen=True)
class Deadline:
    """A point in wall-clock time (seconds since the epoch), so that a run which starts again still knows it."""

    ends_at: float

    @classmethod
    def after(cls, seconds: float) -> Self:
        """The deadline of a budget of that many seconds which starts now."""
        return cls(time.time() + seconds)

    def remaining_s(self) -> float:
        """Seconds left; negative when it is over."""
        return self.ends_at - time.time()

    def earlier(self, seconds: float) -> "Deadline":
        """The deadline of a phase that must leave that many seconds to the phases after it."""
        return Deadline(self.ends_at - seconds)
