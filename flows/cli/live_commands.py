"""Commands of live traffic: one prediction, simulated customers, and the monitor."""

import json
import signal
import sys
import time
from collections.abc import Sequence
from datetime import timedelta
from typing import Annotated, Final

import typer

from absa.errors import PermanentError, UnavailableError
from absa.records.schema import Window, utc_now
from flows.cli.required_servers import served_by
from flows.platform import arguments
from flows.platform.services import Services, build_services, open_home
from flows.platform.settings import Home, Settings
from flows.platform.terminal import say

live_app = typer.Typer()
_MEANING: Final = {
    "FRESH": "The champion still fits its traffic. Next: nothing to do",
    "WATCH": "Something changed, or rows or labels are too few to tell. Next: evergreen labels export",
    "STALE": "The champion no longer fits its traffic. Next: evergreen status shows the retraining",
}
_SHOWN_LABELS: Final = 8
_LOOK_EVERY_S: Final = 0.5


@live_app.command(epilog="Example: evergreen predict 'i love notion, but the mobile app is slow' 'mobile app'")
def predict(
    text: Annotated[str, typer.Argument(help="Text that the customer wrote.")],
    phrase: Annotated[
        str | None, typer.Argument(help="Phrase that the label is about, where the task takes one.")
    ] = None,
    aspect: Annotated[str | None, typer.Option(hidden=True)] = None,
    topic: Annotated[str | None, typer.Option(hidden=True)] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print label, scores and version as JSON.")] = False,
) -> None:
    """Label one text: by the router where one runs, else by the champion's package, which logs nothing."""
    given = [each for each in (phrase, aspect, topic) if each is not None]
    services = _with_router()
    task = services.settings.task
    if given and task.phrase is None:
        raise PermanentError(f"task {task.name} labels the text alone; expected nothing beside it")
    if len(given) > 1:
        raise PermanentError(f"expected one {task.phrase}, after the text or as an option, got {len(given)}")
    asked = given[0] if given else None
    if services.settings.router_url is None and not _router_runs(services):
        from flows.batch.predict_text import predict_text

        answer = predict_text(services, text, asked)
        if as_json:
            say(json.dumps({"name": answer.name, "scores": dict(answer.scores), "model_version": answer.version}))
            return
        say(f"{_scored(answer.name, list(answer.scores.values()), list(answer.scores))} by version {answer.version}")
        return
    from absa.client import Client

    name = "topic" if topic is not None else "aspect" if aspect is not None else task.phrase or "aspect"
    key = services.settings.predict_key
    router = Client(services.router_url, predict_key=None if key is None else key.get_secret_value(), patience_s=0)
    said = router.predict(text, **({} if asked is None else {name: asked}))
    if as_json:
        say(json.dumps(said))
        return
    by = f"version {said['model_version']}, {said['arm']}"
    label = said.get("name") or said["sentiment"]  # a router of an earlier release
    say(f"{_scored(label, said['scores'], task.labels)} by {by}")


@live_app.command(epilog="Example: evergreen simulate --seconds 30 --drift new-area")
def simulate(
    seconds: Annotated[float, typer.Option(callback=arguments.SECONDS, help="Duration in seconds.")] = 30.0,
    rate: Annotated[float, typer.Option(callback=arguments.RATE, help="Requests a second.")] = 40.0,
    drift: Annotated[str, typer.Option(help="none, new-area, vocabulary, class-shift, concept or noise.")] = "none",
    strength: Annotated[
        float, typer.Option(callback=arguments.SHARE, help="Share of the traffic that drifts, 0 to 1.")
    ] = 0.5,
    seed: Annotated[
        int | None, typer.Option(callback=arguments.SEED, help="Seed; unset: another stream each time.")
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Send sample texts into a home with rows of your own, too.")
    ] = False,
) -> None:
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
                f"\r{report.answered} answered, {report.share_right:.0%} right, {report.feedback} told back", nl=False
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
    say()
    for (arm, version), share in sorted(report.accuracy().items()):
        say(f"{arm} v{version}: {report.served[arm, version]} answered, {share:.1%} right")
    if report.failed:
        say("failed: " + ", ".join(f"{reason} × {count}" for reason, count in report.failed.most_common()))


