"""`evergreen batch` and `evergreen batch verify`."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Final

import typer

from absa.errors import PermanentError
from flows.platform import arguments
from flows.platform.settings import Settings
from flows.platform.terminal import say

if TYPE_CHECKING:
    from absa.batch.batch_job import BatchProgress

batch_app = typer.Typer(no_args_is_help=True, rich_markup_mode="rich")
_LINE_EVERY_S: Final = 10.0


@batch_app.callback(
    invoke_without_command=True,
    epilog="Example: evergreen batch --input reviews.csv --output scored/ --model models:/absa/7",
)
def batch_command(
    context: typer.Context,
    input_uri: Annotated[
        str | None, typer.Option("--input", help="CSV, JSONL or Parquet: a file, a folder or s3://bucket/prefix.")
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
        float, typer.Option(callback=arguments.SHARE, help="Share of bad rows above which the job fails.")
    ] = 0.1,
    log: Annotated[
        bool, typer.Option("--log", help="Write the answers to the lake as predictions, so that monitoring sees them.")
    ] = False,
    drift_report: Annotated[
        bool, typer.Option("--drift-report", help="Compare the rows with the version's test rows: drift/report.html.")
    ] = False,
) -> None:
    """Score a whole dataset. A killed run goes on where it was; a finished one is not run again."""
    if context.invoked_subcommand is not None:
        return
    if not input_uri or not output_uri:
        raise PermanentError("name what to score with --input and where to put it with --output")
    from flows.batch.score_batch import REGISTRY, BatchRequest, batch_summary, score_batch, usd_per_row
    from flows.platform.services import open_home

    services = open_home(required=log or model is None or model.startswith(REGISTRY))
    request = BatchRequest(
        input_uri=input_uri, output_uri=output_uri, model=model, engine=engine, address=address, workers=workers,
        partition_rows=partition_rows, max_bad_share=max_bad_share, log=log, drift_report=drift_report,
    )  # fmt: skip
    with _shown(usd_per_row(services)) as show:
        outcome = score_batch(services, request, on_progress=show)
    if outcome.result.already_done:
        say(f"nothing to do: {output_uri} holds this input, scored by this version")
    for row in batch_summary(outcome.result.manifest):
        say(f"{row['what']:<34} {row['value']}")
    if outcome.drift is not None:
        say(f"drift report: {output_uri.rstrip('/')}/drift/report.html")
        for sentence in outcome.drift or ("No column drifted.",):
            say(f"  {sentence}")


@batch_app.command(epilog="Example: evergreen batch verify scored/")
def verify(
    output_uri: Annotated[str, typer.Argument(help="Folder or s3://bucket/prefix of a finished batch.")],
    input_uri: Annotated[str | None, typer.Option("--input", help="Place of the input, if it was moved since.")] = None,
) -> None:
    """Prove a batch's output against its input: every row once, in order, unchanged, with an answer that fits."""
    from absa.batch.verify_batch import verify_batch

    problems = verify_batch(output_uri, input_uri=input_uri, mapping=Settings.load().data)
    for problem in problems:
        say(problem)
    if problems:
        raise typer.Exit(1)
    say("every row once, in order, unchanged, with an answer that fits")


@contextmanager
def _shown(each_usd: float | None) -> Iterator[Callable[["BatchProgress"], None]]:
    """Show a bar on a terminal, elsewhere a line every ten seconds."""
    from flows.batch.score_batch import said

    if sys.stdout.isatty():
        from rich import progress

        columns = (progress.BarColumn(), progress.TextColumn("{task.description}"), progress.TimeElapsedColumn())
        with progress.Progress(*columns) as bar:
            task = bar.add_task("starting", total=1.0)
            yield lambda now: bar.update(task, completed=now.share, description=said(now, each_usd))
        return
    last = time.monotonic()

    def line(now: "BatchProgress") -> None:
        nonlocal last
        if time.monotonic() - last >= _LINE_EVERY_S:
            last = time.monotonic()
            say(said(now, each_usd))

    yield line
