"""Facts and lines about snapshots, and the revert of the newest."""

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from absa.data.account import Account
from absa.data.snapshot import Manifest, latest_manifest, manifests, remove_snapshot, take_again
from absa.errors import PermanentError
from absa.records.schema import SIDES, iso
from flows.cli.output.command_result import CommandResult
from flows.cli.output.facts import DropFacts, IngestFacts, SnapshotFacts
from flows.platform.services import Services

_DIGITS: Final = 12
_SHOWN_FILES: Final = 3


def ingest_result(
    manifest: Manifest, account: Account, refused: Path | None, parent: Manifest | None
) -> CommandResult[IngestFacts]:
    """Return the result of an ingest, with the outcome of every row. Pure."""
    digest = manifest.digest[:_DIGITS]
    same = parent is not None and parent.digest == manifest.digest
    return CommandResult(
        facts={
            "snapshot": manifest.digest,
            "read": account.read,
            "inherited": account.inherited,
            "kept": account.kept,
            "duplicates": account.duplicates,
            "conflicts": account.conflicts,
            "quarantined": dict(account.quarantined),
            "refused_rows": None if refused is None else str(refused),
            "rows": {side: _by_label(manifest, side) for side in SIDES},
            "notices": list(account.notices),
        },
        lines=tuple(_ingest_lines(manifest, account, refused)),
        meaning="The previous snapshot has all of these rows already: nothing changes"
        if same
        else "The next training learns from this snapshot; existing versions do not change",
        following=f"evergreen train; `evergreen data drop {digest}` reverts the ingest",
    )


def _ingest_lines(manifest: Manifest, account: Account, refused: Path | None) -> Iterator[str]:
    yield f"snapshot {manifest.digest[:_DIGITS]}: {manifest.total_rows} rows"
    for side in SIDES:
        counts = ", ".join(f"{count} {name}" for name, count in _by_label(manifest, side).items())
        yield f"  {side:<11} {counts}"
    for sentence in account.sentences:
        yield f"  {sentence}"
    if refused is not None:
        yield f"  refused rows with their reasons: {refused}"


def snapshot_facts(services: Services) -> list[SnapshotFacts]:
    """Return one object per snapshot, the newest first."""
    found = sorted(manifests(services.lake), key=lambda each: (each.last_taken, each.created_at), reverse=True)
    totals = {each.digest: each.total_rows for each in found}
    return [
        {
            "snapshot": each.digest,
            "newest": number == 0,
            "taken_at": each.last_taken,
            "rows": {side: each.side_rows(side) for side in SIDES},
            "added": each.total_rows - totals.get(each.parent or "", 0),
            "quarantined": Counter(each.quarantined).total(),
            "files": [str(source["uri"]) for source in each.sources],
            "parent": each.parent,
        }
        for number, each in enumerate(found)
    ]


def list_result(facts: list[SnapshotFacts]) -> CommandResult[list[SnapshotFacts]]:
    """Return a table of the snapshots, and the possible next steps for the newest. Pure."""
    if not facts:
        return CommandResult(
            facts=facts, lines=("no snapshot yet",), meaning="There is nothing to learn from",
            following="evergreen data ingest FILE, or evergreen train FILE",
        )  # fmt: skip
    newest = facts[0]["snapshot"][:_DIGITS]
    return CommandResult(
        facts=facts,
        lines=tuple(_table(facts)),
        meaning=f"Trainings learn from {newest}, the newest",
        following=f"evergreen train; `evergreen data drop {newest}` reverts to the one before it",
    )


def _table(facts: Sequence[SnapshotFacts]) -> Iterator[str]:
    yield f"{'snapshot':<14}{'taken at':<18}{'rows':>9}{'added':>9}{'refused':>9}  files"
    for each in facts:
        files = [Path(uri).name for uri in each["files"]]
        more = f" and {len(files) - _SHOWN_FILES} more" if len(files) > _SHOWN_FILES else ""
        yield (
            f"{each['snapshot'][:_DIGITS]:<14}{each['taken_at'][:16]:<18}{sum(each['rows'].values()):>9,}"
            f"{each['added']:>+9,}{each['quarantined']:>9,}  {', '.join(files[:_SHOWN_FILES])}{more}"
        )


def drop_snapshot(services: Services, named: str) -> CommandResult[DropFacts]:
    """Make the snapshot before the newest the newest again, or remove the only one.

    Args:
        services: ledger and lake.
        named: digest of the newest snapshot, or its start; a user with an old list drops no other snapshot by mistake.

    Raises:
        PermanentError: the snapshot is not the newest, or it is the only one and a version learned from it.
    """
    newest = latest_manifest(services.lake)
    if newest is None:
        raise PermanentError("there is no snapshot to drop")
    if not named or not newest.digest.startswith(named):
        raise PermanentError(
            f"only the newest snapshot, {newest.digest[:_DIGITS]}, can be dropped, got {named!r}: "
            "`evergreen data list` shows the order"
        )
    earlier = {each.digest: each for each in manifests(services.lake)}
    before = earlier.get(newest.parent or "")
    if before is not None:
        take_again(services.lake, before.digest, iso(services.clock()))
        return CommandResult(
            facts={"dropped": newest.digest, "newest": before.digest},
            lines=(f"dropped {newest.digest[:_DIGITS]}: the newest snapshot is {before.digest[:_DIGITS]} again",),
            meaning=f"The next training learns from its {before.total_rows:,} rows; existing versions do not change",
            following="evergreen train; ingesting the same files again brings the dropped rows back",
        )
    if services.ledger.head() is not None:
        raise PermanentError(
            f"no snapshot is before {newest.digest[:_DIGITS]}, and a version learned from it: ingest corrected rows "
            "(a newer label replaces the older one), or forget units with `evergreen forget --unit`"
        )
    for each in earlier.values():  # snapshots dropped earlier would be the newest again
        remove_snapshot(services.lake, each, None)
    return CommandResult(
        facts={"dropped": newest.digest, "newest": None},
        lines=(f"dropped {newest.digest[:_DIGITS]}, the first snapshot",),
        meaning="The lake holds no rows to learn from",
        following="evergreen data ingest FILE",
    )


def _by_label(manifest: Manifest, side: str) -> dict[str, int]:
    return {name: manifest.rows[side].get(str(number), 0) for number, name in enumerate(manifest.task.labels)}
