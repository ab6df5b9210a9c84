"""Tests of the detector that adds windows up."""

import numpy as np

from absa.policies import StalenessPolicy
from monitoring.drift.sample import make_sample
from monitoring.drift.sequential import RightAnswers, detect_slow_loss, e_value, tolerated_share
from monitoring.labels.habits import habits_seen
from monitoring.losses import slow_loss
from monitoring.performance import FrozenTest

REFERENCE = RightAnswers(right=800, labelled=1000)


def windows(seed: int, share: float, count: int, labels: int = 300) -> list[RightAnswers]:
    rng = np.random.default_rng(seed)
    return [RightAnswers(right=int(rng.binomial(labels, share)), labelled=labels) for _ in range(count)]


def test_repeated_text_of_account_counts_once() -> None:
    labels = np.zeros(90, dtype=np.int64)
    truth = np.where(np.arange(90) < 50, 0, 2)  # 50 right answers, and one wrong one 40 times
    groups = np.where(np.arange(90) < 50, np.arange(90), 50)
    sample = make_sample(labels, np.full((90, 3), 1 / 3), truth=truth, groups=groups)
    assert RightAnswers.of(sample) == RightAnswers(right=50, labelled=51)


def test_a_units_first_label_counts_whatever_it_says() -> None:
    sample = make_sample([0, 0, 0, 0], np.full((4, 3), 1 / 3), truth=[-1, 2, 0, 0], groups=[7, 7, 7, 3])
    assert RightAnswers.of(sample) == RightAnswers(right=1, labelled=2)


def test_early_labels_excuse_traffic_hard_from_start() -> None:
    truth = np.where(np.arange(200) % 10 < 6, 0, 2)  # 6 of 10 units are answered right
    hard = make_sample(np.zeros(200), np.full((200, 3), 1 / 3), truth=truth, groups=np.arange(200) % 10)
    policy = StalenessPolicy()
    earlier = [RightAnswers.of(hard)] * 5
    every = habits_seen(hard, 0.0)  # all were judged, so none are reported more often
    alone = slow_loss(hard, FrozenTest.from_f1(0.95, 1000), None, policy, earlier, every)
    both = slow_loss(hard, FrozenTest.from_f1(0.95, 1000), hard, policy, earlier)
    assert alone is not None
    assert both is not None
    assert alone.alarm
    assert not both.alarm


def test_stable_version_raises_fewer_alarms_than_rate() -> None:
    alarmed = sum(any(w.alarm for w in detect_slow_loss(REFERENCE, windows(seed, 0.80, 20))) for seed in range(100))
    assert alarmed <= 20


def test_small_loss_is_found_over_few_windows() -> None:
    delays = []
    for seed in range(50):
        found = detect_slow_loss(REFERENCE, windows(seed, 0.72, 20))
        delays.append(next((k + 1 for k, w in enumerate(found) if w.alarm), 99))
    assert float(np.median(delays)) <= 5


def test_tolerated_loss_is_ignored_and_larger_found() -> None:
    def alarms(share: float) -> list[int]:
        states = [detect_slow_loss(REFERENCE, windows(seed, share, 30), tolerated_loss=0.03) for seed in range(50)]
        return [next((k + 1 for k, state in enumerate(found) if state.alarm), 99) for found in states]

    assert float(np.median(alarms(0.72))) <= 5
    assert sum(delay <= 20 for delay in alarms(0.78)) <= 10


def test_windows_without_labels_change_nothing() -> None:
    empty = RightAnswers(right=0, labelled=0)
    before, after = detect_slow_loss(REFERENCE, [RightAnswers(right=200, labelled=300), empty])
    assert before == after


def test_window_evidence_is_fair_bet() -> None:
    """In the mean over what chance gives, the stake does not grow while the version holds."""
    tolerated = tolerated_share(REFERENCE)
    values = [e_value(w, tolerated) for w in windows(0, tolerated, 4000, labels=50)]
    assert np.mean(values) < 1.1


def test_overwhelming_evidence_stays_a_number() -> None:
    found = detect_slow_loss(REFERENCE, [RightAnswers(right=0, labelled=100_000)] * 5)
    assert np.isfinite(found[-1].evidence)
    assert found[-1].alarm
