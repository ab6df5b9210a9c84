"""Use case: monitor a window. Judge live traffic, record the verdict, start the retraining that is due."""

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, Final

from absa.adapters.cloudwatch import publish
from absa.errors import ConflictError, NotFoundError, PermanentError, UnavailableError
from absa.ledger.history import champion_since
from absa.records.files import write_whole
from absa.records.schema import Window
from absa.records.verdict import Verdict
from absa.sinks import markdown
from flows.monitoring.announcing import webhook_of
from flows.monitoring.attempts import GRACE_S, WAIT_S, is_in_ledger, recent_verdicts, settle_attempts
from flows.monitoring.forgetting import retain
from flows.monitoring.watched import staleness_policy, watched_version
from flows.platform.embedded import process_state
from flows.platform.prefect_runs import TRAINING
from flows.platform.services import Services
from flows.promotion.take_over import take_over
from flows.training.training_snapshot import labels_since_champion
from monitoring.alerts.incidents import alert
from monitoring.drift.embedding import Embedder, ModelEmbedder
from monitoring.insights import keep_insights
from monitoring.monitor import HISTORY_WINDOWS, Judged, WatchedVersion, WatchSettings, WindowReporter, watch
from monitoring.monitor import report as write_report
from monitoring.verdict_metrics import exposition
from monitoring.verdicts import VerdictStore

_TRIED_AGAIN: Final = 20
STALE_EVENT: Final = "evergreen.verdict.stale"


@dataclass(frozen=True, kw_only=True)
class MonitorRequest:
    """Request to judge a window.

    Attributes:
        window: event time.
        retrain: True if the verdict may start a retraining.
        report: True to write a report.
        take_over: True to start a promotion for a challenger or an experiment without a run.
    """

    window: Window
    retrain: bool = True
    report: bool = True
    take_over: bool = True


@dataclass(frozen=True, kw_only=True)
class Monitored:
    """Recorded verdict, and the flow run of the started retraining; None if none was started."""

    verdict: Verdict
    flow_run: str | None

    def to_json(self) -> dict[str, Any]:
        """Return plain values for the result of a flow run."""
        verdict = self.verdict
        return {
            "window": verdict.window.key,
            "version": verdict.version,
            "verdict": verdict.verdict,
            "action": verdict.action,
            "reasons": [reason.sentence for reason in verdict.reasons] or [verdict.action_reason],
            "report": verdict.report_uri,
            "flow_run": self.flow_run,
        }


