"""Telemetry on top of the verdict record: a Prefect automation that marks each STALE window in the event feed.

It starts nothing. The record in the lake decides, because an event that is sent while the server is down is lost.
"""

from datetime import timedelta
from typing import Final

NAME: Final = "evergreen-stale"
STALE_EVENT: Final = "evergreen.verdict.stale"


def ensure_automation() -> bool:
    """Make the automation if the server has none of its name.

    Returns:
        Whether it was made; False too where the server does not answer.
    """
    import httpx
    from prefect.client.orchestration import get_client
    from prefect.events.actions import DoNothing
    from prefect.events.schemas.automations import AutomationCore, EventTrigger, Posture

    automation = AutomationCore(
        name=NAME,
        description="A window of live traffic was judged STALE. Telemetry: the verdict record decides.",
        trigger=EventTrigger(expect={STALE_EVENT}, posture=Posture.Reactive, threshold=1, within=timedelta(seconds=0)),
        actions=[DoNothing()],
    )
    try:
        with get_client(sync_client=True) as client:
            if client.read_automations_by_name(NAME):
                return False
            client.create_automation(automation)
    except (httpx.HTTPError, RuntimeError):
        return False
    return True
