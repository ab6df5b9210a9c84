"""Judging of a run: measured on a first package, then done on as many rows as time allows."""

import csv
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

from absa.data.ingest import ingest
from absa.inference.engine import Engine
from absa.policies import GatePolicy
from flows.platform.services import Services, build_services
from flows.platform.settings import Settings
from flows.training.job_process import JobResult
from flows.training.judging import Judging, RememberedScores
from flows.training.reserve import Reserve, RunTime
from tests.stand_ins import FakeRegistry, FakeRun
from tests.toy_package import build_toy_package

PARITY = {"rows": 50, "labels_equal": 1.0, "f1_fp32": 0.8, "f1_int8": 0.8}
NUMBERS = ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")


@pytest.fixture
def services(tmp_path: Path) -> Services:
    return build_services(Settings(home=tmp_path / "home", gate=GatePolicy(behaviour_cases=12)), environment={})


@pytest.fixture
def judging(services: Services, tmp_path: Path) -> Judging:
    file = tmp_path / "rows.csv"
    with file.open("w", newline="", encoding="utf-8") as out:
        write = csv.writer(out).writerow
        write(("text", "aspect", "label"))
        for number in range(6_000):
            words = " ".join(NUMBERS[int(digit)] for digit in str(number))
            label = number % 3
            write((f"the app is {('terrible', 'a tool', 'great')[label]} {words}", "app", label))
    manifest = ingest(services.lake, [str(file)], processes=1)
    reserve = Reserve(tmp_path / "times.json", budget_s=120.0)
    return Judging(services, manifest, None, budget_s=120.0, reserve=reserve)


@pytest.fixture
def job(tmp_path: Path) -> JobResult:
    folder = tmp_path / "job"
    build_toy_package(folder / "package")
    return JobResult(folder=folder, done={"parity": PARITY}, starts=1)


def test_measuring_leaves_the_package_alone(judging: Judging, job: JobResult, tmp_path: Path) -> None:
    before = {path.name: path.read_bytes() for path in job.package.iterdir()}
    judging.measure(job.package, PARITY)
    assert {path.name: path.read_bytes() for path in job.package.iterdir()} == before
    assert '"judge"' in (tmp_path / "times.json").read_text()


def test_first_version_is_shown_beside_tf_idf(judging: Judging, job: JobResult) -> None:
    judging.measure(job.package, PARITY)
    run = FakeRun("run-1", FakeRegistry())
    candidate = judging.judge(run, job, run_time=RunTime(started=time.time(), budget_s=600.0))
    assert candidate.evidence.tf_idf is not None
    assert candidate.evidence.tf_idf.champion.pos_neg_f1 > 0.9
    assert "TF-IDF" in (job.package / "gate.html").read_text()


def test_enough_time_judges_every_test_row(judging: Judging, job: JobResult) -> None:
    run = FakeRun("run-1", FakeRegistry())
    candidate = judging.judge(run, job, run_time=RunTime(started=time.time(), budget_s=600.0))
    assert run.parameters == {"test_rows": judging.planned_rows, "behaviour_cases": 12}
    assert judging.planned_rows > 400
    assert candidate.metrics.accuracy == 1.0
    assert candidate.decision.verdict in (job.package / "gate.html").read_text()
    assert (job.package / "gate.html").read_text() != "<p>toy</p>"
    assert (candidate.pictures / "confusion_matrix.png").is_file()


def test_no_time_left_judges_the_fewest_rows(judging: Judging, job: JobResult) -> None:
    run = FakeRun("run-1", FakeRegistry())
    judging.judge(run, job, run_time=RunTime(started=time.time() - 120.0, budget_s=60.0))
    assert run.parameters == {"test_rows": 200, "behaviour_cases": 10}


def test_remembered_scores_ask_for_new_pairs_alone(tmp_path: Path) -> None:
    engine = Engine.load(build_toy_package(tmp_path / "package"))
    asked: list[Sequence[tuple[str, str]]] = []

    class Counted:
        def score(self, pairs: Sequence[tuple[str, str]]) -> Any:
            asked.append(pairs)
            return engine.score(pairs)

    remembered = RememberedScores(cast(Engine, Counted()))
    one, two, three = (("the app is great", "app"), ("terrible service", "service"), ("slow", "slow"))
    remembered.score([one, two, one])
    found = remembered.score([three, one])
    assert asked == [[one, two], [three]]
    np.testing.assert_array_equal(found, engine.score([three, one]))
