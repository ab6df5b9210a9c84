"""Health of a home's router, as it reports it: loaded versions, and problems with the ledger."""

import time
from collections.abc import Callable, Mapping
from typing import Any, Final

from absa.router_settings import RouterSettings
from flows.platform.processes import Supervisor, fetched
from flows.platform.services import Services
from flows.platform.settings import Home, Settings

_LOAD_LIMIT_S: Final = 60.0
_LOOK_EVERY_S: Final = 0.1

Ask = Callable[[str], Mapping[str, Any]]
"""Returns the JSON object at an address; empty without one."""


def asked(url: str) -> Mapping[str, Any]:
    """Return the JSON object at an address; empty if there is none, or no answer."""
    answer = fetched(url)
    try:
        found = None if answer is None else answer.json()
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def ledger_problem(settings: Settings, *, ask: Ask = asked) -> str | None:
    """Return the router's problem with the ledger; None without one, or if the router is unavailable."""
    if settings.router_url is None and Supervisor(settings).running("router") is None:
        return None
    problem = ask(f"{settings.router_url or Home(settings).url('router')}/readyz").get("problem")
    return None if problem is None else f"router: {problem}"


def wait_for_version(
    services: Services,
    *,
    limit_s: float = _LOAD_LIMIT_S,
    ask: Ask = asked,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> list[str]:
    """Wait until each worker of the router has loaded a version, if the ledger has a champion.

    Args:
        services: of the home whose router was started.
        limit_s: longest wait, in seconds.
        ask: reads an address of the router.
        clock: returns the time, in seconds.
        sleep: waits a number of seconds.

    Returns:
        One sentence, if any worker has loaded no version within the limit; otherwise empty.
    """
    head = services.ledger.head()
    if head is None or head.state.champion is None:
        return []
    port = RouterSettings.read().admin_port or services.home.ports()["router"]
    url, ends = f"http://{services.settings.host}:{port}/v1/models", clock() + limit_s
    while not (workers := ask(url).get("workers")) or not all(each["ready"] for each in workers):
        if clock() >= ends:
            errors = {model["last_error"] for each in workers or () for model in each["models"]} - {None}
            why = "; ".join(sorted(errors)) or f"its log: {Supervisor(services.settings).log('router')}"
            return [f"the router has loaded no version within {limit_s:.0f} s and refuses predictions: {why}"]
        sleep(_LOOK_EVERY_S)
    return []
