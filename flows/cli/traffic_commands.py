"""Commands on the logged traffic: export and import of labels, insights."""

from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from absa.errors import PermanentError, UnavailableError
from absa.records.schema import Window, iso, utc_now
from absa.sinks import log_line, markdown_code, write_csv
from absa.task import ABSA, TaskSpec
from flows.cli.ledger_commands import labels_saved
from flows.cli.output.command_result import CommandResult
from flows.cli.output.facts import InsightsFacts, LabelsExportFacts, LabelsImportFacts
from flows.platform import arguments
from flows.platform.processes import is_served
from flows.platform.services import Services, open_home

if TYPE_CHECKING:
    import polars as pl

    from monitoring.labels.label_import import ImportedLabels

labels = typer.Typer(help="Export rows to label, and import the labels.", no_args_is_help=True)
_UNITS_S: Final = {"s": 1.0, "m": 60.0, "h": 3_600.0, "d": 86_400.0}
_SHOWN: Final = 20
_NAMED: Final = 5
WindowOption = Annotated[str, typer.Option(help="The last 30m, 24h or 7d, or a key <start>_<end>.")]


def parse_window(text: str, now: datetime) -> Window:
    """Return a window from `7d` (the last seven days) or from its key.

    Raises:
        PermanentError: the text is neither.
    """
    unit = text[-1:]
    if unit in _UNITS_S:
        try:
            length_s = float(text[:-1]) * _UNITS_S[unit]
            if length_s > 0:
                return Window(start=now - timedelta(seconds=length_s), end=now)
        except (ValueError, OverflowError):
            pass
    try:
        return Window.parse(text)
    except ValueError:
        raise PermanentError(f"a window is 30m, 24h, 7d or <start>_<end>, got {text!r}") from None


@labels.command("export", epilog="Example: evergreen labels export queue.csv --window 24h --count 200")
def export_labels(
    file: Annotated[
        Path,
        typer.Argument(
            callback=arguments.new_file,
            help="CSV to write; fill its last column with a label's name or code. NAME.json: tasks of Label Studio.",
        ),
    ],
    window: WindowOption = "24h",
    count: Annotated[int, typer.Option(callback=arguments.ROWS, help="Approximate number of rows.")] = 200,
    audit: Annotated[
        float, typer.Option(callback=arguments.AUDIT, help="Share of the rows that is drawn at random, 0 to 1.")
    ] = 0.3,
    version: Annotated[str | None, typer.Option(help="Select only answers of this version.")] = None,
) -> CommandResult[LabelsExportFacts]:
    """Select the rows whose labels help most: uncertain ones, disagreements in shadow, and a random audit."""
    from monitoring.labels.label_queue import ask_labels, write_queue
    from monitoring.labels.label_studio import SUFFIX, write_tasks

    asked = parse_window(window, utc_now())
    services = open_home()
    chosen = ask_labels(
        services.lake,
        asked,
        count=count,
        audit_share=audit,
        version=version,
        trusted_sources=services.settings.measuring_sources,
        task=services.settings.task,
    )
    task = services.settings.task
    interface = write_tasks(chosen, file, task) if file.suffix.lower() == SUFFIX else None
    if interface is None:
        write_queue(chosen, file)
    why = dict(sorted(chosen["why"].value_counts().iter_rows()))
    reasons = f" ({', '.join(f'{count} {name}' for name, count in why.items())})" if why else ""
    codes = list(services.settings.data.codes)
    label_it = f"write {', '.join(codes[:-1])} or {codes[-1]} into `label`"
    shown = [f"{chosen.height} rows in {file}{reasons}", *labels_saved(services)]
    if interface is not None:
        label_it = f"import the tasks into a project of Label Studio that has the interface {interface}"
        shown.append(f"labelling interface in {interface}")
    return CommandResult(
        facts={"file": str(file), "rows": chosen.height, "why": why, "labels": codes},
        lines=tuple(shown),
        meaning=f"The labels of these rows help most; {label_it}"
        if chosen.height
        else "This window has no row to label: it has no predictions, or all of them have labels",
        following=f"evergreen labels import {file}" if chosen.height else "a longer --window, or more traffic",
    )


@labels.command("import", epilog="Example: evergreen labels import queue.csv")
def import_(
    file: Annotated[
        Path,
        typer.Argument(
            callback=arguments.existing_file,
            help="The filled CSV, or a JSON export of Label Studio; rows without a label are skipped.",
        ),
    ],
    source: Annotated[
        str, typer.Option(help=r"Source of the labels; \[trust] lists the sources that train.")
    ] = "labels",
) -> CommandResult[LabelsImportFacts]:
    """Import labels as feedback, with the chance with which each row was selected.

    Prints how many rows were imported, had no label or were refused, and why.
    """
    from monitoring.labels.label_import import import_labels
    from monitoring.labels.label_studio import reader_of

    services = open_home()
    settings = services.settings
    done = import_labels(services.lake, file, source=source, codes=settings.data.codes, reader_of=reader_of)
    measures, trains = source in settings.measuring_sources, source in settings.training_sources
    meaning = f"Labels of source {source!r} {'train and measure' if trains else 'measure'}"
    if not measures:
        meaning = f"Source {source!r} is not trusted: its labels neither train nor measure"
    return CommandResult(
        facts={
            "rows": done.rows, "taken": done.taken, "unlabelled": done.unlabelled, "refused": dict(done.refused),
            "source": source, "measures": measures, "trains": trains,
        },
        lines=tuple(account_lines(done)),
        meaning=meaning,
        following="evergreen monitor, or evergreen train"
        if measures
        else "add it to train or measure of [trust] in evergreen.toml",
        code=1 if done.refused and not done.taken else 0,
    )  # fmt: skip


