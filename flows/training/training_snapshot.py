"""Snapshot of everything that may train, and its description in the tracking run."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Final

from absa.errors import NotFoundError, PermanentError
from absa.ledger.record import LedgerRecord
from absa.records.lake import Lake
from absa.records.layout import snapshot_folder
from absa.records.schema import SIDES, parse_iso
from flows.platform.ports import TrackedRun
from flows.platform.services import Services

if TYPE_CHECKING:
    from absa.data.snapshot import Manifest
    from absa.inference.package import ModelPackage

_DESCRIBED_ROWS: Final = 50_000
_FEEDBACK: Final = "feedback"  # ends what a manifest calls the source of rows that came from there


def take_snapshot(services: Services, sources: Sequence[str]) -> "Manifest":
    """Take a snapshot of the newest snapshot, the named files, and feedback since a snapshot last took it.

    A first training without files takes the one that evergreen.toml names.

    Raises:
        PermanentError: there are no data, or they are of another task.
        InvalidDataError: a source cannot be read.
    """
    from absa.data.feedback import labelled_examples
    from absa.data.ingest import build_snapshot, ingest
    from absa.data.snapshot import latest_manifest

    services.check_task()
    newest = latest_manifest(services.lake)
    data = services.settings.data
    if newest is None and not sources and data.file:
        sources = [data.file]
    if sources:
        parent = newest.digest if newest else None
        secret = services.home.unit_secret().encode()
        manifest = ingest(services.lake, sources, parent=parent, mapping=data, unit_secret=secret)
    elif newest is not None:
        manifest = newest
    else:
        raise PermanentError("a first training needs data: name a file, or run `evergreen init FILE` first")
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
                services.lake, [labelled], parent=manifest.digest, uri=uri, task=services.settings.task
            )
    return manifest


def feedback_taken_at(lake: Lake, newest: "Manifest") -> datetime:
    """Return when the newest snapshot or an ancestor last took feedback; where none did, when the oldest was made."""
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
    """Name the snapshot's sides as the run's datasets; of a large one only its name and digest."""
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
    """Return the champion's version; None where nothing was ever promoted."""
    return None if head is None else head.state.champion


def champion_package(services: Services, head: LedgerRecord | None) -> "ModelPackage | None":
    """Return the champion's package on local disk; None without a champion."""
    champion = champion_of(head)
    return None if champion is None or head is None else services.packages.get(champion, head.versions[champion])


def champion_snapshot_at(services: Services, head: LedgerRecord | None) -> datetime | None:
    """Return when the champion's snapshot was made; rows observed later are recent. None without a champion."""
    from absa.data.snapshot import load_manifest

    package = champion_package(services, head)
    digest = None if package is None else package.config.snapshot
    return parse_iso(load_manifest(services.lake, digest).created_at) if digest else None
