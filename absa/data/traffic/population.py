"""Population of simulated users: habits that make requests dependent. Each habit can be switched off.

Time counts in seconds from a Monday, 00:00. Shares are 0 to 1. A population without habits sends independent requests:
every request has its own unit.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True, slots=True)
class Users:
    """Users who return.

    Args:
        count: number of users at the start.
        activity_spread: sigma of the users' lognormal activity.
        own_topic_share: share of a user's sessions that are about the user's own topic; the rest are about any topic.
        own_rows_share: share of a topic's rows that a user writes about; each user has its own rows.
        mood_spread: standard deviation of the users' negative shares around the mean.
    """

    count: int = 800
    activity_spread: float = 1.2
    own_topic_share: float = 0.8
    own_rows_share: float = 0.5
    mood_spread: float = 0.1


@dataclass(frozen=True, kw_only=True, slots=True)
class Sessions:
    """Sessions: several requests of one user about one topic.

    Args:
        mean_requests: mean number of requests per session, geometrically distributed.
        mean_gap_s: mean time between requests in seconds, exponentially distributed.
    """

    mean_requests: float = 3.0
    mean_gap_s: float = 60.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Cycles:
    """Rhythm of days and weeks. A swing of 0.5 varies a value between half and one and a half times its mean.

    Args:
        daily_volume: swing of the requests per hour; the peak is at 15:00.
        daily_negative: swing of the share of negative rows (0.04: four points); the peak is at 21:00.
        daily_topics: swing of each topic's share; the topics' peaks are spread over the day.
        daily_users: swing of each user's activity, with a peak at the user's own hour.
        weekend_volume: factor of the requests on Saturdays and Sundays.
        weekend_negative: change of the share of negative rows at weekends (0.04: four points).
        weekend_topics: share by which every second topic grows at weekends; the rest shrink.
    """

    daily_volume: float = 0.5
    daily_negative: float = 0.04
    daily_topics: float = 0.2
    daily_users: float = 0.8
    weekend_volume: float = 0.5
    weekend_negative: float = -0.03
    weekend_topics: float = 0.3


@dataclass(frozen=True, kw_only=True, slots=True)
class Growth:
    """Users who join and leave, as shares of the users per day."""

    joining_a_day: float = 0.015
    leaving_a_day: float = 0.005


@dataclass(frozen=True, kw_only=True, slots=True)
class Onboarding:
    """Large customer that joins: `users` accounts with one topic, which reach `requests_an_hour` after `ramp_s`."""

    starts_s: float
    requests_an_hour: float
    topic: int = 0
    users: int = 50
    ramp_s: float = 0.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Flood:
    """Campaign or bot: `requests` near-identical texts about one row within `duration_s`, from `units` units."""

    starts_s: float
    duration_s: float = 3_600.0
    requests: int = 2_000
    units: int = 1
    topic: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Population:
    """Users and their habits; None switches a habit off.

    Args:
        requests_an_hour: mean number of requests per hour over a working day, at the start.
        users: None: no user returns.
        sessions: None: single requests.
        cycles: None: all hours are alike.
        growth: None: the users stay the same.
        events: onboardings and floods, numbered from 0 in this order.
    """

    requests_an_hour: float = 500.0
    users: Users | None = None
    sessions: Sessions | None = None
    cycles: Cycles | None = None
    growth: Growth | None = None
    events: Sequence[Onboarding | Flood] = field(default=())

    def __post_init__(self) -> None:
        if self.requests_an_hour <= 0:
            raise ValueError(f"requests_an_hour: expected a number above 0, got {self.requests_an_hour}")
        if self.users is not None and self.users.count < 1:
            raise ValueError(f"users.count: expected at least 1, got {self.users.count}")
        if self.sessions is not None and self.sessions.mean_requests < 1:
            raise ValueError(f"sessions.mean_requests: expected at least 1, got {self.sessions.mean_requests}")
