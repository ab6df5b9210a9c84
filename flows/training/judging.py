"""Judging: candidate and champion on the same test rows, and the gate's decision on the results."""

import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from absa.errors import PermanentError
from absa.ledger.record import LedgerRecord
from absa.task import TaskSpec
from flows.platform.ports import TrackedRun
from flows.platform.services import Services
from flows.training.job_process import JobResult
from flows.training.reserve import Reserve, RunTime, fewest_judged, judged_in_time, most_test_rows, rows_per_s
from flows.training.training_snapshot import champion_of, champion_package, champion_snapshot_at

if TYPE_CHECKING:
    import polars as pl

    from absa.data.snapshot import Manifest
    from absa.evaluation.baseline import Baseline
    from absa.evaluation.counts import Scores
    from absa.evaluation.gate import DataChecks, GateDecision, GateEvidence
    from absa.evaluation.metrics import Metrics
    from absa.evaluation.own_tests import OwnTest
    from absa.evaluation.prediction_price import Speed
    from absa.inference.engine import Engine
    from absa.inference.package import ModelPackage
    from absa.inference.tokenization import ModelInput

_FEWEST_BASELINE_ROWS: Final = 2_000  # training the baseline on them takes less than a second
_BASELINE_ROWS_PER_S: Final = 30  # per second of the budget, so that the baseline takes about a hundredth of it at most
_ROWS_AT_ONCE: Final = 256  # rows that the champion scores ahead between two checks of `stop`


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """Trained and judged package that is not yet registered."""

    package: "ModelPackage"
    evidence: "GateEvidence"
    decision: "GateDecision"
    job: JobResult
    pictures: Path
    test: "pl.DataFrame"
    scores: "RememberedScores"

    @property
    def metrics(self) -> "Metrics":
        """Figures of the candidate on the whole test split."""
        return self.evidence.candidate

    @property
    def latency_ms_p50(self) -> float:
        """Median latency of one row on this machine, in milliseconds."""
        footprint = self.evidence.footprint
        return footprint.latency_ms_p50 or 0.0 if footprint else 0.0

    @property
    def rows_per_s(self) -> float | None:
        """Rows per second of one thread on this machine; None if not measured."""
        return None if self.evidence.footprint is None else self.evidence.footprint.rows_per_s


Validate = Callable[["ModelPackage"], float]
"""Check that a package serves, and return its memory in MB."""
MeasureSpeeds = Callable[["Sequence[Callable[..., Any]]", "Sequence[ModelInput]"], list[float]]
"""Measure the rows per second of several ways to score, on the same pairs."""
Draw = Callable[["Metrics", Sequence[Mapping[str, Any]], Path, TaskSpec], None]
"""Draw the pictures of a run into a folder, from the candidate's figures and the progress events."""


def in_fresh_process(package: "ModelPackage") -> float:
    """Load a package in a fresh process with serving's requirements, and return the memory of the process in MB.

    Raises:
        IntegrityError: the package does not load, or its answers differ from the answers at packaging.
    """
    from absa.packaging.validate import validate_package

    return validate_package(package.folder, expected_digest=package.digest).memory_mb


class RememberedScores:
    """Cache of one engine's scores by pair. A later request computes only new pairs."""

    def __init__(self, engine: "Engine") -> None:
        self._engine = engine
        self._known: dict[ModelInput, Any] = {}

    def score(self, pairs: "Sequence[ModelInput]", /) -> "Scores":
        """Return probabilities (n, labels) in the order of the pairs."""
        import numpy as np

        new = [pair for pair in dict.fromkeys(pairs) if pair not in self._known]
        if new:
            self._known |= dict(zip(new, self._engine.score(new), strict=True))
        return np.stack([self._known[pair] for pair in pairs])

    @property
    def engine(self) -> "Engine":
        """Engine whose scores are cached."""
        return self._engine

    @property
    def task(self) -> TaskSpec:
        """Task of the engine's package."""
        return self._engine.package.config.task

    def new_share(self, pairs: "Sequence[ModelInput]") -> float:
        """Return the share of pairs that are not scored yet."""
        return sum(pair not in self._known for pair in pairs) / max(1, len(pairs))


