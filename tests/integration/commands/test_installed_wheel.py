"""The wheel in an empty environment, outside the checkout: a CSV becomes a served model and a prediction.

Dependencies come from the environment of the tests (a .pth file); the project comes from the wheel alone.
"""

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.homes import end_family, outer_environment
from tests.integration.commands.test_without_servers import odd_file
from tests.serving_replica import free_port

ROOT = Path(__file__).parents[3]
ROOMS = ("absa", "flows", "serving", "monitoring", "infra")
OF_CHECKOUT = (  # used from a checkout, by no code of the wheel
    "absa/models/", "absa/notebooks/", "infra/grafana/", "infra/helm/", "infra/images/",
)  # fmt: skip
EXPORTED = "absa/client/exported/"  # holds the import name `evergreen`
ASKED = "I was charged twice for the same invoice."


def tracked(*patterns: str) -> list[str]:
    """Files of the checkout that git does not ignore."""
    listed = ("git", "ls-files", "--cached", "--others", "--exclude-standard", "--", *patterns)
    named = subprocess.run(listed, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
    return [name for name in named if (ROOT / name).is_file()]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from the source distribution as publishers build it."""
    source, built = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("built")
    for name in tracked(*ROOMS, "benchmarks/results", "pyproject.toml", "README.md", "LICENSE"):
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, source / name)
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(built), str(source)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    (found,) = built.glob("*.whl")
    return found


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
    home = tmp_path / "home"
    yield {
        **{name: value for name, value in outer_environment().items() if name != "PYTHONPATH"},
        "EVERGREEN_HOME": str(home),
        "EVERGREEN_PROFILE": "test",
        "EVERGREEN_ROUTER_PORT": str(free_port()),
        "EVERGREEN_WORKERS": "1",
    }
    end_family(home)


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


@pytest.mark.slow
def test_csv_becomes_served_model_from_wheel(installed: Path, environment: dict[str, str], tmp_path: Path) -> None:
    def run(*command: str) -> str:
        """Run a command of the environment in an empty folder; it has to succeed."""
        words = [str(installed / command[0]), *command[1:]]
        ended = subprocess.run(
            words, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=240, check=False
        )
        assert ended.returncode == 0, ended.stdout + ended.stderr
        return ended.stdout

    places = "import absa, flows, serving, monitoring, infra as i; print(absa.__file__, flows.__file__, i.__file__)"
    assert all(place.startswith(str(installed.parent)) for place in run("python", "-c", places).split())
    run("evergreen", "init", str(odd_file(tmp_path)))
    assert "version 1" in run("evergreen", "train", "--budget", "20")
    assert "by version 1\n" in run("evergreen", "predict", ASKED)

    run("evergreen", "serve", "--detach")
    url = f"http://127.0.0.1:{environment['EVERGREEN_ROUTER_PORT']}"
    assert httpx.post(f"{url}/v1/predict", json={"text": ASKED}, timeout=30).json()["model_version"] == "1"
    assert "console" in httpx.get(f"{url}/", timeout=30).text  # a page of the package
    assert "MiniLM-L6 int8" in run("evergreen", "cost")
    assert "measured" in run("evergreen", "capacity", "--trace", "night")
    assert json.loads((tmp_path / "home" / "lake" / "cost" / "current.json").read_text())["profile"] == "daily"
