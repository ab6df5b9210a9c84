"""Tests of rhythms of retraining, replayed over a small log."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np
import pyarrow as pa
import pytest

from absa.errors import PermanentError
from absa.policies import StalenessPolicy
from absa.records.lake import Lake
from absa.records.layout import feedback_prefix, prediction_prefix
from absa.records.tables import FEEDBACK, PREDICTIONS, write_parquet
from absa.records.verdict import Verdict
from absa.records.windows import WindowData
from monitoring.lab.contest import Contest, compare_rhythms, fitting_span, logged_span
from monitoring.lab.rhythms import NO_RETRAINING, ON_VERDICTS, Rhythm, RhythmResult, fixed_rhythms, recommend
from monitoring.monitor import WatchedVersion, WatchSettings
from monitoring.replay import ReplayedSpan
from tests.unit.monitoring.conftest import START, request_id

HOUR = timedelta(hours=1)
ROWS = 120
WORDS = (
    (("awful", "broken", "slow"), ("blue", "square", "monthly"), ("great", "lovely", "fast")),
    (("cursed", "borked", "mid"), ("teal", "oval", "weekly"), ("goated", "fire", "zippy")),
)
SETTINGS = WatchSettings(policy=StalenessPolicy(min_new_labels=50, cooldown_s=0.0, reference_rows=200))


def write_log(lake: Lake, eras: Sequence[int], *, rows: int = ROWS, told: float = 0.8) -> ReplayedSpan:
    """An hour for each era: its words for negative, neutral and positive; the logged answers are of no use."""
    rng = np.random.default_rng(3)
    for hour, era in enumerate(eras):
        start = START + hour * HOUR
        predictions, feedback = [], []
        for row in range(rows):
            truth, at = int(rng.integers(3)), start + row * HOUR / rows
            words = [*rng.choice(WORDS[era][truth], 2), *rng.choice(["desk", "lamp", "chair", "is", "the"], 4)]
            request = request_id(at, hour * 1_000 + row)
            predictions.append(
                {
                    "schema_version": 1, "request_id": request, "at": at, "unit_hash": f"u{hour}-{row}",
                    "unit_given": True, "segment": None, "text": " ".join(rng.permutation(words)), "aspect": "desk",
                    "label": 1, "scores": [0.3, 0.4, 0.3], "model_version": "1", "arm": "champion",
                    "experiment": None, "revision": 1, "shadow": False, "cached": False, "latency_ms": 1.0,
                    "replica": "r1",
                }
            )  # fmt: skip
            if rng.random() < told:
                feedback.append(
                    {
                        "schema_version": 1, "request_id": request, "label": truth,
                        "at": at + timedelta(seconds=5), "source": "customer", "sampling_probability": None,
                    }
                )  # fmt: skip
        for prefix, records, schema in (
            (prediction_prefix(start), predictions, PREDICTIONS),
            (feedback_prefix(start), feedback, FEEDBACK),
        ):
            write_parquet(lake, f"{prefix}r1-{hour:03d}.parquet", pa.Table.from_pylist(records, schema=schema))
    return ReplayedSpan(start=START, end=START + len(eras) * HOUR, window_s=3_600.0)


def compared(lake: Lake, span: ReplayedSpan, **options: object) -> Contest:
    rhythms = [NO_RETRAINING, Rhythm(every_s=4 * 3_600.0), ON_VERDICTS]
    return compare_rhythms(lake, span, rhythms, SETTINGS, feedback_delay_s=10.0, **options)  # type: ignore[arg-type]


@dataclass
class Judges:
    """Verdicts by rule, in place of the monitor's: `retrain` in the given windows (hours from the start)."""

    due: Sequence[int]
    asked: list[tuple[str, int, int, bool]]

    def __call__(self, version: WatchedVersion, retrained_at: datetime | None) -> "Judges":
        return self

    def judge(self, data: WindowData, now: datetime) -> Verdict:
        hour = round((data.window.start - START) / HOUR)
        versions = data.rows["model_version"].unique().to_list()
        late = data.rows.filter(data.rows["feedback_at"] >= now).height > 0
        self.asked.append((versions[0], hour, data.rows["feedback_label"].drop_nulls().len(), late))
        return Verdict(
            window=data.window, verdict="FRESH", version=versions[0], by_version={}, reasons=(),
            action="retrain" if hour in self.due else "none", action_reason="", at=now,
        )  # fmt: skip


def test_drift_makes_verdicts_the_best_rhythm(lake: Lake) -> None:
    """The monitor itself judges: the words change once, and one training at that time is all that is needed."""
    found = compared(lake, write_log(lake, [0] * 7 + [1] * 6))
    never, fixed, watched = found.results
    recommended = recommend(found.results)
    assert recommended.rhythm == ON_VERDICTS
    assert "1 training" in recommended.sentence
    assert watched.trainings == 1
    assert watched.lossy_windows < fixed.lossy_windows < never.lossy_windows
    assert watched.f1 > fixed.f1 + 0.05 > never.f1 + 0.1


