"""Packages of the ledger's versions: from the lake, and those of an earlier release from the registry."""

from pathlib import Path

import pytest

from absa.adapters.kept_packages import KeptPackages
from absa.adapters.lake_stores import FolderLake
from absa.adapters.package_store import PackageStore
from absa.errors import IntegrityError, NotFoundError, UnavailableError
from absa.inference.package import package_digest
from tests.stand_ins import FakeRegistry
from tests.toy_package import build_toy_package


@pytest.fixture
def package(tmp_path: Path) -> Path:
    return build_toy_package(tmp_path / "built")


@pytest.fixture
def old(package: Path) -> FakeRegistry:
    """Registry of an earlier release: version 1 is not in the lake."""
    return FakeRegistry({"1": {}}, packages={"1": package})


@pytest.fixture
def lake(tmp_path: Path) -> FolderLake:
    return FolderLake(tmp_path / "lake")


def kept(lake: FolderLake, registry: FakeRegistry) -> KeptPackages:
    return KeptPackages(PackageStore(lake), lake.root.parent / "models", registry=registry)


def test_package_of_lake_needs_no_registry(lake: FolderLake, package: Path, tmp_path: Path) -> None:
    registry = FakeRegistry()
    registry.away = True
    packages = kept(lake, registry)
    digest = packages.put(package)
    assert packages.get("1", digest).folder == tmp_path / "models" / digest
    assert packages.copy_missing({"1": digest}) == []


def test_older_package_is_copied_when_first_needed(lake: FolderLake, package: Path, old: FakeRegistry) -> None:
    digest = package_digest(package)
    assert kept(lake, old).get("1", digest).digest == digest
    assert PackageStore(lake).digests() == {digest}
    kept(lake, old).get("1", digest)
    assert old.downloads == ["1"]


def test_lost_file_in_lake_comes_back_from_registry(lake: FolderLake, package: Path, old: FakeRegistry) -> None:
    packages = kept(lake, old)
    digest = packages.put(package)
    lake.delete(f"packages/{digest}/model.onnx")
    assert packages.get("1", digest).digest == digest
    assert lake.exists(f"packages/{digest}/model.onnx")


def test_package_that_is_nowhere_is_named(lake: FolderLake) -> None:
    with pytest.raises(NotFoundError, match=f"holds no package {'0' * 64}.* not in MLflow either"):
        kept(lake, FakeRegistry()).get("7", "0" * 64)


def test_unavailable_registry_can_be_asked_again(lake: FolderLake, package: Path, old: FakeRegistry) -> None:
    digest, packages = package_digest(package), kept(lake, old)
    old.away = True
    with pytest.raises(UnavailableError):
        packages.get("1", digest)
    old.away = False
    assert packages.get("1", digest).digest == digest


def test_registered_files_with_another_digest_are_refused(lake: FolderLake, old: FakeRegistry) -> None:
    with pytest.raises(IntegrityError, match="expected 0000"):
        kept(lake, old).get("1", "0" * 64)
    assert lake.list("") == []


def test_missing_packages_are_copied_once(lake: FolderLake, package: Path, old: FakeRegistry, tmp_path: Path) -> None:
    packages = kept(lake, old)
    versions = {"1": package_digest(package), "2": packages.put(build_toy_package(tmp_path / "new", seed=1))}
    assert packages.copy_missing(versions) == ["the package of version 1 was copied from MLflow into the lake"]
    assert PackageStore(lake).digests() == set(versions.values())
    assert packages.copy_missing(versions) == []
    assert old.downloads == ["1"]


def test_failed_copy_is_reported_and_done_later(lake: FolderLake, package: Path, old: FakeRegistry) -> None:
    packages, versions = kept(lake, old), {"1": package_digest(package), "2": "0" * 64}
    old.away = True
    failed = [sentence.partition(":")[0] for sentence in packages.copy_missing(versions)]
    assert failed == [f"the package of version {version} is not in the lake" for version in "12"]
    old.away = False
    copied, still = packages.copy_missing(versions)
    assert copied == "the package of version 1 was copied from MLflow into the lake"
    assert still.startswith("the package of version 2 is not in the lake: ")
