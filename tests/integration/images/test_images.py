"""The images' build steps without an engine: what the Dockerfile of serving says, carried out in a clean folder.

With EVERGREEN_TEST_IMAGES=1 (`make test-images`) pip installs; otherwise the same files are linked, in seconds.
"""

import json
import os
import shutil
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import httpx
import pytest

from absa.adapters.lake_stores import FolderLake
from absa.adapters.package_store import PackageStore
from absa.data.mapping import CONFIGURATION_FILE
from absa.ledger.routing import single
from absa.ledger.state import State
from absa.ledger.store import Ledger
from tests.aws.synthesis import ROOT
from tests.aws.template import image_copies, image_environment
from tests.serving_replica import free_port, until
from tests.toy_package import build_toy_package

LIMIT_MB = 400


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with /app and the packages, as the Dockerfile's steps leave them."""
    root = tmp_path_factory.mktemp("serving-image")
    app, packages = root / "app", root / "packages"
    dockerfile = (ROOT / "infra" / "images" / "serving.Dockerfile").read_text()
    for source, goal in image_copies(dockerfile, ROOT):
        (app / goal).parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, app / goal, dirs_exist_ok=True)
        else:
            shutil.copy(source, app / goal)
    for line in dockerfile.splitlines():
        if line.startswith("RUN pip install"):
            _install(line.split()[3:], packages, app)
    return root


def _install(words: list[str], packages: Path, app: Path) -> None:
    """Carry out `pip install`. Unless asked for the real thing, link what this environment has of the same versions."""
    pinned = [line.split("==") for line in (app / words[words.index("-r") + 1]).read_text().splitlines() if line]
    here = {name: _installed(name) for name, _ in pinned}
    if os.environ.get("EVERGREEN_TEST_IMAGES") == "1" or any(here[name] != version for name, version in pinned):
        command = [sys.executable, "-m", "pip", "install", "-q", "--target", str(packages), *words]
        subprocess.run([*command, "--no-compile", "--disable-pip-version-check"], cwd=app, check=True)
        return
    assert "--no-deps" in words  # what is linked is what is named, and nothing else
    for name, _ in pinned:
        for file in distribution(name).files or ():
            source = Path(str(file.locate()))
            if ".." not in file.parts and "__pycache__" not in file.parts and source.is_file():
                (packages / file).parent.mkdir(parents=True, exist_ok=True)
                (packages / file).symlink_to(source.resolve())


def _installed(name: str) -> str | None:
    try:
        return distribution(name).version
    except PackageNotFoundError:
        return None


@pytest.mark.parametrize("written", [True, False])
@pytest.mark.parametrize("name", ["serving", "platform"])
def test_image_carries_evergreen_toml_if_written(name: str, written: bool, tmp_path: Path) -> None:
    allowed = [line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    for each in allowed:
        if not (tmp_path / each).exists() and each != CONFIGURATION_FILE:
            (tmp_path / each).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / each).symlink_to(ROOT / each)
    if written and CONFIGURATION_FILE in allowed:
        (tmp_path / CONFIGURATION_FILE).touch()
    copies = image_copies((ROOT / "infra" / "images" / f"{name}.Dockerfile").read_text(), tmp_path)
    goals = [Path(goal) for source, goal in copies if source.name == CONFIGURATION_FILE]
    assert goals == ([Path(CONFIGURATION_FILE)] if written else [])


def test_platform_image_has_measured_figures(tmp_path: Path) -> None:
    dockerfile = (ROOT / "infra" / "images" / "platform.Dockerfile").read_text()
    for goal, source in {Path(goal): source for source, goal in image_copies(dockerfile, ROOT)}.items():
        (tmp_path / goal).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / goal).symlink_to(source)
    environment = {**os.environ, "PYTHONPATH": str(tmp_path), "EVERGREEN_HOME": str(tmp_path / "home")}
    command = [sys.executable, "-m", "flows.cli", "cost"]
    ended = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    assert "MiniLM-L6 int8" in ended.stdout
    allowed = (ROOT / ".dockerignore").read_text().splitlines()
    assert "!benchmarks/results" in allowed


def test_serving_has_400_mb_and_no_torch(image: Path) -> None:
    packages = image / "packages"
    size_mb = sum(file.stat().st_size for file in packages.rglob("*") if file.is_file()) / 1e6
    assert size_mb <= LIMIT_MB
    assert not {"torch", "transformers", "mlflow", "prefect"} & {each.name for each in packages.iterdir()}


def test_image_answers_with_own_packages_only(image: Path, tmp_path: Path) -> None:
    home, port = tmp_path / "home", free_port()
    lake = FolderLake(home / "lake")
    digest = PackageStore(lake).put(build_toy_package(tmp_path / "package"))
    Ledger(lake).append(
        expected=0, actor="test", action="promote", reason="test",
        versions={"1": digest}, state=State(champion="1", plan=single("1", salt="s")),
    )  # fmt: skip
    words = image_environment((ROOT / "infra" / "images" / "serving.Dockerfile").read_text())
    environment = {
        **words,
        "HOME": str(home),
        "PATH": os.defpath,
        "PYTHONPATH": f"{image / 'app'}:{image / 'packages'}",
        "EVERGREEN_HOME": str(home),
        "EVERGREEN_WORKERS": "1",
        "EVERGREEN_ROUTER_PORT": str(port),
    }
    python = getattr(sys, "_base_executable", sys.executable)  # outside this environment: its packages are not seen
    with (tmp_path / "log").open("wb") as log:
        router = subprocess.Popen(
            [python, "-s", "-m", "serving"], cwd=image / "app", env=environment, stdout=log, stderr=log
        )
    try:
        url = f"http://127.0.0.1:{port}"

        def ready() -> bool:
            assert router.poll() is None, (tmp_path / "log").read_text()
            return httpx.get(f"{url}/readyz").status_code == 200

        until(ready, seconds=30, what="the router")
        said = httpx.post(f"{url}/v1/predict", content=json.dumps({"text": "the app is great", "aspect": "app"}))
        assert said.json()["model_version"] == "1"
    finally:
        router.terminate()
        router.wait(20)
