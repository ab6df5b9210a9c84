"""Flow continuous-training: snapshot → train inside the budget → judge → register → challenger or first champion."""

import json
import shutil
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

from prefect import flow, task
from prefect.artifacts import create_markdown_artifact, create_progress_artifact, update_progress_artifact
from prefect.cache_policies import NO_CACHE
from prefect.runtime import flow_run
from pydantic import Field

from absa.adapters.cloudwatch import publish
from absa.adapters.ledger import LedgerRecord, State
from absa.errors import ConflictError, DeadlineMissedError, EvergreenError, PermanentError
from absa.job import WEIGHTS_FOLDER
from absa.lifecycle import challenged, crowned
from absa.modeling.folders import TOKENIZER, find_base
from absa.schema import SIDES, parse_iso, utc_now
from flows.kept_checkpoints import KeptCheckpoints
from flows.reserve import (
    REGISTRATION_S,
    AfterTraining,
    after_training_s,
    judged_in_time,
    most_test_rows,
    reserve_s,
    rows_per_s,
)
from flows.retries import DELAYS_S, RETRIES, trying_again_may_help
from flows.settings import write_whole
from flows.token_process import shards_of
from flows.tracking import TrackedRun, tracked_run
from flows.training_process import JobResult, run_job
from flows.trigger import start_deployment
from flows.wiring import Services, wire

if TYPE_CHECKING:
    from absa.data.snapshot import Manifest
    from absa.evaluation.gate import DataChecks, GateDecision, GateEvidence
    from absa.evaluation.metrics import Metrics
    from absa.inference.package import ModelPackage

_LEAST_TRAINING_S: Final = 5.0
_VALIDATION_ROWS: Final = 2_000
_DESCRIBED_ROWS: Final = 50_000
_MAX_TOKENS: Final = 128

LATEST_EVENT: Final = "latest.json"  # in HOME/jobs: how the training that runs now goes, for whoever shows it

Progress = Callable[[Mapping[str, Any]], None]


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How a training ended. `version` is None only where nothing was registered."""

    version: str | None
    verdict: str
    reasons: tuple[str, ...]
    snapshot: str
    pos_neg_f1: float
    champion_pos_neg_f1: float | None
    budget_s: float
    used_s: float
    action: str  # crowned, challenged or kept

    def to_json(self) -> dict[str, Any]:
        """Plain values, as a flow run's result shows them."""
        return vars(self) | {"reasons": list(self.reasons)}


@dataclass(frozen=True, kw_only=True)
class _Candidate:
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


def run_continuous_training(
    services: Services,
    *,
    budget_s: float,
    sources: list[str],
    window: str | None,
    reason: str,
    base: str | None = None,
    on_event: Progress = lambda _: None,
) -> Outcome:
    """Make one version inside a budget that starts now, from a base model where one is named.

    Raises:
        DeadlineMissedError: the budget is too short; nothing was registered.
        InvalidDataError: a source cannot be read.
        UnavailableError: MLflow or the lake does not answer.
    """
    started = time.time()
    ends_at = started + budget_s
    head = services.ledger.head()
    tags = {"reason": reason, **({"window": window} if window else {})}
    with tracked_run(f"{reason}-{datetime.now(UTC):%H%M%S}", tracking_uri=_tracking(services), tags=tags) as run:
        manifest = take_snapshot(services, sources)
        on_event({"event": "phase", "name": "snapshot", "rows": manifest.total_rows})
        describe_snapshot(services, run, manifest)
        clock = AfterTraining(on_event)
        job = train(services, run, manifest, head, budget_s=budget_s, ends_at=ends_at, base=base, on_event=clock)
        candidate = judge_candidate(services, run, manifest, job, head, budget_s=budget_s, ends_at=ends_at)
        on_event({"event": "phase", "name": "gate", "verdict": candidate.decision.verdict})
        if time.time() > ends_at:
            raise DeadlineMissedError(
                f"the budget of {budget_s:.0f} s ended before registration; nothing was registered"
            )
        version = register(services, run, manifest, candidate, budget_s)
        training = {"budget_s": budget_s, "used_s": round(time.time() - started, 1), "rows_seen": job.done["rows"]}
        action = put_in_force(services, version, candidate, training, actor=reason)
        used_s = time.time() - started
        run.metrics({"used_s": used_s, "budget_used_share": used_s / budget_s, "after_training_s": clock.seconds})
        clock.keep(services, champion=_champion_in(head))
    return Outcome(
        version=version,
        verdict=candidate.decision.verdict,
        reasons=tuple(candidate.decision.reasons),
        snapshot=manifest.digest,
        pos_neg_f1=candidate.metrics.pos_neg_f1,
        champion_pos_neg_f1=(None if candidate.evidence.baseline else candidate.evidence.overall.champion.pos_neg_f1),
        budget_s=budget_s,
        used_s=used_s,
        action=action,
    )


