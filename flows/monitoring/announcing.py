"""Announcements of ledger records and trainings: by the worker once a minute, or by a command if no worker runs."""

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final

from absa.errors import EvergreenError
from flows.platform.embedded import EmbeddedDeployments
from flows.platform.services import Services
from flows.platform.settings import Settings
from flows.platform.terminal import say

if TYPE_CHECKING:
    from monitoring.alerts.webhook import Webhook

_FIRST_PAUSE_S: Final = 60.0
_LONGEST_PAUSE_S: Final = 3600.0


def webhook_of(settings: Settings) -> "Webhook | None":
    """Return the webhook of the settings; None without one."""
    from monitoring.alerts.webhook import Webhook

    if settings.alert_url is None:
        return None
    secret = settings.alert_secret
    return Webhook(
        url=settings.alert_url.get_secret_value(),
        secret=None if secret is None else secret.get_secret_value(),
        form=settings.alerts.format,
    )


class Announcer:
    """Sender of due messages. After a failure it pauses for a minute, then twice as long each time, up to an hour."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._pause_s = 0.0
        self._waits_until: datetime | None = None

    def look(self, now: datetime) -> list[str]:
        """Send the messages that are due.

        Returns:
            A sentence for each message that was not accepted.

        Raises:
            UnavailableError: the lake is unavailable.
        """
        webhook = webhook_of(self._services.settings)
        if webhook is None or self._services.settings.alerts.events != "all":
            return []
        if self._waits_until is not None and now < self._waits_until:
            return []
        from monitoring.alerts.announcements import announce

        said = announce(self._services.lake, self._services.ledger.follow(), webhook, now=now)
        self._pause_s = min(_LONGEST_PAUSE_S, 2 * self._pause_s or _FIRST_PAUSE_S) if said else 0.0
        self._waits_until = now + timedelta(seconds=self._pause_s)
        return [f"{sentence}; it is sent again for a day" for sentence in said]


def announce_after_command(services: Services) -> None:
    """Send due messages at the end of a command, if no worker does it. Never fails the command."""
    if not isinstance(services.deployments, EmbeddedDeployments):
        return
    try:
        said = Announcer(services).look(services.clock())
    except EvergreenError as error:
        said = [f"the webhook was not notified: {error}"]
    for sentence in said:
        say(sentence, err=True)
