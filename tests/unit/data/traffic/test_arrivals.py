"""Requests of a simulated population: effects of each habit, alone and with the others."""

from dataclasses import fields

import numpy as np
import pytest

from absa.data.traffic.arrivals import Arrivals, Simulation
from absa.data.traffic.population import Cycles, Flood, Growth, Onboarding, Population, Sessions, Users

HOUR_S, DAY_S = 3_600.0, 86_400.0
ALL = {"users": Users(), "sessions": Sessions(), "cycles": Cycles(), "growth": Growth()}
SHARES = (0.3, 0.2, 0.5)


def days(start: float, end: float, *, seed: int = 1, **habits) -> Arrivals:
    population = Population(requests_an_hour=200.0, **habits)
    return Simulation(population, SHARES, seed=seed).between(start * DAY_S, end * DAY_S)


def same(one: Arrivals, other: Arrivals) -> bool:
    return all(np.array_equal(getattr(one, each.name), getattr(other, each.name)) for each in fields(Arrivals))


@pytest.mark.parametrize("habits", [{}, ALL], ids=["independent", "together"])
def test_equal_seeds_give_equal_requests(habits):
    assert same(days(1, 2, **habits), days(1, 2, **habits))
    assert not same(days(1, 2, **habits), days(1, 2, seed=2, **habits))


@pytest.mark.parametrize("habits", [{}, ALL], ids=["independent", "together"])
def test_any_period_is_drawn_as_part(habits):
    whole = days(0, 4, **habits)
    inside = (whole.at_s >= 2 * DAY_S) & (whole.at_s < 3 * DAY_S)
    assert same(whole.take(inside), days(2, 3, **habits))
    assert (np.diff(whole.at_s) >= 0).all()


def test_independent_requests_have_units_and_topics_alone():
    found = days(0, 5)
    assert found.count == pytest.approx(5 * 24 * 200, rel=0.03)
    assert len(np.unique(found.unit)) == len(np.unique(found.session)) == found.count
    assert np.bincount(found.topic) / found.count == pytest.approx(SHARES, abs=0.02)
    assert not found.negative_shift.any()
    assert np.quantile(found.taste, [0.25, 0.5, 0.75]) == pytest.approx([0.25, 0.5, 0.75], abs=0.02)


def test_users_return_with_own_activity_topic_and_mood():
    found = days(0, 5, users=Users(count=300))
    units, counts = np.unique(found.unit, return_counts=True)
    assert len(units) <= 300
    assert np.sort(counts)[-1] > 8 * np.median(counts)
    busy = units[np.argsort(-counts)[:20]]
    own = [np.bincount(found.topic[found.unit == unit]).max() / (found.unit == unit).sum() for unit in busy]
    assert np.mean(own) > 0.8
    assert all(len(np.unique(found.negative_shift[found.unit == unit])) == 1 for unit in busy)
    assert found.negative_shift.mean() == pytest.approx(0.0, abs=0.005)
    assert found.negative_shift.std() == pytest.approx(0.1, rel=0.3)


def test_sessions_are_several_requests_about_one_topic():
    found = days(0, 3, users=Users(), sessions=Sessions(mean_requests=4.0))
    _, first, counts = np.unique(found.session, return_index=True, return_counts=True)
    assert counts.mean() == pytest.approx(4.0, rel=0.05)
    for session in found.session[first[:50]]:
        mine = found.take(found.session == session)
        assert len(np.unique(mine.unit)) == len(np.unique(mine.topic)) == 1
        assert np.ptp(mine.at_s) < HOUR_S


def test_cycles_move_volume_labels_and_topics():
    found = days(0, 7, users=Users(), cycles=Cycles())
    hour, day = (found.at_s // HOUR_S % 24).astype(int), (found.at_s // DAY_S).astype(int)
    weekday = day < 5
    by_hour = np.bincount(hour[weekday], minlength=24)
    assert by_hour[14:16].mean() > 2 * by_hour[2:4].mean()
    assert np.bincount(day)[5:].mean() < 0.7 * np.bincount(day)[:5].mean()
    evening = found.negative_shift[weekday & (hour == 21)].mean()
    morning = found.negative_shift[weekday & (hour == 9)].mean()
    assert evening - morning == pytest.approx(0.08, abs=0.03)
    topics = [np.bincount(found.topic[mine], minlength=3) / mine.sum() for mine in (weekday, ~weekday)]
    assert topics[1][1] < 0.85 * topics[0][1]


def test_growth_brings_users_and_lets_some_leave():
    found = days(0, 60, users=Users(), growth=Growth())
    day = (found.at_s // DAY_S).astype(int)
    assert np.bincount(day)[-5:].mean() / np.bincount(day)[:5].mean() == pytest.approx(1.01**57, rel=0.25)
    first, last = (set(found.unit[mine].tolist()) for mine in (day < 5, day >= 55))
    assert 0.1 < len(first - last) / len(first) < 0.4
    assert 0.3 < len(last - first) / len(last) < 0.7


def test_onboarding_and_flood_add_named_requests():
    events = (
        Onboarding(starts_s=DAY_S, requests_an_hour=100.0, topic=2, users=5, ramp_s=DAY_S),
        Flood(starts_s=2.25 * DAY_S, duration_s=1.5 * HOUR_S, requests=2_000, units=3, topic=1),
    )
    found, ordinary = days(0, 3, events=events, **ALL), days(0, 3, **ALL)
    assert same(found.take(found.event == -1).take(np.arange(100)), ordinary.take(np.arange(100)))
    joined, flood = found.take(found.event == 0), found.take(found.event == 1)
    assert joined.at_s.min() >= DAY_S
    assert (joined.at_s < 1.5 * DAY_S).sum() < 0.6 * (joined.at_s >= 2.5 * DAY_S).sum()
    assert set(joined.topic) == {2}
    assert len(np.unique(joined.unit)) == 5
    assert flood.count == 2_000
    assert 2.25 * DAY_S <= flood.at_s.min() <= flood.at_s.max() < 2.25 * DAY_S + 1.5 * HOUR_S
    assert len(np.unique(flood.unit)) == 3
    assert len(np.unique(flood.taste)) == 1


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"requests_an_hour": 0.0}, "requests_an_hour"),
        ({"users": Users(count=0)}, "users.count"),
        ({"sessions": Sessions(mean_requests=0.5)}, "mean_requests"),
    ],
)
def test_impossible_population_is_refused(settings, named):
    with pytest.raises(ValueError, match=f"{named}: expected"):
        Population(**settings)


def test_topics_that_cannot_be_are_refused():
    with pytest.raises(ValueError, match="topic_shares: expected"):
        Simulation(Population(), (0.5, 0.4))
    with pytest.raises(ValueError, match="topic of an event: expected"):
        Simulation(Population(events=(Flood(starts_s=0.0, topic=1),)))