def _champion_in(head: LedgerRecord | None) -> bool:
    return head is not None and head.state.champion is not None


def _tracking(services: Services) -> str:
    return services.environment["MLFLOW_TRACKING_URI"]


@task(
    name="snapshot",
    cache_policy=NO_CACHE,
    retries=RETRIES,
    retry_delay_seconds=DELAYS_S,
    retry_condition_fn=trying_again_may_help,
)
def take_snapshot(services: Services, sources: list[str]) -> "Manifest":
    """Everything that may train: the newest snapshot, the named files, and trusted feedback that came since."""
    from absa.data.feedback import labelled_examples
    from absa.data.snapshot import build_snapshot, ingest, latest_manifest

    newest = latest_manifest(services.lake)
    if newest is None and not sources:
        raise PermanentError("a first training needs data: name a file, or run `evergreen ingest FILE` first")
    manifest = ingest(services.lake, sources, parent=newest.digest if newest else None) if sources else newest
    if newest is not None:
        since = parse_iso(newest.created_at) - timedelta(seconds=services.settings.label_lag_s)
        labelled = labelled_examples(
            services.lake,
            since,
            utc_now(),
            services.settings.trusted_sources,
            max_a_unit=services.settings.max_rows_a_unit,
            max_a_source=services.settings.max_rows_a_source,
        )
        if labelled.height:
            parent = (manifest or newest).digest
            manifest = build_snapshot(services.lake, [labelled], parent=parent, uri=services.lake.url("feedback"))
    if manifest is None:
        raise PermanentError("there is nothing to train on")
    return manifest


def _champion_snapshot(services: Services, head: LedgerRecord | None) -> str | None:
    if head is None or head.state.champion is None:
        return None
    return services.reader.version(head.state.champion).tags.get("snapshot")


def champion_snapshot_at(services: Services, head: LedgerRecord | None) -> datetime | None:
    """When the champion's data were taken: rows observed later are recent."""
    from absa.data.snapshot import load_manifest

    digest = _champion_snapshot(services, head)
    return parse_iso(load_manifest(services.lake, digest).created_at) if digest else None


def champion_weights(services: Services, head: LedgerRecord | None) -> Path | None:
    """The champion's fp32 weights on local disk to go on from, or None where they were never kept."""
    if head is None or head.state.champion is None:
        return None
    run_id = services.reader.version(head.state.champion).tags.get("run")
    if run_id is None:
        return None
    folder = services.home.folder("jobs", run_id) / WEIGHTS_FOLDER
    prefix = weights_prefix(run_id)
    for key in services.lake.list(prefix):
        file = folder / key.removeprefix(prefix)
        if not file.is_file():
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(services.lake.read(key))
    return folder if (folder / "config.json").is_file() else None


def weights_prefix(run_id: str) -> str:
    """Where a run's fp32 weights lie in the lake."""
    return f"runs/{run_id}/{WEIGHTS_FOLDER}/"


