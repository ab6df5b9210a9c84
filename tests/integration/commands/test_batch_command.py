"""`evergreen batch` as its user meets it."""

import csv
from pathlib import Path

import pytest

from tests.command_line import evergreen
from tests.toy_package import build_toy_package


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package, with a home folder of its own set for the command."""
    for name in ("EVERGREEN_LAKE", "MLFLOW_TRACKING_URI", "PREFECT_API_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("EVERGREEN_HOME", str(tmp_path / "home"))
    return build_toy_package(tmp_path / "package")


def write_rows(path: Path, count: int, *, bad: int = 0) -> Path:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["ticket", "text", "aspect"])
        writer.writerows([f"T{k}", f"the app is great {k}", "app" if k >= bad else "parcel"] for k in range(count))
    return path


def test_batch_is_scored_once_and_verifies(package: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given, output = write_rows(tmp_path / "rows.csv", 40, bad=2), tmp_path / "out"
    words = ("batch", "--input", given, "--output", output, "--model", package, "--workers", "0")
    assert evergreen(*words) == 0
    said = capsys.readouterr().out
    assert "40 = 38 scored + 2 quarantined" in said
    assert "rows scored                        38" in said
    assert "quarantined: aspect_not_in_text    2" in said
    assert "nothing to do" not in said
    assert evergreen(*words) == 0
    assert "nothing to do" in capsys.readouterr().out
    assert evergreen("batch", "verify", output) == 0
    assert "every row once" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"--input": "nowhere.csv"}, "nowhere.csv is missing"),
        ({"--model": "models:/absa@champion"}, "evergreen train"),
        ({"--model": "no-such-folder"}, "no-such-folder"),
        ({"--max-bad-share": "0.01"}, "2 of 40 rows"),
        ({"--engine": "spark"}, "--engine: expected local or ray"),
    ],
)
def test_impossible_command_gets_sentence_and_exit_1(
    changes: dict[str, str], sentence: str, package: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = write_rows(tmp_path / "rows.csv", 40, bad=2)
    words = {"--input": str(given), "--output": str(tmp_path / "out"), "--model": str(package), "--workers": "0"}
    words |= changes
    assert evergreen("batch", *(word for pair in words.items() for word in pair)) == 1
    error = capsys.readouterr().err
    assert sentence in error
    assert error.startswith("evergreen: ")
    assert len(error.strip().splitlines()) == 1
