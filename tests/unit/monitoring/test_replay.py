"""Tests of replaying logged traffic through versions and policies."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pytest

from absa.errors import PermanentError
from absa.policies import StalenessPolicy
from absa.records.lake import Lake
from absa.records.schema import Window
from monitoring.monitor import WatchedVersion, WatchSettings
from monitoring.performance import FrozenTest
from monitoring.replay import ReplayedSpan, replay
from tests.unit.monitoring.conftest import Traffic

Windows = Callable[[int], Window]
VERSION = WatchedVersion(version="1", frozen_test=FrozenTest.from_f1(0.85, 400))
SETTINGS = WatchSettings(policy=StalenessPolicy(cooldown_s=90.0, reference_rows=600))


def span(window: Windows, count: int) -> ReplayedSpan:
    return ReplayedSpan(start=window(0).start, end=window(count - 1).end, window_s=60.0)


def drifting(traffic: Traffic, window: Windows) -> None:
    for k in range(3):
        traffic.send(window(k), 300)
    for k in range(3, 6):
        traffic.send(window(k), 300, accuracy=0.5, topic="garden")


def test_replay_reports_decisions_and_records_nothing(lake: Lake, traffic: Traffic, window: Windows) -> None:
    drifting(traffic, window)
    before = lake.list("")
    found = list(replay(lake, span(window, 6), version=VERSION, settings=SETTINGS, feedback_delay_s=10.0))
    assert [v.verdict == "STALE" for v in found] == [False, False, False, True, True, True]
    assert [v.action for v in found[3:]] == ["retrain", "skipped", "retrain"]  # a cooldown of one and a half windows
    assert lake.list("") == before


def test_another_policy_decides_otherwise_on_the_same_traffic(lake: Lake, traffic: Traffic, window: Windows) -> None:
    drifting(traffic, window)
    patient = replace(SETTINGS, policy=replace(SETTINGS.policy, min_new_labels=10_000))
    found = list(replay(lake, span(window, 6), version=VERSION, settings=patient, feedback_delay_s=10.0))
    assert {v.action for v in found} == {"none", "ask_labels"}


def test_version_that_never_served_is_judged(lake: Lake, traffic: Traffic, window: Windows) -> None:
    traffic.send(window(0), 300)

    def always_positive(pairs: Sequence[tuple[str, str]]) -> np.ndarray:
        return np.tile(np.array([0.05, 0.05, 0.9], dtype=np.float32), (len(pairs), 1))

    other = replace(VERSION, version="9")
    (verdict,) = replay(
        lake, span(window, 1), version=other, settings=SETTINGS, scorer=always_positive, feedback_delay_s=10.0
    )
    assert set(verdict.by_version) == {"9"}
    assert verdict.by_version["9"].rows == 300
    assert verdict.by_version["9"].pos_neg_f1 is not None
    assert verdict.by_version["9"].pos_neg_f1 < 0.5


def test_empty_stretch_and_redacted_log_are_handled(lake: Lake, traffic: Traffic, window: Windows) -> None:
    assert [v.verdict for v in replay(lake, span(window, 2), version=VERSION, settings=SETTINGS)] == ["WATCH"] * 2
    traffic.send(window(0), 100, redacted=True)
    with pytest.raises(PermanentError, match="redacted"):
        list(replay(lake, span(window, 1), version=VERSION, settings=SETTINGS, scorer=lambda pairs: np.zeros((0, 3))))
