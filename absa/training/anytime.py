"""Plan of an anytime training: an early package, and a reserve that follows from what packaging takes here.

The first package is built early. It makes a later end of the run harmless, and it measures what packaging costs on this
machine under its present load. Later packages replace it; the last one is built when only the reserve is left.
"""

import time
from collections.abc import Callable
from typing import Final

FIRST_AFTER_S: Final = 20.0  # of training, at most, before the first package
FIRST_SHARE: Final = 0.2  # of the planned training, at most, before the first package
LATER_FACTOR: Final = 3.0  # a later package follows after this many times the training before the last one
PACKAGING_SHARE: Final = 0.06  # of the training so far that later packages may take
MARGIN: Final = 1.25  # the load of a machine changes between the measurement and the last package
CHECKING_SHARE: Final = 0.15  # of a measured packaging, for checks of the last package on more rows
QUICK_FACTOR: Final = 1.8  # a full package takes this many times as long as a quick one, measured
LEAST_PACKAGING_S: Final = 1.0
LEAST_TRAINING_S: Final = 2.0  # granted to a training that starts inside its reserve and has no package yet


class PackagePlan:
    """Moving end of a training, and the times at which a package is due. Times are epoch seconds.

    Args:
        run_ends_at: end of the whole run.
        packaging_s: estimate of the seconds that packaging takes; the first package replaces it.
        after_s: estimate of the seconds that the run needs after packaging.
        clock: current time.
    """

    def __init__(
        self, *, run_ends_at: float, packaging_s: float, after_s: float, clock: Callable[[], float] = time.time
    ) -> None:
        self._run_ends_at, self._clock = run_ends_at, clock
        self._estimate_s, self.after_s = packaging_s, after_s
        self._measured_s: float | None = None
        self._spent_s = self._trained_s = 0.0
        self._begun_at = clock()

    def begin(self) -> None:
        """Note the start of the training."""
        self._begun_at = self._clock()

    @property
    def is_first(self) -> bool:
        """Whether the next package is the first one."""
        return self._measured_s is None

    @property
    def run_ends_at(self) -> float:
        """End of the whole run."""
        return self._run_ends_at

    @property
    def packaging_s(self) -> float:
        """Seconds kept for the last package."""
        if self._measured_s is None:
            return max(LEAST_PACKAGING_S, self._estimate_s)
        return LEAST_PACKAGING_S + (MARGIN + CHECKING_SHARE) * self._measured_s

    @property
    def checking_s(self) -> float:
        """Seconds that checks of the last package may take."""
        measured_s = self._estimate_s if self._measured_s is None else self._measured_s
        return max(0.3 * LEAST_PACKAGING_S, CHECKING_SHARE * measured_s)

    @property
    def reserve_s(self) -> float:
        """Seconds of the run that are kept for the phases after training."""
        return self.packaging_s + self.after_s

    @property
    def ends_at(self) -> float:
        """End of the training."""
        end = self._run_ends_at - self.reserve_s
        return end if self._measured_s is not None else max(end, self._begun_at + LEAST_TRAINING_S)

    def remaining_s(self) -> float:
        """Return the seconds of training left; negative after its end."""
        return self.ends_at - self._clock()

    def is_due(self, trained_s: float) -> bool:
        """Return True if a package should be built now.

        Args:
            trained_s: seconds of training so far, without packaging.
        """
        if self._measured_s is None:
            planned_s = max(0.0, self.ends_at - self._begun_at)
            return trained_s >= min(FIRST_AFTER_S, FIRST_SHARE * planned_s)
        if trained_s < LATER_FACTOR * self._trained_s or self.remaining_s() < 2.0 * self._measured_s:
            return False
        return self._spent_s + self._measured_s <= PACKAGING_SHARE * trained_s

    def built(self, seconds: float, trained_s: float, *, quick: bool = False) -> None:
        """Note a package.

        Args:
            seconds: time that it took.
            trained_s: seconds of training before it, without packaging.
            quick: whether it was built with the lower effort.
        """
        self._measured_s, self._trained_s = seconds * (QUICK_FACTOR if quick else 1.0), trained_s
        self._spent_s += seconds
