"""The judging step: candidate and champion on the same test rows, and what the gate decides on that."""

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from prefect import task
from prefect.cache_policies import NO_CACHE

from absa.adapters.ledger import LedgerRecord
from flows.reserve import REGISTRATION_S, judged_in_time, most_test_rows, rows_per_s
from flows.retries import DELAYS_S, RETRIES, trying_again_may_help
from flows.tracking import TrackedRun
from flows.training_data import champion_of, champion_snapshot_at
from flows.training_process import JobResult
from flows.wiring import Services

if TYPE_CHECKING:
    from absa.data.snapshot import Manifest
    from absa.evaluation.gate import DataChecks, GateDecision, GateEvidence
    from absa.evaluation.metrics import Metrics
    from absa.inference.package import ModelPackage


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A trained and judged package, not yet registered."""

    package: "ModelPackage"
    evidence: "GateEvidence"
    decision: "GateDecision"
    job: JobResult
    pictures: Path

    @property
    def metrics(self) -> "Metrics":
        """The candidate's figures on the whole test side."""
        return self.evidence.overall.candidate

    @property
    def latency_ms_p50(self) -> float:
        """Median latency of one row on this machine, in milliseconds."""
        footprint = self.evidence.footprint
        return footprint.latency_ms_p50 or 0.0 if footprint else 0.0


@task(
    name="judge",
    cache_policy=NO_CACHE,
    retries=RETRIES,
    retry_delay_seconds=DELAYS_S,
    retry_condition_fn=trying_again_may_help,
)
def judge_candidate(
    services: Services, run: TrackedRun, manifest: "Manifest", job: JobResult, head: LedgerRecord | None,
    *, budget_s: float, ends_at: float,
) -> Candidate:  # fmt: skip
    """Score candidate and champion on the candidate's test side and let the gate decide.

    Of a large test side as many rows as the budget has time for, recent and established ones each with half. Where this
    machine scores more slowly than was planned for, fewer rows and behavioural cases: registration keeps its time.
    """
    from absa.data.snapshot import leaked_texts, sample_side
    from absa.evaluation.assess import assess_engines
    from absa.evaluation.gate import GatePolicy, Parity, judge
    from absa.evaluation.plots import save_confusion_matrix, save_learning_curve
    from absa.evaluation.report import write_report
    from absa.inference.engine import Engine
    from absa.inference.package import load_package
    from absa.packaging.validate import validate_package

    package = load_package(job.package)
    since = champion_snapshot_at(services, head)
    most = most_test_rows(budget_s, champion=since is not None)
    test = sample_side(services.lake, manifest.digest, "test", most, since=since)
    champion, engine = None, Engine.load(package)
    if head is not None and (version := champion_of(head)) is not None:
        champion = Engine.load(services.package(version, head.versions[version]))
    with ThreadPoolExecutor(1) as beside:  # a process of its own, while this one scores
        serves = beside.submit(validate_package, job.package, expected_digest=package.digest)
        leaked = leaked_texts(services.lake, manifest.digest, test["text"])
        fits, cases = judged_in_time(
            rows_per_s(engine, test) / (1 if champion is None else 2),
            left_s=ends_at - time.time() - REGISTRATION_S,
            cases=services.settings.behaviour_cases,
        )
        if test.height > fits:
            test = sample_side(services.lake, manifest.digest, "test", fits, since=since)
        run.params({"test_rows": test.height, "behaviour_cases": cases})
        recent = [champion is None or since is None or at > since for at in test["observed_at"]]
        measured = job.done["parity"]
        evidence = assess_engines(
            candidate=engine,
            champion=champion,
            examples=test,
            recent=recent,
            parity=Parity(
                rows=measured["rows"],
                label_agreement=measured["labels_equal"],
                f1_loss=measured["pos_neg_f1_fp32"] - measured["pos_neg_f1_int8"],
            ),
            data=data_checks(manifest, leaked),
            behaviour_cases=cases,
        )
    footprint = replace(evidence.footprint, memory_mb=serves.result().memory_mb) if evidence.footprint else None
    evidence = replace(evidence, footprint=footprint)
    policy = GatePolicy(
        min_recent_rows=services.settings.min_recent_rows,
        min_slice_rows=services.settings.min_slice_rows,
        established_margin=services.settings.established_margin,
        behaviour_margin=services.settings.behaviour_margin,
        max_int8_f1_loss=services.settings.max_int8_f1_loss,
    )
    decision = judge(evidence, policy)
    write_report(
        job.package,
        evidence,
        decision,
        policy=policy,
        candidate_name="the candidate",
        champion_name="the champion" if head is None else f"version {head.state.champion}",
    )
    pictures = job.folder / "pictures"
    pictures.mkdir(exist_ok=True)
    save_confusion_matrix(evidence.overall.candidate, pictures / "confusion_matrix.png")
    save_learning_curve(run.history, pictures / "learning_curve.png")
    return Candidate(package=package, evidence=evidence, decision=decision, job=job, pictures=pictures)


def data_checks(manifest: "Manifest", leaked: int) -> "DataChecks":
    """What the gate asks about the data. `leaked` texts stand on both sides."""
    from absa.evaluation.gate import DataChecks

    labels = [manifest.rows["train"].get(str(label), 0) for label in range(3)]
    rows = sum(labels)
    quarantined = sum(manifest.quarantined.values())
    return DataChecks(
        train_rows=rows,
        quarantined_share=quarantined / max(1, quarantined + manifest.total_rows),
        label_shares=(labels[0] / max(1, rows), labels[1] / max(1, rows), labels[2] / max(1, rows)),
        leaked_texts=leaked,
    )
