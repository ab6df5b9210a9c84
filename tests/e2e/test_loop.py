"""The whole loop on real parts, at its smallest scale: what the demo says is what lies in ledger, lake and MLflow."""

import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pytest

from absa.adapters.lake_stores import FolderLake
from absa.adapters.package_store import PackageStore
from absa.ledger.store import Ledger
from monitoring.verdicts import VerdictStore
from tests.homes import end_family, family, outer_environment, tell

LIMIT_S = 1_200  # of a hang: the demo takes two to three minutes alone, and several times that on a busy machine

pytestmark = pytest.mark.timeout(LIMIT_S + 60)


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, str]]:
    home = tmp_path_factory.mktemp("loop") / "home"
    try:
        yield home, tell(outer_environment() | {"EVERGREEN_HOME": str(home)}, timeout_s=LIMIT_S)
    finally:
        end_family(home)


def test_story_has_seven_chapters_and_five_sentences(told: tuple[Path, str]) -> None:
    _, story = told
    assert all(f"[{number}/7]" in story for number in range(1, 8))
    for sentence in ("milk delivery", "customer service", "as a tool", "Iphone app", "billing email address"):
        assert story.count(sentence) >= 2


def test_the_ledger_tells_how_version_2_became_champion(told: tuple[Path, str]) -> None:
    ledger = Ledger(FolderLake(told[0] / "lake"))
    assert ledger.verify() == []
    records = ledger.follow()
    assert [record.action for record in records][:3] == ["register", "promote", "register"]
    assert records[-1].action == "promote"
    assert records[-1].state.champion == "2"
    modes = [record.state.plan.mode for record in records if record.state.plan is not None]
    assert "shadow" in modes
    assert "ab" in modes
    assert PackageStore(FolderLake(told[0] / "lake")).digests() >= {*records[-1].versions.values()}


def test_one_window_led_to_exactly_one_completed_retraining(told: tuple[Path, str]) -> None:
    verdicts = VerdictStore(FolderLake(told[0] / "lake")).history()
    assert verdicts[0].verdict != "STALE"
    attempts = [attempt for verdict in verdicts for attempt in verdict.attempts]
    assert [attempt.state for attempt in attempts] == ["completed"]
    assert verdicts[-1].verdict == "STALE"
    assert verdicts[-1].report_uri is not None
    (window,) = (verdict.window.key for verdict in verdicts if verdict.attempts)
    with sqlite3.connect(told[0] / "prefect" / "prefect.db") as database:
        runs = database.execute(
            "select idempotency_key, state_type, tags from flow_run where name like 'train-drift-%'"
        ).fetchall()
    assert [run[:2] for run in runs] == [(f"{window}-1", "COMPLETED")]
    assert f"window:{window}" in json.loads(runs[0][2])
    actions = [record.action for record in Ledger(FolderLake(told[0] / "lake")).follow()]
    assert actions.count("register") == 2, "version 1 and the one retrained"


def test_answered_request_is_in_lake_once_with_version(told: tuple[Path, str]) -> None:
    rows = pl.read_parquet(told[0] / "lake" / "predictions" / "**" / "*.parquet").filter(~pl.col("shadow"))
    assert rows.height == rows["request_id"].n_unique()
    assert rows.height > 1000
    assert set(rows["model_version"]) == {"1", "2"}
    assert rows.filter(pl.col("arm") == "challenger")["model_version"].unique().to_list() == ["2"]


def test_served_texts_were_never_in_train(told: tuple[Path, str]) -> None:
    lake = told[0] / "lake"
    first = min(
        (json.loads(path.read_text()) for path in lake.glob("snapshots/*/manifest.json")), key=lambda m: m["created_at"]
    )
    trained = set(pl.read_parquet(lake / "snapshots" / first["digest"] / "train" / "*.parquet")["text"])
    asked = {row["text"] for row in pl.read_csv("absa/data/sample/assignment.csv").to_dicts()}
    served = set(pl.read_parquet(lake / "predictions" / "**" / "*.parquet")["text"])
    assert not (served - asked) & trained


def test_aliases_tags_and_deployments_are_where_people_look(told: tuple[Path, str]) -> None:
    with sqlite3.connect(told[0] / "mlflow" / "mlflow.db") as database:
        aliases = dict(database.execute("select alias, version from registered_model_aliases").fetchall())
        tags = {key for (key,) in database.execute("select key from model_version_tags where version = 2")}
    assert aliases == {"champion": 2}
    assert {"snapshot", "digest", "budget_s", "gate", "pos_neg_f1", "latency_ms_p50", "size_mb", "student"} <= tags
    with sqlite3.connect(told[0] / "prefect" / "prefect.db") as database:
        names = {name for (name,) in database.execute("select name from deployment")}
    assert names == {"continuous-training", "monitor", "promote", "batch"}


def test_nothing_stays_running(told: tuple[Path, str]) -> None:
    assert list((told[0] / "run").iterdir()) == []
    assert family(told[0]) == []
