"""The last steps of a training: the candidate becomes a registry version, and the ledger says what that is."""

import json
import shutil
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from prefect import task
from prefect.cache_policies import NO_CACHE

from absa.ledger.lifecycle import challenged, crowned
from absa.ledger.state import State
from absa.records.layout import weights_folder
from flows.platform.ports import TrackedRun
from flows.platform.retries import DELAYS_S, RETRIES, trying_again_may_help
from flows.platform.services import Services
from flows.training.judging import Candidate

if TYPE_CHECKING:
    from absa.data.snapshot import Manifest


@task(name="register", cache_policy=NO_CACHE)  # never tried again: a second try would register a second version
def register(services: Services, run: TrackedRun, manifest: "Manifest", candidate: Candidate, budget_s: float) -> str:
    """Put the package into the lake, log it as an MLflow model and register it; a rejected one too."""
    services.packages.put(candidate.job.package)
    metrics = candidate.metrics
    run.files(candidate.pictures, into="pictures")
    run.metrics(
        {
            "test_pos_neg_f1": metrics.pos_neg_f1,
            "test_accuracy": metrics.accuracy,
            "test_macro_f1": metrics.macro_f1,
            "test_ece": metrics.ece,
            "test_flip_rate": metrics.flip_rate,
        }
    )
    run.tags({"gate": candidate.decision.verdict})
    version = run.register(candidate.job.package)
    services.registry.set_tags(
        version,
        {
            "snapshot": manifest.digest,
            "run": run.run_id,
            "digest": candidate.package.digest,
            "budget_s": f"{budget_s:g}",
            "gate": candidate.decision.verdict,
            "pos_neg_f1": f"{metrics.pos_neg_f1:.4f}",
            "test_confusion": json.dumps(metrics.confusion),
            "latency_ms_p50": f"{candidate.latency_ms_p50:.3f}",
            "size_mb": f"{candidate.package.size_mb:.1f}",
            "student": f"L{candidate.package.config.layers}-{candidate.package.config.hidden}",
        },
    )
    for file in sorted(candidate.job.weights.iterdir()):
        services.lake.write(weights_folder(run.run_id) + file.name, file.read_bytes())
    shutil.rmtree(candidate.job.folder / "checkpoints", ignore_errors=True)
    return version


@task(
    name="put-in-force",
    cache_policy=NO_CACHE,
    retries=RETRIES,
    retry_delay_seconds=DELAYS_S,
    retry_condition_fn=trying_again_may_help,
)
def put_in_force(
    services: Services, version: str, candidate: Candidate, training: dict[str, Any], *, actor: str
) -> str:
    """Write the ledger: a first version becomes champion unless the gate rejects it, a better one challenger.

    While nothing serves, a version on HOLD is worth more than none; the ledger's reason is then a warning.

    What the training took, and who asked for it, stands in the evidence beside the gate's report.
    """
    decision = candidate.decision
    evidence = {**decision.to_json(), "training": training}
    head = services.ledger.head()
    if head is not None and version in head.versions:  # a first try came as far as this
        record = head
    else:
        record = services.ledger.append(
            expected=head.number if head else 0,
            actor=actor,
            action="register",
            reason=" ".join((f"version {version}: the gate says {decision.verdict}.", *decision.reasons[:3])),
            state=head.state if head else State(),
            versions={version: candidate.package.digest},
            evidence=evidence,
        )
    if version in {record.state.champion, record.state.challenger}:
        services.project(record)
        return "crowned" if version == record.state.champion else "challenged"
    first = record.state.champion is None
    if decision.verdict == "REJECT" or (decision.verdict == "HOLD" and not first):
        services.project(record)
        return "kept"
    if not first and record.state.plan is not None and record.state.plan.mode != "single":
        services.project(record)
        return "kept"  # another experiment runs; a person can challenge with this version after it
    record = services.ledger.append(
        expected=record.number,
        actor=actor,
        action="promote" if first else "challenge",
        reason=_why(decision.verdict, decision.reasons),
        state=crowned(version) if first else challenged(record.state, version),
        evidence=evidence,
    )
    services.project(record)
    return "crowned" if first else "challenged"


def _why(verdict: str, reasons: Sequence[str]) -> str:
    said = " ".join(reasons[:2]) if reasons else f"the gate says {verdict}"
    if verdict == "PROMOTE":
        return said
    return f"Warning: the gate says {verdict} ({said}), but nothing else serves yet."
