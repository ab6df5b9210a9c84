"""Rhythms of retraining, their results over a log, and a recommendation. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from absa.evaluation.counts import mean_f1_of
from absa.task import ABSA
from monitoring.drift.sample import Floats

_DAY_S: Final = 86_400.0
AS_GOOD: Final = 0.01
_DRAWS: Final = 1_000
_USUAL_DAYS: Final = (1.0, 2.0, 4.0, 7.0, 14.0, 28.0)


@dataclass(frozen=True, kw_only=True)
class Rhythm:
    """Rule for retraining: on verdicts, every `every_s` seconds, or never."""

    every_s: float | None = None
    on_verdicts: bool = False

    @property
    def name(self) -> str:
        """Name of the rhythm for tables."""
        if self.on_verdicts:
            return "on verdicts"
        return "never" if self.every_s is None else f"every {_length(self.every_s)}"


NO_RETRAINING: Final = Rhythm()
ON_VERDICTS: Final = Rhythm(on_verdicts=True)


def fixed_rhythms(span_s: float, window_s: float, days: Sequence[float] = ()) -> list[Rhythm]:
    """Return the fixed rhythms to compare: those given, else the usual ones that fit twice into the log.

    For a log of hours the rhythms are an eighth, a quarter and half of its length.
    """
    lengths = [day * _DAY_S for day in days]
    if not lengths:
        lengths = [day * _DAY_S for day in _USUAL_DAYS if window_s <= day * _DAY_S <= span_s / 2.0]
    if not lengths:
        lengths = [max(window_s, round(span_s / part / window_s) * window_s) for part in (8.0, 4.0, 2.0)]
    return [Rhythm(every_s=length) for length in sorted(set(lengths))]


@dataclass(frozen=True, kw_only=True)
class RhythmResult:
    """Result of a rhythm: counts (windows, labels, labels) of (true, predicted), trainings, and windows with a loss."""

    rhythm: Rhythm
    counts: Floats
    trainings: int
    lossy_windows: int
    evaluated: tuple[int, ...] = ABSA.evaluated_numbers

    @property
    def f1(self) -> float:
        """F1 of all labelled answers of the log."""
        return float(mean_f1_of(self.counts.sum(axis=0), self.evaluated))


@dataclass(frozen=True, kw_only=True)
class Recommendation:
    """Recommended rhythm, with the reason in a sentence."""

    rhythm: Rhythm
    sentence: str


def recommend(results: Sequence[RhythmResult]) -> Recommendation:
    """Return the cheapest rhythm that is as good as the best: within a point of F1, or not worse beyond chance.

    Chance is measured by a paired bootstrap over the windows (95 %). Of two rhythms with equally many trainings the
    fixed one is chosen.
    """
    best = max(results, key=lambda each: each.f1)
    as_good = [each for each in results if _behind(best, each) <= AS_GOOD]
    chosen = min(as_good, key=lambda each: (each.trainings, each.rhythm.on_verdicts, -each.f1))
    never = next(each for each in results if each.rhythm == NO_RETRAINING)
    watched = next(each for each in results if each.rhythm == ON_VERDICTS)
    gain = 100.0 * (chosen.f1 - never.f1)
    if chosen is never:
        most = 100.0 * (best.f1 - never.f1)
        why = f"no rhythm gains more than a point beyond chance (the best {most:.1f} points)"
    elif chosen is watched:
        others = [each for each in as_good if each not in (watched, never)]
        cheapest = min(others, key=lambda each: each.trainings, default=None)
        than = (
            "no fixed rhythm does as well"
            if cheapest is None
            else f"a fixed rhythm needs {cheapest.trainings} ({cheapest.rhythm.name})"
        )
        why = f"{_gained(watched, gain)}, and {than}"
    else:
        loses = 100.0 * (chosen.f1 - watched.f1)
        than = f"does {loses:.1f} points worse" if watched not in as_good else "does no better"
        why = (
            f"{_gained(chosen, gain)}, and on verdicts, with "
            f"{_trainings(watched.trainings)}, {than}: on this log monitoring gains nothing over a fixed rhythm"
        )
    return Recommendation(rhythm=chosen.rhythm, sentence=f"Recommended: {chosen.rhythm.name}; {why}.")


def _behind(best: RhythmResult, other: RhythmResult) -> float:
    """Return the F1 by which a rhythm is behind the best; 0 if chance explains it."""
    if other is best:
        return 0.0
    windows = len(best.counts)
    drawn = np.random.default_rng(0).multinomial(windows, np.full(windows, 1.0 / windows), size=_DRAWS)
    first, second = (
        mean_f1_of(np.tensordot(drawn.astype(np.float64), each.counts, axes=1), each.evaluated)
        for each in (best, other)
    )
    return best.f1 - other.f1 if np.quantile(first - second, 0.025) > 0.0 else 0.0


def _gained(result: RhythmResult, points: float) -> str:
    verb = "gains" if result.trainings == 1 else "gain"
    return f"{_trainings(result.trainings)} {verb} {points:.1f} points over never"


def _trainings(count: int) -> str:
    return "1 training" if count == 1 else f"{count} trainings"


def _length(seconds: float) -> str:
    units = ((_DAY_S, "day"), (3_600.0, "hour"), (60.0, "minute"))
    unit_s, unit = next((each for each in units if seconds >= each[0]), (1.0, "second"))
    count = f"{seconds / unit_s:.3g}"
    return unit if count == "1" else f"{count} {unit}s"
