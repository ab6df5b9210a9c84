"""Flow continuous-training: snapshot → train inside the budget → judge → register → challenger or first champion."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any

from prefect import flow, task
from prefect.cache_policies import NO_CACHE
from prefect.runtime import flow_run
from pydantic import Field

from absa.adapters.cloudwatch import publish
from absa.errors import ConflictError, DeadlineMissedError, EvergreenError, PermanentError
from absa.sinks import markdown
from flows.platform.artifacts import PrefectReporter
from flows.platform.liveness import leave_signs
from flows.platform.prefect_runs import PROMOTION, promotion_key
from flows.platform.services import Services, build_services
from flows.training.candidate import RunTime, train
from flows.training.job_process import OnEvent
from flows.training.judging import Judging, judge_candidate
from flows.training.registration import put_in_force, register
from flows.training.reserve import OVERRUN_SHARE, TIMES_FILE, Reserve
from flows.training.run_progress import writer
from flows.training.training_snapshot import champion_of, describe_snapshot, take_snapshot


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


def run_continuous_training(
    services: Services,
    *,
    budget_s: float,
    sources: list[str],
    window: str | None,
    reason: str,
    base: str | None = None,
    start_promotion: bool = False,
    on_event: OnEvent = lambda _: None,
) -> Outcome:
    """Make one version inside a budget that starts now, from a base model where one is named.

    The run ends before its deadline with a version, however busy the machine is: the newest complete package is judged
    and registered. Without a champion it may overrun by a quarter of its budget, which an event announces. A complete
    package is always registered. The ledger's evidence names the window and says whether the caller starts the
    promotion, so that another process can finish what a kill prevents.

    Raises:
        DeadlineMissedError: the budget is too short for one step and one package; the message names one that would do.
        InvalidDataError: a source cannot be read.
        UnavailableError: MLflow or the lake does not answer.
    """
    head = services.ledger.head()
    first = champion_of(head) is None
    run_time = RunTime(started=time.time(), budget_s=budget_s, overrun_s=OVERRUN_SHARE * budget_s if first else 0.0)
    jobs = services.home.folder("jobs")
    reserve = Reserve(jobs / TIMES_FILE, budget_s=budget_s)
    progress = writer(jobs, started=run_time.started, ends_at=run_time.ends_at)

    def tell(event: Mapping[str, Any]) -> None:
        progress(event)
        on_event(event)

    if first:
        tell({"event": "note", "sentence": _announcement(run_time)})
    tags = {"reason": reason, **({"window": window} if window else {})}
    with services.runs.open(f"{reason}-{datetime.now(UTC):%H%M%S}", tags=tags) as run:
        manifest = take_snapshot(services, sources)
        tell({"event": "phase", "name": "snapshot", "rows": manifest.total_rows})
        describe_snapshot(services, run, manifest)
        judging = Judging(services, manifest, head, budget_s=budget_s, reserve=reserve)
        clock = AfterTraining(tell)
        try:
            job = train(
                services, run, manifest, head,
                run_time=run_time, reserve=reserve, judging=judging, base=base, on_event=clock,
            )  # fmt: skip
        except DeadlineMissedError as error:
            enough_s = reserve.sufficient_budget_s(run_time.used_s)
            raise DeadlineMissedError(
                f"a budget of {budget_s:.0f} s is too short here for one training step and one package, so nothing was "
                f"registered; --budget {enough_s:.0f} would be enough"
            ) from error
        tell({"event": "phase", "name": "judge"})
        candidate = judge_candidate(judging, run, job, ends_at=run_time.ends_at)
        tell({"event": "phase", "name": "gate", "verdict": candidate.decision.verdict})
        registering = time.time()
        version = register(services, run, manifest, candidate, budget_s)
        training = {
            "budget_s": budget_s,
            "used_s": round(run_time.used_s, 1),
            "rows_seen": job.done["rows"],
            "window": window,
            "start_promotion": start_promotion,
        }
        action = put_in_force(services, version, candidate, training, actor=reason)
        reserve.record("register", time.time() - registering)
        used_s = run_time.used_s
        run.metrics(
            {
                "used_s": used_s,
                "budget_used_share": used_s / budget_s,
                "overrun_s": max(0.0, used_s - budget_s),
                "after_training_s": clock.seconds,
            }
        )
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


def _announcement(run_time: RunTime) -> str:
    return (
        f"there is no champion yet: on a busy machine this first training may take up to {run_time.overrun_s:.0f} s "
        f"longer than its budget of {run_time.budget_s:.0f} s"
    )


class AfterTraining:
    """Relays events and measures the time since the training itself ended."""

    def __init__(self, relay: OnEvent) -> None:
        self._relay, self._ended = relay, time.time()

    def __call__(self, event: Mapping[str, Any]) -> None:
        if event.get("event") in {"progress", "phase"} and event.get("name", "train") in {"train", "export"}:
            self._ended = time.time()
        self._relay(event)

    @property
    def seconds(self) -> float:
        """Seconds since the training ended."""
        return time.time() - self._ended


def _run_name() -> str:
    parameters = flow_run.parameters
    return f"train-{parameters.get('reason', 'manual')}-{datetime.now(UTC):%m%d-%H%M%S}"


@flow(name="continuous-training", flow_run_name=_run_name, on_running=[leave_signs])
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

    services = build_services(reporter=PrefectReporter())
    budget = budget_s or services.settings.budget_s
    if services.settings.training_queue_names:
        if base is not None:
            raise PermanentError("a training machine has no bases of this one: set EVERGREEN_BASE_MODEL in its image")
        return train_on_machine(services, budget_s=budget, sources=sources, reason=reason, window=window)
    move = services.reporter.progress(key="training-progress", description="Share of the budget used")
    started = time.time()
    ticked = started

    def on_event(_: Mapping[str, Any]) -> None:
        nonlocal ticked
        if time.time() - ticked > 2.0:
            ticked = time.time()
            move(min(99.0, 100.0 * (ticked - started) / budget))

    attempt = _attempt(services, window)
    try:
        outcome = run_continuous_training(
            services,
            budget_s=budget,
            sources=sources or [],
            window=window,
            reason=reason,
            base=base,
            start_promotion=start_promotion,
            on_event=on_event,
        )
    except EvergreenError as error:
        if attempt is not None:
            VerdictStore(services.lake).end_attempt(attempt[0], attempt[1], "failed", detail=str(error))
        if services.settings.metrics == "emf":
            missed = isinstance(error, DeadlineMissedError)
            publish("training", {"DeadlineMissed": float(missed), "Failed": float(not missed)})
        raise
    move(100.0)
    if attempt is not None:
        VerdictStore(services.lake).end_attempt(
            attempt[0], attempt[1], "completed", flow_run_id=str(flow_run.id), detail=f"version {outcome.version}"
        )
    services.reporter.page(_summary(outcome), key="training-result", description="How the last training ended")
    if outcome.action == "challenged" and outcome.version is not None and start_promotion:
        parameters = {"version": outcome.version, "revision": services.head().number}
        services.deployments.start(PROMOTION, parameters, key=promotion_key(outcome.version))
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

    from flows.training.aws_machine import TrainingMachine
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
    from absa.records.schema import Window
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
    reasons = "\n".join(f"- {markdown(reason)}" for reason in outcome.reasons)
    return (
        f"## Version {outcome.version}: {outcome.verdict}\n\n"
        f"| pos/neg F1 | champion on the same rows | budget used |\n|---|---|---|\n"
        f"| {outcome.pos_neg_f1:.3f} | {champion} | {outcome.used_s:.0f} of {outcome.budget_s:.0f} s |\n\n{reasons}\n"
    )
