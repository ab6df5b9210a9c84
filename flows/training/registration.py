"""Registration: the candidate becomes a registry version, and the ledger records it. Both steps can be repeated."""

import json
import shutil
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from absa.errors import NotFoundError, UnavailableError
from absa.ledger.lifecycle import challenged, crowned
from absa.ledger.record import LedgerRecord, evidence_digest
from absa.ledger.state import State
from absa.records.layout import weights_folder
from flows.platform.ports import TrackedRun
from flows.platform.services import Services
from flows.training.judging import Candidate

if TYPE_CHECKING:
    from absa.data.snapshot import Manifest


def register_version(
    services: Services,
    run: TrackedRun,
    manifest: "Manifest",
    candidate: Candidate,
    budget_s: float,
    tags: Mapping[str, str],
) -> str:
    """Copy the package to the lake, log it as the run's model and register it with tags, even if it was rejected.

    Returns:
        The version. A repeated call returns the same version.

    Raises:
        UnavailableError: MLflow or the lake is unavailable; the ledger does not have the version yet.
    """
    metrics, usd_per_million = candidate.metrics, price_of(services, candidate.rows_per_s)
    try:
        services.packages.put(candidate.job.package)
        run.files(candidate.pictures, into="pictures")
        run.metrics(
            {
                "test_f1": metrics.f1,
                "test_pos_neg_f1": metrics.pos_neg_f1,
                "test_accuracy": metrics.accuracy,
                "test_macro_f1": metrics.macro_f1,
                "test_ece": metrics.ece,
                "test_flip_rate": metrics.flip_rate,
                "size_mb": candidate.package.size_mb,
                "latency_ms_p50": candidate.latency_ms_p50,
                "rows_per_s": candidate.rows_per_s,
                "usd_per_million": usd_per_million,
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
                "f1": f"{metrics.f1:.4f}",
                **({} if metrics.pos_neg_f1 is None else {"pos_neg_f1": f"{metrics.pos_neg_f1:.4f}"}),
                "metric": candidate.evidence.task.metric,
                "test_confusion": json.dumps(metrics.confusion),
                "latency_ms_p50": f"{candidate.latency_ms_p50:.3f}",
                **_price_tags(candidate, usd_per_million),
                "size_mb": f"{candidate.package.size_mb:.1f}",
                "student": f"L{candidate.package.config.layers}-{candidate.package.config.hidden}",
                **tags,
            },
        )
        for file in sorted(candidate.job.weights.iterdir()):
            services.lake.write(weights_folder(run.run_id) + file.name, file.read_bytes())
    except UnavailableError as error:
        raise UnavailableError(
            f"the version could not be registered, and nothing has changed for traffic: {error}. Start the servers "
            f"(`evergreen up`) and train again; the trained package stays in {candidate.job.package}"
        ) from error
    shutil.rmtree(candidate.job.folder / "checkpoints", ignore_errors=True)
    return version


