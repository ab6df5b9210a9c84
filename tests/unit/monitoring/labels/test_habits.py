"""Tests of late and biased labels: arrivals, answer rates and the figure that they give."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

import numpy as np
import pytest

from absa.policies import StalenessPolicy
from absa.records.lake import Lake
from absa.records.schema import Window
from absa.records.windows import load_window
from monitoring.drift.sample import Sample, make_sample
from monitoring.labels.habits import (
    AS_ANSWERED,
    habits_of,
    habits_seen,
    with_late_labels,
)
from monitoring.labels.label_delays import fit_label_delays
from monitoring.losses import measured_figure, measured_loss, slow_loss
from monitoring.performance import FrozenTest, measure
from tests.unit.monitoring.conftest import Traffic

Windows = Callable[[int], Window]
HOUR_S = 3_600.0
NOW_S = 10 * 86_400.0
TEST = FrozenTest.from_f1(0.85, 2_000)


def answered(
    seed: int,
    rows: int = 4_000,
    *,
    accuracy: float = 0.85,
    ratio: float = 3.0,
    rate: float = 0.15,
    audit: float = 0.0,
    young: bool = False,
) -> tuple[Sample, Sample]:
    """Rows of the last ten days (young: of the last day) with the labels that have come, and with every label."""
    rng = np.random.default_rng(seed)
    truth = rng.choice(3, rows, p=(0.3, 0.2, 0.5))
    right = rng.random(rows) < accuracy
    labels = np.where(right, truth, (truth + rng.integers(1, 3, rows)) % 3)
    ages = rng.random(rows) * (86_400.0 if young else NOW_S)
    delays = np.where(right, 12 * HOUR_S, 3 * HOUR_S) * rng.lognormal(0.0, 1.0, rows)
    told = (rng.random(rows) < rate * np.where(right, 1.0, ratio)) & (delays <= ages)
    asked = ~told & (rng.random(rows) < audit)
    full = make_sample(labels, np.full((rows, 3), 1 / 3), truth=truth, times=NOW_S - ages, delays=delays)
    seen = replace(
        full,
        truth=np.where(told | asked, truth, -1),
        delays=np.where(told, delays, np.nan),
        weights=np.where(asked, 1.0 / max(audit, 1e-9), 1.0),
        asked=asked,
    )
    return seen, full


def true_f1(full: Sample) -> float:
    found = measure(full)
    assert found is not None
    return found.f1


def test_arrivals_recover_the_share_of_late_labels() -> None:
    rng = np.random.default_rng(0)
    ages, delays = rng.random(20_000) * 100.0, rng.exponential(10.0, 20_000)
    seen = delays <= ages
    found = fit_label_delays(delays[seen], ages[seen])
    assert found is not None
    for age in (2.0, 5.0, 20.0):
        assert found.share(np.array([age]))[0] == pytest.approx(1.0 - np.exp(-age / 10.0), abs=0.02)
    assert found.share(np.array([1e6]))[0] == 1.0
    assert found.log_error(np.array([2.0]))[0] < 0.05


def test_few_delays_give_no_arrivals() -> None:
    assert fit_label_delays(np.ones(29), np.full(29, 5.0)) is None
    assert fit_label_delays(np.full(40, np.nan), np.full(40, 5.0)) is None


def test_audits_show_the_reporting_ratio() -> None:
    habits = habits_seen(answered(1, 8_000, audit=0.05)[0], NOW_S)
    assert habits.ratio == pytest.approx(3.0, rel=3 * habits.log_error)
    assert habits.log_error < 0.25
    assert habits_seen(answered(1)[0], NOW_S).ratio is None


def test_many_answers_bound_the_reporting_ratio() -> None:
    """Of 100 answers 60 were judged, 10 of them wrong: at most 50 wrong ones can be behind those."""
    truth = np.where(np.arange(100) < 50, 0, np.where(np.arange(100) < 60, 2, -1))
    sample = make_sample(np.zeros(100), np.full((100, 3), 1 / 3), truth=truth)
    assert habits_seen(sample, NOW_S).possible_ratio == pytest.approx(1.8)
    figures = [measured_figure(sample, habits_seen(sample, NOW_S), max_report_ratio=most) for most in (1.5, 4.0)]
    assert ["1 to 1.5 times" in figures[0].how, "1 to 1.8 times" in figures[1].how] == [True, True]  # type: ignore[union-attr]


@pytest.mark.parametrize(("own", "before"), [(0.05, 0.0), (0.0, 0.05)])
def test_audited_figure_covers_the_f1_of_all_answers(own: float, before: float) -> None:
    """Unsolicited labels alone are far off."""
    covered, gaps = 0, []
    for seed in range(20):
        current, full = answered(2 * seed, 1_000, audit=own, young=True)
        habits = habits_seen(answered(2 * seed + 1, audit=before)[0], NOW_S)
        figure = measured_figure(current, habits, max_report_ratio=4.0)
        assert figure is not None
        assert figure.best is None
        assert "requested" in figure.how
        covered += figure.low <= true_f1(full) <= figure.high
        gaps.append(figure.now.f1 - true_f1(full))
    assert covered >= 17
    assert abs(np.mean(gaps)) < 0.04


def test_unaudited_figure_spans_the_stated_ratio() -> None:
    current, full = answered(3, 1_000, young=True)
    figure = measured_figure(current, habits_seen(answered(4)[0], NOW_S), max_report_ratio=4.0)
    assert figure is not None
    assert figure.best is not None
    assert figure.now.f1 < true_f1(full) - 0.1
    assert figure.low < true_f1(full) < figure.high
    assert "1 to 4.0 times" in figure.how
    assert "have arrived" in figure.how


def test_unhappy_customers_alone_make_no_loss() -> None:
    policy = StalenessPolicy()
    for seed in range(5):
        current = answered(seed, 1_000)[0]
        alone = measured_loss(current, TEST, None, policy, 0)
        plain = measured_loss(current, TEST, None, replace(policy, max_report_ratio=1.0), 0)
        assert alone is not None
        assert plain is not None
        assert alone.p_value > 0.05
        assert plain.p_value < 0.01
        states = [slow_loss(current, TEST, None, each, []) for each in (policy, replace(policy, max_report_ratio=1.0))]
        assert [state.alarm for state in states if state is not None] == [False, True]


def test_loss_shows_against_the_references_customers() -> None:
    current, reference = answered(1, 1_500, accuracy=0.6)[0], answered(2, 1_500)[0]
    found = measured_loss(current, TEST, reference, StalenessPolicy(), 0)
    assert found is not None
    assert found.p_value < 0.001
    assert "those of the reference" in found.how
    calm = measured_loss(answered(3, 1_500)[0], TEST, reference, StalenessPolicy(), 0)
    assert calm is not None
    assert calm.p_value > 0.01


def test_labels_that_came_late_reach_kept_rows(lake: Lake, traffic: Traffic, window: Windows) -> None:
    requests = traffic.send(window(0), 100, labelled=0.5)
    early = load_window(lake, window(0), feedback_until=window(0).end).rows
    for request in requests[:10]:
        traffic.label(request, 1, window(5).start)
    late = window(0).end + timedelta(minutes=30)
    none, kept = with_late_labels(lake, [None, early], until=late)
    assert none is None
    assert kept is not None
    assert kept.columns == early.columns
    assert kept.equals(load_window(lake, window(0), feedback_until=late).rows)
    (untrusted,) = with_late_labels(lake, [early], until=late, sources=["forum"])
    assert untrusted is not None
    assert untrusted.equals(early)
    assert habits_of([None], late) is AS_ANSWERED
    assert habits_of([early, kept], late).right is not None
