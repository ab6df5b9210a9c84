"""From a CSV to a served model in an empty home: no server runs but the router, and it loads nothing of MLOps."""

import csv
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import distribution, packages_distributions
from pathlib import Path

import httpx
import pytest

from absa.data.bundled import SAMPLE
from tests.homes import end_family, family, outer_environment
from tests.serving_replica import free_port

IMPORTED = re.compile(r"import time:\s+\d+ \|\s+\d+ \|\s+(\w+)")
MOST_MB = 400


@pytest.fixture
def environment(tmp_path: Path) -> Iterator[dict[str, str]]:
    home = tmp_path / "home"
    yield {
        **outer_environment(),
        "EVERGREEN_HOME": str(home),
        "EVERGREEN_PROFILE": "test",
        "EVERGREEN_ROUTER_PORT": str(free_port()),
        "EVERGREEN_WORKERS": "1",
    }
    end_family(home)


def evergreen(environment: dict[str, str], folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run a command in a folder as its user does; it has to succeed."""
    command = [sys.executable, "-m", "flows.cli", *words]
    ended = subprocess.run(
        command, env=environment, cwd=folder, capture_output=True, text=True, timeout=240, check=False
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended


def odd_file(folder: Path) -> Path:
    """Two columns of the bundled tickets under names that no program expects."""
    path = folder / "export.csv"
    with (SAMPLE / "tickets" / "tickets.csv").open(encoding="utf-8", newline="") as source:
        rows = list(csv.DictReader(source))
    with path.open("w", encoding="utf-8", newline="") as target:
        csv.writer(target).writerows(
            [("Was der Kunde schrieb", "Kategorie?"), *((r["text"], r["label"]) for r in rows)]
        )
    return path


def imported(log: str) -> set[str]:
    """Top-level modules that Python's import profile names."""
    return set(IMPORTED.findall(log))


def megabytes(modules: set[str]) -> float:
    """Size of the installed packages of some modules, in MB."""
    known = packages_distributions()
    files = (
        file
        for name in {n for module in modules for n in known.get(module, [])}
        for file in distribution(name).files or []
    )
    return sum(path.stat().st_size for path in (Path(str(file.locate())) for file in files) if path.exists()) / 1e6


@pytest.mark.slow
def test_csv_becomes_a_served_model_without_servers(environment: dict[str, str], tmp_path: Path) -> None:
    home = tmp_path / "home"
    evergreen(environment, tmp_path, "init", str(odd_file(tmp_path)))
    trained = evergreen(environment, tmp_path, "train", "--budget", "30")
    assert "version 1" in trained.stdout
    assert "s left" in trained.stderr  # progress
    assert family(home) == []
    asked = ("predict", "I was charged twice for the same invoice.")
    answered = evergreen(environment, tmp_path, *asked)
    assert "by version 1\n" in answered.stdout
    assert "verified" in evergreen(environment, tmp_path, "status").stdout

    profiled = environment | {"PYTHONPROFILEIMPORTTIME": "1"}
    served = evergreen(profiled, tmp_path, "serve", "--detach")
    assert "router and console" in served.stdout
    url = f"http://127.0.0.1:{environment['EVERGREEN_ROUTER_PORT']}"
    body = httpx.post(f"{url}/v1/predict", json={"text": asked[1]}, timeout=30).raise_for_status().json()
    assert (body["model_version"], body["arm"]) == ("1", "champion")
    assert answered.stdout.startswith(body["name"])
    assert httpx.get(f"{url}/", timeout=30).status_code == 200  # console
    assert "by version 1, champion" in evergreen(environment, tmp_path, *asked).stdout
    assert "WATCH" in evergreen(environment, tmp_path, "monitor", "--last", "600").stdout

    parts = {process.environ().get("EVERGREEN_PART") for process in family(home)}
    assert parts == {"router"}
    loaded = imported((home / "logs" / "router.log").read_text(errors="replace")) | imported(served.stderr)
    assert {"onnxruntime", "fastapi"} <= loaded
    assert loaded.isdisjoint({"prefect", "mlflow", "torch", "transformers", "evidently"})
    optional = {"pandas", "pytz", "dateutil", "six"}  # PyArrow imports pandas where it is installed
    assert megabytes(loaded - optional) < MOST_MB
    assert "router" in evergreen(environment, tmp_path, "down").stdout
    assert family(home) == []
    assert {each.name for each in tmp_path.iterdir()} == {"home", "export.csv"}  # no mlruns beside it
    assert os.environ.get("EVERGREEN_HOME") != str(home)
