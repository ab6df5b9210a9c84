"""MLflow's files with and without its server: each sees the versions that were registered through the other."""

import os
from collections.abc import Iterator
from pathlib import Path

import mlflow
import pytest

from absa.adapters.mlflow_client import MlflowRegistry, MlflowRuns
from absa.adapters.mlflow_files import MlflowFiles
from flows.platform.processes import Supervisor, bring_up
from flows.platform.services import build_services
from flows.platform.settings import Home, Settings, apply_environment
from tests.serving_replica import free_port
from tests.toy_package import build_toy_package


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Settings]:
    """A home with a port for MLflow, in a folder where a misplaced artifact would be seen."""
    (tmp_path / "folder").mkdir()
    monkeypatch.chdir(tmp_path / "folder")
    monkeypatch.setenv("EVERGREEN_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("EVERGREEN_MLFLOW_PORT", str(free_port()))
    before, found = dict(os.environ), Settings.load()
    yield found
    Supervisor(found).stop("mlflow")
    os.environ.clear()
    os.environ.update(before)
    import mlflow

    mlflow.set_tracking_uri(None)


@pytest.mark.slow
def test_versions_are_the_same_with_and_without_server(settings: Settings, tmp_path: Path) -> None:
    environment = apply_environment(settings)
    first, second = (build_toy_package(tmp_path / f"toy-{seed}", seed=seed) for seed in range(2))
    alone = build_services(settings, environment=environment, embedded=True)
    with alone.runs.open("embedded", tags={}) as run:
        run.files(first, into="pictures")
        assert run.register(first) == "1"
        note = mlflow.get_run(run.run_id).data.tags["mlflow.note.content"]
        assert "validation_f1 is of the validation split" in note

    bring_up(settings, environment, ["mlflow"])
    url = Home(settings).url("mlflow")
    server = MlflowRegistry(url, environment=environment)
    assert server.versions() == ["1"]
    assert (server.download("1", tmp_path / "served") / "model.onnx").read_bytes() == (
        first / "model.onnx"
    ).read_bytes()
    with MlflowRuns(url).open("served", tags={}) as served:
        assert served.register(second) == "2"
    Supervisor(settings).stop("mlflow")

    files = MlflowRegistry(MlflowFiles.of_home(tmp_path / "home" / "mlflow", environment), environment=environment)
    assert files.versions() == ["1", "2"]
    assert (files.download("2", tmp_path / "alone") / "model.onnx").read_bytes() == (second / "model.onnx").read_bytes()
    assert list((tmp_path / "folder").iterdir()) == []
