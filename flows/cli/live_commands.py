"""Commands of live traffic: one prediction, simulated customers, and the monitor."""

import signal
import sys
import time
from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Annotated, Any, Final, cast

import typer

from absa.errors import PermanentError, UnavailableError
from absa.records.schema import Window, iso, utc_now
from flows.cli.home.foreground import stopped_by_command, undone_on_interrupt, waiting_lines
from flows.cli.output.command_progress import CommandProgress
from flows.cli.output.command_result import CommandResult
from flows.cli.output.facts import MonitorFacts, PredictFacts, ServeFacts, SimulateFacts, TrainFacts
from flows.cli.output.training_result import trained_result
from flows.cli.required_servers import served_by
from flows.monitoring.announcing import announce_after_command
from flows.platform import arguments
from flows.platform.services import Services, build_services, open_home
from flows.platform.settings import Home, Settings
from flows.platform.terminal import say

live_app = typer.Typer()
_MEANING: Final = {
    "FRESH": ("The champion still fits its traffic", "nothing to do"),
    "WATCH": (
        "Something changed, or there are too few rows or labels for a decision",
        "evergreen labels export QUEUE.csv",
    ),
    "STALE": ("The champion no longer fits its traffic", "evergreen retrain, unless a retraining starts by itself"),
}
_NO_CHAMPION: Final = "there is no champion yet"
_SHOWN_LABELS: Final = 8


@live_app.command(epilog="Example: evergreen predict 'i love notion, but the mobile app is slow' 'mobile app'")
def predict(
    text: Annotated[str, typer.Argument(help="Text that the customer wrote.")],
    phrase: Annotated[str | None, typer.Argument(help="Phrase that the label is about, if the task has one.")] = None,
    aspect: Annotated[str | None, typer.Option(hidden=True)] = None,
    topic: Annotated[str | None, typer.Option(hidden=True)] = None,
) -> CommandResult[PredictFacts]:
    """Label one text by the router, or by the champion's package if no router runs; the package logs nothing."""
    given = [each for each in (phrase, aspect, topic) if each is not None]
    services = _with_router()
    task = services.settings.task
    if given and task.phrase is None:
        raise PermanentError(f"task {task.name} labels whole texts: expected only a text, got also {given[0]!r}")
    if len(given) > 1:
        raise PermanentError(f"expected one {task.phrase}, after the text or as an option, got {len(given)}")
    asked = given[0] if given else None
    if services.settings.router_url is None and not _router_runs(services):
        from flows.batch.predict_text import predict_text

        answer = predict_text(services, text, asked)
        return CommandResult(
            facts={
                "name": answer.name, "scores": answer.scores, "model_version": answer.version, "arm": None,
                "request_id": None, "certain": None,
            },
            lines=(f"{_scored(answer.name, answer.scores)} by version {answer.version}",),
            meaning="The most likely label, and the probability of each; nothing was logged",
            following="evergreen serve answers over HTTP and logs; evergreen batch scores whole files",
        )  # fmt: skip
    from absa.client import Client

    name = "topic" if topic is not None else "aspect" if aspect is not None else task.phrase or "aspect"
    key = services.settings.predict_key
    router = Client(services.router_url, predict_key=None if key is None else key.get_secret_value(), patience_s=0)
    said = router.predict(text, **({} if asked is None else {name: asked}))
    label = said.get("name") or said["sentiment"]  # a router of an earlier release
    known = [task.labels[number] if number < len(task.labels) else str(number) for number in range(len(said["scores"]))]
    scores = dict(zip(known, said["scores"], strict=True))
    certain = said.get("certain")
    sure = "" if certain is None else ", with the promised precision" if certain else ", which a person should check"
    return CommandResult(
        facts={
            "name": label, "scores": scores, "model_version": said["model_version"], "arm": said["arm"],
            "request_id": said.get("request_id"), "certain": certain,
        },
        lines=(f"{_scored(label, scores)} by version {said['model_version']}, {said['arm']}",),
        meaning=f"The most likely label{sure}, and the probability of each; the router logged the answer",
        following=f"send the right label: POST /v1/feedback with request_id {said.get('request_id')}",
    )  # fmt: skip


