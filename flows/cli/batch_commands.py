"""`evergreen batch` and `evergreen batch verify`."""

from typing import TYPE_CHECKING, Annotated, Final

import typer

from absa.errors import PermanentError
from flows.cli.output.command_progress import CommandProgress
from flows.cli.output.command_result import CommandResult
from flows.cli.output.facts import BatchFacts, ProblemFacts
from flows.platform import arguments
from flows.platform.settings import Settings

if TYPE_CHECKING:
    pass

batch_app = typer.Typer(no_args_is_help=True, rich_markup_mode="rich")
_NO_DRIFT: Final = "No column drifted."


@batch_app.callback(
    invoke_without_command=True,
    epilog="Example: evergreen batch --input reviews.csv --output scored/ --model models:/absa/7",
)
def batch_command(
    context: typer.Context,
    input_uri: Annotated[
        str | None,
        typer.Option("--input", help="CSV, JSONL, .xlsx or Parquet: a file, a folder or s3://bucket/prefix."),
    ] = None,
    output_uri: Annotated[
        str | None, typer.Option("--output", help="Folder or s3://bucket/prefix for the scored Parquet.")
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(help="models:/NAME@challenger, models:/NAME/7, or a package's folder; unset: the champion."),
    ] = None,
    engine: Annotated[str, typer.Option(help="local: one process per core. ray: a Ray cluster.")] = "local",
    address: Annotated[
        str | None, typer.Option(help="Ray cluster, such as auto or ray://host:10001; unset: one on this machine.")
    ] = None,
    workers: Annotated[
        int | None, typer.Option(callback=arguments.WORKERS_OR_NONE, help="Cores to use; unset: all.")
    ] = None,
    partition_rows: Annotated[
        int, typer.Option(callback=arguments.ROWS, help="Rows that are scored, written and committed at once.")
    ] = 5_000,
    max_bad_share: Annotated[
        float, typer.Option(callback=arguments.SHARE, help="Share of bad rows above which the job fails, 0 to 1.")
    ] = 0.1,
    log: Annotated[
        bool, typer.Option("--log", help="Write the answers to the lake as predictions, so that monitoring sees them.")
    ] = False,
    drift_report: Annotated[
        bool, typer.Option("--drift-report", help="Compare the rows with the version's test rows: drift/report.html.")
    ] = False,
) -> CommandResult[BatchFacts] | None:
    """Score a whole dataset. A killed run continues when it is started again; a finished one is not repeated."""
    if context.invoked_subcommand is not None:
        return None
    if not input_uri or not output_uri:
        raise PermanentError("expected --input and --output: the dataset to score, and the folder for its scores")
    from flows.batch.score_batch import REGISTRY, BatchRequest, batch_summary, labels_of, said, score_batch, usd_per_row
    from flows.platform.services import open_home

    services = open_home(required=log or model is None or model.startswith(REGISTRY))
    request = BatchRequest(
        input_uri=input_uri, output_uri=output_uri, model=model, engine=engine, address=address, workers=workers,
        partition_rows=partition_rows, max_bad_share=max_bad_share, log=log, drift_report=drift_report,
    )  # fmt: skip
    each_usd = usd_per_row(services)
    with CommandProgress(None, "batch") as progress:
        progress.now("reading the input and loading the version")
        outcome = score_batch(
            services, request, on_progress=lambda done: progress.now(said(done, each_usd), done.share)
        )
    manifest, drift = outcome.result.manifest, outcome.drift
    report = None if drift is None else f"{output_uri.rstrip('/')}/drift/report.html"
    drifted = () if drift is None else (f"drift report: {report}", *(f"  {each}" for each in drift or (_NO_DRIFT,)))
    bad = sum(manifest["quarantined"].values())
    return CommandResult(
        facts={
            "output": output_uri,
            "version": str(manifest["model_version"]),
            "rows": manifest["rows"],
            "quarantined": dict(manifest["quarantined"]),
            "labels": labels_of(manifest),
            "already_done": outcome.result.already_done,
            "elapsed_s": manifest["elapsed_s"],
            "drift": None if drift is None else list(drift),
            "drift_report": report,
        },
        lines=(*(f"{row['what']:<34} {row['value']}" for row in batch_summary(manifest)), *drifted),
        meaning=f"nothing to do: {output_uri} holds this input, scored by this version"
        if outcome.result.already_done
        else f"{output_uri} holds every row once, in order, as Parquet"
        + (f"; {bad:,} unreadable rows are stored separately, with their reasons" if bad else ""),
        following=f"evergreen batch verify {output_uri}, or read it: polars.read_parquet('{output_uri}')",
    )


@batch_app.command(epilog="Example: evergreen batch verify scored/")
def verify(
    output_uri: Annotated[str, typer.Argument(help="Folder or s3://bucket/prefix of a finished batch.")],
    input_uri: Annotated[str | None, typer.Option("--input", help="New place of the input, if it was moved.")] = None,
) -> CommandResult[ProblemFacts]:
    """Check a batch's output against its input: every row once, in order, unchanged, with a valid answer."""
    from absa.batch.verify_batch import verify_batch

    problems = verify_batch(output_uri, input_uri=input_uri, mapping=Settings.load().data)
    return CommandResult(
        facts={"problems": problems},
        lines=tuple(problems or ["every row once, in order, unchanged, with a valid answer"]),
        meaning="The output does not match the input" if problems else "The output can be used",
        following="evergreen batch with another --output scores again" if problems else "nothing to do",
        code=1 if problems else 0,
    )