class Judging:
    """Judge of the packages of one run against the champion.

    Test rows and the champion's scores do not depend on the candidate. They are prepared once, while the job trains.

    Args:
        services: lake, registry and settings.
        manifest: snapshot of the run; its test split is used for judging.
        head: ledger record that names the champion; None: the ledger is empty.
        budget_s: budget of the run.
        reserve: receives the time of judging.
        validate: checks that a package serves.
        draw: makes the pictures.
        measure: measures rows per second.
    """

    def __init__(
        self,
        services: Services,
        manifest: "Manifest",
        head: LedgerRecord | None,
        *,
        budget_s: float,
        reserve: Reserve,
        validate: Validate = in_fresh_process,
        draw: "Draw | None" = None,
        measure: "MeasureSpeeds | None" = None,
    ) -> None:
        self._services, self._manifest, self._head, self._reserve = services, manifest, head, reserve
        self._validate, self._draw, self._measure = validate, draw or draw_pictures, measure
        self._task = manifest.task
        if (champion := champion_package(services, head)) and (misfit := self._task.misfit(champion.config.task)):
            raise PermanentError(f"the data and the champion are of different tasks: {misfit}")
        self._own_tests = _own_tests(services, self._task)
        self.since: datetime | None = champion_snapshot_at(services, head)
        self._most = most_test_rows(budget_s, champion=self.since is not None)
        self._stop = threading.Event()
        self._test: pl.DataFrame | None = None
        self._champion: RememberedScores | None = None
        self._tf_idf: Baseline | None = None
        self._baseline_rows = max(_FEWEST_BASELINE_ROWS, round(_BASELINE_ROWS_PER_S * budget_s))

    @property
    def planned_rows(self) -> int:
        """Number of test rows that are judged if there is time."""
        return min(self._most, self._manifest.side_rows("test"))

    @property
    def planned_cases(self) -> int:
        """Number of behavioural cases that are judged if there is time."""
        return self._services.settings.gate.behaviour_cases

    def prepare(self) -> None:
        """Import slow modules and read the test rows while the job trains; on a busy machine this takes seconds."""
        import sklearn.linear_model
        import sklearn.metrics  # noqa: F401

        self._test_rows()

    def measure(self, package: Path, parity: Mapping[str, Any]) -> None:
        """Judge a package on the fewest rows, to measure the time of judging; then score ahead with the champion.

        Returns early after `stop`.
        """
        started = time.perf_counter()
        rows, cases = fewest_judged()
        engine, test = self._load(package)
        if self._stop.is_set():
            return
        speed = rows_per_s(engine, test)
        with tempfile.TemporaryDirectory() as scratch:
            self._judge_on(RememberedScores(engine), test.head(rows), cases, parity, report_into=Path(scratch))
        self._reserve.record("judge", time.perf_counter() - started)
        self._reserve.record_speed(speed)
        self._score_ahead(test)

    def stop(self) -> None:
        """Make `measure` return soon. `judge` must not run before `measure` has returned."""
        self._stop.set()

    def judge(self, run: TrackedRun, job: JobResult, *, run_time: RunTime) -> Candidate:
        """Judge the job's package on as many rows as the time before registration allows.

        If the test split is too large, half of the judged rows are recent and half established.

        Args:
            run: receives the number of rows and cases; its history is drawn as a picture.
            job: result of the training.
            run_time: has the deadline of the run.
        """
        from absa.data.snapshot import sample_side

        engine, test = self._load(job.package)
        fits, cases = judged_in_time(
            rows_per_s(engine, test) / (1.0 + self._unscored_share(test)),
            left_s=run_time.ends_at - run_time.now() - self._reserve.least_after_s(),
            cases=self.planned_cases,
        )
        if test.height > fits:
            test = sample_side(self._services.lake, self._manifest.digest, "test", fits, since=self.since)
        scores = RememberedScores(engine)
        evidence, decision = self._judge_on(scores, test, cases, job.done["parity"], report_into=job.package)
        pictures = job.folder / "pictures"
        pictures.mkdir(exist_ok=True)
        self._draw(evidence.candidate, run.history, pictures, evidence.task)
        run.params({"test_rows": test.height, "behaviour_cases": cases})  # last: MLflow refuses a changed value
        return Candidate(
            package=engine.package, evidence=evidence, decision=decision, job=job, pictures=pictures, test=test,
            scores=scores,
        )  # fmt: skip

    def stays_behind(self, candidate: Candidate, leader: Candidate, *, name: str) -> str | None:
        """Return the reason why a candidate does not replace a larger one of its run: it must be cheaper and not worse.

        Args:
            candidate: smaller candidate; both are compared on its test rows.
            leader: larger candidate.
            name: name of the larger candidate in the sentence.

        Returns:
            A sentence; None if the candidate is not worse and cheaper.
        """
        from absa.evaluation.assess import assess
        from absa.evaluation.gate import check_cheaper

        pairs = list(candidate.test.select("text", "aspect").iter_rows())
        evidence = assess(
            candidate=candidate.scores.score(pairs),
            champion=leader.scores.score(pairs),
            examples=candidate.test,
            recent=[True] * len(pairs),
            speed=self._speed(candidate.scores.engine, leader.scores.engine, pairs)[1],
            task=candidate.evidence.task,
        )
        check = check_cheaper(evidence, self._services.settings.gate, other=name)
        return None if check is None or check.status == "pass" else f"It does not replace {name}. {check.sentence}"

    def _unscored_share(self, test: "pl.DataFrame") -> float:
        """Return the share of the test rows that the champion has not scored yet; 0 without a champion."""
        if self._champion is None:
            return 0.0
        return self._champion.new_share(list(test.select("text", "aspect").iter_rows()))

    def _test_rows(self) -> "pl.DataFrame":
        from absa.data.snapshot import sample_side

        if self._test is None:
            self._test = sample_side(self._services.lake, self._manifest.digest, "test", self._most, since=self.since)
        return self._test

    def _load(self, package: Path) -> tuple["Engine", "pl.DataFrame"]:
        from absa.inference.engine import Engine
        from absa.inference.package import load_package

        if self._champion is None and (kept := champion_package(self._services, self._head)) is not None:
            self._champion = RememberedScores(Engine.load(kept))
        return Engine.load(load_package(package)), self._test_rows()

    def _judge_on(
        self, scores: RememberedScores, test: "pl.DataFrame", cases: int, parity: Mapping[str, Any], *,
        report_into: Path,
    ) -> tuple["GateEvidence", "GateDecision"]:  # fmt: skip
        from absa.data.snapshot import leaked_texts
        from absa.evaluation.assess import assess_engines, measure_footprint
        from absa.evaluation.gate import Parity, judge
        from absa.evaluation.gate_report import write_report

        engine, pairs = scores.engine, list(test.select("text", "aspect").iter_rows())
        rate, speed = self._speed(engine, None if self._champion is None else self._champion.engine, pairs)
        with ThreadPoolExecutor(1) as beside:  # in another process, while this one scores
            serves = beside.submit(self._validate, engine.package)
            recent = [self._champion is None or self.since is None or at > self.since for at in test["observed_at"]]
            evidence = assess_engines(
                candidate=scores,
                champion=self._champion,
                tf_idf=self._baseline(),
                examples=test,
                recent=recent,
                parity=Parity(
                    rows=parity["rows"],
                    label_agreement=parity["labels_equal"],
                    f1_loss=parity["f1_fp32"] - parity["f1_int8"],
                ),
                data=data_checks(
                    self._manifest,
                    leaked_texts(self._services.lake, self._manifest.digest, test["text"]),
                    known=None if self._champion is None else self._champion.task.n_labels,
                ),
                own_tests=self._own_tests,
                behaviour_cases=cases,
                footprint=replace(measure_footprint(engine, pairs), rows_per_s=rate),
                speed=speed,
                task=engine.package.config.task,
            )
        footprint = evidence.footprint and replace(evidence.footprint, memory_mb=serves.result())
        evidence = replace(evidence, footprint=footprint)
        policy, champion = self._services.settings.gate, champion_of(self._head)
        decision = judge(evidence, policy)
        write_report(
            report_into,
            evidence,
            decision,
            policy=policy,
            candidate_name="the candidate",
            champion_name="the champion" if champion is None else f"version {champion}",
        )
        return evidence, decision

    def _speed(
        self, engine: "Engine", other: "Engine | None", pairs: "Sequence[ModelInput]"
    ) -> "tuple[float, Speed | None]":
        """Return an engine's rows per second, and its comparison with another engine if there is one."""
        from absa.evaluation.prediction_price import TIMED_ROWS, Speed, measure_speeds

        measure = self._measure or measure_speeds
        rate, *others = measure([each.score for each in (engine, other) if each is not None], pairs)
        if not others:
            return rate, None
        return rate, Speed(rows=TIMED_ROWS, candidate_rows_per_s=rate, champion_rows_per_s=others[0])

    def _baseline(self) -> "Baseline | None":
        """Return the baseline of a first version, trained on few rows if no time was left beside the training."""
        if self._champion is not None:
            return None
        return self._tf_idf or self._train_baseline(_FEWEST_BASELINE_ROWS)

    def _train_baseline(self, rows: int) -> "Baseline | None":
        from absa.data.snapshot import sample_side
        from absa.evaluation.baseline import MOST_ROWS, train_baseline

        sample = sample_side(self._services.lake, self._manifest.digest, "train", min(rows, MOST_ROWS))
        return train_baseline(sample, self._task)

    def _score_ahead(self, test: "pl.DataFrame") -> None:
        """Score the test rows with the champion, or train the baseline, while the job trains, until `stop`."""
        from absa.evaluation.behaviour import run_behaviours
        from absa.evaluation.invariance import behaviours_of

        if self._champion is None:
            self._tf_idf = None if self._stop.is_set() else self._train_baseline(self._baseline_rows)
            return
        pairs = list(test.select("text", "aspect").iter_rows())
        for start in range(0, len(pairs), _ROWS_AT_ONCE):
            if self._stop.is_set():
                return
            self._champion.score(pairs[start : start + _ROWS_AT_ONCE])
        if not self._stop.is_set():
            run_behaviours(self._champion.score, behaviours_of(self._task, pairs, cases=self.planned_cases))


