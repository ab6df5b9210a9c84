"""A home of release 0.1.0 works in this one: settings move, its package is copied, its databases are opened."""

import json
import os
import subprocess
import sys
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from absa.adapters.lake_stores import FolderLake
from absa.data.snapshot import latest_manifest
from absa.ledger.store import Ledger
from absa.records.tables import PREDICTIONS, read_parquet
from tests.command_line import evergreen, run_evergreen
from tests.homes import choose_ports, home_environment

RELEASED = Path(__file__).parents[2] / "lakes" / "home-0.1.0.tar.gz"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A copy with free ports."""
    with tarfile.open(RELEASED) as archive:
        archive.extractall(tmp_path, filter="data")
    choose_ports(tmp_path / "home")
    return tmp_path / "home"


@pytest.fixture
def said(home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Run a command in this process, which spares its imports, and return what it printed."""
    for name in [name for name in os.environ if name.startswith(("EVERGREEN_", "MLFLOW_", "PREFECT_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("EVERGREEN_HOME", str(home))
    monkeypatch.chdir(home.parent)

    def run(*words: str | Path) -> str:
        capsys.readouterr()
        assert evergreen(*words) == 0
        return capsys.readouterr().out

    return run


def test_commands_read_home_of_former_release(home: Path, said: Callable[..., str]) -> None:
    """No server runs: commands open the files of MLflow, before and after the settings moved."""
    before = (home / "settings.env").read_text()
    assert "ramp = [0.1, 0.5]" in said("config", "--changed")
    assert said("predict", "the app is great", "app").startswith("positive")  # the package was in MLflow alone
    values = {(each["section"], each["key"]): each for each in json.loads(said("config", "--json", "--migrate"))}
    for section, key, value in (("staleness", "cooldown_s", 600), ("experiment", "ramp", [0.1, 0.5])):
        assert (values[section, key]["value"], values[section, key]["origin"]) == (value, "file")
    assert (home / "settings.env.migrated").read_text() == before
    assert not (home / "settings.env").exists()
    status = said("status")
    assert "champion    version 1" in status
    assert "ledger      2 records, verified" in status
    assert said("predict", "the app is broken", "app").startswith("negative")
    lake = FolderLake(home / "lake")
    assert read_parquet(lake, lake.list("predictions/"), PREDICTIONS).num_rows == 20
    manifest = latest_manifest(lake)
    assert manifest is not None
    assert manifest.total_rows == 240


@pytest.fixture
def environment(home: Path) -> Iterator[dict[str, str]]:
    with home_environment(home) as found:
        yield found


@pytest.mark.slow
def test_router_alone_serves_home_until_down(home: Path, environment: dict[str, str], tmp_path: Path) -> None:
    """`serve` copies the package that MLflow alone holds; `down` ends it without a failure, as a supervisor sees it."""
    command = [sys.executable, "-m", "flows.cli", "serve"]
    with subprocess.Popen(command, env=environment, cwd=tmp_path, stderr=subprocess.PIPE, text=True) as served:
        try:
            assert served.stderr is not None
            lines = iter(served.stderr.readline, "")
            assert "the package of version 1 was copied from MLflow into the lake\n" in lines
            assert "Ctrl-C stops it\n" in lines
            answered = run_evergreen(environment, tmp_path, "predict", "the app is great", "app").stdout
            assert "by version 1, champion" in answered
            assert "router" in run_evergreen(environment, tmp_path, "down").stdout
            assert served.wait(timeout=60) == 0
        finally:
            served.terminate()


@pytest.mark.slow
def test_servers_start_in_home_of_former_release(
    home: Path, environment: dict[str, str], said: Callable[..., str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """All servers come up on its databases; a training continues its snapshot, its registry and its ledger."""
    for name, value in environment.items():
        monkeypatch.setenv(name, value)

    def said_apart(*words: str) -> str:
        return run_evergreen(environment, tmp_path, *words, timeout_s=400).stdout

    said("admin", "backup", tmp_path / "before.tar")
    with tarfile.open(tmp_path / "before.tar") as archive:
        assert {"settings.env", "prefect/prefect.db", "mlflow/mlflow.db"} <= set(archive.getnames())
    started = said_apart("up")
    assert "moved the 3 settings of " in started
    assert "EVERGREEN_MAX_EPOCHS was not moved from settings.env.migrated" in started
    assert "the package of version 1 was copied from MLflow into the lake" in started
    url = f"http://127.0.0.1:{environment['EVERGREEN_ROUTER_PORT']}"
    assert httpx.get(f"{url}/readyz", timeout=30).is_success, "up waits until the router has the copied package"
    body = {"text": "the app is great", "aspect": "app"}
    answer = httpx.post(f"{url}/v1/predict", json=body, timeout=30).raise_for_status().json()
    assert (answer["name"], answer["model_version"]) == ("positive", "1")
    assert "by version 1, champion" in said("predict", "the app is slow", "app")
    assert "version 2" in said_apart("train", "--budget", "40")
    assert "verified" in said_apart("status")
    assert "all records, hashes and links are valid" in said("ledger", "verify")
    assert "router" in said_apart("down")
    ledger = Ledger(FolderLake(home / "lake"))
    assert ledger.verify() == []
    assert [record.action for record in ledger.follow()][:3] == ["register", "promote", "register"]
