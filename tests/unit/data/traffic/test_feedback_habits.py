"""Feedback of simulated customers: rates by outcome, delays, errors and the audit, one by one and in arrays."""

import random

import numpy as np
import pytest

from absa.data.traffic.feedback_habits import LATE_AND_BIASED, FeedbackHabits

HOUR_S, WEEK_S = 3_600.0, 7 * 86_400.0


def said(habits: FeedbackHabits, count: int = 4000) -> list:
    random_ = random.Random(3)
    return [habits.say(2, random_) for _ in range(count)]


def told(habits: FeedbackHabits, count: int = 40_000, *, right: bool):
    truth = np.full(count, 2)
    return habits.tell(truth, truth if right else np.zeros(count, dtype=np.int64), np.random.default_rng(3))


def test_feedback_has_requested_rate_delay_and_errors():
    habits = FeedbackHabits(answer_rate_right=0.5, delay_mean_s=4.0, error_rate=0.1)
    answers = said(habits)
    given = [each for each in answers if each.label is not None]
    assert len(given) / 4000 == pytest.approx(0.5, abs=0.03)
    assert not any(each.only_if_wrong for each in given)
    assert sum(each.label != 2 for each in given) / len(given) == pytest.approx(0.1, abs=0.03)
    assert sum(each.delay_s for each in given) / len(given) == pytest.approx(4.0, rel=0.1)


def test_unhappy_customers_answer_more_often():
    answers = said(FeedbackHabits(answer_rate_right=0.2, answer_rate_wrong=0.6))
    after_wrong = [each for each in answers if each.label is not None]
    after_right = [each for each in after_wrong if not each.only_if_wrong]
    assert len(after_wrong) / 4000 == pytest.approx(0.6, abs=0.03)
    assert len(after_right) / 4000 == pytest.approx(0.2, abs=0.03)


def test_arrays_have_rates_by_outcome_and_audit():
    habits = FeedbackHabits(answer_rate_right=0.2, answer_rate_wrong=0.6, error_rate=0.1, audit_share=0.05)
    for right, rate in ((True, 0.2), (False, 0.6)):
        labels = told(habits, right=right)
        assert (labels.labels >= 0).mean() == pytest.approx(rate, abs=0.01)
        assert (labels.labels[labels.labels >= 0] != 2).mean() == pytest.approx(0.1, abs=0.01)
        assert labels.audited.mean() == pytest.approx(0.05, abs=0.005)


def test_late_feedback_comes_from_minutes_to_weeks():
    delays = told(LATE_AND_BIASED, right=True).delay_s
    assert np.quantile(delays, 0.05) < HOUR_S / 4
    assert 2 * HOUR_S < np.median(delays) < 5 * HOUR_S
    assert np.quantile(delays, 0.995) > 2 * WEEK_S
    alone = [each.delay_s for each in said(LATE_AND_BIASED)]
    assert np.median(alone) == pytest.approx(np.median(delays), rel=0.15)


@pytest.mark.parametrize(
    "settings", [{"answer_rate_right": 1.5}, {"answer_rate_wrong": 0.2}, {"audit_share": -0.1}, {"delay_mean_s": -1.0}]
)
def test_impossible_feedback_habits_are_refused(settings):
    with pytest.raises(ValueError, match="expected"):
        FeedbackHabits(**settings)
