"""Servers that a command uses: running servers of its home, and servers that the user names."""

from collections.abc import Mapping
from typing import Any

from absa.errors import UnavailableError
from absa.proxies import require_route
from flows.cli.output.command_progress import CommandProgress
from flows.platform.processes import SERVER_VARIABLES, Supervisor, answers_soon, is_served
from flows.platform.services import Services

_ANSWER_LIMIT_S = 60.0  # longest wait for a running server of this home, on a busy machine


def served_by(services: Services, *names: str) -> list[str]:
    """Return the named servers that a command uses, once they are available. The command works without the others.

    Raises:
        UnavailableError: a server that the user configured is unavailable, or needs a proxy that cannot be used.
    """
    used = [name for name in names if is_served(services.settings, services.environment, name)]
    require_servers(services, *used)
    return used


def require_servers(services: Services, *names: str) -> None:
    """Wait until the named servers are available. Does not wait for a server that this home does not run.

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
    """Start a run of a deployment; return its id and page. Shows progress while a started Prefect is not ready.

    Raises:
        UnavailableError: Prefect is unavailable, or has no such deployment.
    """
    with CommandProgress(None, "start") as progress:
        progress.now("waiting for Prefect to take the request")
        run_id = services.deployments.start(deployment, parameters)
    return run_id, services.home.flow_run_page(run_id)
