"""Silence of the monitor: scheduled windows that are not judged, for `evergreen status` and the webhook."""

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Final

from absa.ledger.history import champion_since
from absa.records.schema import Window
from flows.monitoring.announcing import webhook_of
from flows.platform.services import Services

if TYPE_CHECKING:
    from monitoring.verdicts import VerdictStore

WINDOWS: Final = 2  # one late window is normal, two are not
LONGEST_GRACE_S: Final = 12 * 3600.0  # a machine that sleeps every night reports the silence of a daily monitor too
_MISSED_LOOKS: Final = 5  # a look may be late if Prefect or the lake is slow
_GRID_S: Final = 1e-3
_UNITS: Final = (("days", 86400.0), ("hours", 3600.0), ("minutes", 60.0))


@dataclass(frozen=True, kw_only=True)
class MonitorRun:
    """Last scheduled run of the monitor. Without one `ever` is False and `at` is the start of the champion.

    `by_hand_at` is the time of a later judgement that an operator requested; None: there is none.
    """

    at: datetime
    ever: bool
    by_hand_at: datetime | None = None

    def is_overdue(self, now: datetime, window_s: float) -> bool:
        """Return True if more than two windows have passed since this run."""
        return (now - self.at).total_seconds() > WINDOWS * window_s

    def sentence(self, now: datetime, window_s: float) -> str:
        """Return a sentence with the time of the run and, if the monitor is overdue, the place to look."""
        age, window = span((now - self.at).total_seconds()), span(window_s)
        by_hand = "" if self.by_hand_at is None else f" (by hand {span((now - self.by_hand_at).total_seconds())} ago)"
        if not self.is_overdue(now, window_s):
            unrun = f"has no scheduled run yet{by_hand}; its first window of {window} is not over"
            return f"ran {age} ago{by_hand}" if self.ever else unrun
        unrun = f"has never run on its schedule{by_hand}, though a version has served for {age}"
        said = f"has not run for {age}{by_hand}" if self.ever else unrun
        return f"{said}; it should run every {window}: see its runs in Prefect and the deployments' log"


def last_monitor_run(services: Services) -> MonitorRun | None:
    """Return the monitor's last scheduled run; None without a schedule or a champion.

    A run of an earlier schedule with windows of another length counts too, because the schedule may have changed since.
    """
    from monitoring.verdicts import VerdictStore

    since = champion_since(services.ledger.follow())
    if not services.settings.schedule_monitor or since is None:
        return None
    store, window_s = VerdictStore(services.lake), services.settings.window_s
    by_hand_at: datetime | None = None
    for window in reversed(store.windows()):
        if is_scheduled(window, window_s):
            return MonitorRun(at=_first_judged(store, window), ever=True, by_hand_at=by_hand_at)
        by_hand_at = by_hand_at or _first_judged(store, window)
    return MonitorRun(at=since.at, ever=False, by_hand_at=by_hand_at)


def _first_judged(store: "VerdictStore", window: Window) -> datetime:
    return store.revisions(window)[0].at  # later ones come with labels and attempts


def is_scheduled(window: Window, window_s: float) -> bool:
    """Return True if a schedule judged this window, of this length or of another one before. Pure.

    Scheduled windows are on a grid of their length (`monitor.last_window`). A window that an operator requested is not
    on the grid, and proves nothing about the schedule.
    """
    length_s = (window.end - window.start).total_seconds()
    if length_s <= 0 or abs(length_s - window_s) < 1.0:
        return length_s > 0
    beyond_s = window.end.timestamp() % length_s
    return min(beyond_s, length_s - beyond_s) < _GRID_S


class SilenceWatch:
    """Watch that notifies the webhook once if the monitor is overdue. Its caller looks at regular intervals.

    After the start of a worker, or the wake-up of its machine, the monitor is overdue because nothing ran here. Late
    runs start then. A report therefore requires looks without a break for two windows, at most `LONGEST_GRACE_S`.

    Args:
        services: ports.
        every_s: seconds between two looks; a gap of several is a break.
    """

    def __init__(self, services: Services, *, every_s: float) -> None:
        self._services, self._most_s = services, _MISSED_LOOKS * every_s
        self._looked_at: datetime | None = None
        self._since: datetime | None = None

    def look(self, now: datetime) -> list[str]:
        """Look once.

        Returns:
            The sentence that was sent; none if the monitor runs, no webhook is set, or it was notified before.

        Raises:
            UnavailableError: the lake or the webhook is unavailable.
        """
        from monitoring.alerts.incidents import alert_silence

        before, self._looked_at = self._looked_at, now
        if self._since is None or before is None or not 0 <= (now - before).total_seconds() <= self._most_s:
            self._since = now
        webhook, window_s = webhook_of(self._services.settings), self._services.settings.window_s
        if webhook is None or (now - self._since).total_seconds() <= min(WINDOWS * window_s, LONGEST_GRACE_S):
            return []
        ran = last_monitor_run(self._services)
        if ran is None or not ran.is_overdue(now, window_s):
            return []
        sentence = f"Evergreen's monitor {ran.sentence(now, window_s)}."
        return [sentence] if alert_silence(self._services.lake, sentence, since=ran.at, webhook=webhook) else []


def span(seconds: float) -> str:
    """Return a duration in its largest unit of which there are at least two."""
    for unit, length in _UNITS:
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} seconds"