def draw_pictures(metrics: "Metrics", history: Sequence[Mapping[str, Any]], into: Path, task: TaskSpec) -> None:
    """Draw the confusion matrix and the learning curve of a run into a folder."""
    from absa.evaluation.plots import save_confusion_matrix, save_learning_curve

    save_confusion_matrix(metrics, into / "confusion_matrix.png", task)
    save_learning_curve(history, into / "learning_curve.png", task)


def _own_tests(services: Services, task: TaskSpec) -> "tuple[OwnTest, ...]":
    """Read the user's own tests; a relative path starts at the home.

    Raises:
        InvalidDataError: the file cannot be used.
    """
    from absa.evaluation.own_tests import read_own_tests

    named = services.settings.gate.tests
    return () if named is None else read_own_tests(services.settings.root / named, task)


def data_checks(manifest: "Manifest", leaked: int, *, known: int | None = None) -> "DataChecks":
    """Return the gate's facts about the data.

    Args:
        manifest: manifest of the snapshot.
        leaked: number of texts that are in the training and the test split.
        known: number of labels of the champion; later labels may have few rows yet. None: there is no champion.
    """
    from absa.evaluation.gate import DataChecks

    labels = [manifest.rows["train"].get(str(label), 0) for label in range(manifest.task.n_labels)]
    rows = sum(labels)
    quarantined = sum(manifest.quarantined.values())
    return DataChecks(
        train_rows=rows,
        quarantined_share=quarantined / max(1, quarantined + manifest.total_rows),
        label_shares=tuple(label / max(1, rows) for label in labels[:known]),
        leaked_texts=leaked,
    )
