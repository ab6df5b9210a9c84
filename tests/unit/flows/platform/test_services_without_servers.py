"""Commands without servers: when a server is used, and runs whose process is the command."""

import json
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from absa.adapters.lake_stores import FolderLake
from absa.records.layout import flow_run_key
from flows.platform.embedded import EmbeddedDeployments, process_state
from flows.platform.liveness import Sign, this_host
from flows.platform.prefect_runs import PROMOTION, TRAINING, PrefectDeployments
from flows.platform.processes import is_served
from flows.platform.services import build_services
from flows.platform.settings import Home, Settings
from tests.stand_ins import FakeRegistry


def note_running(home: Path, name: str) -> None:
    """Note this process as a part of the home."""
    (home / "run").mkdir(parents=True, exist_ok=True)
    note = {"pid": psutil.Process().pid, "created": psutil.Process().create_time()}
    (home / "run" / f"{name}.json").write_text(json.dumps(note))


def test_server_is_used_if_running_or_named(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path)
    own = {"MLFLOW_TRACKING_URI": Home(settings).url("mlflow")}
    assert not is_served(settings, own, "mlflow")
    assert is_served(settings, {"MLFLOW_TRACKING_URI": "https://mlflow.example"}, "mlflow")
    assert is_served(settings, {"PREFECT_API_URL": "https://prefect.example/api"}, "prefect")
    note_running(tmp_path, "mlflow")
    assert is_served(settings, own, "mlflow")
    assert not is_served(settings, own, "prefect")


def test_only_embedded_services_do_without_prefect(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path)

    def deployments(*, embedded: bool) -> object:
        services = build_services(settings, environment={}, registry=FakeRegistry(), embedded=embedded)
        return services.deployments

    assert isinstance(deployments(embedded=True), EmbeddedDeployments)
    assert isinstance(deployments(embedded=False), PrefectDeployments)
    note_running(tmp_path, "prefect")
    assert isinstance(deployments(embedded=True), PrefectDeployments)


def test_command_gets_the_requested_trainings_alone(tmp_path: Path) -> None:
    services = build_services(Settings(home=tmp_path), environment={}, registry=FakeRegistry(), embedded=True)
    training = services.deployments.start(TRAINING, {"reason": "drift"}, key="k")
    services.deployments.start(PROMOTION, {"version": "2"}, key="promote-2")
    [run] = services.requested_runs()
    assert (run.run_id, run.parameters) == (training, {"reason": "drift"})
    state = services.deployments.state(training)
    assert state is not None
    assert state.end is None


@pytest.mark.parametrize(("host", "end"), [(this_host(), "failed"), ("away/1/p", None)])
def test_run_ends_with_the_process_that_is_seen(tmp_path: Path, host: str, end: str | None) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    lake = FolderLake(tmp_path)
    sign = Sign(host=host, pid=ended.pid, created=1.0, at="2026-11-30T00:00:00.000000Z")
    lake.write(flow_run_key("run-1"), json.dumps(vars(sign)).encode())
    state = process_state(lake, "run-1")
    assert state is not None
    assert state.end == end
    assert process_state(lake, "run-2") is None
