"""What is kept of a budget for the phases after training, and how judging fits into what is left of it."""

import json
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from flows.settings import Settings, write_whole
from flows.training_process import OnEvent
from flows.wiring import Services

if TYPE_CHECKING:
    import polars as pl

    from absa.inference.engine import Engine

_PACKAGING_RESERVE_S: Final = 25.0  # what export, judging and registration take on two busy, old cores, measured
_RESERVED_SHARE: Final = 0.075  # of the budget, at least
_RESERVE_MARGIN: Final = 1.15  # over what these phases took the last time
_CHAMPION_TOO: Final = 1.4  # how much longer they take when a champion is judged beside the candidate
_SCORED_ROWS_PER_S: Final = 600.0  # by one int8 model, on two busy cores
_LEAST_TEST_ROWS: Final = 2_000
_MOST_TEST_ROWS: Final = 20_000
_FEWEST_TEST_ROWS: Final = 200
_FEWEST_CASES: Final = 10
_TIMED_ROWS: Final = 64
_ROWS_OF_A_CASE: Final = 20.0  # test rows that take as long as one case of every behaviour
REGISTRATION_S: Final = 8.0  # report, pictures, registration and ledger on two old cores, measured
_AFTER_TRAINING: Final = "after_training.json"  # in HOME/jobs


class AfterTraining:
    """Relays events, and knows since when the training itself is over."""

    def __init__(self, relay: OnEvent) -> None:
        self._relay, self._ended = relay, time.time()

    def __call__(self, event: Mapping[str, Any]) -> None:
        if event.get("event") == "phase" and event.get("name") == "export":
            self._ended = time.time()
        self._relay(event)

    @property
    def seconds(self) -> float:
        """Seconds since then."""
        return time.time() - self._ended

    def keep(self, services: Services, *, champion: bool) -> None:
        """Remember them for the next run on this machine."""
        note = {"seconds": self.seconds, "champion": champion}
        write_whole(services.home.folder("jobs") / _AFTER_TRAINING, json.dumps(note))


def rows_per_s(engine: "Engine", test: "pl.DataFrame") -> float:
    """How fast this machine scores rows like these, by the first of them."""
    pairs = list(test.head(_TIMED_ROWS).select("text", "aspect").iter_rows())
    started = time.perf_counter()
    engine.score(pairs)
    return max(1, len(pairs)) / max(time.perf_counter() - started, 1e-6)


def judged_in_time(speed: float, *, left_s: float, cases: int) -> tuple[int, int]:
    """Test rows and behavioural cases that can be judged in a time.

    Args:
        speed: test rows a second, of all models that are asked together.
        left_s: seconds there are; a few rows and cases are judged however few.
        cases: behavioural cases that are wanted; half of the time is for them, what they leave is for rows.
    """
    case_s = _ROWS_OF_A_CASE / speed
    tried = max(_FEWEST_CASES, min(cases, int(0.5 * max(0.0, left_s) / case_s)))
    return max(_FEWEST_TEST_ROWS, int((left_s - tried * case_s) * speed)), tried


def most_test_rows(budget_s: float, *, champion: bool) -> int:
    """Test rows that are judged at most: what a twentieth of the budget scores, with every model that is asked."""
    scored = 0.05 * budget_s * _SCORED_ROWS_PER_S / (2 if champion else 1)
    return int(min(_MOST_TEST_ROWS, max(_LEAST_TEST_ROWS, scored)))


def reserve_s(settings: Settings, budget_s: float, *, judged_rows: int = 0, champion: bool = False) -> float:
    """Seconds that packaging, judging and registration take; fewer layers are packaged and judged faster.

    A long budget keeps a share of itself: it can spare that, and others may load the machine in its last minute.
    """
    packaging = _PACKAGING_RESERVE_S * (0.6 if settings.layers is not None and settings.layers <= 3 else 1.0)
    packaging = max(packaging, _RESERVED_SHARE * budget_s)
    beyond = max(0, judged_rows - _LEAST_TEST_ROWS) * (2 if champion else 1)
    return packaging + beyond / _SCORED_ROWS_PER_S


def after_training_s(services: Services, *, champion: bool) -> float:
    """What the phases after training will take by the last run on this machine, in seconds; 0 where none is known."""
    try:
        last = json.loads((services.home.folder("jobs") / _AFTER_TRAINING).read_text())
        longer = _CHAMPION_TOO if champion and not last["champion"] else 1.0
        return _RESERVE_MARGIN * longer * float(last["seconds"])
    except (OSError, ValueError, KeyError, TypeError):
        return 0.0
