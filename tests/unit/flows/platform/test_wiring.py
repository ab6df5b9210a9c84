"""A version's files come to this machine whole or not at all, whoever else fetches them and whatever goes away."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest

from absa.errors import UnavailableError
from absa.inference.package import package_digest
from flows.platform.services import FetchedPackages, Services, build_services
from flows.platform.settings import Home, Settings
from tests.toy_package import build_toy_package


class Reader:
    """A registry with one package. `meanwhile` is called after the first file of the next fetch."""

    def __init__(self, package: Path) -> None:
        self.package = package
        self.fetches = 0
        self.meanwhile: Callable[[], object] | None = None

    def fetch(self, version: str, folder: Path) -> None:
        self.fetches += 1
        folder.mkdir(parents=True, exist_ok=True)
        for file in sorted(self.package.iterdir(), key=lambda file: file.name != "model.onnx"):
            shutil.copyfile(file, folder / file.name)
            meanwhile, self.meanwhile = self.meanwhile, None
            if meanwhile is not None:
                meanwhile()


@pytest.fixture
def reader(tmp_path: Path) -> Reader:
    return Reader(build_toy_package(tmp_path / "package"))


@pytest.fixture
def digest(reader: Reader) -> str:
    return package_digest(reader.package)


@pytest.fixture
def services(tmp_path: Path, reader: Reader) -> Services:
    settings = Settings(home=tmp_path / "home")
    return build_services(settings, environment={}, packages=FetchedPackages(cast(Any, reader), Home(settings)))


def names(folder: Path) -> list[str]:
    return sorted(file.name for file in folder.iterdir())


def test_a_registry_that_goes_away_after_the_first_file_is_asked_again(
    services: Services, reader: Reader, digest: str
) -> None:
    def go_away() -> None:
        raise UnavailableError("MLflow does not answer")

    reader.meanwhile = go_away
    with pytest.raises(UnavailableError):
        services.packages.get("1", digest)
    assert names(services.home.folder("models")) == []
    assert names(services.packages.get("1", digest).folder) == names(reader.package)
    services.packages.get("1", digest)
    assert reader.fetches == 2


def test_of_two_who_fetch_a_version_the_first_ones_files_stay(services: Services, reader: Reader, digest: str) -> None:
    first: list[int] = []
    reader.meanwhile = lambda: first.append(services.packages.get("1", digest).model_path.stat().st_ino)
    package = services.packages.get("1", digest)
    assert [package.model_path.stat().st_ino] == first
    assert names(services.home.folder("models")) == [digest]


@pytest.mark.parametrize("missing", ["calibration.json", "warmup.jsonl"])
def test_files_that_are_not_whole_are_fetched_again(
    services: Services, reader: Reader, digest: str, missing: str
) -> None:
    folder = shutil.copytree(reader.package, services.home.folder("models") / digest)
    (folder / missing).unlink()
    assert names(services.packages.get("1", digest).folder) == names(reader.package)
    assert names(services.home.folder("models")) == [digest]
