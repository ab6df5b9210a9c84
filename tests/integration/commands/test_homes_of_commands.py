"""Commands that read make nothing: neither a home where there is none, nor a file in one that is there."""

import os
import shutil
from pathlib import Path

import pytest

from absa.adapters.lake_stores import FolderLake
from absa.inference.package import package_digest
from absa.ledger.lifecycle import crowned
from absa.ledger.store import Ledger
from tests.command_line import evergreen
from tests.toy_package import build_toy_package

TIMES = ("--from", "2026-11-01T00:00:00Z", "--to", "2026-11-01T03:00:00Z")
NEEDS_A_HOME = [
    ("status",), ("ledger",), ("ledger", "verify"), ("ledger", "project"), ("shadow",), ("insights",),
    ("lab", "policy"), ("labels", "export", "queue.csv"), ("labels", "import", "given.csv"), ("export",),
    ("forget", "--days", "3"), ("rollback",), ("promote",), ("promote", "--now"), ("retrain",), ("monitor",),
    ("predict", "the app is fine", "app"), ("simulate", "--seconds", "1"), ("batch", "--input", "a", "--output", "b"),
    ("cost", "--refresh"),
]  # fmt: skip
NEEDS_NONE = [("down",), ("cost",), ("capacity", "--trace", "given-load.csv", "--rate", "100")]
FAILS_EARLY = [("ingest", "none.csv"), ("train", "none.csv"), ("pretrain", "none.csv"), ("train",)]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder that commands run in, with no server and no setting."""
    for name in [name for name in os.environ if name.startswith(("EVERGREEN_", "PREFECT_", "MLFLOW_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:9/api")
    made = tmp_path / "here"
    made.mkdir()
    (made / "given.csv").write_text("request_id,label\n")
    (made / "given-load.csv").write_text("at_s,requests_per_s\n0,50\n20,50\n21,0\n")
    monkeypatch.chdir(made)
    return made


def files(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def folders(folder: Path) -> set[Path]:
    return {file for file in folder.rglob("*") if file.is_dir()}


@pytest.mark.parametrize("words", NEEDS_A_HOME, ids=" ".join)
def test_command_without_home_creates_nothing(
    words: tuple[str, ...], folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = files(folder)
    assert evergreen(*words) == 1
    error = capsys.readouterr().err
    assert f"there is no home at {folder / '.evergreen'}" in error
    assert len(error.strip().splitlines()) == 1
    assert files(folder) == before
    assert folders(folder) == set()


@pytest.mark.parametrize("words", NEEDS_NONE, ids=" ".join)
def test_command_that_needs_no_home_makes_none(words: tuple[str, ...], folder: Path) -> None:
    assert evergreen(*words) == 0
    assert folders(folder) == set()


@pytest.mark.parametrize("words", FAILS_EARLY, ids=" ".join)
def test_command_that_fails_early_makes_no_home(words: tuple[str, ...], folder: Path) -> None:
    assert evergreen(*words) in {1, 3}
    assert folders(folder) == set()


def test_doctor_says_that_there_is_no_home(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    evergreen("doctor")
    assert f"home {folder / '.evergreen'} does not exist yet" in capsys.readouterr().out
    assert folders(folder) == set()


@pytest.fixture
def home(folder: Path) -> Path:
    """A home as an earlier release left it: a lake with a champion, nothing else."""
    home = folder / ".evergreen"
    build_toy_package(folder.parent / "package")
    digest = package_digest(folder.parent / "package")
    shutil.copytree(folder.parent / "package", home / "models" / digest)
    Ledger(FolderLake(home / "lake")).append(
        expected=0, actor="t", action="promote", reason="first", state=crowned("1"), versions={"1": digest}
    )
    return home


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("status",), 0), (("ledger",), 0), (("ledger", "verify"), 0), (("shadow",), 1), (("insights",), 0),
        (("lab", "policy"), 1), (("lab", "policy", *TIMES, "--version", "1"), 0),
        (("lab", "policy", *TIMES, "--version", "1", "--rescore"), 0), (("labels", "export", "../queue.csv"), 0),
        (("predict", "the app is fine", "app"), 0), (("export", "--into", "../package"), 0), (("monitor",), 3),
        (("retrain",), 3), (("promote",), 1), (("promote", "--now"), 1), (("down",), 0),
        (("batch", "--input", "none", "--output", "../scored"), 1),
    ],
    ids=str,
)  # fmt: skip
def test_reading_command_changes_no_home(
    words: tuple[str, ...], code: int, home: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before, before_folders = files(folder), folders(folder)
    assert evergreen(*words) == code
    assert files(folder) == before
    assert folders(folder) == before_folders
    said = capsys.readouterr()
    if words[0] in {"status", "down"}:
        assert str(home) in said.out
    else:
        assert said.err.count(f"home: {home}\n") == 1


def test_cost_keeps_its_record_in_existing_home(home: Path) -> None:
    assert evergreen("cost") == 0
    assert (home / "lake" / "cost" / "current.json").is_file()


def test_lake_elsewhere_replaces_a_home(
    home: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("EVERGREEN_LAKE", str(home / "lake"))
    monkeypatch.setenv("EVERGREEN_HOME", str(folder / "other"))
    assert evergreen("ledger") == 0
    assert "champion 1" in capsys.readouterr().out
    assert not (folder / "other").exists()


def test_predict_needs_no_home_beside_a_named_router(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("EVERGREEN_ROUTER_URL", "http://127.0.0.1:9")
    assert evergreen("predict", "the app is fine", "app") == 3
    assert "the router at http://127.0.0.1:9 is unavailable" in capsys.readouterr().err
    assert folders(folder) == set()


def test_batch_with_a_package_needs_no_home(folder: Path) -> None:
    package = build_toy_package(folder.parent / "package")
    (folder / "rows.csv").write_text("text,aspect\nthe app is fine,app\n")
    words = ("batch", "--input", "rows.csv", "--output", "../scored", "--model", str(package), "--workers", "0")
    assert evergreen(*words) == 0
    assert folders(folder) == set()
