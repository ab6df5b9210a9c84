"""Servers that a command needs: it waits for those of its home, and refuses without them."""

from absa.errors import UnavailableError
from absa.proxies import require_route
from flows.platform.services import Services

_ANSWER_LIMIT_S = 60.0  # for a server of this home that runs, on a busy machine


def require_servers(services: Services, *names: str) -> None:
    """Wait until the named servers are available; one that this home does not run is not waited for. Makes nothing.

    Raises:
        UnavailableError: a server is unavailable, or needs a proxy that cannot be used.
    """
    from flows.platform.processes import Supervisor, answers_soon

    supervisor = Supervisor(services.settings)
    urls = {
        "mlflow": services.environment["MLFLOW_TRACKING_URI"].rstrip("/") + "/health",
        "prefect": services.environment["PREFECT_API_URL"].rstrip("/") + "/health",
    }
    for name in names:
        require_route(urls[name], services.environment)
        if not answers_soon(urls[name], limit_s=_ANSWER_LIMIT_S if supervisor.running(name) else 0.0):
            raise UnavailableError(f"{name} is unavailable at {urls[name]}: run `evergreen up`")
