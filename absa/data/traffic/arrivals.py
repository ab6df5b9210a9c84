"""Arrivals of a population's requests: time, unit, topic and mood of each request. Seeded, hour by hour.

Every hour has its own random generator, so any period can be drawn without the periods before it. A session ends within
an hour of its start.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from itertools import count as numbers
from typing import Final

import numpy as np
import numpy.typing as npt

from absa.data.traffic.population import Flood, Growth, Onboarding, Population

_Floats = npt.NDArray[np.float64]
_Ints = npt.NDArray[np.int64]

_HOUR_S: Final = 3_600.0
_DAY_S: Final = 86_400.0
_EVENT_UNITS: Final = 10**12  # first unit of events, a million numbers per event; above all other units
_SINGLE_UNITS: Final = 10**9  # first unit of requests without users, a million numbers per hour
_A_MILLION: Final = 10**6
_VOLUME_PEAK_H: Final = 15.0
_NEGATIVE_PEAK_H: Final = 21.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Arrivals:
    """Requests in the order of time, arrays of shape (n,).

    `at_s` counts seconds from a Monday, 00:00. `unit` is a number, equal for all requests of a user; `session` is equal
    for the requests of one session. `topic` is an index of the population's topics. `taste`, 0 to 1, is the relative
    position of the request's row among the rows of the topic. `negative_shift` is added to the share of negative rows
    (0.04: four points). `event` is the index of an onboarding or flood, -1 for ordinary traffic.
    """

    at_s: _Floats
    unit: _Ints
    session: _Ints
    topic: _Ints
    taste: _Floats
    negative_shift: _Floats
    event: _Ints

    @property
    def count(self) -> int:
        """Number of requests."""
        return len(self.at_s)

    def take(self, index: npt.NDArray[np.int64] | npt.NDArray[np.bool_]) -> "Arrivals":
        """Return the requests at these positions."""
        return Arrivals(**{each.name: getattr(self, each.name)[index] for each in fields(self)})


def _joined(parts: list[Arrivals]) -> Arrivals:
    """Return the requests of all parts in the order of time."""
    both = Arrivals(**{f.name: np.concatenate([getattr(part, f.name) for part in parts]) for f in fields(Arrivals)})
    return both.take(np.argsort(both.at_s, kind="stable"))


@dataclass(frozen=True, kw_only=True, slots=True)
class _Members:
    """Users with their own habits, arrays of shape (users,)."""

    activity: _Floats
    topic: _Ints
    taste: _Floats
    mood: _Floats
    peak_h: _Floats
    joined_s: _Floats
    left_s: _Floats


class Simulation:
    """Requests of a population. Equal arguments give equal requests.

    Args:
        population: users and their habits.
        topic_shares: natural share of each topic; the shares sum to 1.
        seed: seed of the users and of each hour.
    """

    def __init__(self, population: Population, topic_shares: Sequence[float] = (1.0,), *, seed: int = 0) -> None:
        if not topic_shares or min(topic_shares) < 0 or abs(sum(topic_shares) - 1) > 1e-9:
            raise ValueError(f"topic_shares: expected shares that sum to 1, got {list(topic_shares)}")
        for event in population.events:
            if not 0 <= event.topic < len(topic_shares):
                raise ValueError(f"topic of an event: expected 0 to {len(topic_shares) - 1}, got {event.topic}")
        self.population = population
        self._seed = seed
        self._shares = np.array(topic_shares, dtype=np.float64)
        self._members_to_day = -1
        self._members: _Members | None = None

    def between(self, start_s: float, end_s: float) -> Arrivals:
        """Return the requests from `start_s` to before `end_s`."""
        first, last = int(start_s // _HOUR_S) - 1, int(np.ceil(end_s / _HOUR_S))
        found = _joined([self._hour(hour) for hour in range(max(first, 0), max(last, first + 1))])
        return found.take((found.at_s >= start_s) & (found.at_s < end_s))

    def __iter__(self) -> Iterator[Arrivals]:
        """Yield the requests of one hour after another, endlessly."""
        for hour in numbers():
            yield self.between(hour * _HOUR_S, (hour + 1) * _HOUR_S)

    def _hour(self, hour: int) -> Arrivals:
        """Return the requests of the sessions that start in an hour, and of the events in it."""
        parts = [self._ordinary(hour, np.random.default_rng([self._seed, 0, hour]))]
        for number, event in enumerate(self.population.events):
            rng = np.random.default_rng([self._seed, 1, number, hour])
            parts.append(
                self._flood(event, number, hour, rng)
                if isinstance(event, Flood)
                else self._onboarding(event, number, hour, rng)
            )
        return _joined(parts)

    def _ordinary(self, hour: int, rng: np.random.Generator) -> Arrivals:
        population, shares = self.population, self._topic_shares(hour)
        volume = population.requests_an_hour * self._volume(hour)
        users = population.users
        if users is None:
            growth = population.growth or Growth(joining_a_day=0.0, leaving_a_day=0.0)
            volume *= (1.0 + growth.joining_a_day - growth.leaving_a_day) ** (hour * _HOUR_S / _DAY_S)
            starts = self._starts(hour, volume, rng)
            n = len(starts)
            unit = _SINGLE_UNITS + hour * _A_MILLION + np.arange(n)
            topic = rng.choice(len(shares), n, p=shares)
            return self._requests(starts, unit, topic, rng.random(n), 1.0, np.zeros(n), -1, rng)
        members = self._members_on(int(hour * _HOUR_S // _DAY_S))
        weights = members.activity * ((members.joined_s <= hour * _HOUR_S) & (members.left_s > hour * _HOUR_S))
        volume *= float(weights.sum())
        weights = weights * (shares / self._shares)[members.topic] * self._presence(members, hour)
        starts = self._starts(hour, volume, rng)
        n = len(starts)
        unit = rng.choice(len(weights), n, p=weights / weights.sum())
        own = rng.random(n) < users.own_topic_share
        topic = np.where(own, members.topic[unit], rng.choice(len(shares), n, p=shares))
        return self._requests(
            starts, unit, topic, members.taste[unit], users.own_rows_share, members.mood[unit], -1, rng
        )

    def _onboarding(self, event: Onboarding, number: int, hour: int, rng: np.random.Generator) -> Arrivals:
        grown = (hour * _HOUR_S - event.starts_s) / event.ramp_s if event.ramp_s else 1.0
        strength = float(np.clip(grown, 0.0, 1.0)) if hour * _HOUR_S >= event.starts_s else 0.0
        starts = self._starts(hour, event.requests_an_hour * strength * self._volume(hour), rng)
        n = len(starts)
        unit = _EVENT_UNITS + number * _A_MILLION + rng.integers(event.users, size=n)
        topic = np.full(n, event.topic, dtype=np.int64)
        return self._requests(starts, unit, topic, rng.random(n), 0.5, np.zeros(n), number, rng)

    def _flood(self, event: Flood, number: int, hour: int, rng: np.random.Generator) -> Arrivals:
        ends_s = event.starts_s + event.duration_s
        within = min((hour + 1) * _HOUR_S, ends_s) - max(hour * _HOUR_S, event.starts_s)
        n = round(event.requests * max(within, 0.0) / event.duration_s)
        unit = _EVENT_UNITS + number * _A_MILLION + rng.integers(event.units, size=n)
        return Arrivals(
            at_s=max(hour * _HOUR_S, event.starts_s) + rng.random(n) * within,
            unit=unit,
            session=unit,
            topic=np.full(n, event.topic, dtype=np.int64),
            taste=np.full(n, 0.5),
            negative_shift=np.zeros(n),
            event=np.full(n, number, dtype=np.int64),
        )

    def _starts(self, hour: int, requests: float, rng: np.random.Generator) -> _Floats:
        """Return the start times of an hour's sessions."""
        sessions = self.population.sessions
        n = rng.poisson(requests / (sessions.mean_requests if sessions else 1.0))
        return (hour + rng.random(n)) * _HOUR_S

    def _requests(
        self,
        starts: _Floats,
        unit: _Ints,
        topic: _Ints,
        taste: _Floats,
        width: float,
        mood: _Floats,
        event: int,
        rng: np.random.Generator,
    ) -> Arrivals:
        """Return the requests of sessions, whose arrays have shape (sessions,)."""
        habit = self.population.sessions
        n = len(starts)
        session = np.arange(n)
        after = np.zeros(n)
        if habit is not None:
            lengths = rng.geometric(1.0 / habit.mean_requests, n)
            session = np.repeat(session, lengths)
            first = np.cumsum(lengths) - lengths
            gaps = rng.exponential(habit.mean_gap_s, len(session))
            gaps[first] = 0.0
            passed = np.cumsum(gaps)
            after = np.minimum(passed - np.repeat(passed[first], lengths), _HOUR_S - 1.0)
        at_s = starts[session] + after
        base = (event + 1) * _EVENT_UNITS + (int(starts[0] // _HOUR_S) * _A_MILLION if n else 0)
        return Arrivals(
            at_s=at_s,
            unit=unit[session],
            session=base + session,
            topic=topic[session],
            taste=(taste[session] + width * rng.random(len(session))) % 1.0,
            negative_shift=mood[session] + self._negative(at_s),
            event=np.full(len(session), event, dtype=np.int64),
        )

    def _members_on(self, day: int) -> _Members:
        """Return the users who have joined by the end of a day, including users who have left."""
        users, growth = self.population.users, self.population.growth
        assert users is not None
        if self._members is not None and (growth is None or day <= self._members_to_day):
            return self._members
        days = range(-1, day + 1) if growth is not None else range(-1, 0)
        parts = []
        for joined in days:
            rng = np.random.default_rng([self._seed, 2, joined + 1])
            net = 0.0 if growth is None else growth.joining_a_day - growth.leaving_a_day
            expected = users.count * (1.0 + net) ** max(joined, 0) * (growth.joining_a_day if growth else 0.0)
            parts.append(self._newcomers(users.count if joined < 0 else rng.poisson(expected), joined, rng))
        everyone = {f.name: np.concatenate([getattr(part, f.name) for part in parts]) for f in fields(_Members)}
        first = slice(0, users.count)  # the means over the first users are 1 and 0, so habits do not change the totals
        total = everyone["activity"][first].sum()
        everyone["mood"] -= (everyone["mood"] * everyone["activity"])[first].sum() / total
        everyone["activity"] /= total
        self._members, self._members_to_day = _Members(**everyone), day
        return self._members

    def _newcomers(self, n: int, day: int, rng: np.random.Generator) -> _Members:
        users, growth = self.population.users, self.population.growth
        assert users is not None
        joined_s = np.zeros(n) if day < 0 else (day + rng.random(n)) * _DAY_S
        stay_s = np.full(n, np.inf)
        if growth is not None and growth.leaving_a_day > 0:
            stay_s = rng.exponential(_DAY_S / growth.leaving_a_day, n)
        # each topic gets a fixed part, because random topics of few users would miss the shares
        topic = np.searchsorted(np.cumsum(self._shares), (rng.permutation(n) + rng.random()) / max(n, 1))
        return _Members(
            activity=rng.lognormal(0.0, users.activity_spread, n),
            topic=np.minimum(topic, len(self._shares) - 1),
            taste=rng.random(n),
            mood=rng.normal(0.0, users.mood_spread, n),
            peak_h=rng.random(n) * 24.0,
            joined_s=joined_s,
            left_s=joined_s + stay_s,
        )

    def _presence(self, members: _Members, hour: int) -> _Floats:
        cycles = self.population.cycles
        swing = cycles.daily_users if cycles else 0.0
        return 1.0 + swing * np.cos(2.0 * np.pi * (hour % 24 + 0.5 - members.peak_h) / 24.0)

    def _topic_shares(self, hour: int) -> _Floats:
        cycles, k = self.population.cycles, len(self._shares)
        if cycles is None or k == 1:
            return self._shares
        peaks = 24.0 * np.arange(k) / k
        factors = 1.0 + cycles.daily_topics * np.cos(2.0 * np.pi * (hour % 24 + 0.5 - peaks) / 24.0)
        if _weekend(hour * _HOUR_S):
            factors = factors * np.where(np.arange(k) % 2, 1.0 - cycles.weekend_topics, 1.0 + cycles.weekend_topics)
        shares = self._shares * factors
        return np.asarray(shares / shares.sum())

    def _volume(self, hour: int) -> float:
        cycles = self.population.cycles
        if cycles is None:
            return 1.0
        swing = 1.0 + cycles.daily_volume * np.cos(2.0 * np.pi * (hour % 24 + 0.5 - _VOLUME_PEAK_H) / 24.0)
        return float(swing * (cycles.weekend_volume if _weekend(hour * _HOUR_S) else 1.0))

    def _negative(self, at_s: _Floats) -> _Floats:
        cycles = self.population.cycles
        if cycles is None:
            return np.zeros(len(at_s))
        hours = at_s % _DAY_S / _HOUR_S
        daily = cycles.daily_negative * np.cos(2.0 * np.pi * (hours - _NEGATIVE_PEAK_H) / 24.0)
        return np.asarray(daily + np.where(_weekend(at_s), cycles.weekend_negative, 0.0))


def _weekend(at_s: float | _Floats) -> npt.NDArray[np.bool_]:
    return np.asarray(at_s // _DAY_S % 7 >= 5)
