"""Power cuts on a real Prefect server: runs die with their worker, with the server too, or outlive both.

A training, a monitor run, a promotion and a batch hang at an MLflow that takes connections and never replies, so that
each is in the middle of its work when it is killed.
"""

import os
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from absa.data.bundled import SAMPLE
from absa.ledger.lifecycle import crowned
from flows.platform.liveness import sign_of
from flows.platform.prefect_runs import PROMOTION, TRAINING
from flows.platform.processes import Supervisor, bring_up, take_down
from flows.platform.services import Services, build_services
from flows.platform.settings import Settings
from tests.homes import choose_ports, end_family, outer_environment

PARTS = ["prefect", "deployments"]
REQUESTS: dict[str, dict[str, Any]] = {
    TRAINING: {"budget_s": 600, "sources": [str(SAMPLE / "feedback.csv")]},
    "monitor/monitor": {},
    PROMOTION: {"version": "2", "revision": 1},
    "batch/batch": {"input_uri": "rows.csv", "output_uri": "scored"},
}


@pytest.fixture
def services(tmp_path: Path) -> Iterator[Services]:
    kept = dict(os.environ)
    home = tmp_path / "home"
    choose_ports(home)
    with socket.create_server(("127.0.0.1", 0), backlog=128) as silent:
        wanted = outer_environment() | {
            "EVERGREEN_HOME": str(home),
            "EVERGREEN_SCHEDULE_MONITOR": "false",
            "MLFLOW_TRACKING_URI": f"http://127.0.0.1:{silent.getsockname()[1]}",
            "MLFLOW_HTTP_REQUEST_TIMEOUT": "600",  # no run ends by itself, however slow the machine is
            "PREFECT_SERVER_DEPLOYMENTS_CONCURRENCY_SLOT_WAIT_SECONDS": "1",
        }
        os.environ.clear()
        os.environ |= wanted
        services = build_services(Settings.load())
        services.ledger.append(
            expected=0,
            actor="test",
            action="promote",
            reason="first",
            state=crowned("1"),
            versions={"1": "a" * 64, "2": "b" * 64},
        )
        try:
            yield services
        finally:
            take_down(services.settings)
            end_family(home)
            os.environ.clear()
            os.environ |= kept


def ask(services: Services, path: str, body: dict[str, Any] | None = None) -> Any:
    """Send a request; without a body a GET. A server whose database is busy replies 503, and is asked again."""
    ends = time.monotonic() + 30
    while True:
        url = f"{services.environment['PREFECT_API_URL']}/{path}"
        answer = httpx.request("GET" if body is None else "POST", url, json=body, timeout=20)
        if answer.status_code != 503 or time.monotonic() > ends:
            break
        time.sleep(0.2)
    answer.raise_for_status()
    return answer.json() if answer.content else None


def request(services: Services, name: str) -> str:
    """Request a run over HTTP: Prefect's client in this process may be bound to the server of another test."""
    deployment = ask(services, f"deployments/name/{name}")["id"]
    return str(ask(services, f"deployments/{deployment}/create_flow_run", {"parameters": REQUESTS[name]})["id"])


def runs_of(services: Services, name: str) -> list[dict[str, Any]]:
    """Return every run of a deployment."""
    deployment = ask(services, f"deployments/name/{name}")["id"]
    found: list[dict[str, Any]] = ask(services, "flow_runs/filter", {"deployments": {"id": {"any_": [deployment]}}})
    return found


def state_of(services: Services, run_id: str) -> dict[str, Any]:
    (run,) = ask(services, "flow_runs/filter", {"flow_runs": {"id": {"any_": [run_id]}}})
    state: dict[str, Any] = run["state"]
    return state


def until(services: Services, condition: Callable[[], bool], what: str, *, seconds: float = 120.0) -> None:
    ends = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > ends:
            log = Supervisor(services.settings).log("deployments").read_text()[-4000:]
            raise AssertionError(f"{what} within {seconds} s\n{log}")
        time.sleep(0.2)


def works(services: Services, run_id: str) -> bool:
    return state_of(services, run_id)["type"] == "RUNNING" and sign_of(services.lake, run_id) is not None


def started(services: Services, names: Sequence[str]) -> list[str]:
    """Start a run of each deployment, and wait until each is in the middle of its work."""
    runs = [request(services, name) for name in names]
    until(services, lambda: all(works(services, run) for run in runs), "every run works")
    return runs


def crashed(services: Services, runs: Sequence[str]) -> bool:
    return {state_of(services, run)["type"] for run in runs} == {"CRASHED"}


def kill(*processes: psutil.Process) -> None:
    for process in processes:
        process.kill()
    psutil.wait_procs(processes, timeout=5)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_dead_runs_block_no_later_run(services: Services) -> None:
    bring_up(services.settings, services.environment, PARTS)
    until(services, lambda: len(ask(services, "deployments/filter", {})) == len(REQUESTS), "the deployments")
    first = started(services, list(REQUESTS))
    waits = request(services, TRAINING)
    until(services, lambda: state_of(services, waits)["name"] == "AwaitingConcurrencySlot", "the second training waits")

    end_family(services.home.root)  # the power cut
    bring_up(services.settings, services.environment, PARTS)
    until(services, lambda: crashed(services, first), "all runs are marked")
    until(services, lambda: works(services, waits), "the training that waited works")
    follows = {"flow_runs": {"idempotency_key": {"any_": [f"after-{first[2]}"]}}}
    (promotion,) = ask(services, "flow_runs/filter", follows)
    assert promotion["parameters"]["revision"] == 1
    assert len(runs_of(services, PROMOTION)) == 2, "the promotion that died, and one follower"

    supervisor, follower = Supervisor(services.settings), str(promotion["id"])
    second = [waits, follower, *started(services, ["monitor/monitor", "batch/batch"])]
    until(services, lambda: works(services, follower), "the promotion that follows works")
    outlives = request(services, TRAINING)
    until(services, lambda: state_of(services, outlives)["name"] == "AwaitingConcurrencySlot", "the third waits")
    worker = supervisor.running("deployments")
    assert worker is not None
    kill(worker, *worker.children(recursive=True))  # the worker and its runs; Prefect's server lives
    bring_up(services.settings, services.environment, PARTS)
    until(services, lambda: crashed(services, second), "the worker's runs are marked")
    until(services, lambda: works(services, outlives), "the third training works")
    assert len(runs_of(services, PROMOTION)) == 3, "each promotion that died has one follower"

    worker, survivor = supervisor.running("deployments"), sign_of(services.lake, outlives)
    assert worker is not None
    assert survivor is not None
    kill(worker, *(child for child in worker.children(recursive=True) if child.pid != survivor.pid))
    bring_up(services.settings, services.environment, PARTS)
    server = supervisor.running("prefect")
    assert server is not None
    kill(server)
    bring_up(services.settings, services.environment, PARTS)
    held = state_of(services, outlives)
    assert held["type"] == "RUNNING", "a training outlives its worker and Prefect's server"
    lease = held["state_details"]["deployment_concurrency_lease_id"]
    ask(services, f"v2/concurrency_limits/leases/{lease}/renew", {"lease_duration": 60})  # else Prefect would end it