def test_stationary_log_needs_no_retraining(lake: Lake) -> None:
    found = compared(lake, write_log(lake, [0] * 13), judges=Judges(due=(), asked=[]))
    assert recommend(found.results).rhythm == NO_RETRAINING
    assert [each.lossy_windows for each in found.results] == [0, 0, 0]
    assert found.results[1].trainings == 2


def test_verdicts_see_the_labels_known_by_then(lake: Lake) -> None:
    judges = Judges(due=(5,), asked=[])
    progress: list[tuple[int, int]] = []
    span = write_log(lake, [0] * 14)

    def note(done: int, of: int) -> bool:
        progress.append((done, of))
        return done < 13

    found = compared(lake, span, judges=judges, on_window=note)
    assert [(version, hour) for version, hour, _, _ in judges.asked] == [
        ("1" if hour <= 5 else "2", hour) for hour in range(3, 13)
    ]
    assert not any(late for _, _, _, late in judges.asked)
    assert progress[-1] == (13, 14)
    assert found.cut
    assert found.windows == 10
    assert found.labels == sum(labels for _, _, labels, _ in judges.asked)


def test_short_log_names_what_is_needed(lake: Lake) -> None:
    with pytest.raises(PermanentError, match="holds no predictions"):
        logged_span(lake, 3_600.0)
    span = write_log(lake, [0] * 5)
    assert logged_span(lake, 3_600.0) == span
    with pytest.raises(PermanentError, match="expected 10 windows and 500 labels"):
        compared(lake, span, judges=Judges(due=(), asked=[]))


def test_long_log_gets_longer_windows() -> None:
    span = fitting_span(START, START + 900 * HOUR, 3_600.0)
    assert span.window_s == 15 * 3_600.0
    assert len(list(span.windows())) == 60
    assert fitting_span(START, START + 30 * HOUR, 3_600.0).window_s == 3_600.0


def test_fixed_rhythms_fit_into_the_log() -> None:
    assert [each.name for each in fixed_rhythms(30 * 86_400.0, 86_400.0)] == [
        "every day", "every 2 days", "every 4 days", "every 7 days", "every 14 days",
    ]  # fmt: skip
    assert [each.name for each in fixed_rhythms(16 * 3_600.0, 3_600.0)] == [
        "every 2 hours", "every 4 hours", "every 8 hours",
    ]  # fmt: skip
    assert [each.name for each in fixed_rhythms(30 * 86_400.0, 3_600.0, [3.0])] == ["every 3 days"]


def result(rhythm: Rhythm, shares: Sequence[float], trainings: int) -> RhythmResult:
    """A window for each share of right answers, 100 labels in it."""
    counts = np.array([[[50 * s, 0, 50 * (1 - s)], [0, 0, 0], [50 * (1 - s), 0, 50 * s]] for s in shares])
    return RhythmResult(rhythm=rhythm, counts=counts, trainings=trainings, lossy_windows=0)


WEEKLY = Rhythm(every_s=7 * 86_400.0)


@pytest.mark.parametrize(
    ("fixed", "watched", "chosen", "said"),
    [
        (((0.8,) * 20, 4), ((0.8,) * 20, 5), WEEKLY, "monitoring gains nothing over a fixed rhythm"),
        (((0.8,) * 20, 4), ((0.75,) * 20, 2), WEEKLY, "5.0 points worse"),
        (((0.8,) * 20, 4), ((0.8,) * 20, 2), ON_VERDICTS, "a fixed rhythm needs 4 (every 7 days)"),
        (((0.7,) * 20, 4), ((0.8,) * 20, 9), ON_VERDICTS, "9 trainings gain 20.0 points over never, and no"),
        (((0.7,) * 20, 4), ((0.8,) * 20, 1), ON_VERDICTS, "1 training gains 20.0 points over never, and no"),
        (((0.607,) * 20, 4), ((0.6,) * 20, 1), NO_RETRAINING, "no rhythm gains more than a point"),
        (((0.45, 0.85) * 10, 4), ((0.6,) * 20, 0), NO_RETRAINING, "the best 5.0 points"),
    ],
)
def test_cheapest_rhythm_as_good_is_recommended(
    fixed: tuple[Sequence[float], int], watched: tuple[Sequence[float], int], chosen: Rhythm, said: str
) -> None:
    results = [result(NO_RETRAINING, (0.6,) * 20, 0), result(WEEKLY, *fixed), result(ON_VERDICTS, *watched)]
    found = recommend(results)
    assert found.rhythm == chosen
    assert said in found.sentence
