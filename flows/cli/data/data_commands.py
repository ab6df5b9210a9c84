"""Commands of data: ingest, and the list of snapshots that it extends and `drop` shortens."""

from typing import Annotated

import typer

from absa.errors import InvalidDataError
from flows.cli.home.demo_warning import demo_warning
from flows.cli.output.command_result import CommandResult
from flows.cli.output.facts import DropFacts, IngestFacts, SnapshotFacts
from flows.platform import arguments
from flows.platform.services import build_services, open_home
from flows.platform.terminal import say

data = typer.Typer(help="Ingest, list, revert and delete rows in the lake.", no_args_is_help=True)


def ingest_command(
    files: Annotated[list[str], typer.Argument(help="CSV, TSV, JSON, JSONL, Parquet or .xlsx with labelled texts.")],
    max_bad_share: Annotated[
        float, typer.Option(callback=arguments.SHARE, help="Share of bad rows above which nothing is ingested, 0 to 1.")
    ] = 0.1,
) -> CommandResult[IngestFacts]:
    """Validate, deduplicate and split labelled rows into a snapshot in the lake.

    Prints how many rows are new, duplicates or refused. A CSV in the home has the refused rows with their reasons.
    """
    from absa.data.account import Account
    from absa.data.files.source_files import find_sources
    from absa.data.ingest import ingest as ingest_files
    from absa.data.snapshot import latest_manifest
    from flows.cli.data.refused_rows import RefusedRows
    from flows.cli.data.snapshot_lines import ingest_result
    from flows.training.training_snapshot import tested_recent_rows

    for file in files:
        find_sources(file)  # before a home is made
    services = build_services()
    services.check_task()
    if warning := demo_warning(services.settings):
        say(warning, err=True)
    parent = latest_manifest(services.lake)
    accounts: list[Account] = []
    refused = RefusedRows(services.home.folder(), services.settings.task)
    try:
        manifest = ingest_files(
            services.lake,
            files,
            parent=parent.digest if parent else None,
            max_bad_share=max_bad_share,
            mapping=services.settings.data,
            unit_secret=services.home.unit_secret().encode(),
            on_account=accounts.append,
            on_refused=refused.add,
            recent=tested_recent_rows(services),
        )
    except InvalidDataError as error:
        place = refused.write()
        raise InvalidDataError(f"{error}{f'; as CSV: {place}' if place else ''}") from None
    place = refused.write()
    return ingest_result(manifest, accounts[0], place, parent)


@data.command("list", epilog="Example: evergreen data list")
def list_command() -> CommandResult[list[SnapshotFacts]]:
    """List the snapshots, the newest first: rows, added rows, refused rows and files."""
    from flows.cli.data.snapshot_lines import list_result, snapshot_facts

    return list_result(snapshot_facts(open_home()))


@data.command("drop", epilog="Example: evergreen data drop 3f9a1c0b2d4e")
def drop_command(
    snapshot: Annotated[str, typer.Argument(help="Digest of the newest snapshot, or its first characters.")],
) -> CommandResult[DropFacts]:
    """Revert the newest ingest: trainings use the snapshot before it. Ingesting the files again brings it back."""
    from flows.cli.data.snapshot_lines import drop_snapshot

    return drop_snapshot(open_home(), snapshot)
