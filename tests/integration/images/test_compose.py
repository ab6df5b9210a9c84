"""Compose files without an engine: their words, order, load balancer and volumes, and that Compose accepts them."""

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from absa.adapters.mlflow_files import MlflowFiles
from absa.variables import KNOWN
from tests.aws.synthesis import ROOT

FILE = ROOT / "docker-compose.yml"
HOST_FILE = ROOT / "docker-compose.host.yml"  # of one host that keeps its data
FILES = pytest.mark.parametrize("file", [FILE, HOST_FILE], ids=["look", "host"])


@pytest.fixture(scope="module")
def secrets_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("compose") / "compose.env"
    subprocess.run([sys.executable, "infra/images/compose_secrets.py", str(file)], cwd=ROOT, check=True)
    return file


def services_of(file: Path) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(file.read_text())["services"]
    return found


@pytest.fixture(scope="module")
def services() -> dict[str, Any]:
    return services_of(FILE)


@FILES
def test_compose_accepts_file_with_made_secrets(secrets_file: Path, file: Path) -> None:
    commands = (["docker", "compose"], ["docker-compose"])
    for command in commands:
        known = shutil.which(command[0]) is not None
        if known and subprocess.run([*command, "version"], capture_output=True, check=False).returncode == 0:
            arguments = [*command, "--env-file", str(secrets_file), "-f", str(file), "config", "-q"]
            ended = subprocess.run(arguments, cwd=ROOT, capture_output=True, text=True, check=False)
            assert ended.returncode == 0, ended.stderr
            return
    pytest.skip("neither `docker compose` nor docker-compose is installed")


def test_secrets_are_made_once_for_owner_only(secrets_file: Path) -> None:
    before = secrets_file.read_text()
    subprocess.run([sys.executable, "infra/images/compose_secrets.py", str(secrets_file)], cwd=ROOT, check=True)
    assert secrets_file.read_text() == before
    assert secrets_file.stat().st_mode & 0o777 == 0o600


def test_system_has_two_routers_behind_one_address(services: dict[str, Any]) -> None:
    assert {"postgres", "s3", "prefect", "mlflow", "evidently", "worker", "router-1", "router-2", "balancer"} <= set(
        services
    )
    published = {name: each["ports"] for name, each in services.items() if "ports" in each}
    assert set(published) == {"balancer", "prefect", "mlflow", "evidently"}
    assert all(port.startswith("127.0.0.1:") for ports in published.values() for port in ports)
    assert services["router-1"] == services["router-2"]


def test_routers_and_worker_share_unit_secret(services: dict[str, Any]) -> None:
    told = {services[name]["environment"].get("EVERGREEN_SECRET") for name in ("router-1", "router-2", "worker")}
    assert len(told) == 1
    assert None not in told


@FILES
def test_part_waits_for_existing_waitable_part(file: Path) -> None:
    services = services_of(file)
    for name, each in services.items():
        for other, how in each.get("depends_on", {}).items():
            if how["condition"] == "service_healthy":
                assert "healthcheck" in services[other], f"{name} waits for {other}'s health"
            else:
                assert how["condition"] == "service_completed_successfully"


@FILES
def test_containers_are_read_only_and_logged(file: Path) -> None:
    for name, each in services_of(file).items():
        if "build" not in each:
            continue
        assert each["read_only"] is True, name
        assert (ROOT / each["build"]["dockerfile"]).is_file()
        assert each["build"]["context"] == "."  # where evergreen.toml is
        for variable in each["environment"]:
            if variable.startswith("EVERGREEN_"):
                assert variable.removeprefix("EVERGREEN_") in KNOWN, variable


def test_host_keeps_its_data_in_one_home() -> None:
    content = yaml.safe_load(HOST_FILE.read_text())
    assert content["volumes"] == {"home": None}
    for name, each in content["services"].items():
        assert "home:/var/evergreen" in each["volumes"], name
        assert each["restart"] == ("no" if name == "folders" else "unless-stopped"), name
        assert each["tmpfs"] == ["/tmp"], name
    services = content["services"]
    database = next(word for word in services["mlflow"]["command"] if word.startswith("--backend-store-uri="))
    assert database == f"--backend-store-uri={MlflowFiles.of_home(Path('/var/evergreen/mlflow'), {}).database}"
    assert services["prefect"]["environment"]["PREFECT_HOME"] == "/var/evergreen/prefect"
    assert {services[name]["environment"]["EVERGREEN_HOME"] for name in ("worker", "router")} == {"/var/evergreen"}
    assert "./backups:/backups" in services["worker"]["volumes"]


def test_load_balancer_sends_to_both_routers() -> None:
    file = ROOT / "infra" / "images" / "haproxy.cfg"
    servers = [line.split()[1:3] for line in file.read_text().splitlines() if line.strip().startswith("server ")]
    assert servers == [["router-1", "router-1:8080"], ["router-2", "router-2:8080"]]
    binary = shutil.which("haproxy") or shutil.which("haproxy", path="/usr/sbin")
    if binary is None:
        pytest.skip("haproxy is not installed")
    ended = subprocess.run([binary, "-c", "-f", str(file)], capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
