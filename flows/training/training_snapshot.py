"""Snapshot of all rows that may train, and its description in the tracking run."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Final

from absa.errors import EvergreenError, NotFoundError, PermanentError
from absa.ledger.record import LedgerRecord
from absa.records.lake import Lake
from absa.records.layout import snapshot_folder
from absa.records.schema import SIDES, parse_iso
from flows.platform.ports import TrackedRun
from flows.platform.services import Services

if TYPE_CHECKING:
    from absa.data.recent_split import RecentRows
    from absa.data.snapshot import Manifest
    from absa.inference.package import ModelPackage

_DESCRIBED_ROWS: Final = 50_000
_FEEDBACK: Final = "feedback"  # last part of the name of a source with feedback, in a manifest


def require_data(services: Services, sources: Sequence[str]) -> None:
    """Check that a training has rows to learn from: a snapshot, named files, or the file of evergreen.toml.

    Raises:
        PermanentError: there are no rows.
    """
    from absa.data.snapshot import latest_manifest

    if not sources and not services.settings.data.file and latest_manifest(services.lake) is None:
        raise PermanentError("a first training needs data: name a file, or run `evergreen init FILE` first")


def take_snapshot(services: Services, sources: Sequence[str]) -> "Manifest":
    """Take a snapshot of the newest snapshot, the named files, and the feedback that no snapshot has yet.

    A first training without files uses the file that evergreen.toml names.

    Raises:
        PermanentError: there are no data, or they have another task.
        InvalidDataError: a source cannot be read.
    """
    from absa.data.feedback import labelled_examples
    from absa.data.ingest import build_snapshot, ingest
    from absa.data.snapshot import latest_manifest

    services.check_task()
    require_data(services, sources)
    newest = latest_manifest(services.lake)
    recent = tested_recent_rows(services)
    data = services.settings.data
    if newest is None and not sources and data.file:
        sources = [data.file]
    if sources:
        parent = newest.digest if newest else None
        secret = services.home.unit_secret().encode()
        manifest = ingest(services.lake, sources, parent=parent, mapping=data, unit_secret=secret, recent=recent)
    else:
        assert newest is not None
        manifest = newest
    if newest is not None:
        since = feedback_taken_at(services.lake, newest) - timedelta(seconds=services.settings.training.label_lag_s)
        labelled = labelled_examples(
            services.lake,
            since,
            services.clock(),
            services.settings.training_sources,
            max_a_unit=services.settings.training.max_rows_a_unit,
            max_a_source=services.settings.training.max_rows_a_source,
        )
        if labelled.height:
            uri = services.lake.url(_FEEDBACK)
            manifest = build_snapshot(
                services.lake, [labelled], parent=manifest.digest, uri=uri, task=services.settings.task, recent=recent
            )
    return manifest


def tested_recent_rows(services: Services) -> "RecentRows | None":
    """Return the recent texts, of which a new snapshot tests a larger share; None without any, see `recent_since`."""
    from absa.data.recent_split import RecentRows, wanted_rows

    since = recent_since(services)
    return (
        None if since is None else RecentRows(since=since, wanted=wanted_rows(services.settings.gate.min_recent_rows))
    )


def undecidable(services: Services, manifest: "Manifest", since: datetime | None) -> str | None:
    """Return a sentence if the recent test rows of a snapshot are too few for the gate to decide; else None.

    Args:
        services: lake and policy of the gate.
        manifest: manifest of the snapshot.
        since: time of the champion's snapshot; None: there is no champion.
    """
    from absa.data.recent_split import labels_for_gate
    from absa.data.snapshot import sample_side

    needed = services.settings.gate.min_recent_rows
    if since is None or not needed:
        return None
    test = sample_side(services.lake, manifest.digest, "test", 2 * needed, since=since)
    found = int((test["observed_at"] > since).sum())
    if found >= needed:
        return None
    return (
        f"there are {found} recent test rows, the gate needs {needed}: label recent traffic (`evergreen labels "
        f"export`), {labels_for_gate(needed)} labels since the champion's snapshot are enough"
    )


def labels_since_champion(services: Services) -> int | None:
    """Return the number of labelled rows that a training now has and the champion's had not; None: see `recent_since`.

    Counts recent rows of the newest snapshot, and requests with feedback that this snapshot does not have yet.
    """
    from absa.data.snapshot import latest_manifest
    from monitoring.monitor import count_new_labels

    since = recent_since(services)
    newest = latest_manifest(services.lake)
    if since is None or newest is None:
        return None
    settings, rows, given_since = services.settings, 0, since
    if newest.recent is not None and newest.recent.since == since:
        rows, given_since = newest.recent.rows, feedback_taken_at(services.lake, newest)
    return rows + count_new_labels(
        services.lake, since, settings.training_sources, services.clock(), given_since=given_since
    )


def missing_labels(services: Services) -> str | None:
    """Return a sentence if a scheduled training has too few new labels; None if it is due, or the first training."""
    from absa.data.recent_split import labels_needed

    labels, needed = labels_since_champion(services), labels_needed(services.settings.staleness, services.settings.gate)
    if labels is None or labels >= needed:
        return None
    return (
        f"{needed - labels} labels are missing: {labels} of {needed} came since the champion's snapshot "
        "(`evergreen labels export`)"
    )


def feedback_taken_at(lake: Lake, newest: "Manifest") -> datetime:
    """Return the time at which the newest snapshot or an ancestor took feedback, else the time of the oldest one."""
    from absa.data.snapshot import load_manifest

    found, seen = newest, set[str]()
    while found.digest not in seen and not _took_feedback(found):
        seen.add(found.digest)
        if found.parent is None:
            break
        try:
            found = load_manifest(lake, found.parent)
        except NotFoundError:
            break
    return parse_iso(found.created_at)


def _took_feedback(manifest: "Manifest") -> bool:
    return any(PurePosixPath(source["uri"]).name == _FEEDBACK for source in manifest.sources)


def describe_snapshot(services: Services, run: TrackedRun, manifest: "Manifest") -> None:
    """Log the snapshot's splits as the run's datasets; a large split only by its name and digest."""
    from absa.data.snapshot import load_side

    run.params({"snapshot": manifest.digest, "snapshot_parent": manifest.parent, "task": manifest.task.name})
    phrase = manifest.task.phrase
    names = {"text": "text", **({"aspect": phrase} if phrase else {}), "label": "label"}
    for side in SIDES:
        source = services.lake.url(snapshot_folder(manifest.digest).rstrip("/"))
        rows = None
        if manifest.side_rows(side) <= _DESCRIBED_ROWS:
            rows = load_side(services.lake, manifest.digest, side).select(*names).rename(names).to_pandas()
        run.dataset(rows, digest=manifest.digest, side=side, source=source)


def champion_of(head: LedgerRecord | None) -> str | None:
    """Return the champion's version; None if no version was ever promoted."""
    return None if head is None else head.state.champion


def champion_package(services: Services, head: LedgerRecord | None) -> "ModelPackage | None":
    """Return the champion's package on local disk; None without a champion."""
    champion = champion_of(head)
    return None if champion is None or head is None else services.packages.get(champion, head.versions[champion])


def recent_since(services: Services) -> datetime | None:
    """Return the time after which rows are recent; None without a champion, or if its package cannot be read."""
    try:
        return champion_snapshot_at(services, services.ledger.head())
    except EvergreenError:
        return None


def champion_snapshot_at(services: Services, head: LedgerRecord | None) -> datetime | None:
    """Return the time of the champion's snapshot; rows observed later are recent. None without a champion."""
    from absa.data.snapshot import load_manifest

    package = champion_package(services, head)
    digest = None if package is None else package.config.snapshot
    return parse_iso(load_manifest(services.lake, digest).created_at) if digest else None
