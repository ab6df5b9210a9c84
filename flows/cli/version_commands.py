"""Commands of versions: train, export, retrain, promote, roll back, forget, and the ledger."""

from pathlib import Path
from typing import Annotated, Any, cast

import typer

from absa.errors import PermanentError
from absa.policies import RecipeName
from flows.cli.home.demo_warning import demo_warning
from flows.cli.output.command_result import CommandResult
from flows.cli.output.facts import (
    BaseFacts,
    ExportFacts,
    LedgerFacts,
    PromoteFacts,
    RetrainFacts,
    RollbackFacts,
    SentenceFacts,
    TrainFacts,
)
from flows.cli.output.training_result import trained_result
from flows.cli.required_servers import served_by, start_in_prefect
from flows.monitoring.announcing import announce_after_command
from flows.platform import arguments
from flows.platform.services import build_services, open_home
from flows.platform.terminal import say

version_app = typer.Typer()


@version_app.command("train", epilog="Example: evergreen train feedback.csv --budget 300")
def train_command(
    files: Annotated[list[Path] | None, typer.Argument(help="Labelled files to ingest first.")] = None,
    budget: Annotated[
        float | None, typer.Option(callback=arguments.SECONDS, help="Budget of the whole run in seconds.")
    ] = None,
    reason: Annotated[str, typer.Option(callback=arguments.given_text, help="Origin of the request.")] = "manual",
    recipe: Annotated[
        RecipeName | None, typer.Option(help="Recipe of the training; unset: that of evergreen.toml, or fast.")
    ] = None,
    encoder: Annotated[
        str | None,
        typer.Option(
            "--encoder",
            "--base",
            callback=arguments.given_text,
            help="Start from a folder, a hub's NAME or NAME@REVISION, or a base of `evergreen pretrain`.",
        ),
    ] = None,
) -> CommandResult[TrainFacts]:
    """Train a version within a budget, judge it and register it. Needs no server."""
    return trained_result(_train(files, budget, encoder, reason=reason, recipe=recipe))


@version_app.command("distill", epilog="Example: evergreen distill feedback.csv --teacher microsoft/deberta-v3-base")
def distill_command(
    files: Annotated[list[Path] | None, typer.Argument(help="Labelled files to ingest first.")] = None,
    teacher: Annotated[
        list[str] | None,
        typer.Option(help="Teacher: a folder, NAME or NAME@REVISION; repeat it for several, or for two seeds."),
    ] = None,
    teacher_budget: Annotated[
        float | None,
        typer.Option(callback=arguments.SECONDS, help="Training seconds of each teacher, before --budget."),
    ] = None,
    unlabelled: Annotated[
        list[Path] | None, typer.Option(help="File without labels that the teachers score; repeat it for several.")
    ] = None,
    budget: Annotated[
        float | None, typer.Option(callback=arguments.SECONDS, help="Budget of the student's run in seconds.")
    ] = None,
    reason: Annotated[str, typer.Option(callback=arguments.given_text, help="Origin of the request.")] = "manual",
) -> CommandResult[TrainFacts]:
    """Train a version that learns from larger encoders. These are fine-tuned once, and reused until they are stale."""
    for file in unlabelled or ():
        if not file.is_file():
            raise PermanentError(f"{file} is not a file: name a CSV, JSONL or Parquet file")
    facts = _train(
        files,
        budget,
        None,
        reason=reason,
        recipe="distilled",
        teachers=tuple(str(Path(name).absolute()) if Path(name).is_dir() else name for name in teacher or []),
        teacher_budget_s=teacher_budget,
        unlabelled=tuple(str(file.absolute()) for file in unlabelled or []),
    )
    return trained_result(facts)


def _train(files: list[Path] | None, budget_s: float | None, encoder: str | None, **options: Any) -> TrainFacts:
    """Train, as a run of Prefect if its server is used, and return the result.

    Args:
        files: files to ingest first.
        budget_s: budget of the whole run in seconds; None: the budget of the settings.
        encoder: encoder to start from; None: the champion, or the encoder of the settings.
        options: further fields of `TrainingRequest`.
    """
    from flows.cli.base_commands import named_base
    from flows.training.requested_training import run_training
    from flows.training.run_progress import shown
    from flows.training.train_version import TrainingRequest

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
    with shown(services.home.folder("jobs")):
        if "prefect" in served:
            from flows.training.training_flow import continuous_training  # Prefect's import takes seconds

            given: Any = {
                name: list(value) if isinstance(value, tuple) else value for name, value in vars(request).items()
            }
            return cast(TrainFacts, continuous_training(**given))
        try:
            return cast(TrainFacts, run_training(services, request, flow_run_id=None))
        finally:
            announce_after_command(services)


