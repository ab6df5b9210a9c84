"""Flow monitor: judge a window of live traffic, report it, and start the retraining that a verdict asks for."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

from prefect import flow, task
from prefect.cache_policies import NO_CACHE
from prefect.runtime import flow_run
from pydantic import Field

from absa.adapters.cloudwatch import publish
from absa.errors import ConflictError, NotFoundError, PermanentError, UnavailableError
from absa.ledger.history import champion_since
from absa.ledger.record import LedgerRecord
from absa.records.files import write_whole
from absa.records.schema import Window
from absa.sinks import markdown
from flows.monitoring.attempts import GRACE_S, WAIT_S, is_in_ledger, recent_verdicts, settle_attempts
from flows.monitoring.watched import staleness_policy, watched_version
from flows.platform.artifacts import flow_services, trying_again_may_help
from flows.platform.liveness import leave_signs
from flows.platform.ports import DELAYS_S
from flows.platform.prefect_runs import TRAINING
from flows.platform.services import Services
from flows.promotion.take_over import take_over

if TYPE_CHECKING:
    from absa.records.verdict import Verdict
    from monitoring.drift.embedding import Embedder
    from monitoring.monitor import Judged, WatchedVersion

_TRIED_AGAIN = 20
STALE_EVENT = "evergreen.verdict.stale"


def last_window(now: datetime, window_s: float) -> Window:
    """The last whole window before a time, on a grid that every caller shares."""
    end_s = now.timestamp() // window_s * window_s
    end = datetime.fromtimestamp(end_s, UTC)
    return Window(start=end - timedelta(seconds=window_s), end=end)


def asked_at() -> datetime:
    """When this run was to start: one that a worker took up late judges the window that it was scheduled for."""
    due: datetime = flow_run.scheduled_start_time
    return min(due, datetime.now(UTC))


def watched_champion(services: Services) -> "WatchedVersion":
    """Return the champion with the time since which it has been champion."""
    since = champion_since(services.ledger.follow())
    if since is None or since.state.champion is None:
        raise PermanentError("there is no champion to watch: run `evergreen train` first")
    return replace(watched_version(services, since.state.champion), champion_since=since.at)


def _embedder(services: Services, head: LedgerRecord) -> "Embedder | None":
    """The champion's own view of texts; None where its package cannot be had."""
    from monitoring.drift.embedding import ModelEmbedder

    version = head.state.champion
    if version is None or services.settings.staleness.embed_rows == 0:
        return None
    try:
        package = services.packages.get(version, head.versions[version])
    except (UnavailableError, NotFoundError):
        return None  # MLflow is away: the other columns can still be judged
    return ModelEmbedder.load(package.model_path, package.tokenizer_path, package.config.max_tokens)


@task(
    name="judge-window",
    cache_policy=NO_CACHE,
    retries=len(DELAYS_S),
    retry_delay_seconds=list(DELAYS_S),
    retry_condition_fn=trying_again_may_help,
)
def judge_window(services: Services, window: Window) -> "Judged":
    """Compare the window with the reference, measure, judge, record."""
    from monitoring.monitor import WatchSettings, watch
    from monitoring.verdicts import VerdictStore

    settings = services.settings
    now = services.clock()
    history = recent_verdicts(VerdictStore(services.lake), now, settings.staleness.cooldown_s + WAIT_S)
    others = [attempt for verdict in history if verdict.window != window for attempt in verdict.attempts]
    latest = max((attempt.at for attempt in others), default=None)
    head = services.head()
    return watch(
        services.lake,
        window,
        champion=watched_champion(services),
        settings=WatchSettings(
            policy=staleness_policy(services),
            measuring_sources=settings.measuring_sources,
            training_sources=settings.training_sources,
        ),
        since_retraining_s=(now - latest).total_seconds() if latest else None,
        retraining_runs=any(attempt.state == "started" for attempt in others),
        now=now,
        embedder=_embedder(services, head),
    )


@task(
    name="write-report",
    cache_policy=NO_CACHE,
    retries=len(DELAYS_S),
    retry_delay_seconds=list(DELAYS_S),
    retry_condition_fn=trying_again_may_help,
)
def write_report(services: Services, judged: "Judged") -> "Verdict":
    """Write the window's Evidently report, its address into the verdict's record, and insights for the console."""
    from monitoring.evidently_reports import EvidentlyReporter
    from monitoring.insights import keep_insights
    from monitoring.monitor import report

    keep_insights(services.lake, judged.verdict.window)
    evidently = services.settings.evidently_url
    reporter = EvidentlyReporter(
        evidently or services.home.folder("evidently"), ui_url=evidently or services.home.url("evidently")
    )
    return report(services.lake, judged, reporter)


def begin_retraining(services: Services, verdict: "Verdict") -> str | None:
    """Record the attempt, then start it: a lost race or a dead Prefect starts nothing twice.

    Returns:
        The flow run's id, or None where no retraining is due any more.
    """
    from monitoring.verdicts import VerdictStore

    store = VerdictStore(services.lake)
    if not verdict.retraining_is_due:
        return None
    try:
        begun = store.begin_attempt(verdict)
    except ConflictError:
        return None
    attempt = begun.attempts[-1]
    try:
        run_id = services.deployments.start(
            TRAINING,
            {"window": verdict.window.key, "reason": "drift", "budget_s": services.settings.budget_s},
            key=attempt.key,
            tags=[f"window:{verdict.window.key}"],
        )
    except UnavailableError as error:
        store.end_attempt(verdict.window, attempt.number, "failed", detail=str(error))
        raise
    store.end_attempt(verdict.window, attempt.number, "started", flow_run_id=run_id)
    return run_id


