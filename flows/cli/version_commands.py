"""Commands of versions: train, export, retrain, promote, roll back, forget, and the ledger."""

import json
import sys
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from absa.errors import PermanentError
from absa.policies import RecipeName
from flows.cli.home.demo_warning import demo_warning
from flows.cli.required_servers import require_servers, served_by
from flows.monitoring.announcing import announce_after_command
from flows.platform import arguments
from flows.platform.services import build_services, open_home
from flows.platform.terminal import say

version_app = typer.Typer()
_NEXT: Final = {
    "crowned": "It answers from now on. Next: evergreen predict TEXT, or evergreen serve",
    "challenged": "The champion answers until this version wins an experiment, which `evergreen up` runs. "
    "Next: evergreen status; `evergreen promote {version} --now` does without an experiment",
    "kept": "The champion stays. Next: evergreen status names what version {version} lacks",
}


@version_app.command("train", epilog="Example: evergreen train feedback.csv --budget 300")
def train_command(
    files: Annotated[list[Path] | None, typer.Argument(help="Labelled files to ingest first.")] = None,
    budget: Annotated[
        float | None, typer.Option(callback=arguments.SECONDS, help="Budget of the whole run in seconds.")
    ] = None,
    reason: Annotated[str, typer.Option(callback=arguments.given_text, help="Origin of the request.")] = "manual",
    recipe: Annotated[
        RecipeName | None, typer.Option(help="Way of training; unset: the one of evergreen.toml, or fast.")
    ] = None,
    encoder: Annotated[
        str | None,
        typer.Option(
            "--encoder",
            "--base",
            callback=arguments.given_text,
            help="Start from a folder, a hub's NAME or NAME@REVISION, or what `evergreen pretrain` printed.",
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Train a version inside a budget here and now, judge and register it. Needs no server."""
    _train(files, budget, encoder, as_json=as_json, reason=reason, recipe=recipe)


@version_app.command("distill", epilog="Example: evergreen distill feedback.csv --teacher microsoft/deberta-v3-base")
def distill_command(
    files: Annotated[list[Path] | None, typer.Argument(help="Labelled files to ingest first.")] = None,
    teacher: Annotated[
        list[str] | None,
        typer.Option(
            help="Encoder that teaches: a folder, NAME or NAME@REVISION; repeat it for several, or two seeds."
        ),
    ] = None,
    teacher_budget: Annotated[
        float | None, typer.Option(callback=arguments.SECONDS, help="Seconds of each teacher, before --budget.")
    ] = None,
    unlabelled: Annotated[
        list[Path] | None, typer.Option(help="File without labels that the teachers answer on; repeat it for several.")
    ] = None,
    budget: Annotated[
        float | None, typer.Option(callback=arguments.SECONDS, help="Budget of the student's run in seconds.")
    ] = None,
    reason: Annotated[str, typer.Option(callback=arguments.given_text, help="Origin of the request.")] = "manual",
) -> None:
    """Train a version that learns from larger encoders; they are fine-tuned once and kept until they are stale."""
    for file in unlabelled or ():
        if not file.is_file():
            raise PermanentError(f"{file} is not a file: name a CSV, JSONL or Parquet file")
    _train(
        files,
        budget,
        None,
        reason=reason,
        recipe="distilled",
        teachers=tuple(str(Path(name).absolute()) if Path(name).is_dir() else name for name in teacher or []),
        teacher_budget_s=teacher_budget,
        unlabelled=tuple(str(file.absolute()) for file in unlabelled or []),
    )


def _train(
    files: list[Path] | None, budget_s: float | None, encoder: str | None, *, as_json: bool = False, **options: Any
) -> None:
    """Train, as a run of Prefect where its server is used, and print the result.

    Args:
        files: to ingest first.
        budget_s: of the whole run; None: that of the settings.
        encoder: to start from; None: the champion, or that of the settings.
        as_json: print the result as JSON.
        options: further fields of `TrainingRequest`.
    """
    from flows.cli.base_commands import named_base
    from flows.training.requested_training import run_training
    from flows.training.run_progress import shown
    from flows.training.train_version import TrainingRequest, size_line

    for file in files or []:
        if not file.is_file():
            raise PermanentError(f"{file} is not a file: name a CSV, JSONL or Parquet file")
    served = served_by(open_home(required=False, announced=False), "prefect", "mlflow")
    services = build_services(embedded=True)
    if warning := demo_warning(services.settings):
        say(warning, err=True)
    request = TrainingRequest(
        budget_s=services.settings.budget_s if budget_s is None else budget_s,
        sources=tuple(str(file.absolute()) for file in files or []),
        base=named_base(services, encoder) if encoder else None,
        start_promotion=True,
        **options,
    )
    with shown(services.home.folder("jobs"), sys.stderr):
        if "prefect" in served:
            from flows.training.training_flow import continuous_training  # Prefect's import takes seconds

            given: Any = {
                name: list(value) if isinstance(value, tuple) else value for name, value in vars(request).items()
            }
            outcome: dict[str, Any] = continuous_training(**given)
        else:
            try:
                outcome = run_training(services, request, flow_run_id=None)
            finally:
                announce_after_command(services)
    if as_json:
        say(json.dumps(outcome))
        return
    metric = "pos/neg F1" if "pos_neg_f1" in outcome else "F1"
    say(f"version {outcome['version']}: {outcome['verdict']}, {metric} {outcome['f1']:.3f} on the test side")
    say(f"  {metric} is {outcome['metric']}")
    for sentence in outcome["reasons"]:
        say(f"  {sentence}")
    over_s = outcome["used_s"] - outcome["budget_s"]
    overrun = f", {over_s:.0f} s more than the budget" if over_s > 0 else ""
    say(f"  {outcome['used_s']:.0f} of {outcome['budget_s']:.0f} s used{overrun}")
    for each in outcome["ladder"]:
        say(f"  {size_line(each, metric)}")
    say(f"  the version is now: {outcome['action']}")
    say(_NEXT[outcome["action"]].format(version=outcome["version"]))


@version_app.command("pretrain", epilog="Example: evergreen pretrain other-labels/ --epochs 2")
def pretrain_command(
    path: Annotated[str, typer.Argument(help="Labelled files of any domain: a file or a folder.")],
    epochs: Annotated[float, typer.Option(callback=arguments.EPOCHS, help="Passes over the rows.")] = 2.0,
    budget: Annotated[
        float | None, typer.Option(callback=arguments.SECONDS, help="End after so many seconds, whatever --epochs.")
    ] = None,
) -> None:
    """Make a base from labelled files, kept by what it is made of; `train --encoder` starts from it."""
    from absa.data.files.source_files import find_sources
    from flows.cli.base_commands import make_base

    find_sources(path)  # before a home is made
    for line in make_base(build_services(), path, epochs=epochs, budget_s=budget, on_progress=say):
        say(line)


@version_app.command("export", epilog="Example: evergreen export --into absa/models/champion")
def export_command(
    version: Annotated[str | None, typer.Argument(help="Registry version; unset: the champion.")] = None,
    into: Annotated[
        Path | None, typer.Option(help="Folder that is made or replaced; unset: absa/models/champion, or TASK-FORMAT.")
    ] = None,
    form: Annotated[
        str, typer.Option("--format", help="package: as registered. huggingface: a folder for transformers.")
    ] = "package",
) -> None:
    """Put a version into a folder: its package, or what AutoModelForSequenceClassification of transformers loads."""
    from flows.cli.version_export import export_for_transformers, export_version

    if form not in ("package", "huggingface"):
        raise PermanentError(f"--format: expected package or huggingface, got {form!r}")
    services = open_home()
    if form == "package":
        folder = into or Path("absa/models/champion")
        chosen = export_version(services, version, folder)
    else:
        folder = into or Path(f"{services.settings.task.name}-{form}")
        chosen = export_for_transformers(services, version, folder)
    say(f"version {chosen} is in {folder}")


@version_app.command(epilog="Example: evergreen retrain --reason new-labels")
def retrain(
    reason: Annotated[str, typer.Option(callback=arguments.given_text, help="Origin of the request.")] = "manual",
    budget: Annotated[
        float | None, typer.Option(callback=arguments.SECONDS, help="Budget of the whole run in seconds.")
    ] = None,
) -> None:
    """Start the continuous-training deployment: the newest snapshot and all trusted feedback since."""
    from flows.platform.prefect_runs import TRAINING

    services = open_home()
    require_servers(services, "prefect")
    budget_s = services.settings.budget_s if budget is None else budget
    parameters: dict[str, Any] = {"reason": reason, "budget_s": budget_s}
    run_id = services.deployments.start(TRAINING, parameters)
    say(f"started: {services.home.url('prefect')}/runs/flow-run/{run_id}")
    say(f"It trains within {budget_s:.0f} s; the gate decides about its version. Next: evergreen status")


@version_app.command("promote", epilog="Example: evergreen promote 3 --now --reason 'launch on Monday'")
def promote_command(
    versions: Annotated[list[str] | None, typer.Argument(help="Registry versions; unset: the challenger.")] = None,
    now: Annotated[
        bool, typer.Option("--now", help="Make it champion without an experiment, by the operator's decision.")
    ] = False,
    again: Annotated[
        bool, typer.Option("--again", help="Try a version again that was rolled back or replaced.")
    ] = False,
    reason: Annotated[str, typer.Option(help="Reason; kept in the ledger.")] = "decided by the operator",
) -> None:
    """Take challengers through shadow and A/B (the promote deployment), or make one champion at once with --now."""
    from flows.platform.prefect_runs import PROMOTION
    from flows.promotion.decisions import ended_by, promote_now, requested_promotion
    from flows.promotion.promotion_plan import plan_lines
    from flows.promotion.running_experiment import labels_a_day

    named = versions or []
    if now and len(named) > 1:
        raise PermanentError("--now makes one version champion: name one")
    services = open_home()
    if now:
        record = promote_now(services, named[0] if named else None, reason=reason)
        for line in ended_by(services.ledger.follow()):
            say(line)
        say(f"version {record.state.champion} is champion (ledger record {record.number})")
        say("Routers follow within seconds. Next: evergreen status; `evergreen rollback` reverts it")
        announce_after_command(services)
        return
    parameters = requested_promotion(services, named, again=again)
    tried = [parameters["version"], *parameters["others"]]
    settings = services.settings
    say(f"promotion of version {', '.join(tried)} against champion {services.head().state.champion}:")
    for line in plan_lines(
        settings.experiment,
        challengers=len(tried),
        approval=settings.approval,
        labels_a_day=labels_a_day(services, services.clock()),
    ):
        say(line)
    require_servers(services, "prefect")
    run_id = services.deployments.start(PROMOTION, parameters)
    say(f"started: {services.home.url('prefect')}/runs/flow-run/{run_id}")
    say("Next: evergreen status shows the step and its date; evergreen promote VERSION --now skips the experiment")


@version_app.command(epilog="Example: evergreen rollback --reason 'complaints about billing answers'")
def rollback(
    reason: Annotated[str, typer.Option(help="Reason; kept in the ledger.")] = "rolled back by the operator",
) -> None:
    """End the running experiment, or where none runs put the former champion back, and say what that changed.

    Works with MLflow and Prefect down.
    """
    from flows.promotion.decisions import roll_back, rollback_report

    services = open_home()
    record = roll_back(services, reason=reason)
    for line in rollback_report([each for each in services.ledger.follow() if each.number <= record.number]):
        say(line)
    announce_after_command(services)


@version_app.command("forget", epilog="Example: evergreen forget --unit acct-42")
def forget_command(
    unit: Annotated[
        str | None, typer.Option(callback=arguments.given_text, help="Forget what this unit_id ever asked.")
    ] = None,
    days: Annotated[
        float | None,
        typer.Option(callback=arguments.DAYS, help="Forget what was asked more than so many days ago."),
    ] = None,
) -> None:
    """Rewrite predictions, feedback and snapshots without a unit's texts, or without old ones; tag the versions."""
    from flows.monitoring.forgetting import forget as forget_now

    for line in forget_now(open_home(), unit=unit, days=days):
        say(line)


@version_app.command(epilog="Example: evergreen ledger --at 2026-11-30T12:00:00Z")
def ledger(
    action: Annotated[
        str, typer.Argument(help="show, verify (edits, gaps, a cut tail), project (aliases) or packages.")
    ] = "show",
    at: Annotated[str | None, typer.Option(help="Show the active state at this time (ISO 8601 with a zone).")] = None,
    verify: Annotated[bool, typer.Option("--verify", help="The same as `evergreen ledger verify`.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print all records as JSON, one per line.")] = False,
) -> None:
    """Print the ledger or what was champion at a time, verify it, or project it to MLflow's aliases.

    `packages` copies the packages of versions that an earlier release registered from MLflow into the lake, from which
    routers, batches and trainings load them; `evergreen up` and the worker do the same when they start.
    """
    from flows.cli.ledger_commands import show_ledger

    services = open_home()
    if as_json:
        for record in services.ledger.follow():
            say(json.dumps(record.to_json()))
        return
    for line in show_ledger(services, "verify" if verify else action, at):
        say(line)


@version_app.command(epilog="Example: evergreen shadow --export to-label.csv")
def shadow(
    gain: Annotated[
        float, typer.Option(callback=arguments.SHARE_ABOVE_0, help="Difference in right answers to find, as a share.")
    ] = 0.03,
    export: Annotated[
        Path | None,
        typer.Option(callback=arguments.new_file, help="CSV file for rows that are worth a label."),
    ] = None,
    count: Annotated[int, typer.Option(callback=arguments.ROWS, help="About how many rows.")] = 200,
) -> None:
    """Compare the challenger in shadow with the champion, request by request, and say what labels would tell."""
    from flows.cli.ledger_commands import show_shadow

    for line in show_shadow(open_home(), gain, export, count):
        say(line)