@version_app.command("pretrain", epilog="Example: evergreen pretrain other-labels/ --epochs 2")
def pretrain_command(
    path: Annotated[str, typer.Argument(help="Labelled files of any domain: a file or a folder.")],
    epochs: Annotated[float, typer.Option(callback=arguments.EPOCHS, help="Passes over the rows.")] = 2.0,
    budget: Annotated[
        float | None,
        typer.Option(callback=arguments.SECONDS, help="Time limit in seconds; unset: --epochs decides."),
    ] = None,
) -> CommandResult[BaseFacts]:
    """Train a base on labelled files, from which `train --encoder` starts. Equal input reuses the base."""
    from absa.data.files.source_files import find_sources
    from flows.cli.base_commands import make_base

    find_sources(path)  # before a home is made
    folder, made = make_base(
        build_services(), path, epochs=epochs, budget_s=budget, on_progress=lambda line: say(line, err=True)
    )
    return CommandResult(
        facts={"base": folder.name, "folder": str(folder), "made": made},
        lines=(f"base {folder.name} {'was trained' if made else 'exists already'}: {folder}",),
        meaning="The champion does not change; a training can start from this base",
        following=f"evergreen train FILE --encoder {folder.name}",
    )


@version_app.command("export", epilog="Example: evergreen export --into absa/models/champion")
def export_command(
    version: Annotated[str | None, typer.Argument(help="Registry version; unset: the champion.")] = None,
    into: Annotated[
        Path | None, typer.Option(help="Folder to create or replace; unset: absa/models/champion, or TASK-FORMAT.")
    ] = None,
    form: Annotated[
        str, typer.Option("--format", help="package: as registered. huggingface: a folder for transformers.")
    ] = "package",
) -> CommandResult[ExportFacts]:
    """Copy a version's package to a folder, or write a folder that transformers loads."""
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
    loads = "transformers loads it by AutoModelForSequenceClassification.from_pretrained"
    package = form == "package"
    return CommandResult(
        facts={"version": chosen, "folder": str(folder), "format": form},
        lines=(f"version {chosen} is in {folder}",),
        meaning="The package scores without a home and a server" if package else loads,
        following=f"copy the folder; `evergreen batch --model {folder}` scores with it"
        if package
        else "copy the folder; `evergreen admin export` makes the package, which Evergreen scores with",
    )


@version_app.command(epilog="Example: evergreen retrain --reason new-labels")
def retrain(
    reason: Annotated[str, typer.Option(callback=arguments.given_text, help="Origin of the request.")] = "manual",
    budget: Annotated[
        float | None, typer.Option(callback=arguments.SECONDS, help="Budget of the whole run in seconds.")
    ] = None,
) -> CommandResult[RetrainFacts]:
    """Train on the newest snapshot and all newer trusted feedback: in Prefect, or here if Prefect does not run."""
    from flows.platform.prefect_runs import TRAINING

    services = open_home()
    if "prefect" not in served_by(services, "prefect"):
        facts = _train(None, budget, None, reason=reason)
        done = trained_result(facts)
        return CommandResult(
            facts={"reason": reason, "flow_run": None, "url": None, "training": facts},
            lines=done.lines, meaning=done.meaning, following=done.following,
        )  # fmt: skip
    budget_s = services.settings.budget_s if budget is None else budget
    run_id, url = start_in_prefect(services, TRAINING, {"reason": reason, "budget_s": budget_s})
    return CommandResult(
        facts={"reason": reason, "flow_run": run_id, "url": url, "training": None},
        lines=(f"started: {url}",),
        meaning=f"Prefect trains a version within {budget_s:.0f} s; then the gate judges it",
        following="evergreen status shows the training and the decision",
    )