@task(name="start-retraining", cache_policy=NO_CACHE)
def start_retraining(services: Services, verdict: "Verdict") -> str | None:
    """`begin_retraining` as a task of the flow."""
    return begin_retraining(services, verdict)


def try_again(services: Services, verdict: "Verdict") -> str | None:
    """Start the next attempt of an earlier window whose attempt died, while the version is still not fresh.

    Returns:
        The flow run's id, or None where there is no such window or a retraining runs.
    """
    from monitoring.verdicts import VerdictStore

    history = recent_verdicts(VerdictStore(services.lake), services.clock(), WAIT_S)
    running = any(attempt.state == "started" for earlier in history for attempt in earlier.attempts)
    if running or verdict.verdict == "FRESH":
        return None
    for earlier in reversed(history[-_TRIED_AGAIN:]):
        if earlier.version == verdict.version and earlier.attempts and earlier.retraining_is_due:
            return begin_retraining(services, earlier)
    return None


def settle(services: Services, *, grace_s: float = GRACE_S) -> list[str]:
    """End the attempts whose runs are dead, those later than `grace_s` among them, and say which."""
    from monitoring.verdicts import VerdictStore

    store, budget_s = VerdictStore(services.lake), services.settings.budget_s
    if services.settings.training_queue_names:
        budget_s += WAIT_S  # its run waits for a machine, which no budget counts
    return settle_attempts(
        store,
        services.deployments.state,
        services.deployments.crash,
        partial(is_in_ledger, services.ledger),
        budget_s=budget_s,
        now=services.clock(),
        grace_s=grace_s,
    )


def tell(services: Services, verdict: "Verdict") -> None:
    """The verdict's numbers for Prometheus, and the webhook; neither can fail a verdict that stands in the lake."""
    from monitoring.alerts import alert
    from monitoring.verdict_metrics import exposition
    from monitoring.verdicts import VerdictStore

    history = VerdictStore(services.lake).history(limit=1_000)
    write_whole(services.home.folder("metrics") / "monitor.prom", exposition(history))
    url = services.settings.alert_url
    if url is None:
        return
    try:
        alert(services.lake, verdict, url.get_secret_value())
    except UnavailableError as error:
        services.reporter.log(f"{error}; the next window of the incident tries again")


def _run_name() -> str:
    return f"window-{flow_run.parameters.get('window') or 'last'}"


@flow(name="monitor", flow_run_name=_run_name, on_running=[leave_signs])
def monitor(
    window: Annotated[
        str | None, Field(description="Key <start>_<end>; unset: the last one before the run was due.")
    ] = None,
    retrain: Annotated[bool, Field(description="Whether a verdict may start a retraining.")] = True,
    report: Annotated[bool, Field(description="Whether to write an Evidently report.")] = True,
) -> dict[str, Any]:
    """Judge one window of live traffic. A retraining that is due starts before the report is written."""
    from flows.monitoring.forgetting import retain

    services = flow_services()
    by_hand = services.project()
    chosen = Window.parse(window) if window else last_window(asked_at(), services.settings.window_s)
    by_hand += settle(services)
    by_hand += take_over(services, services.clock())
    judged = judge_window(services, chosen)
    verdict = judged.verdict
    started = None
    if retrain:
        started = start_retraining(services, verdict) or try_again(services, verdict)
    if services.settings.metrics == "emf":
        publish("monitor", {"Stale": float(verdict.verdict == "STALE")})
    if report:
        verdict = write_report(services, judged)
    services.reporter.table(
        [vars(reason) for reason in verdict.reasons] or [{"kind": "none"}],
        key="verdict-reasons",
        description=f"{verdict.verdict} for {chosen.key}",
    )
    services.reporter.page(_summary(verdict, by_hand), key="verdict", description="The last verdict")
    resource = f"evergreen.window.{chosen.key}"
    services.deployments.emit("evergreen.verdict", resource, {"verdict": verdict.verdict, "action": verdict.action})
    if verdict.verdict == "STALE":
        services.deployments.emit(STALE_EVENT, resource, {"action": verdict.action})
    tell(services, verdict)
    for sentence in retain(services):
        services.reporter.log(sentence)
    return {"window": chosen.key, "verdict": verdict.verdict, "action": verdict.action, "flow_run": started}


def _summary(verdict: "Verdict", by_hand: list[str]) -> str:
    lines = [f"## {verdict.verdict}: {markdown(verdict.action_reason)}", ""]
    lines += [f"- {markdown(reason.sentence)}" for reason in verdict.reasons]
    lines += [f"- {markdown(sentence)}" for sentence in by_hand]
    if verdict.report_uri:
        lines += ["", f"[Evidently report]({verdict.report_uri})"]
    return "\n".join(lines)
