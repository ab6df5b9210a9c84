"""`evergreen capacity` and `evergreen cost`: what they say, and one sentence where they cannot."""

import json
from pathlib import Path

import pytest

from absa.adapters.lake_stores import FolderLake
from tests.command_line import evergreen


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("EVERGREEN_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("EVERGREEN_LAKE", str(tmp_path / "home" / "lake"))
    return tmp_path / "home"


@pytest.fixture
def results(tmp_path: Path) -> Path:
    folder = tmp_path / "results"
    folder.mkdir()
    rows = [
        {"case": "MiniLM-L6 int8, saturation", "metric": "requests_per_s", "value": 900.0},
        {"case": "MiniLM-L6 int8, saturation", "metric": "worker_cpu_per_request", "value": 2_000.0},
    ]
    serving = {"date": "2026-01-01", "commit": "abc", "machine": {"cpu": "test", "cores": 2}, "rows": rows}
    (folder / "serving.json").write_text(json.dumps(serving))
    return folder


@pytest.fixture
def load(tmp_path: Path) -> Path:
    path = tmp_path / "load.csv"
    path.write_text("at_s,requests_per_s\n0,50\n20,2000\n60,2000\n61,0\n")
    return path


def test_capacity_compares_policies_on_a_trace(
    tmp_path: Path, load: Path, results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    picture = tmp_path / "load.svg"
    assert evergreen("capacity", "--trace", load, "--results", results, "--plot", picture) == 0
    said = capsys.readouterr().out
    assert "measured) serves 900/s" in said
    assert "always enough for the peak" in said
    assert picture.read_text().startswith("<?xml")


def test_declared_task_is_reported_as_unmeasured(load: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert evergreen("capacity", "--trace", load, "--rate", "1000") == 0
    assert "declared, not measured" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("capacity", "--trace", "none.csv", "--rate", "9"), "none.csv"),
        (("capacity", "--rate", "-1"), "--rate: expected a number from 1"),
        (("capacity", "--results", "nowhere"), "was not measured"),
        (("cost", "--results", "nowhere"), "benchmark-serving"),
        (("cost", "--f1", "much"), "NAME=NUMBER"),
    ],
)
def test_impossible_request_gets_one_sentence(
    words: tuple[str, ...], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert evergreen(*words) == 1
    error = capsys.readouterr().err
    assert said in error
    assert len(error.strip().splitlines()) == 1


def test_cost_chooses_and_writes_the_lake_s_record(
    results: Path, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    home.mkdir()
    assert evergreen("cost", "--results", results, "--f1", "MiniLM-L6 int8=0.8", "--min-f1", "0.75") == 0
    said = capsys.readouterr().out
    assert "chosen: MiniLM-L6 int8" in said
    written = json.loads(FolderLake(home / "lake").read("cost/current.json"))
    assert written["setup"]["model"] == "MiniLM-L6 int8"
    assert written["usd_per_million_live"] > 0


def test_cost_refuses_unreachable_quality(results: Path, home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert evergreen("cost", "--results", results, "--min-f1", "0.99") == 1
    assert "0.99" in capsys.readouterr().err
    assert FolderLake(home / "lake").list("cost/") == []


def test_refresh_without_an_account_keeps_the_old_table(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    home.mkdir()
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "nowhere")
    monkeypatch.setenv("AWS_CONFIG_FILE", "nowhere")
    assert evergreen("cost", "--refresh") == 3
    assert "previous table is kept" in capsys.readouterr().err
    assert not (home / "prices.csv").exists()