def account_lines(done: "ImportedLabels") -> Iterator[str]:
    """Yield lines that account for every row of an imported file, with the line numbers of the first refused rows."""
    count = sum(map(len, done.refused.values()))
    yield f"{done.rows} rows read = {done.taken} labels taken + {done.unlabelled} without a label + {count} refused"
    for reason, lines in done.refused.items():
        named = ", ".join(map(str, lines[:_NAMED])) + (", ..." if len(lines) > _NAMED else "")
        yield f"  {len(lines)} refused: the row {reason} ({done.place}{'' if len(lines) == 1 else 's'} {named})"


def insights_command(
    window: WindowOption = "7d",
    file: Annotated[
        Path | None, typer.Option("--csv", callback=arguments.new_file, help="CSV file for all rows.")
    ] = None,
    plot: Annotated[Path | None, typer.Option(callback=arguments.new_file, help="PNG file for the picture.")] = None,
    min_rows: Annotated[
        int, typer.Option(callback=arguments.ROWS, help="Leave out phrases with fewer predictions.")
    ] = 20,
) -> CommandResult[InsightsFacts]:
    """Show answers by phrase and segment: volume, share of the first evaluated label, its change."""
    from monitoring.insights import insights as found_in
    from monitoring.insights import insights_plot

    chosen = parse_window(window, utc_now())
    services = open_home()
    task = services.settings.task
    if task.phrase is None:
        raise PermanentError(
            f"expected a task whose labels are about a phrase, got task {task.name}: see Evidently's reports"
        )
    found = found_in(services.lake, chosen, min_rows=min_rows, task=task)
    lines = list(_insight_lines(found, task))
    if file is not None:
        write_csv(file, found.columns, found.iter_rows())
        lines.append(f"{found.height} rows in {file}")
    draw = cache(lambda: insights_plot(found, task))
    if plot is not None:
        plot.write_bytes(draw())
        lines.append(f"picture: {plot}")
    artifact = is_served(services.settings, services.environment, "prefect")
    if artifact:
        try:
            _insights_artifact(services, found, chosen, draw, task)
            lines.append("the same table and picture are in Prefect as artifact 'insights'")
        except UnavailableError as error:
            artifact = False
            lines.append(f"no artifact: {error}")
    return CommandResult(
        facts={
            "start": iso(chosen.start),
            "end": iso(chosen.end),
            "label": task.evaluated[0],
            "rows": found.to_dicts(),
            "file": None if file is None else str(file),
            "plot": None if plot is None else str(plot),
            "artifact": artifact,
        },
        lines=tuple(lines),
        meaning=f"The column {task.evaluated[0]} is its share of the answers; change compares with the previous window",
        following="evergreen labels export, if a share looks wrong"
        if found.height
        else "a longer --window, or a smaller --min-rows",
    )


def _insight_lines(found: "pl.DataFrame", task: TaskSpec = ABSA) -> Iterator[str]:
    label = log_line(task.evaluated[0])[:9]
    yield f"{task.phrase:<28}{'segment':<14}{'volume':>8}{label:>10}{'95 %':>14}{'change':>9}"
    for row in found.head(_SHOWN).iter_rows(named=True):
        change = "new" if row["change"] is None else f"{100 * row['change']:+.0f} pts"
        interval = f"{row['low']:.0%} to {row['high']:.0%}"
        yield (
            f"{log_line(row['aspect'])[:26]:<28}{log_line(row['segment'] or '')[:12]:<14}{row['rows']:>8,}"
            f"{row['share']:>10.0%}{interval:>14}{change:>9}"
        )
    if found.height > _SHOWN:
        yield f"... and {found.height - _SHOWN} more (--csv writes all)"
    if found.height == 0:
        yield f"no {task.phrase} has enough predictions in this window"


def _insights_artifact(
    services: Services, found: "pl.DataFrame", window: Window, draw: Callable[[], bytes], task: TaskSpec
) -> None:
    """Write the table and the plot, which `draw` makes, into one Markdown artifact.

    Raises:
        UnavailableError: Prefect is unavailable.
    """
    import base64

    import httpx

    from flows.platform.processes import answers

    address = services.environment["PREFECT_API_URL"]
    if not answers(f"{address.rstrip('/')}/health"):
        raise UnavailableError(f"Prefect is unavailable at {address}")
    from flows.platform.artifacts import PrefectReporter  # its import makes Prefect's folder

    table = markdown_code(_insight_lines(found, task))
    image = f"![share by {task.phrase}](data:image/png;base64,{base64.b64encode(draw()).decode()})"
    try:
        PrefectReporter().page(f"## {window.key}\n\n{table}\n\n{image}\n", key="insights", description=window.key)
    except (httpx.HTTPError, RuntimeError) as error:
        raise UnavailableError(f"Prefect is unavailable: {error}") from error
