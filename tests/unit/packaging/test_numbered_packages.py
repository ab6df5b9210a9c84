"""Packages of a job: complete or absent, the newest wins."""

from pathlib import Path

import pytest

from absa.packaging.numbered import NumberedPackages


def build(packages: NumberedPackages, word: str) -> None:
    with packages.next() as (folder, facts):
        for name in ("package", "weights"):
            (folder / name).mkdir()
            (folder / name / "file").write_text(word)
        facts["word"] = word


def test_newest_complete_package_becomes_the_result(tmp_path: Path) -> None:
    packages = NumberedPackages(tmp_path)
    for word in ("first", "second"):
        build(packages, word)
    assert packages.done() is None
    assert packages.settle() == {"word": "second"}
    assert (tmp_path / "package" / "file").read_text() == "second"
    assert (tmp_path / "weights" / "file").read_text() == "second"
    assert packages.done() == {"word": "second"}


def test_interrupted_build_leaves_the_earlier_package(tmp_path: Path) -> None:
    packages = NumberedPackages(tmp_path)
    build(packages, "first")
    with pytest.raises(RuntimeError), packages.next() as (folder, _):
        (folder / "package").mkdir()
        raise RuntimeError
    (tmp_path / "built" / ".0002").mkdir()  # of a process that was killed
    newest = packages.newest()
    assert newest is not None
    assert newest.facts() == {"word": "first"}
    build(packages, "third")
    assert [path.name for path in (tmp_path / "built").iterdir()] == ["0002"]


def test_result_is_kept_by_a_second_call(tmp_path: Path) -> None:
    packages = NumberedPackages(tmp_path)
    build(packages, "first")
    packages.settle()
    build(packages, "late")
    assert packages.settle() == {"word": "first"}


def test_interrupted_settle_is_completed(tmp_path: Path) -> None:
    packages = NumberedPackages(tmp_path)
    build(packages, "first")
    (tmp_path / "built" / "0001" / "weights").replace(tmp_path / "weights")
    assert packages.settle() == {"word": "first"}
    assert (tmp_path / "weights" / "file").read_text() == "first"


def test_without_a_package_there_is_no_result(tmp_path: Path) -> None:
    packages = NumberedPackages(tmp_path)
    assert packages.settle() is None
    assert packages.newest() is None
    packages.clear()