def describe_snapshot(services: Services, run: TrackedRun, manifest: "Manifest") -> None:
    """Name the snapshot's sides as the run's datasets; of a large one only its name and digest."""
    from absa.data.snapshot import load_side

    run.params({"snapshot": manifest.digest, "snapshot_parent": manifest.parent})
    for side in SIDES:
        source = services.lake.url(f"snapshots/{manifest.digest}")
        rows = None
        if manifest.side_rows(side) <= _DESCRIBED_ROWS:
            rows = load_side(services.lake, manifest.digest, side).select("text", "aspect", "label").to_pandas()
        run.dataset(rows, digest=manifest.digest, side=side, source=source)


@task(name="train", cache_policy=NO_CACHE)
def train(
    services: Services,
    run: TrackedRun,
    manifest: "Manifest",
    head: LedgerRecord | None,
    *,
    budget_s: float,
    ends_at: float,
    base: str | None = None,
    on_event: Progress,
) -> JobResult:
    """Train and package in a child process that ends before the deadline.

    It goes on from the champion's weights, unless a base model is named: then it starts from that.
    """
    from absa.data.snapshot import sample_side

    settings = services.settings
    folder = services.home.folder("jobs", run.run_id)
    since = champion_snapshot_at(services, head)
    rows = sample_side(services.lake, manifest.digest, "validation", _VALIDATION_ROWS)
    rows.select("text", "aspect", "label", "segment").write_ndjson(folder / "validation.jsonl")
    wanted = {
        "base_model": base or settings.base_model,
        "layers": settings.layers,
        "hidden": settings.hidden,
        "max_epochs": settings.max_epochs,
        "learning_rate": settings.learning_rate,
        "batch_tokens": settings.batch_tokens,
    }
    weights = champion_weights(services, head) if base is None else None
    if weights is not None:
        wanted |= {
            "warm_start": str(weights),
            "max_epochs": settings.warm_epochs,
            "train_layers": settings.warm_layers,
        }
    chosen = {name: value for name, value in wanted.items() if value is not None}
    test_rows = most_test_rows(budget_s, champion=since is not None)
    judged = min(test_rows, manifest.side_rows("test"))
    reserve = reserve_s(settings, budget_s, judged_rows=judged, champion=since is not None)
    reserve = max(reserve, min(after_training_s(services, champion=_champion_in(head)), 0.4 * budget_s))
    if ends_at - time.time() < reserve + _LEAST_TRAINING_S:
        raise DeadlineMissedError("too little of the budget is left to train; nothing was registered")
    kept = KeptCheckpoints(services.lake, run.run_id, {"snapshot": manifest.digest, **chosen}, folder / "checkpoints")
    adopted = kept.adopt()
    run.params(
        {
            **chosen,
            "train_rows": manifest.side_rows("train"),
            "recent_since": since.isoformat() if since else None,
            "replay": settings.replay if since else None,
            "reserve_s": round(reserve, 1),
            "resumed_from_run": adopted,
            "budget_ends_at": datetime.fromtimestamp(ends_at, UTC).isoformat(),
        }
    )

    def relay(event: Mapping[str, Any]) -> None:
        if event.get("event") == "phase" and event.get("name") == "export":
            shards.stop()  # nothing is learned any more: packaging and judging get the machine
        run.event(event)
        on_event(event)
        write_whole(services.home.folder("jobs") / LATEST_EVENT, json.dumps({**event, "run": run.run_id}))

    tokenizer = find_base(str(chosen.get("warm_start", chosen["base_model"]))) / TOKENIZER
    with (
        shards_of(
            services.lake,
            manifest.digest,
            tokenizer,
            _MAX_TOKENS,
            cache=services.home.root,
            environment=services.environment,
        ) as shards,
        kept.copied(),
    ):
        job = {
            "settings": chosen,
            "ends_at": ends_at,
            "reserve_s": reserve,
            "snapshot": manifest.digest,
            "tokens": str(shards.folder),
            "checkpoints": str(kept.folder),
            "since": since.timestamp() if since else None,
            "replay": settings.replay,
        }
        (folder / "job.json").write_text(json.dumps(job, indent=1))
        result = run_job(folder, ends_at=ends_at, environment=services.environment, on_event=relay)
    kept.clear()
    run.params({name: value for name, value in result.done.items() if isinstance(value, int | float)})
    run.params({f"choice_{name}": value for name, value in result.done.get("choice", {}).items()})
    return result


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
) -> _Candidate:  # fmt: skip
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
    if head is not None and head.state.champion is not None:
        version = head.state.champion
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
    return _Candidate(package=package, evidence=evidence, decision=decision, job=job, pictures=pictures)


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


