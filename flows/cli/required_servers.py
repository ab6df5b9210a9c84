"""Servers that a command uses: those of its home that run, and those that the user names."""

from collections.abc import Mapping
from typing import Any

from absa.errors import UnavailableError
from absa.proxies import require_route
from flows.cli.output.command_progress import CommandProgress
from flows.platform.processes import SERVER_VARIABLES, Supervisor, answers_soon, is_served
from flows.platform.services import Services

_ANSWER_LIMIT_S = 60.0  # for a server of this home that runs, on a busy machine


def served_by(services: Services, *names: str) -> list[str]:
    """Return which of the named servers a command uses, once they are available; it works without the others.

    Raises:
        UnavailableError: one that the user names is unavailable, or needs a proxy that cannot be used.
    """
    used = [name for name in names if is_served(services.settings, services.environment, name)]
    require_servers(services, *used)
    return used


def require_servers(services: Services, *names: str) -> None:
    """Wait until the named servers are available; one that this home does not run is not waited for. Makes nothing.

    Raises:
        UnavailableError: a server is unavailable, or needs a proxy that cannot be used.
    """
    supervisor = Supervisor(services.settings)
    for name in names:
        variable, _ = SERVER_VARIABLES[name]
        url = services.environment[variable].rstrip("/") + "/health"
        require_route(url, services.environment)
        running = supervisor.running(name) is not None
        if answers_soon(url, limit_s=_ANSWER_LIMIT_S if running else 0.0):
            continue
        advice = "run `evergreen up`"
        if not running and is_served(services.settings, services.environment, name):
            advice = f"{variable} names it, so start it, or unset the variable"
        raise UnavailableError(f"{name} is unavailable at {url}: {advice}")


def start_in_prefect(services: Services, deployment: str, parameters: Mapping[str, Any]) -> tuple[str, str]:
    """Start a run of a deployment, and return its id and its page; shows that it waits for a Prefect that just started.

    Raises:
        UnavailableError: Prefect is unavailable, or has no such deployment.
    """
    with CommandProgress(None, "start") as progress:
        progress.now("waiting for Prefect to take the request")
        run_id = services.deployments.start(deployment, parameters)
    return run_id, services.home.flow_run_page(run_id)