@version_app.command("promote", epilog="Example: evergreen promote 3 --now --reason 'launch on Monday'")
def promote_command(
    versions: Annotated[list[str] | None, typer.Argument(help="Registry versions; unset: the challenger.")] = None,
    now: Annotated[
        bool, typer.Option("--now", help="Make it champion without an experiment, by the operator's decision.")
    ] = False,
    again: Annotated[bool, typer.Option("--again", help="Accept versions that were rolled back or replaced.")] = False,
    reason: Annotated[str, typer.Option(help="Reason; kept in the ledger.")] = "decided by the operator",
) -> CommandResult[PromoteFacts]:
    """Try versions in shadow and an A/B test, or make one champion at once with --now.

    Prefect runs the experiment. If Prefect does not run, this command does, until a decision or Ctrl-C.
    """
    from flows.cli.promotion.promotion_commands import promote_at_once, start_promotion

    named = versions or []
    if now and len(named) > 1:
        raise PermanentError(f"--now: expected one version, got {len(named)}")
    services = open_home()
    if now:
        return promote_at_once(services, named[0] if named else None, reason=reason)
    return start_promotion(
        services, named, again=again, prefect_serves=lambda: "prefect" in served_by(services, "prefect")
    )


@version_app.command(epilog="Example: evergreen rollback --reason 'complaints about billing answers'")
def rollback(
    reason: Annotated[str, typer.Option(help="Reason; kept in the ledger.")] = "rolled back by the operator",
) -> CommandResult[RollbackFacts]:
    """End the running experiment, or restore the former champion if none runs.

    Needs neither MLflow nor Prefect.
    """
    from flows.cli.promotion.promotion_commands import roll_back_now

    return roll_back_now(open_home(), reason=reason)


@version_app.command("forget", epilog="Example: evergreen forget --unit acct-42")
def forget_command(
    unit: Annotated[
        str | None, typer.Option(callback=arguments.given_text, help="Delete all texts of this unit_id.")
    ] = None,
    days: Annotated[
        float | None,
        typer.Option(callback=arguments.DAYS, help="Delete texts that were sent more than this number of days ago."),
    ] = None,
) -> CommandResult[SentenceFacts]:
    """Delete a unit's texts, or old ones, from predictions, feedback and snapshots; tag versions that learned them."""
    from flows.monitoring.forgetting import forget as forget_now

    lines = forget_now(open_home(), unit=unit, days=days)
    return CommandResult(
        facts={"sentences": lines},
        lines=tuple(lines),
        meaning="Versions that learned from forgotten texts answer until a newer one replaces them",
        following="evergreen train makes a version without them",
    )


@version_app.command(epilog="Example: evergreen ledger --at 2026-11-30T12:00:00Z")
def ledger(
    action: Annotated[
        str,
        typer.Argument(
            help="show; verify: find changed or missing records; project: set MLflow's aliases; packages: see above."
        ),
    ] = "show",
    at: Annotated[
        str | None, typer.Option(help="Print champion and challenger at this time (ISO 8601 with a zone).")
    ] = None,
    verify: Annotated[bool, typer.Option("--verify", help="The same as `evergreen ledger verify`.")] = False,
) -> CommandResult[LedgerFacts]:
    """Print the ledger or its state at a time, verify it, or set MLflow's aliases by it.

    `packages` copies packages that an earlier release registered from MLflow into the lake, where routers, batches and
    trainings read them. `evergreen up` and the worker also do this when they start.
    """
    from flows.cli.ledger_commands import show_ledger

    return show_ledger(open_home(), "verify" if verify else action, at)


@version_app.command(epilog="Example: evergreen shadow --export to-label.csv")
def shadow(
    gain: Annotated[
        float,
        typer.Option(
            callback=arguments.SHARE_ABOVE_0, help="Difference in the share of right answers to find, 0 to 1."
        ),
    ] = 0.03,
    export: Annotated[
        Path | None,
        typer.Option(callback=arguments.new_file, help="CSV file for the rows whose labels help most."),
    ] = None,
    count: Annotated[int, typer.Option(callback=arguments.ROWS, help="Approximate number of rows.")] = 200,
) -> CommandResult[SentenceFacts]:
    """Compare challenger and champion on each request in shadow; print how many labels a decision needs."""
    from flows.cli.ledger_commands import show_shadow

    lines = show_shadow(open_home(), gain, export, count)
    filled = f"fill the column label of {export}, then evergreen labels import {export}"
    return CommandResult(
        facts={"sentences": lines},
        lines=tuple(lines),
        meaning="No customer gets the challenger's answers: they are only compared",
        following="evergreen shadow --export FILE.csv selects the rows to label" if export is None else filled,
    )