def last_window(now: datetime, window_s: float) -> Window:
    """Return the last whole window before a time, on a grid that all callers share. Pure."""
    end = datetime.fromtimestamp(now.timestamp() // window_s * window_s, UTC)
    return Window(start=end - timedelta(seconds=window_s), end=end)


def due_window(due: datetime, now: datetime, window_s: float) -> Window:
    """Return the window that a run judges. A late run judges the window of its scheduled time. Pure."""
    return last_window(min(due, now), window_s)


def monitor_window(services: Services, request: MonitorRequest, *, reporter: WindowReporter | None = None) -> Monitored:
    """Judge one window of live traffic. A retraining that is due starts before the report is written.

    Args:
        services: ports.
        request: window and options.
        reporter: writes the window's report; None: Evidently.

    Raises:
        PermanentError: there is no champion to watch.
        UnavailableError: the lake or Prefect is unavailable. A recorded verdict stays, and a later run continues.
    """
    store = VerdictStore(services.lake)
    by_hand = services.project()
    by_hand += settle(services, store)
    if request.take_over:
        by_hand += take_over(services, services.clock())
    judged = services.steps("judge-window", lambda: judge_window(services, store, request.window), again=True)
    verdict, started = judged.verdict, None
    if request.retrain:
        started = services.steps("start-retraining", lambda: start_due(services, store, judged.verdict))
    if services.settings.metrics == "emf":
        publish("monitor", {"Stale": float(verdict.verdict == "STALE")})
    if request.report:
        verdict = services.steps("write-report", lambda: _report(services, store, judged, reporter), again=True)
    _show(services, verdict, by_hand)
    _tell(services, store, verdict)
    for sentence in retain(services):
        services.reporter.log(sentence)
    return Monitored(verdict=verdict, flow_run=started)


def watched_champion(services: Services) -> WatchedVersion:
    """Return the champion with the time at which it became champion.

    Raises:
        PermanentError: there is no champion.
    """
    since = champion_since(services.ledger.follow())
    if since is None or since.state.champion is None:
        raise PermanentError("there is no champion to watch: run `evergreen train` first")
    return replace(watched_version(services, since.state.champion), champion_since=since.at)


def judge_window(services: Services, store: VerdictStore, window: Window) -> Judged:
    """Compare the window with the reference, measure, judge and record."""
    policy, now = staleness_policy(services), services.clock()
    history = recent_verdicts(store, now, policy.cooldown_s + WAIT_S)
    others = [attempt for verdict in history if verdict.window != window for attempt in verdict.attempts]
    latest = max((attempt.at for attempt in others), default=None)
    champion = watched_champion(services)
    return watch(
        services.lake,
        window,
        champion=champion,
        settings=WatchSettings(
            policy=policy,
            measuring_sources=services.settings.measuring_sources,
            training_sources=services.settings.training_sources,
            promise=services.settings.serving.promise,
            task=services.settings.task,
        ),
        since_retraining_s=(now - latest).total_seconds() if latest else None,
        retraining_runs=any(attempt.state == "started" for attempt in others),
        new_labels=labels_since_champion(services),
        now=now,
        embedder=_embedder(services, champion.version) if policy.embed_rows else None,
        verdicts=store,
    )


def _embedder(services: Services, version: str) -> Embedder | None:
    """Return the champion's embedder; None without its package, because other columns can still be judged."""
    try:
        package = services.packages.get(version, services.head().versions[version])
    except (UnavailableError, NotFoundError):
        return None
    return ModelEmbedder.load(package.model_path, package.tokenizer_path, package.config.max_tokens)


def start_due(services: Services, store: VerdictStore, verdict: Verdict) -> str | None:
    """Start the retraining that is due for a verdict, or else for an earlier window.

    Returns:
        The flow run's id; None if no retraining is due.
    """
    return begin_retraining(services, store, verdict) or try_again(services, store, verdict)


def begin_retraining(services: Services, store: VerdictStore, verdict: Verdict) -> str | None:
    """Record the attempt, then start it, so that a lost race or an unavailable Prefect cannot start two runs.

    Returns:
        The flow run's id; None if no retraining is due.

    Raises:
        UnavailableError: Prefect is unavailable; the attempt is recorded as failed.
    """
    if not verdict.retraining_is_due:
        return None
    try:
        attempt = store.begin_attempt(verdict).attempts[-1]
    except ConflictError:
        return None
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


def try_again(services: Services, store: VerdictStore, verdict: Verdict) -> str | None:
    """Start the next attempt of an earlier window whose attempt failed, while the version is still not fresh.

    Returns:
        The flow run's id; None if there is no such window, or a retraining runs.
    """
    history = recent_verdicts(store, services.clock(), WAIT_S)
    running = any(attempt.state == "started" for earlier in history for attempt in earlier.attempts)
    if running or verdict.verdict == "FRESH":
        return None
    for earlier in reversed(history[-_TRIED_AGAIN:]):
        if earlier.version == verdict.version and earlier.attempts and earlier.retraining_is_due:
            return begin_retraining(services, store, earlier)
    return None


def settle(services: Services, store: VerdictStore, *, grace_s: float = GRACE_S) -> list[str]:
    """End the attempts whose runs are dead or more than `grace_s` seconds late; return a sentence for each.

    Raises:
        UnavailableError: Prefect is unavailable.
    """
    budget_s = services.settings.budget_s
    if services.settings.training_queue_names:
        budget_s += WAIT_S  # a wait for a machine is not part of the budget
    return settle_attempts(
        store,
        lambda run_id: services.deployments.state(run_id) or process_state(services.lake, run_id),  # else a command's
        services.deployments.crash,
        partial(is_in_ledger, services.ledger),
        budget_s=budget_s,
        now=services.clock(),
        grace_s=grace_s,
    )


def _report(services: Services, store: VerdictStore, judged: Judged, reporter: WindowReporter | None) -> Verdict:
    """Write insights for the console and the window's report, and record the report's address."""
    keep_insights(services.lake, judged.verdict.window, services.settings.task)
    if reporter is None:
        from monitoring.evidently_reports import EvidentlyReporter  # its import takes seconds

        evidently = services.settings.evidently_url
        reporter = EvidentlyReporter(
            evidently or services.home.folder("evidently"),
            task=services.settings.task,
            ui_url=evidently or services.home.url("evidently"),
        )
    return write_report(services.lake, judged, reporter, verdicts=store)


def _show(services: Services, verdict: Verdict, by_hand: list[str]) -> None:
    window = verdict.window.key
    services.reporter.table(
        [vars(reason) for reason in verdict.reasons] or [{"kind": "none"}],
        key="verdict-reasons",
        description=f"{verdict.verdict} for {window}",
    )
    services.reporter.page(window_summary(verdict, by_hand), key="verdict", description="The last verdict")
    resource = f"evergreen.window.{window}"
    services.deployments.emit("evergreen.verdict", resource, {"verdict": verdict.verdict, "action": verdict.action})
    if verdict.verdict == "STALE":
        services.deployments.emit(STALE_EVENT, resource, {"action": verdict.action})


def window_summary(verdict: Verdict, by_hand: list[str]) -> str:
    """Return the Markdown page of a verdict, with sentences about other actions of the run."""
    lines = [f"## {verdict.verdict}: {markdown(verdict.action_reason)}", ""]
    lines += [f"- {markdown(reason.sentence)}" for reason in verdict.reasons]
    lines += [f"- {markdown(sentence)}" for sentence in by_hand]
    if verdict.report_uri:
        lines += ["", f"[Evidently report]({verdict.report_uri})"]
    return "\n".join(lines)


def _tell(services: Services, store: VerdictStore, verdict: Verdict) -> None:
    """Write the verdict's metrics and notify the webhook. A failure of either does not fail a recorded verdict."""
    write_whole(services.home.folder("metrics") / "monitor.prom", exposition(store.history(limit=HISTORY_WINDOWS)))
    webhook = webhook_of(services.settings)
    if webhook is None:
        return
    try:
        alert(services.lake, verdict, webhook, verdicts=store)
    except UnavailableError as error:
        services.reporter.log(f"{error}; the next window of the incident tries again")
