"""Silence of the monitor: whether scheduled windows go unjudged, for `evergreen status` and the webhook."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final

from absa.lifecycle import champion_since
from flows.wiring import Services

if TYPE_CHECKING:
    from monitoring.verdicts import VerdictStore

WINDOWS: Final = 2  # one may be late; two in a row are missing
_UNITS: Final = (("days", 86400.0), ("hours", 3600.0), ("minutes", 60.0))


@dataclass(frozen=True, kw_only=True)
class MonitorRun:
    """The monitor's last scheduled run; without one `ever` is False, and `at` is the champion's first moment."""

    at: datetime
    ever: bool

    def is_overdue(self, now: datetime, window_s: float) -> bool:
        """Return True if two windows have passed since."""
        return (now - self.at).total_seconds() > WINDOWS * window_s

    def sentence(self, now: datetime, window_s: float) -> str:
        """Say when it ran, and where to look if it is overdue."""
        age, window = span((now - self.at).total_seconds()), span(window_s)
        if not self.is_overdue(now, window_s):
            return f"ran {age} ago" if self.ever else f"has not run yet; its first window of {window} is not over"
        said = f"has not run for {age}" if self.ever else f"has never run, though a version has served for {age}"
        return f"{said}; it should run every {window}: see its runs in Prefect and the deployments' log"


def last_monitor_run(services: Services) -> MonitorRun | None:
    """Return the monitor's last scheduled run; None where nothing is scheduled, or no champion is there to watch.

    A window of another length was judged by hand, which says nothing about the schedule.
    """
    from monitoring.verdicts import VerdictStore

    since = champion_since(services.ledger.records())
    if not services.settings.schedule_monitor or since is None:
        return None
    ran_at = _last_judged(VerdictStore(services.lake), services.settings.window_s)
    return MonitorRun(at=since.at, ever=False) if ran_at is None else MonitorRun(at=ran_at, ever=True)


def _last_judged(store: "VerdictStore", window_s: float) -> datetime | None:
    length = timedelta(seconds=window_s)
    for window in reversed(store.windows()):
        if abs(window.end - window.start - length) < timedelta(seconds=1):
            return store.revisions(window)[0].at  # later ones come with labels and attempts
    return None


def report_silence(services: Services, now: datetime) -> list[str]:
    """Tell the webhook about a monitor that is overdue, once.

    Returns:
        The sentence that was sent; none where the monitor runs, no webhook is set, or it was told before.

    Raises:
        UnavailableError: the lake or the webhook is unavailable.
    """
    from monitoring.alerts import alert_silence

    url, window_s = services.settings.alert_url, services.settings.window_s
    ran = last_monitor_run(services) if url is not None else None
    if url is None or ran is None or not ran.is_overdue(now, window_s):
        return []
    sentence = f"Evergreen's monitor {ran.sentence(now, window_s)}."
    return [sentence] if alert_silence(services.lake, sentence, since=ran.at, url=url) else []


def span(seconds: float) -> str:
    """Write a duration in its largest unit of which there are at least two."""
    for unit, length in _UNITS:
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} seconds"
