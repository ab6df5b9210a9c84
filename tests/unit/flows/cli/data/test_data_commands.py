"""Commands of data: where every row went, the refused ones as CSV, and the revert of an ingest."""

import csv
import json
import os
from pathlib import Path

import pytest

from absa.adapters.lake_stores import FolderLake
from absa.config_file import DEMO_STATE, REFUSED_ROWS
from absa.ledger.lifecycle import crowned
from absa.ledger.store import Ledger
from tests.command_line import evergreen

_ROWS = 12


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in [name for name in os.environ if name.startswith(("EVERGREEN_", "MLFLOW_", "PREFECT_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("EVERGREEN_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    return tmp_path / "home"


def rows(name: str, thing: str, *more: str, time: bool = True) -> str:
    words = "abcdefghijklmnopqrstuvwxyz"[:_ROWS]
    lines = [f"the {thing} {word} is great,{thing},{'positive' if word > 'c' else 2}" for word in words]
    dated = ["2026-11-01"] * (len(lines) + len(more)) if time else []
    head = "text,aspect,label" + (",observed_at" if time else "")
    body = [f"{line},{at}" for line, at in zip([*lines, *more], dated, strict=True)] if time else [*lines, *more]
    Path(name).write_text("\n".join([head, *body]) + "\n", encoding="utf-8")
    return name


def facts(capsys: pytest.CaptureFixture[str], *words: str) -> object:
    capsys.readouterr()
    assert evergreen(*words, "--json") == 0
    return json.loads(capsys.readouterr().out)


def test_ingest_keeps_refused_rows_as_csv(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = rows("a.csv", "editor", "a bad row,invoice,1", "another,another,seven")
    found = facts(capsys, "ingest", file, "--max-bad-share", "0.5")
    assert isinstance(found, dict)
    assert (found["read"], found["kept"], found["quarantined"]) == (
        _ROWS + 2, _ROWS, {"aspect_not_in_text": 1, "label_outside_0_2": 1},
    )  # fmt: skip
    assert found["refused_rows"] == str(home / REFUSED_ROWS)
    assert (home / REFUSED_ROWS).stat().st_mode & 0o077 == 0
    with (home / REFUSED_ROWS).open(encoding="utf-8-sig", newline="") as opened:
        refused = list(csv.DictReader(opened))
    assert [(each["row"], each["reason"]) for each in refused] == [
        ("14", "aspect_not_in_text"), ("15", "label_outside_0_2"),
    ]  # fmt: skip
    evergreen("ingest", rows("b.csv", "menu"))
    assert not (home / REFUSED_ROWS).exists()


def test_stopped_ingest_names_csv_of_refused_rows(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert evergreen("ingest", rows("a.csv", "editor", *["bad,invoice,1"] * _ROWS)) == 1
    assert f"as CSV: {home / REFUSED_ROWS}" in capsys.readouterr().err
    assert (home / REFUSED_ROWS).is_file()


def test_missing_column_lists_those_of_file(capsys: pytest.CaptureFixture[str]) -> None:
    Path("a.csv").write_text("Feedback,Category\nfine,bug\n", encoding="utf-8")
    assert evergreen("ingest", "a.csv") == 1
    assert "got Feedback and Category; `evergreen init a.csv` writes" in capsys.readouterr().err


def test_file_without_times_gets_a_warning(capsys: pytest.CaptureFixture[str]) -> None:
    evergreen("ingest", rows("a.csv", "editor", time=False))
    assert "a.csv: no column observed_at: every row counts as observed now" in capsys.readouterr().out
    evergreen("ingest", rows("b.csv", "menu"))
    out = capsys.readouterr().out
    assert "observed_at" not in out
    assert "Next: evergreen train" in out


def test_json_array_is_ingested(capsys: pytest.CaptureFixture[str]) -> None:
    array = [{"text": f"the app {n} works", "aspect": "app", "label": "neutral"} for n in "abcdefgh"]
    Path("rows.json").write_text(json.dumps(array, indent=1), encoding="utf-8")
    found = facts(capsys, "ingest", "rows.json")
    assert isinstance(found, dict)
    assert found["kept"] == len(array)


def test_dropped_ingest_is_no_longer_newest(capsys: pytest.CaptureFixture[str]) -> None:
    for name, thing in (("a.csv", "editor"), ("b.csv", "menu")):
        evergreen("ingest", rows(name, thing))
    newest, first = snapshots(capsys)
    assert (newest["added"], newest["files"], newest["parent"]) == (_ROWS, ["b.csv"], first["snapshot"])
    assert evergreen("data", "drop", str(first["snapshot"])) == 1
    assert evergreen("data", "drop", str(newest["snapshot"])[:8]) == 0
    assert snapshots(capsys)[0]["snapshot"] == first["snapshot"]
    evergreen("ingest", "b.csv")
    assert snapshots(capsys)[0]["snapshot"] == newest["snapshot"]
    evergreen("data", "drop", str(newest["snapshot"]))
    assert evergreen("data", "drop", str(first["snapshot"])) == 0
    assert snapshots(capsys) == []


def snapshots(capsys: pytest.CaptureFixture[str]) -> list[dict[str, object]]:
    found = facts(capsys, "data", "list")
    assert isinstance(found, list)
    return found


def test_snapshot_that_a_version_learned_stays(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    evergreen("ingest", rows("a.csv", "editor"))
    ledger = Ledger(FolderLake(home / "lake"))
    ledger.append(expected=0, actor="a", action="promote", reason="r", state=crowned("1"), versions={"1": "d"})
    (only,) = snapshots(capsys)
    assert evergreen("data", "drop", str(only["snapshot"])) == 1
    assert "a version learned from it: ingest corrected rows" in capsys.readouterr().err


def test_ingest_into_demo_home_warns(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    home.mkdir()
    (home / DEMO_STATE).write_text("{}")
    evergreen("ingest", rows("a.csv", "editor"))
    assert f"warning: {home} is a demo's home" in capsys.readouterr().err