@live_app.command(epilog="Example: evergreen simulate --seconds 30 --drift new-area")
def simulate(
    seconds: Annotated[float, typer.Option(callback=arguments.SECONDS, help="Duration in seconds.")] = 30.0,
    rate: Annotated[float, typer.Option(callback=arguments.RATE, help="Requests per second.")] = 40.0,
    drift: Annotated[str, typer.Option(help="none, new-area, vocabulary, class-shift, concept or noise.")] = "none",
    strength: Annotated[
        float, typer.Option(callback=arguments.SHARE, help="Share of the traffic that drifts, 0 to 1.")
    ] = 0.5,
    seed: Annotated[
        int | None,
        typer.Option(callback=arguments.SEED, help="Seed of the traffic; unset: different traffic each time."),
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Send sample texts also to a home with your own rows.")
    ] = False,
) -> CommandResult[SimulateFacts]:
    """Send simulated customers' traffic, with delayed feedback, to the router."""
    from flows.demo.customer_stream import named_customers, refuse_real_data
    from flows.demo.customers import TrafficReport, send_traffic

    services = _with_router()
    if not force:
        refuse_real_data(services)
    customers = named_customers(services, drift=drift, strength=strength, seed=seed)

    def show(report: TrafficReport) -> None:
        if sys.stdout.isatty():
            typer.echo(
                f"\r{report.answered} answered, {report.share_right:.0%} right, {report.feedback} labels sent", nl=False
            )

    report = send_traffic(
        customers,
        url=services.router_url,
        feedback_key=services.home.feedback_key(),
        predict_key=services.settings.predict_key,
        rate=rate,
        duration_s=seconds,
        on_tick=show,
    )
    if sys.stdout.isatty():
        typer.echo()
    shares = sorted(report.accuracy().items())
    failed = ", ".join(f"{reason} × {count}" for reason, count in report.failed.most_common())
    return CommandResult(
        facts={
            "arms": [
                {"arm": arm, "version": version, "answered": report.served[arm, version], "share_right": share}
                for (arm, version), share in shares
            ],
            "failed": dict(report.failed),
        },
        lines=(
            *(
                f"{arm} v{version}: {report.served[arm, version]} answered, {share:.1%} right"
                for (arm, version), share in shares
            ),
            *([f"failed: {failed}"] if failed else []),
        ),
        meaning="The log holds these requests and their feedback, like real traffic"
        if report.answered
        else "No request was answered",
        following="evergreen monitor judges the traffic" if report.answered else "evergreen status shows what runs",
    )


@live_app.command("monitor", epilog="Example: evergreen monitor --last 60")
def monitor_command(
    window: Annotated[
        str | None, typer.Option(help="Key <start>_<end> of a window; unset: the last complete one.")
    ] = None,
    last: Annotated[
        float | None,
        typer.Option(callback=arguments.SECONDS, help="Judge this number of seconds before now, instead of a window."),
    ] = None,
    retrain: Annotated[bool, typer.Option(help="Start the retraining that the verdict requires.")] = True,
) -> CommandResult[MonitorFacts]:
    """Judge a window of live traffic now, write its report, and start a retraining if one is due.

    If Prefect does not run, the retraining runs in this command.
    """
    if window is not None and last is not None:
        raise PermanentError("expected --window or --last, got both")
    chosen = None if window is None else arguments.window_of("--window", window)
    served = served_by(open_home(), "prefect", "mlflow")
    if last is not None:
        end = utc_now()
        chosen = Window(start=end - timedelta(seconds=last), end=end)
    if "prefect" not in served:
        return _monitor_alone(build_services(embedded=True), chosen, retrain=retrain)
    from flows.monitoring.monitor_flow import (
        monitor as monitor_flow,  # Prefect reads its environment when it is imported
    )

    return monitor_result(monitor_flow(window=None if chosen is None else chosen.key, retrain=retrain))


def monitor_result(
    found: Mapping[str, Any], *, served: bool = True, training: TrainFacts | None = None
) -> CommandResult[MonitorFacts]:
    """Return the result of a monitoring. Pure.

    Args:
        found: result of the monitor's flow.
        served: True if a server shows the report now.
        training: result of the retraining that ran here; None if none did.
    """
    judged, shown_later = Window.parse(found["window"]), ", which Evidently shows once `evergreen up` runs"
    meaning, following = _MEANING[found["verdict"]]
    trained = [] if training is None else ["the retraining ran here:", *trained_result(training).lines]
    if training is not None:
        following = trained_result(training).following
    elif found["flow_run"] is not None:
        following = "evergreen status shows the retraining, which runs in Prefect"
    return CommandResult(
        facts={
            "start": iso(judged.start),
            "end": iso(judged.end),
            "version": found["version"],
            "verdict": found["verdict"],
            "action": found["action"],
            "reasons": found["reasons"],
            "report": found["report"],
            "flow_run": found["flow_run"],
            "training": training,
        },
        lines=(
            f"{found['verdict']}; action: {found['action']}",
            *(f"  {reason}" for reason in found["reasons"]),
            *([f"  report: {found['report']}{'' if served else shown_later}"] if found["report"] else []),
            *trained,
        ),
        meaning=meaning,
        following=following,
    )


