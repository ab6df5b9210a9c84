"""Facts and lines about snapshots, and the revert of the newest."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from absa.data.account import Account
from absa.data.snapshot import Manifest, latest_manifest, manifests, remove_snapshot, take_again
from absa.errors import PermanentError
from absa.records.schema import SIDES, iso
from flows.platform.services import Services

_DIGITS: Final = 12
_SHOWN_FILES: Final = 3


def ingest_facts(manifest: Manifest, account: Account, refused: Path | None) -> dict[str, Any]:
    """Return the result of an ingest as JSON has it."""
    return {
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
    }


def ingest_lines(manifest: Manifest, account: Account, refused: Path | None, parent: Manifest | None) -> Iterator[str]:
    """Yield what was ingested, where every row went, what it means, and what to do next."""
    yield f"snapshot {manifest.digest[:_DIGITS]}: {manifest.total_rows} rows"
    for side in SIDES:
        counts = ", ".join(f"{count} {name}" for name, count in _by_label(manifest, side).items())
        yield f"  {side:<11} {counts}"
    for sentence in account.sentences:
        yield f"  {sentence}"
    if refused is not None:
        yield f"  refused rows with their reasons: {refused}"
    if parent is not None and parent.digest == manifest.digest:
        yield "The snapshot before held all of these rows already: nothing changes"
        return
    yield "The next training learns from this snapshot; the versions that exist do not change"
    yield f"Next: evergreen train; `evergreen data drop {manifest.digest[:_DIGITS]}` reverts the ingest"


def snapshot_facts(services: Services) -> list[dict[str, Any]]:
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


def snapshot_lines(facts: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Yield a table of the snapshots, and what can be done with the newest."""
    if not facts:
        yield "no snapshot yet: `evergreen data ingest FILE` makes the first"
        return
    yield f"{'snapshot':<14}{'taken at':<18}{'rows':>9}{'added':>9}{'refused':>9}  files"
    for each in facts:
        files = [Path(uri).name for uri in each["files"]]
        more = f" and {len(files) - _SHOWN_FILES} more" if len(files) > _SHOWN_FILES else ""
        yield (
            f"{each['snapshot'][:_DIGITS]:<14}{each['taken_at'][:16]:<18}{sum(each['rows'].values()):>9,}"
            f"{each['added']:>+9,}{each['quarantined']:>9,}  {', '.join(files[:_SHOWN_FILES])}{more}"
        )
    newest = facts[0]["snapshot"][:_DIGITS]
    yield f"Trainings learn from {newest}, the newest; `evergreen data drop {newest}` reverts to the one before it"


def drop_snapshot(services: Services, named: str) -> Iterator[str]:
    """Make the snapshot before the newest the newest again, or remove the only one.

    Args:
        services: ledger and lake.
        named: digest of the newest snapshot, or its start, so that a list that is old drops nothing else.

    Raises:
        PermanentError: it is not the newest, or the only one and a version learned from it.
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
        yield f"dropped {newest.digest[:_DIGITS]}: the newest snapshot is {before.digest[:_DIGITS]} again"
        yield f"The next training learns from its {before.total_rows:,} rows; the versions that exist do not change"
        yield "Next: evergreen train; ingesting the same files again brings the dropped rows back"
        return
    if services.ledger.head() is not None:
        raise PermanentError(
            f"snapshot {newest.digest[:_DIGITS]} has none before it, and a version learned from it: ingest corrected "
            "rows, where a newer label for the same text wins, or forget units with `evergreen forget --unit`"
        )
    for each in earlier.values():  # those that were dropped before it would be the newest again
        remove_snapshot(services.lake, each, None)
    yield f"dropped {newest.digest[:_DIGITS]}, the first snapshot: the lake holds no rows to learn from"
    yield "Next: evergreen data ingest FILE"


def _by_label(manifest: Manifest, side: str) -> dict[str, int]:
    return {name: manifest.rows[side].get(str(number), 0) for number, name in enumerate(manifest.task.labels)}
