"""Score a batch: versions, results, repeated and killed runs, and refusals in one sentence."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from absa.adapters.lake_stores import FolderLake
from absa.batch.batch_input import Partition
from absa.batch.batch_job import BatchProgress
from absa.batch.partition_job import Assignment, PartitionCommit, PartitionWorker
from absa.errors import PermanentError, TransientError, UnavailableError
from absa.ledger.lifecycle import challenged, crowned
from absa.records.tables import PREDICTIONS, read_parquet
from flows.batch.score_batch import BatchRequest, engines_of, said, score_batch, usd_per_row
from flows.platform.services import Services, build_services
from flows.platform.settings import Settings
from tests.stand_ins import FakeRegistry
from tests.toy_package import build_toy_package


def request(**changes: object) -> BatchRequest:
    return BatchRequest(**{"input_uri": "in.csv", "output_uri": "out", **changes})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"engine": "spark"}, "local or ray"),
        ({"address": "auto"}, "--engine ray"),
        ({"partition_rows": 0}, "partition rows >= 1"),
        ({"max_bad_share": 1.5}, "from 0 to 1"),
    ],
)
def test_impossible_request_is_refused_in_one_sentence(changes: dict[str, object], sentence: str) -> None:
    with pytest.raises(PermanentError, match=sentence):
        engines_of(request(**changes))


def test_cost_needs_a_price_in_the_lake(tmp_path: Path) -> None:
    lake = FolderLake(tmp_path)
    services = build_services(Settings(lake=str(tmp_path)), environment={})
    assert usd_per_row(services) is None
    lake.write("cost/current.json", b'{"usd_per_million_batch": 0.02}')
    each = usd_per_row(services)
    now = BatchProgress(partitions=3, rows=500_000, share=0.25, rows_per_s=1480.4, elapsed_s=60.0, eta_s=192.0)
    assert said(now, each) == "25%, 500,000 rows, 1,480 rows/s, 3 min 12 s left, about US$ 0.0100 so far"
    assert "US$" not in said(now, None)
    lake.write("cost/current.json", b'{"usd_per_million_batch": null}')
    assert usd_per_row(services) is None


class Killed:
    """Engine that stops after one partition, as a killed run does."""

    def run(
        self,
        assignment: Assignment,
        missing: Callable[[], Iterator[Partition]],
        note: Callable[[PartitionCommit], None],
    ) -> None:
        note(PartitionWorker(assignment).score(next(missing())))
        raise TransientError("killed")


@pytest.fixture
def services(tmp_path: Path) -> Services:
    """Version 1 is champion, version 2 its challenger; MLflow is unavailable."""
    registry = FakeRegistry()
    registry.away = True
    made = build_services(Settings(home=tmp_path / "home"), environment={}, registry=registry)
    digests = {str(seed + 1): made.packages.put(build_toy_package(tmp_path / "built", seed=seed)) for seed in range(2)}
    made.ledger.append(
        expected=0, actor="t", action="challenge", reason="r", state=challenged(crowned("1"), "2"), versions=digests
    )
    return made


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    """Ten rows, one without its aspect."""
    file = tmp_path / "rows.csv"
    texts = [f"the app is {'great' if k % 2 else 'slow'} {k}" for k in range(9)]
    file.write_text("text,aspect\n" + "".join(f"{text},app\n" for text in texts) + "the app is fine,parcel\n")
    return file


def scored(output: Path) -> list[dict[str, Any]]:
    parts = [pq.read_table(part).to_pylist() for part in sorted(output.glob("part-*.parquet"))]
    return [row for part in parts for row in part]


def of(rows: Path, output: Path, **changes: Any) -> BatchRequest:
    return request(input_uri=str(rows), output_uri=str(output), workers=0, max_bad_share=0.2, **changes)


@pytest.mark.parametrize(
    ("model", "version"), [("models:/absa@champion", "1"), ("models:/absa@challenger", "2"), ("models:/absa/2", "2")]
)
def test_rows_are_scored_by_the_named_version(
    services: Services, rows: Path, tmp_path: Path, model: str, version: str
) -> None:
    progress: list[BatchProgress] = []
    outcome = score_batch(services, of(rows, tmp_path / "out", model=model), on_progress=progress.append)
    found = scored(tmp_path / "out")
    assert [row["sentiment"] for row in found] == ["negative", "positive"] * 4 + ["negative"]
    assert {row["model_version"] for row in found} == {version}
    assert outcome.result.manifest["quarantined"] == {"aspect_not_in_text": 1}
    assert (progress[-1].partitions, progress[-1].rows) == (1, 10)
    assert outcome.drift is None


def test_finished_batch_is_not_scored_again(services: Services, rows: Path, tmp_path: Path) -> None:
    first = score_batch(services, of(rows, tmp_path / "out"))
    second = score_batch(services, of(rows, tmp_path / "out"), engines=Killed())
    assert (first.result.already_done, second.result.already_done) == (False, True)
    assert second.result.manifest == first.result.manifest


def test_killed_batch_resumes_and_scores_each_row_once(services: Services, rows: Path, tmp_path: Path) -> None:
    wanted = of(rows, tmp_path / "out", partition_rows=4, log=True)
    with pytest.raises(TransientError, match="killed"):
        score_batch(services, wanted, engines=Killed())
    score_batch(services, wanted)
    found = scored(tmp_path / "out")
    assert [row["row_id"] for row in found] == list(range(9))
    logged = read_parquet(services.lake, services.lake.list("predictions/"), PREDICTIONS).to_pylist()
    assert sorted(row["request_id"] for row in logged) == sorted(row["request_id"] for row in found)


def test_drift_report_needs_the_snapshot_of_the_package(services: Services, rows: Path, tmp_path: Path) -> None:
    with pytest.raises(PermanentError, match="package names no snapshot"):
        score_batch(services, of(rows, tmp_path / "out", drift_report=True))
    assert len(scored(tmp_path / "out")) == 9


@pytest.mark.parametrize(
    ("model", "sentence"),
    [
        ("models:/absa/9", "got models:/absa/9"),
        ("models:/absa@best", "got models:/absa@best"),
        ("nowhere", "expected models:/absa@champion, models:/absa/<version> or the folder of a package, got nowhere"),
    ],
)
def test_unknown_version_is_refused_before_scoring(
    services: Services, rows: Path, tmp_path: Path, model: str, sentence: str
) -> None:
    with pytest.raises(PermanentError, match=sentence):
        score_batch(services, of(rows, tmp_path / "out", model=model))
    assert not (tmp_path / "out").exists()


def test_lost_package_is_named_before_scoring(services: Services, rows: Path, tmp_path: Path) -> None:
    """The package is in no lake any more, and MLflow, which may have it, is unavailable."""
    services.lake.delete(f"packages/{services.head().versions['1']}/config.json")
    with pytest.raises(UnavailableError, match="MLflow is unavailable"):
        score_batch(services, of(rows, tmp_path / "out"))
    assert not (tmp_path / "out").exists()
