"""Packages in the lake: one suite over a folder and an S3 server."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from absa.adapters.lake_stores import FolderLake, S3Lake
from absa.adapters.package_store import PackageStore
from absa.errors import IntegrityError, NotFoundError, UnavailableError
from absa.inference.package import package_digest
from absa.records.lake import Lake
from tests.s3_server import s3_server
from tests.toy_package import build_toy_package


class Interrupted:
    """A lake that becomes unavailable before the given read or create."""

    def __init__(self, lake: Lake, after: int) -> None:
        self.lake, self.left = lake, after

    def __getattr__(self, name: str) -> Any:
        return getattr(self.lake, name)

    def _count(self) -> None:
        self.left -= 1
        if self.left < 0:
            raise UnavailableError("the lake is unavailable")

    def read(self, key: str) -> bytes:
        self._count()
        return self.lake.read(key)

    def create(self, key: str, data: bytes) -> None:
        self._count()
        self.lake.create(key, data)


class Meanwhile(Interrupted):
    """A lake that calls something before its first read."""

    def __init__(self, lake: Lake, call: Callable[[], object]) -> None:
        super().__init__(lake, after=1000)
        self.calls = [call]

    def read(self, key: str) -> bytes:
        if self.calls:
            self.calls.pop()()
        return super().read(key)


@pytest.fixture(scope="module")
def s3() -> Iterator[Any]:
    with s3_server() as client:
        client.create_bucket(Bucket="packages")
        yield client


@pytest.fixture(params=["folder", "s3"])
def lake(request: pytest.FixtureRequest, tmp_path: Path) -> Lake:
    if request.param == "folder":
        return FolderLake(tmp_path / "lake")
    return S3Lake(f"s3://packages/{tmp_path.name}", client=request.getfixturevalue("s3"))


@pytest.fixture
def store(lake: Lake) -> PackageStore:
    return PackageStore(lake)


@pytest.fixture
def package(tmp_path: Path) -> Path:
    return build_toy_package(tmp_path / "package")


def contents(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def test_fetched_package_equals_the_stored_one(store: PackageStore, package: Path, tmp_path: Path) -> None:
    digest = store.put(package)
    assert digest == package_digest(package)
    got = store.get(digest, tmp_path / "models" / digest)
    assert contents(got.folder) == contents(package)
    assert [each.name for each in (tmp_path / "models").iterdir()] == [digest]
    assert store.digests() == {digest}


def test_lost_file_is_put_again(lake: Lake, store: PackageStore, package: Path, tmp_path: Path) -> None:
    digest = store.put(package)
    lake.delete(f"packages/{digest}/tokenizer.json")
    assert store.put(package) == digest
    assert contents(store.get(digest, tmp_path / "models" / digest).folder) == contents(package)


def test_package_put_twice_is_written_once(lake: Lake, store: PackageStore, package: Path) -> None:
    digest = store.put(package)
    before = lake.read(f"packages/{digest}/gate.html")
    (package / "gate.html").write_text("<p>another report</p>")
    assert store.put(package) == digest
    assert lake.read(f"packages/{digest}/gate.html") == before


@pytest.mark.parametrize("written", range(8))
def test_half_written_package_is_absent_until_put_again(
    lake: Lake, store: PackageStore, package: Path, tmp_path: Path, written: int
) -> None:
    digest = package_digest(package)
    with pytest.raises(UnavailableError):
        PackageStore(Interrupted(lake, written)).put(package)
    assert store.digests() == set()
    with pytest.raises(NotFoundError, match=f"holds no package {digest}"):
        store.get(digest, tmp_path / "models" / digest)
    store.put(package)
    assert contents(store.get(digest, tmp_path / "models" / digest).folder) == contents(package)


@pytest.mark.parametrize("name", ["model.onnx", "warmup.jsonl"])
def test_incomplete_folder_is_not_put(lake: Lake, store: PackageStore, package: Path, name: str) -> None:
    (package / name).unlink()
    with pytest.raises(IntegrityError, match=name):
        store.put(package)
    assert lake.list("") == []


def test_changed_file_in_lake_is_refused(lake: Lake, store: PackageStore, package: Path, tmp_path: Path) -> None:
    digest = store.put(package)
    lake.write(f"packages/{digest}/model.onnx", b"rot")
    with pytest.raises(IntegrityError, match="digest"):
        store.get(digest, tmp_path / "models" / digest)
    assert list((tmp_path / "models").iterdir()) == []


def test_lost_file_in_lake_is_named(lake: Lake, store: PackageStore, package: Path, tmp_path: Path) -> None:
    digest = store.put(package)
    lake.delete(f"packages/{digest}/tokenizer.json")
    with pytest.raises(NotFoundError, match=r"has no tokenizer\.json"):
        store.get(digest, tmp_path / "models" / digest)


def test_interrupted_fetch_leaves_nothing_behind(lake: Lake, package: Path, tmp_path: Path) -> None:
    digest = PackageStore(lake).put(package)
    store = PackageStore(Interrupted(lake, after=3))
    with pytest.raises(UnavailableError):
        store.get(digest, tmp_path / "models" / digest)
    assert list((tmp_path / "models").iterdir()) == []


def test_whole_local_folder_needs_no_lake(lake: Lake, store: PackageStore, package: Path, tmp_path: Path) -> None:
    digest = store.put(package)
    store.get(digest, tmp_path / digest)
    assert PackageStore(Interrupted(lake, after=0)).get(digest, tmp_path / digest).digest == digest


@pytest.mark.parametrize("name", ["calibration.json", "warmup.jsonl"])
def test_incomplete_local_folder_is_fetched_again(
    store: PackageStore, package: Path, tmp_path: Path, name: str
) -> None:
    digest = store.put(package)
    folder = shutil.copytree(package, tmp_path / "models" / digest)
    (folder / name).unlink()
    assert contents(store.get(digest, folder).folder) == contents(package)
    assert [each.name for each in (tmp_path / "models").iterdir()] == [digest]


def test_concurrent_fetch_keeps_first_files(lake: Lake, store: PackageStore, package: Path, tmp_path: Path) -> None:
    digest = store.put(package)
    folder = tmp_path / "models" / digest
    first: list[int] = []
    late = PackageStore(Meanwhile(lake, lambda: first.append(store.get(digest, folder).model_path.stat().st_ino)))
    assert [late.get(digest, folder).model_path.stat().st_ino] == first
    assert [each.name for each in folder.parent.iterdir()] == [digest]


@pytest.mark.parametrize("digest", ["", "../../escape", "0" * 63, "0" * 64 + "\n"])
def test_digest_cannot_name_a_path(store: PackageStore, tmp_path: Path, digest: str) -> None:
    with pytest.raises(IntegrityError, match="64 hex digits"):
        store.get(digest, tmp_path / "models" / "x")
