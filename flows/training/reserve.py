"""Reserve of a run: seconds kept for the phases after training, measured on this machine under its present load."""

import json
import math
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

from absa.records.files import write_whole

if TYPE_CHECKING:
    import polars as pl

    from absa.inference.engine import Engine

Phase = Literal["start", "package", "judge", "register"]

_NOMINAL_S: Final[dict[Phase, float]] = {"start": 5.0, "package": 4.0, "judge": 3.0, "register": 3.0}
"""Seconds per phase for six layers on two idle cores, scaled by this run's load; used until a run has measured them."""
_MARGIN: Final = 1.3  # the load of a machine changes between the measurement and the phase itself
_LEAST_SLOWDOWN: Final = 0.5
_MOST_SLOWDOWN: Final = 20.0
_PACKAGING_POWER: Final = 0.75
_SCORING_SHARE: Final = 0.05  # largest share of the budget for scoring test rows and behavioural cases
_SCORED_ROWS_PER_S: Final = 600.0  # speed of one int8 model of six layers on two idle cores
_MOST_TEST_ROWS: Final = 20_000
_LEAST_TEST_ROWS: Final = 2_000
_FEWEST_TEST_ROWS: Final = 200
_FEWEST_CASES: Final = 10
_TIMED_ROWS: Final = 64
_ROWS_PER_CASE: Final = 20.0  # test rows that take as long as one case of every behaviour
_TRAINING_S: Final = 5.0  # training time in a suggested budget
_LAYERS_A_PACKAGE: Final = 1  # packaging and judging a size takes about as long as training this number of layers
_ROUND_TO_S: Final = 10
OVERRUN_SHARE: Final = 0.25  # share of its budget by which a first training (without a champion) may overrun
TIMES_FILE: Final = "phase_times.json"  # in HOME/jobs


@dataclass(frozen=True, kw_only=True)
class RunTime:
    """Time of one run. Instants are epoch seconds.

    Attributes:
        started: start of the run.
        budget_s: seconds that the run may take.
        overrun_s: seconds beyond the budget that the run may take to end with a first version.
        now: returns the time.
    """

    started: float
    budget_s: float
    overrun_s: float = 0.0
    now: Callable[[], float] = time.time

    @classmethod
    def start(cls, clock: Callable[[], datetime], budget_s: float, *, overrun_s: float) -> "RunTime":
        """Start a run now, by a clock of aware times."""
        return cls(started=clock().timestamp(), budget_s=budget_s, overrun_s=overrun_s, now=lambda: clock().timestamp())

    @property
    def ends_at(self) -> float:
        """Deadline of the run."""
        return self.started + self.budget_s

    @property
    def used_s(self) -> float:
        """Seconds used so far."""
        return self.now() - self.started


