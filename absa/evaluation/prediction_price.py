"""Price of a prediction: rows per second of processor time of two versions, measured together on the same rows.

Processor time does not include time in which other processes use the core. On a busy machine, wall-clock time can make
the smaller of two models look slower.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from absa.inference.tokenization import ModelInput

_Score = Callable[[Sequence[ModelInput]], Any]

TIMED_ROWS: Final = 64
_ROUNDS: Final = 3


@dataclass(frozen=True, kw_only=True)
class Speed:
    """Rows per second of processor time of candidate and champion, each on one thread, on the same `rows` rows."""

    rows: int
    candidate_rows_per_s: float
    champion_rows_per_s: float

    @property
    def saving(self) -> float:
        """Share of the champion's price per prediction that the candidate saves; negative for a slower candidate."""
        return 1.0 - self.champion_rows_per_s / self.candidate_rows_per_s


def compare_speed(
    candidate: _Score,
    champion: _Score,
    pairs: Sequence[ModelInput],
    *,
    rounds: int = _ROUNDS,
    clock: Callable[[], float] = time.thread_time,
) -> Speed:
    """Measure both versions in turn; the fastest round of each counts, because other work can only slow a round.

    Args:
        candidate: scorer of the version under test.
        champion: scorer of the active version.
        pairs: rows to score, repeated or cut to 64 rows.
        rounds: number of rounds of each version.
        clock: returns the seconds of processor time that this thread has used.

    Raises:
        ValueError: there are no rows.
    """
    ours, other = measure_speeds((candidate, champion), pairs, rounds=rounds, clock=clock)
    return Speed(rows=TIMED_ROWS, candidate_rows_per_s=ours, champion_rows_per_s=other)


def measure_speeds(
    scorers: Sequence[_Score],
    pairs: Sequence[ModelInput],
    *,
    rounds: int = _ROUNDS,
    clock: Callable[[], float] = time.thread_time,
) -> list[float]:
    """Return rows per second of processor time of each version, measured as by `compare_speed`.

    Raises:
        ValueError: there are no rows.
    """
    if not pairs:
        raise ValueError("the speed of a version needs at least one row")
    rows = [pairs[index % len(pairs)] for index in range(TIMED_ROWS)]
    fastest_s = [float("inf")] * len(scorers)
    for _ in range(rounds):
        for at, score in enumerate(scorers):
            started = clock()
            score(rows)
            fastest_s[at] = min(fastest_s[at], max(clock() - started, 1e-6))
    return [round(TIMED_ROWS / seconds, 1) for seconds in fastest_s]
