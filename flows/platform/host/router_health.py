"""Health of a home's router, as the router reports it: what it cannot follow."""

from collections.abc import Callable, Mapping
from typing import Any

from flows.platform.processes import Supervisor, fetched
from flows.platform.settings import Home, Settings

Ask = Callable[[str], Mapping[str, Any]]
"""Returns the JSON object at an address; empty where there is none."""


def asked(url: str) -> Mapping[str, Any]:
    """Return the JSON object at an address; empty where there is none."""
    answer = fetched(url)
    try:
        found = None if answer is None else answer.json()
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def ledger_problem(settings: Settings, *, ask: Ask = asked) -> str | None:
    """Return the problem that the router has with the ledger; None without one, and where no router answers."""
    if settings.router_url is None and Supervisor(settings).running("router") is None:
        return None
    problem = ask(f"{settings.router_url or Home(settings).url('router')}/readyz").get("problem")
    return None if problem is None else f"router: {problem}"
