"""Plan of an anytime training: an early package, and a reserve that is based on the measured time of packaging.

The first package is built early. From then on a version exists, and the time of packaging on this machine under its
present load is known. Later packages replace the first; the last one is built when only the reserve is left.
"""

import time
from collections.abc import Callable
from typing import Final

FIRST_AFTER_S: Final = 20.0  # largest time of training before the first package
FIRST_SHARE: Final = 0.2  # largest share of the planned training before the first package
RETRY_FACTOR: Final = 1.5  # least training time of the package after a refused one, relative to the refused one
LATER_FACTOR: Final = 3.0  # least training time of a later package, relative to the package before
PACKAGING_SHARE: Final = 0.06  # share of the training time so far that later packages may take
MARGIN: Final = 1.25  # factor, because the load of the machine may change until the last package
CHECKING_SHARE: Final = 0.15  # share of a measured packaging time, for checks of the last package on more rows
QUICK_FACTOR: Final = 1.8  # measured: time of a full package relative to a quick one
LEAST_PACKAGING_S: Final = 1.0
LEAST_TRAINING_S: Final = 2.0  # for a training that starts within its reserve and has no package yet


class PackagePlan:
    """Plan of a training's end, which may move, and of its packages. Times are seconds since the epoch.

    Args:
        run_ends_at: end of the whole run.
        packaging_s: estimate of the seconds that packaging takes, until the first package is measured.
        after_s: estimate of the seconds that the run needs after packaging.
        overrun_s: seconds after `run_ends_at` in which a first package may still be completed.
        clock: returns the current time.
    """

    def __init__(
        self,
        *,
        run_ends_at: float,
        packaging_s: float,
        after_s: float,
        overrun_s: float = 0.0,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._run_ends_at, self._overrun_s, self._clock = run_ends_at, overrun_s, clock
        self._estimate_s, self.after_s = packaging_s, after_s
        self._measured_s: float | None = None
        self._has_package = False
        self._spent_s = self._trained_s = 0.0
        self._begun_at = clock()

    def begin(self) -> None:
        """Record the start of the training."""
        self._begun_at = self._clock()

    @property
    def has_package(self) -> bool:
        """Return True if a package is complete."""
        return self._has_package

    @property
    def run_ends_at(self) -> float:
        """End of the whole run."""
        return self._run_ends_at

    @property
    def first_step_by(self) -> float:
        """Latest time of a training's first step."""
        return self.ends_at if self._has_package else self._run_ends_at + self._overrun_s

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
        return end if self._has_package else max(end, self._begun_at + LEAST_TRAINING_S)

    def remaining_s(self) -> float:
        """Return the seconds of training left; negative after its end."""
        return self.ends_at - self._clock()

    def rows_wait_s(self) -> float:
        """Return the seconds that the training may wait for rows."""
        return max(self.ends_at, self.first_step_by) - self._clock()

    def last_fits(self) -> bool:
        """Return True if the last package can be complete before the later phases have to start, overrun included."""
        needed_s = self._estimate_s if self._measured_s is None else self._measured_s  # without the margin
        return self._clock() + needed_s + self.after_s <= self._run_ends_at + self._overrun_s

    def is_due(self, trained_s: float) -> bool:
        """Return True if a package should be built now.

        Args:
            trained_s: seconds of training so far, without packaging.
        """
        if not self._has_package:
            planned_s = max(0.0, self.ends_at - self._begun_at)
            first_s = min(FIRST_AFTER_S, FIRST_SHARE * planned_s)
            return trained_s >= max(first_s, RETRY_FACTOR * self._trained_s)
        assert self._measured_s is not None
        if trained_s < LATER_FACTOR * self._trained_s or self.remaining_s() < 2.0 * self._measured_s:
            return False
        return self._spent_s + self._measured_s <= PACKAGING_SHARE * trained_s

    def built(self, seconds: float, trained_s: float, *, quick: bool = False, valid: bool = True) -> None:
        """Record an attempt to build a package.

        Args:
            seconds: time of the attempt.
            trained_s: seconds of training before the attempt, without packaging.
            quick: True if the package was built with the lower effort.
            valid: False if the package was refused.
        """
        self._measured_s, self._trained_s = seconds * (QUICK_FACTOR if quick else 1.0), trained_s
        self._has_package = self._has_package or valid
        self._spent_s += seconds
