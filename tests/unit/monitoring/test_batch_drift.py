"""A batch's drift report: the same traffic raises nothing, another topic does, and the report is a page to read."""

import json
import random
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest

from absa.adapters.lake_stores import FolderLake
from absa.batch.batch_job import BatchJob, run_batch
from absa.batch.local import LocalProcesses
from absa.data.ingest import build_snapshot
from absa.data.read import EXAMPLE_COLUMNS, with_example_id
from absa.errors import PermanentError
from absa.inference.engine import Engine
from absa.records.layout import JOB_DRIFT_FINDINGS, JOB_DRIFT_REPORT
from monitoring.batch_drift import report_batch_drift
from tests.toy_package import WORDS, build_toy_package

AT = datetime(2026, 11, 30, 12, tzinfo=UTC)
OTHER = ("spade", "hose", "tulip", "compost", "hedge", "mower")


@pytest.fixture
def lake(tmp_path: Path) -> FolderLake:
    return FolderLake(tmp_path / "lake")


def texts(count: int, seed: int, words: tuple[str, ...]) -> list[str]:
    chance = random.Random(seed)
    return [" ".join(["the app", *chance.choices(words, k=12), f"t{seed}x{k}"]) for k in range(count)]


def train_on(lake: FolderLake, folder: Path) -> Path:
    """A package that names a snapshot of the lake."""
    rows = [
        {
            "schema_version": 1, "text": text, "aspect": "app", "label": k % 3, "observed_at": AT, "source": "s",
            "segment": None, "example_id": "",
        }
        for k, text in enumerate(texts(1500, 1, tuple(sorted(WORDS))))
    ]  # fmt: skip
    manifest = build_snapshot(lake, [with_example_id(pl.DataFrame(rows, schema=EXAMPLE_COLUMNS))])
    package = build_toy_package(folder)
    config = json.loads((package / "config.json").read_text()) | {"snapshot": manifest.digest}
    (package / "config.json").write_text(json.dumps(config))
    return package


@pytest.mark.parametrize(("words", "drifts"), [(tuple(sorted(WORDS)), False), (OTHER, True)])
def test_batch_of_other_words_drifts(words: tuple[str, ...], drifts: bool, lake: FolderLake, tmp_path: Path) -> None:
    package = train_on(lake, tmp_path / "package")
    given = tmp_path / "rows.csv"
    given.write_text("\n".join(["text,aspect", *(f"{text},app" for text in texts(300, 2, words))]))
    output = FolderLake(tmp_path / "out")
    job = BatchJob(input_uri=str(given), output_uri=output.uri, package=package, version="7", partition_rows=50)
    manifest = run_batch(job, engines=LocalProcesses(workers=0)).manifest
    found = report_batch_drift(output, manifest, lake, Engine.load(package))
    assert found.too_small is None
    assert bool(found.drifted) is drifts
    record = json.loads(output.read(JOB_DRIFT_FINDINGS))
    assert record["drifted"] == [each.kind for each in found.drifted]
    assert record["rows"] == 300
    assert b"<html" in output.read(JOB_DRIFT_REPORT)[:2000].lower()


def test_package_without_snapshot_has_no_comparison(lake: FolderLake, tmp_path: Path) -> None:
    package = build_toy_package(tmp_path / "package")
    with pytest.raises(PermanentError, match="names no snapshot"):
        report_batch_drift(FolderLake(tmp_path / "out"), {}, lake, Engine.load(package))
