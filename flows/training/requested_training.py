"""Use case: run a requested training, end its window's attempt, show the result, start the promotion."""

import dataclasses
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from absa.adapters.cloudwatch import publish
from absa.errors import ConflictError, DeadlineMissedError, EvergreenError, PermanentError, UnavailableError
from absa.records.schema import Window
from absa.records.trainings import TrainingState, begin_training, write_training
from absa.sinks import markdown
from flows.platform.prefect_runs import PROMOTION, SCHEDULED, promotion_key
from flows.platform.services import Services
from flows.training.aws_machine import BatchClient, TrainingMachine
from flows.training.train_version import TrainedVersion, TrainingRequest, size_line, train_version
from flows.training.training_snapshot import missing_labels, require_data

if TYPE_CHECKING:
    from monitoring.verdicts import VerdictStore

_MOVE_EVERY_S: Final = 2.0


def run_training(services: Services, request: TrainingRequest, *, flow_run_id: str | None) -> dict[str, Any]:
    """Train here, or on the machine that the settings name; return the result as plain values.

    A scheduled training with too few new labels for its gate trains nothing; its result has the number of missing ones.

    Raises:
        EvergreenError: see `require_data`, `train_as_requested` and `train_on_machine`.
    """
    if request.reason == SCHEDULED and (lacks := missing_labels(services)) is not None:
        page = f"## Nothing was trained\n\n{markdown(lacks)}"
        services.reporter.page(page, key="training-result", description="How the last training ended")
        return {"action": "skipped", "reason": lacks}
    if services.settings.training_queue_names:
        return services.steps("train-on-machine", lambda: train_on_machine(services, request))
    require_data(services, request.sources)  # before MLflow's tables are made
    return train_as_requested(services, request, flow_run_id=flow_run_id).to_json()


def train_as_requested(
    services: Services,
    request: TrainingRequest,
    *,
    flow_run_id: str | None,
    train: Callable[..., TrainedVersion] = train_version,
) -> TrainedVersion:
    """Train here, end the window's attempt, show the result, and start the promotion of a new challenger.

    Args:
        services: ports.
        request: request to train.
        flow_run_id: flow run, recorded with the attempt.
        train: makes the version.

    Raises:
        ConflictError: the window has led to a completed retraining already.
        EvergreenError: see `train_version`; the attempt has failed then.
    """
    move = services.reporter.progress(key="training-progress", description="Share of the budget used")
    started = moved = time.monotonic()

    def on_event(_: Mapping[str, Any]) -> None:
        nonlocal moved
        if (now := time.monotonic()) - moved > _MOVE_EVERY_S:
            moved = now
            move(min(99.0, 100.0 * (now - started) / request.budget_s))

    attempt = _Attempt.of(services, request.window)
    try:
        with _recorded(services, request) as end:
            services.runs.prepare()
            outcome = train(services, request, on_event=on_event)
            end(outcome)
    except EvergreenError as error:
        attempt.fail(error)
        if services.settings.metrics == "emf":
            missed = isinstance(error, DeadlineMissedError)
            publish("training", {"DeadlineMissed": float(missed), "Failed": float(not missed)})
        raise
    move(100.0)
    attempt.complete(flow_run_id, f"version {outcome.version}")
    services.reporter.page(_summary(outcome), key="training-result", description="How the last training ended")
    if outcome.action == "challenged" and request.start_promotion:
        parameters = {"version": outcome.version, "revision": services.head().number}
        services.deployments.start(PROMOTION, parameters, key=promotion_key(outcome.version))
    return outcome


def train_on_machine(
    services: Services, request: TrainingRequest, *, batch: BatchClient | None = None
) -> dict[str, Any]:
    """Run the same flow on a GPU machine, wait for its end, and end an attempt that the machine left open.

    Args:
        services: ports.
        request: request to train.
        batch: client of AWS Batch; None: boto3's.

    Raises:
        PermanentError: the request names files or a base, which the machine cannot read, or the training failed.
        DeadlineMissedError: the training missed its budget.
        UnavailableError: no machine was available, or AWS is unavailable.
    """
    if request.base is not None:
        raise PermanentError(
            "a training machine has no bases of this machine: set base_model in its image's evergreen.toml"
        )
    if request.recipe is not None or request.teachers or request.teacher_budget_s or request.unlabelled:
        raise PermanentError(
            "a training machine has its own settings: set recipe and teachers in its image's evergreen.toml"
        )
    if request.sources:
        raise PermanentError("a training machine reads the lake only: run `evergreen data ingest FILE` first")
    if batch is None:
        import boto3

        batch = boto3.client("batch")
    settings = services.settings
    machine = TrainingMachine(
        batch,
        queues=settings.training_queue_names,
        definition=settings.training_definition,
        wait_s=settings.machine_wait_s,
        teaching_s=settings.training.teaching_s,
    )
    attempt = _Attempt.of(services, request.window)
    try:
        ran = machine.train(budget_s=request.budget_s, reason=request.reason, window=request.window)
    except EvergreenError as error:
        attempt.fail(error)
        if isinstance(error, UnavailableError):  # no machine started a training, so none has recorded it
            write_training(services.lake, _begun(services, request).failed(services.clock(), str(error)))
        raise
    return dataclasses.asdict(ran)