def _monitor_alone(services: Services, window: Window | None, *, retrain: bool) -> CommandResult[MonitorFacts]:
    """Judge a window, by default the last whole one, and run a due retraining in this process."""
    from flows.monitoring.monitor_window import MonitorRequest, last_window, monitor_window
    from flows.training.requested_training import run_training
    from flows.training.run_progress import shown
    from flows.training.train_version import TrainingRequest

    chosen = window or last_window(services.clock(), services.settings.window_s)
    from flows.platform.processes import Supervisor

    with CommandProgress(services.home.root, "monitor") as progress:
        shown_services = replace(services, steps=progress.steps(services.steps))
        done = monitor_window(shown_services, MonitorRequest(window=chosen, retrain=retrain, take_over=False))
    training: TrainFacts | None = None
    for run in services.requested_runs():
        request = TrainingRequest(**run.parameters, start_promotion=True)
        say(f"{done.verdict.verdict}: the retraining runs here, within {request.budget_s:.0f} s", err=True)
        with shown(services.home.folder("jobs")):
            training = cast(TrainFacts, run_training(services, request, flow_run_id=run.run_id))
    announce_after_command(services)
    settings = services.settings
    served = settings.evidently_url is not None or Supervisor(settings).running("evidently") is not None
    return monitor_result(done.to_json(), served=served, training=training)


@live_app.command("serve", epilog="Example: evergreen serve --detach")
def serve_command(
    detach: Annotated[
        bool, typer.Option("--detach", help="Return when the router is ready; `evergreen down` stops it.")
    ] = False,
) -> CommandResult[ServeFacts]:
    """Start the router with its console, until Ctrl-C. `evergreen up` also starts Prefect, MLflow and Evidently."""
    from flows.platform.host.router_health import wait_for_version
    from flows.platform.processes import Supervisor, bring_up, replace_taken_ports

    settings = Settings.load()
    supervisor = Supervisor(settings)
    home = Home(settings)
    if supervisor.running("router") is not None:
        return _served(f"{home.url('router')}/", "the router runs already", champion=_champion(settings))
    for sentence in replace_taken_ports(settings, ["router"]):
        say(sentence, err=True)
    services = build_services(embedded=True)
    services.check_task(data=False)  # a router does not need polars
    for sentence in services.copy_packages(active=True):
        say(sentence, err=True)
    began = time.monotonic()
    links = {"EVERGREEN_LINKS": "{}"}  # links would point to servers that do not run
    environment = {**links, **settings.sources.variables(), **services.environment}
    with undone_on_interrupt(supervisor), CommandProgress(home.root, "serve") as progress:
        [part] = bring_up(settings, environment, ["router"], on_waiting=waiting_lines(progress))
        progress.now("waiting for the router to load its version")
        unloaded = wait_for_version(services)
    for sentence in unloaded:
        say(sentence, err=True)
    ready, champion = f"ready in {time.monotonic() - began:.1f} s", _champion(settings)
    page = str(part.page)
    if detach:
        return _served(page, ready, champion=champion)
    say(f"router and console: {page} ({ready})", err=True)
    if champion is None:
        say(f"{_NO_CHAMPION}: `evergreen train FILE` trains one, and the router loads it by itself", err=True)
    say("Ctrl-C stops it", err=True)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # SIGTERM ends the command like Ctrl-C
    try:
        if not stopped_by_command(supervisor, "router"):
            raise UnavailableError(f"the router stopped unexpectedly; its log: {supervisor.log('router')}")
    except KeyboardInterrupt:
        supervisor.stop("router")
    return CommandResult(
        facts={"url": page, "running": False, "champion": champion},
        lines=("the router is stopped",),
        meaning="No request is answered now; the logged answers stay",
        following="evergreen monitor judges its traffic; evergreen serve starts it again",
    )


def _served(page: str, ready: str, *, champion: str | None) -> CommandResult[ServeFacts]:
    return CommandResult(
        facts={"url": page, "running": True, "champion": champion},
        lines=(f"router and console: {page} ({ready})",),
        meaning=f"{_NO_CHAMPION}: the router loads the first one by itself"
        if champion is None
        else f"Version {champion} answers POST /v1/predict, also when this terminal closes",
        following="evergreen train FILE" if champion is None else "evergreen predict TEXT; `evergreen down` stops it",
    )


def _champion(settings: Settings) -> str | None:
    head = build_services(settings, keep=False, embedded=True).ledger.head()
    return None if head is None else head.state.champion


def _scored(name: str, scores: Mapping[str, float]) -> str:
    """Return a label with the scores of all labels, or with only its own score if there are many labels."""
    if len(scores) > _SHOWN_LABELS:
        return f"{name} ({max(scores.values()):.2f})"
    return f"{name} ({', '.join(scores)}: {', '.join(f'{score:.2f}' for score in scores.values())})"


def _router_runs(services: Services) -> bool:
    from flows.platform.processes import Supervisor

    return Supervisor(services.settings).running("router") is not None


def _with_router() -> Services:
    """Return services with the router's address, from EVERGREEN_ROUTER_URL or an existing home."""
    return open_home(required=Settings.load().router_url is None)
