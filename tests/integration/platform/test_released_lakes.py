"""Lakes of earlier releases are readable: tests/lakes/v1 is never rewritten."""

import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from absa.adapters.lake_stores import FolderLake
from absa.data.feedback import labelled_examples
from absa.data.forget import forget_before
from absa.data.ingest import build_snapshot
from absa.data.snapshot import latest_manifest, load_quarantine, load_side
from absa.ledger.history import record_at
from absa.ledger.store import Ledger
from absa.records.schema import SIDES
from absa.records.tables import FEEDBACK, OUTCOMES, PREDICTIONS, read_parquet
from absa.records.windows import join_feedback
from absa.task import ABSA
from monitoring.verdicts import VerdictStore

ROOT = Path(__file__).parents[2] / "lakes" / "v1"
START = datetime(2026, 11, 24, 9, tzinfo=UTC)


@pytest.fixture
def lake(tmp_path: Path) -> FolderLake:
    """A copy, so that nothing here can change the committed one."""
    return FolderLake(Path(shutil.copytree(ROOT, tmp_path / "v1")))


def test_released_ledger_holds_and_reports_state(lake: FolderLake) -> None:
    ledger = Ledger(lake)
    assert ledger.verify() == []
    head = ledger.head()
    assert head is not None
    assert head.state.plan is not None
    assert [(arm.version, arm.share) for arm in head.state.plan.arms] == [("1", 0.75), ("2", 0.25)]
    before = record_at(ledger.follow(), START)
    assert before is not None
    assert before.state.champion == "1"
    assert ledger.task() == ABSA


def test_its_predictions_feedback_and_outcomes_are_read(lake: FolderLake) -> None:
    predictions = read_parquet(lake, lake.list("predictions/"), PREDICTIONS)
    assert predictions.num_rows == 13
    assert predictions["shadow"].to_pylist().count(True) == 1
    assert predictions["text"].null_count == 1
    assert predictions["truncated"].null_count == 13  # that release did not know
    assert predictions["schema_version"].unique().to_pylist() == [1]
    assert {len(scores) for scores in predictions["scores"].to_pylist()} == {3}  # of a fixed length then
    feedback = read_parquet(lake, lake.list("feedback/"), FEEDBACK)
    joined = join_feedback(pl.DataFrame(predictions), pl.DataFrame(feedback))
    assert joined["feedback_label"].drop_nulls().to_list().count(2) == 4
    outcomes = read_parquet(lake, lake.list("outcomes/"), OUTCOMES)
    assert outcomes["ok"].to_pylist() == [9, 3]
    assert outcomes["shed"].to_pylist() == [1, 0]


def test_released_snapshot_is_read_and_extended(lake: FolderLake) -> None:
    manifest = latest_manifest(lake)
    assert manifest is not None
    held = sum(load_side(lake, manifest.digest, side).height for side in SIDES)
    assert held == manifest.total_rows == 18
    assert manifest.task == ABSA
    assert manifest.parent is not None
    assert load_quarantine(lake, manifest.parent)["reason"].to_list() == ["aspect_not_in_text"]
    learnt = labelled_examples(lake, START, START + timedelta(hours=2), ["survey"])
    assert learnt.height == 6
    made = build_snapshot(lake, [learnt.with_columns(text=learnt["text"] + " today")], parent=manifest.digest)
    assert made.total_rows == 24


def test_its_verdict_is_read(lake: FolderLake) -> None:
    verdict = VerdictStore(lake).latest()
    assert verdict is not None
    assert (verdict.verdict, verdict.action) == ("STALE", "retrain")
    assert [reason.kind for reason in verdict.reasons] == ["measured_loss", "drift:segment_mix"]


def test_what_is_old_in_it_can_be_forgotten(lake: FolderLake) -> None:
    assert forget_before(lake, START + timedelta(hours=2)).predictions == 13
    assert lake.list("predictions/") == lake.list("feedback/") == []