@live_app.command("monitor", epilog="Example: evergreen monitor --last 60")
def monitor_command(
    window: Annotated[str | None, typer.Option(help="Key <start>_<end> of a window.")] = None,
    last: Annotated[
        float | None, typer.Option(callback=arguments.SECONDS, help="Judge the last so many seconds instead.")
    ] = None,
    retrain: Annotated[bool, typer.Option(help="Start the retraining that the verdict asks for.")] = True,
) -> None:
    """Judge a window of live traffic now, write its report, and start a retraining if one is due.

    Without Prefect's server the retraining runs here, before the command ends.
    """
    if window is not None and last is not None:
        raise PermanentError("--window and --last name two windows: give one of them")
    chosen = None if window is None else arguments.window_of("--window", window)
    served = served_by(open_home(), "prefect", "mlflow")
    if last is not None:
        end = utc_now()
        chosen = Window(start=end - timedelta(seconds=last), end=end)
    if "prefect" not in served:
        _monitor_alone(build_services(embedded=True), chosen, retrain=retrain)
        return
    from flows.monitoring.monitor_flow import (
        monitor as monitor_flow,  # Prefect reads its environment when it is imported
    )

    result = monitor_flow(window=None if chosen is None else chosen.key, retrain=retrain)
    say(f"{result['verdict']}; action: {result['action']}")
    say(_MEANING[result["verdict"]])


def _monitor_alone(services: Services, window: Window | None, *, retrain: bool) -> None:
    """Judge a window, the last whole one by default, and run the retraining that is due in this process."""
    from flows.monitoring.monitor_window import MonitorRequest, last_window, monitor_window
    from flows.training.requested_training import run_training
    from flows.training.run_progress import shown
    from flows.training.train_version import TrainingRequest

    chosen = window or last_window(services.clock(), services.settings.window_s)
    done = monitor_window(services, MonitorRequest(window=chosen, retrain=retrain, take_over=False))
    say(f"{done.verdict.verdict}; action: {done.verdict.action}")
    say(_MEANING[done.verdict.verdict])
    for run in services.requested_runs():
        request = TrainingRequest(**run.parameters, start_promotion=True)
        say(f"the retraining runs here, within {request.budget_s:.0f} s")
        with shown(services.home.folder("jobs"), sys.stderr):
            outcome = run_training(services, request, flow_run_id=run.run_id)
        say(f"version {outcome['version']}: {outcome['verdict']}; it is now: {outcome['action']}")


@live_app.command("serve", epilog="Example: evergreen serve --detach")
def serve_command(
    detach: Annotated[
        bool, typer.Option("--detach", help="Return once it answers; `evergreen down` stops it.")
    ] = False,
) -> None:
    """Start the router with its console alone, until Ctrl-C; `evergreen up` adds Prefect, MLflow and Evidently."""
    from flows.platform.processes import Supervisor, bring_up, replace_taken_ports

    settings = Settings.load()
    supervisor = Supervisor(settings)
    if supervisor.running("router") is not None:
        say(f"the router runs already: {Home(settings).url('router')}/")
        return
    for sentence in replace_taken_ports(settings, ["router"]):
        say(sentence)
    services = build_services(embedded=True)
    services.check_task(data=False)  # polars is no part of what a router needs
    began = time.monotonic()
    links = {"EVERGREEN_LINKS": "{}"}  # to servers that do not run
    [part] = bring_up(settings, {**links, **settings.sources.variables(), **services.environment}, ["router"])
    say(f"router and console: {part.page} (ready in {time.monotonic() - began:.1f} s)")
    if services.ledger.head() is None:
        say("there is no champion yet: `evergreen train FILE` makes one, and the router takes it up by itself")
    if detach:
        say("`evergreen down` stops it")
        return
    say("Ctrl-C stops it")
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends it as Ctrl-C does
    try:
        while supervisor.running("router") is not None:
            time.sleep(_LOOK_EVERY_S)
    except KeyboardInterrupt:
        supervisor.stop("router")
        say("the router is stopped; what it logged stays")
        return
    raise UnavailableError(f"the router has ended, or `evergreen up` took it over; its log: {supervisor.log('router')}")


def _scored(name: str, scores: Sequence[float], labels: Sequence[str]) -> str:
    """Return a label with the scores of all, or with its own where there are many or their names are not known."""
    known = labels[: len(scores)]
    if len(known) < len(scores) or len(scores) > _SHOWN_LABELS:
        return f"{name} ({max(scores):.2f})"
    return f"{name} ({', '.join(known)}: {', '.join(f'{score:.2f}' for score in scores)})"


def _router_runs(services: Services) -> bool:
    from flows.platform.processes import Supervisor

    return Supervisor(services.settings).running("router") is not None


def _with_router() -> Services:
    """Return services that know the router's address: of EVERGREEN_ROUTER_URL, or of an existing home."""
    return open_home(required=Settings.load().router_url is None)
