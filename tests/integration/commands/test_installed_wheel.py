"""The wheel in an empty environment, outside the checkout: a CSV becomes a served model and a prediction.

Dependencies come from the environment of the tests (a .pth file); the project comes from the wheel alone. No server
runs but the router, which loads nothing of MLOps.
"""

import csv
import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from collections.abc import Iterator
from importlib.metadata import distribution, packages_distributions
from pathlib import Path

import httpx
import pytest

from absa.data.bundled import SAMPLE
from tests.homes import family, home_environment

ROOT = Path(__file__).parents[3]
ROOMS = ("absa", "flows", "serving", "monitoring", "infra")
OF_CHECKOUT = (  # used from a checkout, by no code of the wheel
    "absa/models/", "absa/notebooks/", "infra/grafana/", "infra/helm/", "infra/images/",
)  # fmt: skip
EXPORTED = "absa/client/exported/"  # holds the import name `evergreen`
ASKED = "I was charged twice for the same invoice."
IMPORTED = re.compile(r"import time:\s+\d+ \|\s+\d+ \|\s+(\w+)")
MOST_MB = 400
ROWS = 400  # are learned in seconds


def tracked(*patterns: str) -> list[str]:
    """Files of the checkout that git does not ignore."""
    listed = ("git", "ls-files", "--cached", "--others", "--exclude-standard", "--", *patterns)
    named = subprocess.run(listed, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
    return [name for name in named if (ROOT / name).is_file()]


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkout that built the wheel of an earlier release, which had one module more."""
    folder = tmp_path_factory.mktemp("source")
    for name in tracked(*ROOMS, "benchmarks/results", "pyproject.toml", "setup.py", "README.md", "LICENSE"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, folder / name)
    earlier = folder / "build" / "lib" / "flows" / "deleted.py"
    earlier.parent.mkdir(parents=True)
    earlier.touch()
    return folder


def build(source: Path, into: Path, *options: str) -> Path:
    """Return the wheel that a build without network makes."""
    command = [sys.executable, "-m", "build", "--no-isolation", *options, "--outdir", str(into), str(source)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    (found,) = into.glob("*.whl")
    return found


@pytest.fixture(scope="module")
def wheel(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from the source distribution as publishers build it."""
    return build(source, tmp_path_factory.mktemp("built"))


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of commands of an environment that has the project from the wheel alone."""
    environment = tmp_path_factory.mktemp("empty") / "environment"
    venv.create(environment, with_pip=False, symlinks=True)
    python = environment / "bin" / "python"
    install = ("-m", "pip", "--python", str(python), "install", "-q", "--no-deps", "--no-index", str(wheel))
    apart = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}  # a checkout's egg-info counts
    subprocess.run([sys.executable, *install], cwd=environment, env=apart, check=True, timeout=120)
    (packages,) = environment.glob("lib/python*/site-packages")
    (packages / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n", encoding="utf-8")
    return python.parent


@pytest.fixture
def environment(tmp_path: Path) -> Iterator[dict[str, str]]:
    with home_environment(tmp_path / "home") as found:
        yield {name: value for name, value in found.items() if name != "PYTHONPATH"}


def test_wheel_holds_every_data_file(wheel: Path) -> None:
    packed = set(zipfile.ZipFile(wheel).namelist())
    data = {name for name in tracked(*ROOMS) if not name.startswith(OF_CHECKOUT) and Path(name).name != "README.md"}
    data = {name.removeprefix(EXPORTED) for name in data if not Path(name).name.startswith("requirements.")}
    figures = {name for name in tracked("benchmarks/results") if Path(name).parent.name == "results"}
    assert len(figures) > 10
    assert (data | figures) - packed == set()
    strangers = {
        name for name in packed if not name.startswith((*ROOMS, "benchmarks/results/", "evergreen/", "evergreen-"))
    }
    assert strangers == set()


def test_upgraded_checkout_packs_no_deleted_file(source: Path, wheel: Path, tmp_path: Path) -> None:
    upgraded = build(source, tmp_path, "--wheel")  # in the folder itself, as uv and pipx build a checkout
    assert sorted(zipfile.ZipFile(upgraded).namelist()) == sorted(zipfile.ZipFile(wheel).namelist())


def odd_file(folder: Path) -> Path:
    """Two columns of the bundled tickets under names that no program expects."""
    path = folder / "export.csv"
    with (SAMPLE / "tickets" / "tickets.csv").open(encoding="utf-8", newline="") as source:
        rows = list(csv.DictReader(source))[:ROWS]
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
def test_csv_becomes_served_model_from_wheel(installed: Path, environment: dict[str, str], tmp_path: Path) -> None:
    home = tmp_path / "home"

    def run(*command: str, **variables: str) -> subprocess.CompletedProcess[str]:
        """Run a command of the environment in an empty folder; it has to succeed."""
        words = [str(installed / command[0]), *command[1:]]
        ended = subprocess.run(
            words, env=environment | variables, cwd=tmp_path, capture_output=True, text=True, timeout=240, check=False
        )
        assert ended.returncode == 0, ended.stdout + ended.stderr
        return ended

    places = "import absa, flows, serving, monitoring, infra as i; print(absa.__file__, flows.__file__, i.__file__)"
    assert all(place.startswith(str(installed.parent)) for place in run("python", "-c", places).stdout.split())
    run("evergreen", "init", str(odd_file(tmp_path)))
    trained = run("evergreen", "train", "--budget", "30")
    assert "version 1" in trained.stdout
    assert "s left" in trained.stderr  # progress
    assert family(home) == []
    answered = run("evergreen", "predict", ASKED).stdout
    assert "by version 1\n" in answered
    assert "verified" in run("evergreen", "status").stdout

    served = run("evergreen", "serve", "--detach", PYTHONPROFILEIMPORTTIME="1")
    assert "router and console" in served.stdout
    url = f"http://127.0.0.1:{environment['EVERGREEN_ROUTER_PORT']}"
    body = httpx.post(f"{url}/v1/predict", json={"text": ASKED}, timeout=30).raise_for_status().json()
    assert (body["model_version"], body["arm"]) == ("1", "champion")
    assert answered.startswith(body["name"])
    assert "console" in httpx.get(f"{url}/", timeout=30).raise_for_status().text  # a page of the package
    assert "by version 1, champion" in run("evergreen", "predict", ASKED).stdout
    assert "WATCH" in run("evergreen", "monitor", "--last", "600").stdout

    assert {process.environ().get("EVERGREEN_PART") for process in family(home)} == {"router"}
    loaded = imported((home / "logs" / "router.log").read_text(errors="replace")) | imported(served.stderr)
    assert {"onnxruntime", "fastapi"} <= loaded
    assert loaded.isdisjoint({"prefect", "mlflow", "torch", "transformers", "evidently"})
    optional = {"pandas", "pytz", "dateutil", "six"}  # PyArrow imports pandas where it is installed
    assert megabytes(loaded - optional) < MOST_MB
    assert "MiniLM-L6 int8" in run("evergreen", "cost").stdout
    assert "measured" in run("evergreen", "capacity", "--trace", "night").stdout
    assert json.loads((home / "lake" / "cost" / "current.json").read_text())["profile"] == "daily"
    assert "router" in run("evergreen", "down").stdout
    assert family(home) == []
    assert {each.name for each in tmp_path.iterdir()} == {"home", "export.csv"}  # no mlruns beside it