@task(name="register", cache_policy=NO_CACHE)  # never tried again: a second try would register a second version
def register(services: Services, run: TrackedRun, manifest: "Manifest", candidate: _Candidate, budget_s: float) -> str:
    """Log the package as an MLflow model and register it; a rejected one too, with its report."""
    from absa.packaging.mlflow_model import log_package

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
    logged = log_package(candidate.job.package, registered_model_name=services.registry.model)
    services.registry.set_tags(
        logged.version,
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
    for file in sorted((candidate.job.folder / WEIGHTS_FOLDER).iterdir()):
        services.lake.write(weights_prefix(run.run_id) + file.name, file.read_bytes())
    shutil.rmtree(candidate.job.folder / "checkpoints", ignore_errors=True)
    return logged.version


@task(
    name="put-in-force",
    cache_policy=NO_CACHE,
    retries=RETRIES,
    retry_delay_seconds=DELAYS_S,
    retry_condition_fn=trying_again_may_help,
)
def put_in_force(
    services: Services, version: str, candidate: _Candidate, training: dict[str, float], *, actor: str
) -> str:
    """Write the ledger: a first version that beats the baseline is champion, a better one challenger.

    What the training took stands in the evidence beside the gate's report.
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
    if decision.verdict != "PROMOTE":
        services.project(record)
        return "kept"
    first = record.state.champion is None
    if not first and record.state.plan is not None and record.state.plan.mode != "single":
        services.project(record)
        return "kept"  # another experiment runs; a person can challenge with this version after it
    record = services.ledger.append(
        expected=record.number,
        actor=actor,
        action="promote" if first else "challenge",
        reason=(decision.reasons[0] if decision.reasons else "the gate says PROMOTE"),
        state=crowned(version) if first else challenged(record.state, version),
        evidence=evidence,
    )
    services.project(record)
    return "crowned" if first else "challenged"


def _run_name() -> str:
    parameters = flow_run.parameters
    return f"train-{parameters.get('reason', 'manual')}-{datetime.now(UTC):%m%d-%H%M%S}"


@flow(name="continuous-training", flow_run_name=_run_name)
def continuous_training(
    window: Annotated[str | None, Field(description="Key of the window whose verdict asked for this run.")] = None,
    budget_s: Annotated[float | None, Field(description="Budget of the whole run, in seconds.")] = None,
    sources: Annotated[list[str] | None, Field(description="Files to ingest beside the feedback in the lake.")] = None,
    reason: Annotated[str, Field(description="Who asks: schedule, drift, labels, or a person's name.")] = "manual",
    start_promotion: Annotated[bool, Field(description="Start the promote deployment for a new challenger.")] = True,
    base: Annotated[str | None, Field(description="Folder of a base model to start from, not the champion.")] = None,
) -> dict[str, Any]:
    """Train on the newest snapshot inside a budget, judge against the champion, register."""
    from monitoring.verdicts import VerdictStore

    services = wire()
    budget = budget_s or services.settings.budget_s
    if services.settings.training_queue_names:
        if base is not None:
            raise PermanentError("a training machine has no bases of this one: set EVERGREEN_BASE_MODEL in its image")
        return train_on_machine(services, budget_s=budget, sources=sources, reason=reason, window=window)
    progress: Any = create_progress_artifact(0.0, key="training-progress", description="Share of the budget used")
    started = time.time()
    ticked = started

    def on_event(_: Mapping[str, Any]) -> None:
        nonlocal ticked
        if time.time() - ticked > 2.0:
            ticked = time.time()
            update_progress_artifact(progress, min(99.0, 100.0 * (ticked - started) / budget))

    attempt = _attempt(services, window)
    try:
        outcome = run_continuous_training(
            services,
            budget_s=budget,
            sources=sources or [],
            window=window,
            reason=reason,
            base=base,
            on_event=on_event,
        )
    except EvergreenError as error:
        if attempt is not None:
            VerdictStore(services.lake).end_attempt(attempt[0], attempt[1], "failed", detail=str(error))
        if services.settings.metrics == "emf":
            missed = isinstance(error, DeadlineMissedError)
            publish("training", {"DeadlineMissed": float(missed), "Failed": float(not missed)})
        raise
    update_progress_artifact(progress, 100.0)
    if attempt is not None:
        VerdictStore(services.lake).end_attempt(
            attempt[0], attempt[1], "completed", flow_run_id=str(flow_run.id), detail=f"version {outcome.version}"
        )
    create_markdown_artifact(_summary(outcome), key="training-result", description="How the last training ended")
    if outcome.action == "challenged" and start_promotion:
        start_deployment("promote/promote", {"version": outcome.version}, key=f"promote-{outcome.version}")
    return outcome.to_json()


@task(name="train-on-machine", cache_policy=NO_CACHE)
def train_on_machine(
    services: Services, *, budget_s: float, sources: list[str] | None, reason: str, window: str | None
) -> dict[str, Any]:
    """Have the same flow run on a GPU machine, and wait for it; an attempt that the machine left open is ended.

    Raises:
        PermanentError: files were named, which the machine cannot see, or the training failed.
        DeadlineMissedError: it missed its budget.
        UnavailableError: no machine was to be had, or AWS does not answer.
    """
    import boto3

    from flows.training_machine import TrainingMachine
    from monitoring.verdicts import VerdictStore

    if sources:
        raise PermanentError("a training machine reads the lake alone: `evergreen ingest FILE` first, then train")
    settings = services.settings
    machine = TrainingMachine(
        boto3.client("batch"),
        queues=settings.training_queue_names,
        definition=settings.training_definition,
        wait_s=settings.machine_wait_s,
    )
    attempt = _attempt(services, window)
    try:
        ran = machine.train(budget_s=budget_s, reason=reason, window=window)
    except EvergreenError as error:
        store = VerdictStore(services.lake)
        found = store.latest(attempt[0]) if attempt is not None else None
        if attempt is not None and found is not None and found.attempts[-1].state == "started":
            store.end_attempt(attempt[0], attempt[1], "failed", detail=str(error))
        raise
    return vars(ran)


def _attempt(services: Services, window: str | None) -> tuple[Any, int] | None:
    """The window and number of the attempt that this run is, if a verdict asked for it."""
    from absa.schema import Window
    from monitoring.verdicts import VerdictStore

    if window is None:
        return None
    found = VerdictStore(services.lake).latest(Window.parse(window))
    if found is None or not found.attempts:
        return None
    if any(attempt.state == "completed" for attempt in found.attempts):
        raise ConflictError(f"window {window} has led to a completed retraining already")
    return found.window, found.attempts[-1].number


def _summary(outcome: Outcome) -> str:
    champion = f"{outcome.champion_pos_neg_f1:.3f}" if outcome.champion_pos_neg_f1 is not None else "none yet"
    reasons = "\n".join(f"- {reason}" for reason in outcome.reasons)
    return (
        f"## Version {outcome.version}: {outcome.verdict}\n\n"
        f"| pos/neg F1 | champion on the same rows | budget used |\n|---|---|---|\n"
        f"| {outcome.pos_neg_f1:.3f} | {champion} | {outcome.used_s:.0f} of {outcome.budget_s:.0f} s |\n\n{reasons}\n"
    )