def put_in_force(
    services: Services,
    version: str,
    candidate: Candidate,
    training: dict[str, Any],
    *,
    actor: str,
    behind: str | None = None,
) -> str:
    """Record a version in the ledger: the first becomes champion unless the gate rejects it, a better one challenger.

    Without a champion, a version on HOLD also becomes champion; the ledger's reason is then a warning. A repeated call
    continues from the records of the first call. A version that another training recorded without evidence is recorded
    again with its evidence.

    Args:
        services: ports.
        version: registered version.
        candidate: judged candidate of the version.
        training: cost and origin of the training, for the evidence.
        actor: actor of the records.
        behind: reason why another version of the same run stays challenger instead; None: this version may become it.

    Returns:
        crowned, challenged or kept.

    Raises:
        ConflictError: another writer appended to the ledger meanwhile; a repeated call decides again.
    """
    decision = candidate.decision
    said = decision.reasons[:3] if behind is None else (behind,)
    evidence = {**decision.to_json(), "training": {**training, "version": version}}
    head = _record_interrupted(services, before=int(version), actor=actor)
    if head is not None and version in head.versions and _is_recorded(services, evidence):  # by an earlier call
        record = head
    else:
        record = services.ledger.append(
            expected=head.number if head else 0,
            actor=actor,
            action="register",
            reason=" ".join((f"version {version}: the gate's verdict is {decision.verdict}.", *said)),
            state=head.state if head else State(),
            versions={version: candidate.package.digest},
            evidence=evidence,
        )
    state, first = record.state, record.state.champion is None
    serves = version in {state.champion, state.challenger}
    wanted = decision.verdict == "PROMOTE" or (decision.verdict == "HOLD" and first)
    tested = not first and state.plan is not None and state.plan.mode != "single"  # another experiment runs
    if not serves and wanted and not tested and behind is None:
        record = services.ledger.append(
            expected=record.number,
            actor=actor,
            action="promote" if first else "challenge",
            reason=_why(decision.verdict, decision.reasons),
            state=crowned(version) if first else challenged(state, version),
            evidence=evidence,
        )
    services.project(record)
    actions = {record.state.challenger: "challenged", record.state.champion: "crowned"}
    return actions.get(version, "kept")


def _record_interrupted(services: Services, *, before: int, actor: str) -> LedgerRecord | None:
    """Record earlier versions that are registered but not in the ledger; return the head.

    Their trainings were killed between the two steps. Once recorded, an operator can promote these versions. A training
    that still runs records its version again, with the evidence. Without MLflow a later training records them.
    """
    head = services.ledger.head()
    try:
        for version in services.registry.versions():
            if int(version) >= before or (head is not None and version in head.versions):
                continue
            try:
                tags = services.registry.tags(version)
            except NotFoundError:  # deleted since the listing
                continue
            if "digest" in tags and "gate" in tags:  # complete
                head = services.ledger.append(
                    expected=head.number if head else 0,
                    actor=actor,
                    action="register",
                    reason=f"version {version}: the gate's verdict is {tags['gate']}. Its training did not record it.",
                    state=head.state if head else State(),
                    versions={version: tags["digest"]},
                )
    except UnavailableError:
        return services.ledger.head()
    return head


def _is_recorded(services: Services, evidence: Mapping[str, Any]) -> bool:
    digest = evidence_digest(evidence)
    return any(record.evidence_digest == digest for record in services.ledger.follow())


def price_of(services: Services, rows_per_s: float | None) -> float | None:
    """Return US dollars per million predictions at a speed, by the price table of the home or the shipped table.

    None if the speed was not measured, or the table lacks the machine or cannot be read.
    """
    from infra.cost.prices import core_usd_per_million, read_prices

    if rows_per_s is None:
        return None
    kept = services.settings.root / "prices.csv"
    try:
        return core_usd_per_million(read_prices(kept if kept.exists() else None), rows_per_s=rows_per_s)
    except (ValueError, OSError):
        return None  # a missing price must not fail the version: `evergreen lab cost` shows the error


def _price_tags(candidate: Candidate, usd_per_million: float | None) -> dict[str, str]:
    speed, rows_per_s = candidate.evidence.speed, candidate.rows_per_s
    return {
        **({} if rows_per_s is None else {"rows_per_s": f"{rows_per_s:.0f}"}),
        **({} if speed is None else {"champion_rows_per_s": f"{speed.champion_rows_per_s:.0f}"}),
        **({} if usd_per_million is None else {"usd_per_million": f"{usd_per_million:.4f}"}),
    }


def _why(verdict: str, reasons: Sequence[str]) -> str:
    said = " ".join(reasons[:2]) if reasons else f"the gate's verdict is {verdict}"
    if verdict == "PROMOTE":
        return said
    return f"Warning: the gate's verdict is {verdict} ({said}), but nothing else serves yet."