@contextmanager
def _recorded(services: Services, request: TrainingRequest) -> Iterator[Callable[[TrainedVersion], None]]:
    """Record start and end of a training in the lake; the body passes its result to the yielded function.

    If the end cannot be recorded, this is logged and does not change the result.
    """
    state = _begun(services, request)
    write_training(services.lake, state)
    ended = state.failed(state.started_at, "stopped")

    def complete(outcome: TrainedVersion) -> None:
        nonlocal ended
        ended = state.completed(
            services.clock(), version=outcome.version, verdict=outcome.verdict, sentence=_result(outcome)
        )

    try:
        yield complete
    except BaseException as error:
        stopped = (
            "stopped by Ctrl-C" if isinstance(error, KeyboardInterrupt) else f"{type(error).__name__}, see the log"
        )
        ended = state.failed(services.clock(), str(error) if isinstance(error, EvergreenError) else stopped)
        raise
    finally:
        try:
            write_training(services.lake, ended)
        except (EvergreenError, OSError) as error:
            services.reporter.log(f"the end of this training could not be recorded: {error}")


def _begun(services: Services, request: TrainingRequest) -> TrainingState:
    return begin_training(
        services.clock(),
        allowed_s=request.budget_s + services.settings.training.teaching_s,
        budget_s=request.budget_s,
        reason=request.reason,
    )


def _result(outcome: TrainedVersion) -> str:
    first = f" {outcome.reasons[0]}" if outcome.reasons else ""
    return (
        f"version {outcome.version}, {outcome.verdict}, F1 {outcome.f1:.3f}, "
        f"{outcome.used_s:.0f} of {outcome.budget_s:.0f} s used.{first}"
    )


@dataclasses.dataclass(frozen=True)
class _Attempt:
    """Attempt of the window that requested this run. Without a window nothing is recorded."""

    store: "VerdictStore"
    window: Window | None
    number: int = 0

    @classmethod
    def of(cls, services: Services, window: str | None) -> "_Attempt":
        from monitoring.verdicts import VerdictStore

        store = VerdictStore(services.lake)
        found = store.latest(Window.parse(window)) if window is not None else None
        if found is None or not found.attempts:
            return cls(store, None)
        if any(attempt.state == "completed" for attempt in found.attempts):
            raise ConflictError(f"window {window} has led to a completed retraining already")
        return cls(store, found.window, found.attempts[-1].number)

    def fail(self, error: EvergreenError) -> None:
        found = self.store.latest(self.window) if self.window is not None else None
        if self.window is not None and found is not None and found.attempts[-1].state == "started":
            self.store.end_attempt(self.window, self.number, "failed", detail=str(error))

    def complete(self, flow_run_id: str | None, detail: str) -> None:
        if self.window is not None:
            self.store.end_attempt(self.window, self.number, "completed", flow_run_id=flow_run_id, detail=detail)


def _summary(outcome: TrainedVersion) -> str:
    champion = f"{outcome.champion_f1:.3f}" if outcome.champion_f1 is not None else "none yet"
    metric = outcome.task.metric_name if outcome.task.is_default else f"F1 ({markdown(outcome.task.metric)})"
    reasons = "\n".join(f"- {markdown(reason)}" for reason in outcome.reasons)
    sizes = "".join(f"- {size_line(each.to_json(), metric)}\n" for each in outcome.ladder)
    return (
        f"## Version {outcome.version}: {outcome.verdict}\n\n"
        f"| {metric} | champion on the same rows | budget used |\n|---|---|---|\n"
        f"| {outcome.f1:.3f} | {champion} | {outcome.used_s:.0f} of {outcome.budget_s:.0f} s |\n\n{reasons}\n"
        + (f"\n### Sizes of this run\n\n{sizes}" if sizes else "")
    )