class Reserve:
    """Estimated durations of the phases after training, in seconds. Measurements replace the estimates.

    Each measurement is stored at once, so that the next run can use it even if this run fails.

    Args:
        file: measurements of earlier runs on this machine; created or replaced.
        budget_s: budget of the run.
    """

    def __init__(self, file: Path, *, budget_s: float) -> None:
        self._file, self._budget_s = file, budget_s
        self._earlier = _read(file)
        self._measured: dict[Phase, float] = {}
        self._rows_per_s: float | None = None
        self._lock = threading.Lock()

    def record(self, phase: Phase, seconds: float) -> None:
        """Store the measured seconds of a phase."""
        with self._lock:
            self._measured[phase] = seconds
            content = {**self._earlier, **self._measured}
            write_whole(self._file, json.dumps({name: round(value, 2) for name, value in content.items()}))

    def record_speed(self, rows_per_s: float) -> None:
        """Record the test rows per second that this machine scores now."""
        self._rows_per_s = rows_per_s

    def estimate_s(self, phase: Phase) -> float:
        """Return the seconds of a phase: measured in this run, else in earlier runs and scaled by this run's load."""
        if phase in self._measured:
            return self._measured[phase]
        before_s = self._earlier.get(phase, _NOMINAL_S[phase])
        return before_s * self._slowdown()

    def packaging_s(self) -> float:
        """Return the seconds to keep for packaging until the job has measured the phase."""
        return _MARGIN * self.estimate_s("package")

    def least_after_s(self) -> float:
        """Return the seconds for judging the fewest rows and for registering."""
        return _MARGIN * (self.estimate_s("judge") + self.estimate_s("register"))

    def after_s(self, *, rows: int, cases: int) -> float:
        """Return the seconds for judging these numbers of test rows and cases, if time allows, and for registering."""
        speed = self._rows_per_s or _SCORED_ROWS_PER_S / self._slowdown()
        scoring_s = max(0.0, rows - _FEWEST_TEST_ROWS + _ROWS_PER_CASE * (cases - _FEWEST_CASES)) / speed
        return self.least_after_s() + min(scoring_s, _SCORING_SHARE * self._budget_s)

    def sufficient_budget_s(self, used_s: float) -> float:
        """Return a budget, in seconds, that is enough for a step and a package on this machine.

        Args:
            used_s: seconds that this run has used so far.
        """
        needed_s = max(self.least_run_s(), used_s + self.least_after_s(), 1.25 * self._budget_s)
        return float(math.ceil(needed_s / _ROUND_TO_S) * _ROUND_TO_S)

    def least_run_s(self) -> float:
        """Return the seconds of a run with a few seconds of training and one package."""
        return _MARGIN * (sum(self.estimate_s(phase) for phase in _NOMINAL_S) + _TRAINING_S)

    def _slowdown(self) -> float:
        """Return the ratio of this run's measurements to earlier ones on this machine; 1 without a measurement.

        If judging was measured, its ratio is used, because judging is similar to registration (one thread, other
        processes, files). Packaging keeps every core busy, so other work slows it more.
        """
        kinds: tuple[tuple[Phase, float], ...] = (("judge", 1.0), ("package", _PACKAGING_POWER))
        for phase, power in kinds:
            if phase in self._measured:
                before_s = self._earlier.get(phase, _NOMINAL_S[phase])
                ratio = math.pow(self._measured[phase] / max(0.1, before_s), power)
                return min(_MOST_SLOWDOWN, max(_LEAST_SLOWDOWN, ratio))
        return 1.0


def _read(file: Path) -> dict[Phase, float]:
    try:
        content = json.loads(file.read_text())
        return {name: float(content[name]) for name in _NOMINAL_S if name in content}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}  # without measurements the nominal figures apply


def rows_per_s(engine: "Engine", test: "pl.DataFrame") -> float:
    """Measure the rows per second that this machine scores now, on the first 64 test rows."""
    pairs = list(test.head(_TIMED_ROWS).select("text", "aspect").iter_rows())
    started = time.perf_counter()
    engine.score(pairs)
    return max(1, len(pairs)) / max(time.perf_counter() - started, 1e-6)


def judged_in_time(speed: float, *, left_s: float, cases: int) -> tuple[int, int]:
    """Return the numbers of test rows and behavioural cases that can be judged in a time.

    Args:
        speed: test rows per second of all models that still have to score, together.
        left_s: seconds left; at least 200 rows and 10 cases are judged, even if the time is too short.
        cases: desired number of behavioural cases; they get at most half of the time, rows get the rest.
    """
    case_s = _ROWS_PER_CASE / speed
    tried = max(_FEWEST_CASES, min(cases, int(0.5 * max(0.0, left_s) / case_s)))
    return max(_FEWEST_TEST_ROWS, int((left_s - tried * case_s) * speed)), tried


def ladder_share(sizes: Sequence[int]) -> float:
    """Return the share of the remaining time for the first of these sizes (layers), including its packages."""
    costs = [size + _LAYERS_A_PACKAGE for size in sizes]
    return costs[0] / sum(costs)


def fitting_ladder(sizes: Sequence[int], *, budget_s: float, least_s: float) -> list[int]:
    """Return the largest sizes of a ladder whose shares of a budget are at least `least_s` seconds; at least one."""
    fitting = list(sizes)
    while len(fitting) > 1 and budget_s * ladder_share([fitting[-1], *fitting[:-1]]) < least_s:
        fitting.pop()
    return fitting


def fewest_judged() -> tuple[int, int]:
    """Return the fewest test rows and behavioural cases that a judgement uses."""
    return _FEWEST_TEST_ROWS, _FEWEST_CASES


def most_test_rows(budget_s: float, *, champion: bool) -> int:
    """Return the largest number of judged test rows: all models score them in a twentieth of the budget."""
    scored = _SCORING_SHARE * budget_s * _SCORED_ROWS_PER_S / (2 if champion else 1)
    return int(min(_MOST_TEST_ROWS, max(_LEAST_TEST_ROWS, scored)))
