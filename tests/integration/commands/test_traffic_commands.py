"""Commands over logged traffic: labels, insights and the lab, each from the lake of a home folder."""

import csv
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from absa.adapters.lake_stores import FolderLake
from absa.errors import PermanentError
from absa.ledger.state import State
from absa.ledger.store import Ledger
from absa.policies import StalenessPolicy
from absa.records.schema import Window, iso
from absa.records.windows import load_window
from absa.sinks import csv_text
from flows.cli.lab_commands import read_policy
from flows.cli.traffic_commands import parse_window
from monitoring.verdicts import VerdictStore
from tests.command_line import evergreen
from tests.unit.monitoring.conftest import START, Traffic
from tests.unit.monitoring.experiments.test_shadow import PLAN, write
from tests.unit.monitoring.lab.test_contest import write_log

NOW = datetime.now(UTC)
WINDOW = Window(start=NOW - timedelta(minutes=20), end=NOW - timedelta(minutes=10))


@pytest.fixture(autouse=True)
def lake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FolderLake:
    for name in ("MLFLOW_TRACKING_URI", "PREFECT_API_URL"):
        monkeypatch.setenv(name, "http://127.0.0.1:9/api")
    monkeypatch.setenv("EVERGREEN_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("EVERGREEN_LAKE", str(tmp_path / "lake"))
    return FolderLake(tmp_path / "lake")


def fill(file: Path, answer: Callable[[dict[str, str]], str]) -> None:
    with file.open(newline="") as read:
        rows = list(csv.DictReader(read))
    with file.open("w", newline="") as written:
        writer = csv.DictWriter(written, rows[0])
        writer.writeheader()
        writer.writerows({**row, "label": answer(row)} for row in rows)


def test_labels_are_exported_and_imported_with_chances(
    lake: FolderLake, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Traffic(lake).send(WINDOW, 400, labelled=0.0)
    queue = tmp_path / "queue.csv"
    assert evergreen("labels", "export", str(queue), "--window", "1h", "--count", "60") == 0
    fill(queue, lambda row: "1")
    assert evergreen("labels", "import", str(queue)) == 0
    said = capsys.readouterr().out
    assert "audit" in said
    rows = load_window(lake, WINDOW, trusted_sources=["labels"]).rows
    told = rows.filter(rows["feedback_label"].is_not_null())
    assert 30 <= told.height <= 90
    assert told["sampling_probability"].null_count() == 0
    assert 0 < told["sampling_probability"].min() < told["sampling_probability"].max() <= 1  # type: ignore[operator]


def test_shadow_reports_labels_saved_by_disagreements(
    lake: FolderLake, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    state = State(champion="1", challenger="2", plan=PLAN)
    Ledger(lake, clock=lambda: START).append(
        expected=0, actor="test", action="traffic", reason="shadow", state=state, versions={"1": "a", "2": "b"}
    )
    champion = np.array([0, 2] * 50)
    write(lake, champion, np.where(np.arange(100) < 10, 2 - champion, champion), champion)
    assert evergreen("labels", "export", str(tmp_path / "queue.csv")) == 0
    said = capsys.readouterr().out
    assert "version 2 in shadow: a gain of 3.0 points is found with about" in said
    assert "so shadow saves" in said


def test_what_only_an_untrusted_source_labelled_is_exported(
    lake: FolderLake, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Traffic(lake).send(WINDOW, 40, labelled=1.0, source="forum")
    assert evergreen("labels", "export", str(tmp_path / "queue.csv"), "--window", "1h", "--count", "500") == 0
    assert "40 rows in" in capsys.readouterr().out


def test_untrusted_source_is_reported(lake: FolderLake, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Traffic(lake).send(WINDOW, 100, labelled=0.0)
    queue = tmp_path / "queue.csv"
    evergreen("labels", "export", str(queue), "--count", "20")
    assert evergreen("labels", "import", str(queue), "--source", "stranger") == 0
    assert "not trusted" in capsys.readouterr().out


def test_insights_are_shown_and_written_without_prefect(
    lake: FolderLake, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Traffic(lake).send(WINDOW, 600)
    table, plot = tmp_path / "insights.csv", tmp_path / "insights.png"
    assert evergreen("insights", "--window", "7d", "--csv", str(table), "--plot", str(plot)) == 0
    said = capsys.readouterr().out
    assert "volume" in said
    assert "no artifact" in said, "Prefect is away, and that is said"
    with table.open(newline="", encoding="utf-8-sig") as file:
        rows = list(csv.DictReader(file))
    assert {"segment", "aspect", "rows", "share", "low", "high", "change"} <= set(rows[0])
    assert plot.read_bytes().startswith(b"\x89PNG")


def test_insights_csv_hostile_aspects_need_no_picture(
    lake: FolderLake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The rows are written before anything is drawn, and nothing is drawn that was not requested."""
    aspects = ["=cmd|' /c calc'!a0", "$\\foo$", "[x](http://evil)", "\x1b[2jx", "</script>", "a\nb"]
    Traffic(lake).send(WINDOW, 600)
    for key in lake.list("predictions/"):
        rows = pl.read_parquet(lake.url(key))
        aspect = pl.Series("aspect", [aspects[k % len(aspects)] for k in range(rows.height)])
        rows.with_columns(aspect).write_parquet(lake.url(key))
    table, plot = tmp_path / "insights.csv", tmp_path / "insights.png"
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "matplotlib.figure", None)  # its import fails
        assert evergreen("insights", "--csv", str(table)) == 0
    with table.open(newline="", encoding="utf-8-sig") as file:
        assert {csv_text(row["aspect"]) for row in csv.DictReader(file)} == set(aspects)
    said = capsys.readouterr().out
    assert "\x1b" not in said
    assert evergreen("insights", "--csv", str(table), "--plot", str(plot)) == 0
    assert plot.read_bytes().startswith(b"\x89PNG")


def test_insights_of_nothing_say_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "home").mkdir()
    assert evergreen("insights") == 0
    assert "no aspect" in capsys.readouterr().out


def test_lab_policy_prints_a_versions_verdicts(
    lake: FolderLake, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Ledger(lake).append(
        expected=0, actor="test", action="promote", reason="first", state=State(champion="1"), versions={"1": "0" * 64}
    )
    start = datetime(2026, 11, 23, 10, tzinfo=UTC)
    traffic = Traffic(lake)
    for k in range(3):
        window = Window(start=start + timedelta(minutes=k), end=start + timedelta(minutes=k + 1))
        traffic.send(window, 200, accuracy=0.5 if k == 2 else 0.9, confidence=0.9, source="customer")
    strict = tmp_path / "strict.toml"
    strict.write_text("false_alarm_rate = 0.05\ncooldown_s = 0\nmin_new_labels = 10\n")
    words = ("lab", "policy", "--from", iso(start), "--to", iso(start + timedelta(minutes=3)), "--window-s", "60")
    assert evergreen(*words, "--policy", str(strict), "--version", "1", "--delay-s", "60") == 0
    lines = capsys.readouterr().out.strip().splitlines()
    assert [line.split()[1] for line in lines[1:3]] == ["FRESH", "STALE"]
    assert lines[2].split()[2] == "retrain"
    assert VerdictStore(lake).history() == []
    assert evergreen(*words, "--version", "77") == 1
    assert (
        "version 77 is not in the ledger, so the log has no answers of it; expected one of: 1"
        in capsys.readouterr().err
    )


def test_lab_policy_recommends_a_rhythm(lake: FolderLake, capsys: pytest.CaptureFixture[str]) -> None:
    write_log(lake, [0] * 13)
    words = ("lab", "policy", "--window-s", "3600", "--every", "0.25", "--delay-s", "10")
    assert evergreen(*words) == 0
    lines = capsys.readouterr().out.strip().splitlines()
    assert lines[0].startswith("10 windows of 3600 s")
    assert "simple model" in lines[1]
    assert [line[:18].strip() for line in lines[3:6]] == ["never", "every 6 hours", "on verdicts"]
    assert lines[-2].startswith("Recommended: never")
    assert VerdictStore(lake).history() == []
    assert evergreen(*words, "--minutes", "1e-9") == 1
    assert "expected 10 windows and 500 labels" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["", "d", "-3d", "7w", "0h", "yesterday"])
def test_a_window_that_cannot_be_read_is_named(text: str) -> None:
    with pytest.raises(PermanentError, match="7d"):
        parse_window(text, NOW)


def test_week_ends_now_and_key_is_itself() -> None:
    assert parse_window("7d", NOW) == Window(start=NOW - timedelta(days=7), end=NOW)
    assert parse_window(WINDOW.key, NOW).key == WINDOW.key


@pytest.mark.parametrize(
    ("content", "said"),
    [("x =", "TOML"), ("cooldown = 3", "cooldown_s"), ("[staleness]\ncooldown_s = true", "expected a valid number")],
)
def test_policy_that_cannot_be_used_is_named(tmp_path: Path, content: str, said: str) -> None:
    file = tmp_path / "policy.toml"
    file.write_text(content)
    with pytest.raises(PermanentError, match=said):
        read_policy(file)


def test_policy_comes_from_section_or_keys(tmp_path: Path) -> None:
    file = tmp_path / "policy.toml"
    for content in ("[staleness]\ncooldown_s = 3", "cooldown_s = 3"):
        file.write_text(content)
        assert read_policy(file) == StalenessPolicy(cooldown_s=3)
