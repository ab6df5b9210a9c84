"""Rows of a training: no feedback is left out because a snapshot was made in between without it."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import polars as pl
import pytest

from absa.data.ingest import ingest
from absa.data.snapshot import Manifest, latest_manifest, load_manifest, load_side, replace_snapshot
from absa.policies import TrainingRecipe
from absa.records.schema import SIDES, Window, parse_iso, utc_now
from flows.platform.services import Services, build_services
from flows.platform.settings import Settings
from flows.training.training_snapshot import feedback_taken_at, take_snapshot
from tests.unit.monitoring.conftest import Traffic

ROWS = 20


@pytest.fixture
def services(tmp_path: Path) -> Services:
    """Labels come at once."""
    return build_services(
        Settings(home=tmp_path, trust="survey", training=TrainingRecipe(label_lag_s=0)), environment={}
    )


@pytest.fixture
def add_file(services: Services, tmp_path: Path) -> Callable[[str], Manifest]:
    """`evergreen ingest` of one row about an aspect."""

    def add(aspect: str) -> Manifest:
        parent = latest_manifest(services.lake)
        file = tmp_path / f"{aspect}.csv"
        file.write_text(f"text,aspect,label\nthe {aspect} is slow,{aspect},0\n", encoding="utf-8")
        return ingest(services.lake, [file], parent=parent.digest if parent else None)

    return add


@pytest.fixture
def serve(services: Services) -> Callable[[], None]:
    """Requests of now, each with a label."""
    traffic = Traffic(services.lake)

    def send() -> None:
        now = utc_now()
        traffic.send(Window(start=now, end=now + timedelta(microseconds=ROWS)), ROWS, labelled=1.0)

    return send


def learnt(services: Services, manifest: Manifest) -> int:
    rows = pl.concat([load_side(services.lake, manifest.digest, side) for side in SIDES])
    return rows.filter(pl.col("source") == "survey").height


def test_feedback_before_an_ingested_file_trains(
    services: Services, add_file: Callable[[str], Manifest], serve: Callable[[], None]
) -> None:
    first = add_file("app")
    serve()
    assert feedback_taken_at(services.lake, add_file("desk")) == parse_iso(first.created_at)
    took = take_snapshot(services, [])
    assert learnt(services, took) == ROWS
    serve()
    add_file("chair")
    assert feedback_taken_at(services.lake, add_file("lamp")) == parse_iso(took.created_at)
    assert learnt(services, take_snapshot(services, [])) == 2 * ROWS


@pytest.mark.timeout(60)
@pytest.mark.parametrize("through_one_that_is_gone", [False, True])
def test_snapshot_that_is_its_own_parent_trains(
    services: Services, add_file: Callable[[str], Manifest], through_one_that_is_gone: bool
) -> None:
    gone, made = add_file("app"), add_file("desk")
    parent = gone.digest if through_one_that_is_gone else made.digest
    replace_snapshot(services.lake, gone, replace(made, parent=parent))
    assert take_snapshot(services, []) == load_manifest(services.lake, made.digest)
    assert feedback_taken_at(services.lake, load_manifest(services.lake, made.digest)) == parse_iso(made.created_at)
