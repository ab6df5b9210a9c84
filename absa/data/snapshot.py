"""Snapshots in the lake, immutable and content-addressed: search, read, replacement and removal.

A version is trained and judged on one snapshot. `ingest` makes snapshots.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from typing import Any, Final

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from absa.data.key_columns import key_column
from absa.data.read import EXAMPLE_COLUMNS, QUARANTINED
from absa.data.recent_split import RecentSplit
from absa.errors import IntegrityError
from absa.records.lake import Lake
from absa.records.layout import (
    SNAPSHOTS_FOLDER,
    manifest_digest,
    manifest_key,
    side_folder,
    snapshot_folder,
    token_folders,
)
from absa.records.schema import SCHEMA_VERSION
from absa.task import ABSA, TaskSpec

REPLACED_BY: Final = "replaced_by"  # key in the manifest of a snapshot whose rows were removed


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """Content and origin of a snapshot. `rows` counts per side and label ("0", "1", ...).

    The valid rows of `sources` and the `inherited` rows of the parent are as many as `rows`, `duplicates_removed` and
    `conflicts_resolved` together; `quarantined` counts bad rows per reason. `recent` is the split of recent texts; None
    if a tenth of all texts is on the test side.
    """

    digest: str
    created_at: str
    parent: str | None
    sources: tuple[dict[str, Any], ...]  # {uri, rows, bytes}
    rows: dict[str, dict[str, int]]
    quarantined: dict[str, int]
    duplicates_removed: int
    conflicts_resolved: int
    inherited: int = 0  # number of the parent's rows that were inherited
    segments: dict[str, int] = field(default_factory=dict)
    parts: dict[str, list[int]] = field(default_factory=dict)  # number of rows of each Parquet part, by side
    taken_at: str | None = None  # time at which equal rows were taken again, after other snapshots
    task: TaskSpec = ABSA
    schema_version: int = SCHEMA_VERSION
    recent: RecentSplit | None = None

    @property
    def last_taken(self) -> str:
        """Last time at which these rows were taken; the newest snapshot is the one with the latest time."""
        return self.taken_at or self.created_at

    @property
    def total_rows(self) -> int:
        """Number of rows on all three sides."""
        return sum(sum(labels.values()) for labels in self.rows.values())

    def side_rows(self, side: str) -> int:
        """Return the number of rows on one side."""
        return sum(self.rows[side].values())

    def to_json(self) -> str:
        """Return the JSON that the lake holds."""
        recent = {} if self.recent is None else {"recent": self.recent.to_json()}
        values = {name: value for name, value in asdict(self).items() if name != "recent"}
        return json.dumps(values | {"task": self.task.to_json(), **recent}, indent=1, sort_keys=True)

    @classmethod
    def from_json(cls, text: str | bytes) -> "Manifest":
        """Read a manifest of this or an earlier release; unknown fields are ignored."""
        record = json.loads(text)
        known = {name: record[name] for name in cls.__dataclass_fields__ if name in record}
        recent = record.get("recent")
        typed = {"task": TaskSpec.from_json(record.get("task")), "recent": recent and RecentSplit.from_json(recent)}
        return cls(**known | {"sources": tuple(record["sources"])} | typed)


def load_manifest(lake: Lake, digest: str) -> Manifest:
    """Return the manifest of a snapshot, or of the snapshot that replaced it when rows were removed.

    Raises:
        NotFoundError: the snapshot does not exist.
        IntegrityError: the manifest cannot be read.
    """
    manifest, record = _read_manifest(lake, manifest_key(digest))
    replaced_by = record.get(REPLACED_BY)
    return load_manifest(lake, replaced_by) if replaced_by else manifest


def _read_manifest(lake: Lake, key: str) -> tuple[Manifest, dict[str, Any]]:
    """Return a manifest and its JSON, which has `REPLACED_BY` if the snapshot was replaced."""
    data = lake.read(key)
    try:
        return Manifest.from_json(data), json.loads(data)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise IntegrityError(f"{lake.url(key)} is not the manifest of a snapshot: restore it from a backup") from error


def manifests(lake: Lake) -> list[Manifest]:
    """Return the manifests of all snapshots that were not replaced, oldest first.

    Raises:
        IntegrityError: a manifest cannot be read.
    """
    found = [_read_manifest(lake, key) for key in lake.list(SNAPSHOTS_FOLDER) if manifest_digest(key)]
    made = [manifest for manifest, record in found if REPLACED_BY not in record]
    return sorted(made, key=lambda manifest: (manifest.created_at, manifest.digest))


def latest_manifest(lake: Lake) -> Manifest | None:
    """Return the manifest whose rows were taken last; None if there is no snapshot yet."""
    return max(manifests(lake), key=lambda manifest: (manifest.last_taken, manifest.created_at), default=None)


def take_again(lake: Lake, digest: str, at: str) -> None:
    """Record that the rows of an existing snapshot were taken again; its rows and `created_at` do not change."""
    newest, manifest = latest_manifest(lake), load_manifest(lake, digest)
    if manifest != newest and at > manifest.last_taken:
        lake.write(manifest_key(manifest.digest), replace(manifest, taken_at=at).to_json().encode())


def replace_snapshot(lake: Lake, old: Manifest, new: Manifest) -> None:
    """Replace a snapshot by another one, whose rows are in the lake already, and remove the rows of the old one."""
    for key in side_keys(lake, old.digest, "quarantine"):
        lake.write(side_folder(new.digest, "quarantine") + key.rsplit("/", 1)[1], lake.read(key))
    lake.write(manifest_key(new.digest), new.to_json().encode())
    remove_snapshot(lake, old, new.digest)


def remove_snapshot(lake: Lake, old: Manifest, replaced_by: str | None) -> None:
    """Remove a snapshot's rows; its manifest then names the snapshot that replaces it, or None."""
    record = json.loads(old.to_json()) | {REPLACED_BY: replaced_by}
    lake.write(manifest_key(old.digest), json.dumps(record, indent=1, sort_keys=True).encode())
    remove_rows(lake, old.digest)


def replaced_digests(lake: Lake) -> set[str]:
    """Return the digests of the snapshots that were replaced because rows were removed."""
    found = {key: digest for key in lake.list(SNAPSHOTS_FOLDER) if (digest := manifest_digest(key))}
    return {digest for key, digest in found.items() if REPLACED_BY in json.loads(lake.read(key))}


def sweep_replaced(lake: Lake) -> None:
    """Remove rows of replaced snapshots that remained because `remove_snapshot` was killed."""
    for digest in replaced_digests(lake):
        remove_rows(lake, digest)


def remove_rows(lake: Lake, digest: str) -> None:
    """Remove all files of a snapshot except its manifest."""
    for key in (*lake.list(snapshot_folder(digest)), *lake.list(token_folders(digest))):
        if key != manifest_key(digest):
            lake.delete(key)


def side_keys(lake: Lake, digest: str, side: str) -> list[str]:
    """Return the lake keys of the Parquet parts of one side or of the quarantine, in order."""
    return [key for key in lake.list(side_folder(digest, side)) if key.endswith(".parquet")]


def load_side(lake: Lake, digest: str, side: str) -> pl.DataFrame:
    """Return the rows of one side, in the columns of `read.EXAMPLE_COLUMNS`.

    Raises:
        NotFoundError: the snapshot does not exist.
    """
    return read_parts(lake, side_keys(lake, load_manifest(lake, digest).digest, side), EXAMPLE_COLUMNS)


def sample_side(lake: Lake, digest: str, side: str, most: int, *, since: datetime | None = None) -> pl.DataFrame:
    """Return at most `most` rows of one side, from its first parts. The order of rows is random: a hash of their texts.

    With `since`, rows observed later and rows observed earlier get half of the places each; if there are too few of one
    kind, the other kind gets the free places.

    Raises:
        NotFoundError: the snapshot does not exist.
    """
    digest = load_manifest(lake, digest).digest
    recent = established = read_parts(lake, [], EXAMPLE_COLUMNS)
    for key in side_keys(lake, digest, side):
        rows = read_parts(lake, [key], EXAMPLE_COLUMNS)
        new = rows["observed_at"] > since if since else pl.Series([False] * rows.height, dtype=pl.Boolean)
        recent = pl.concat([recent, rows.filter(new)]).head(most)
        established = pl.concat([established, rows.filter(~new)]).head(most)
        if established.height >= most and (since is None or recent.height >= most // 2):
            break
    if recent.height + established.height <= most:
        return pl.concat([recent, established])
    places = max(most // 2, most - established.height)
    kept = recent.head(places)
    return pl.concat([kept, established.head(most - kept.height)])


def leaked_texts(lake: Lake, digest: str, tested: pl.Series, *, most: int = 100_000) -> int:
    """Return the number of test texts whose near-duplicate key is also on the train side; 0 is expected.

    At least `most` rows of the train side are compared, if it has so many.
    """
    keys = key_column(tested).unique().implode()
    found, looked = pl.Series([], dtype=pl.String), 0
    for part in side_keys(lake, digest, "train"):
        train = key_column(read_parts(lake, [part], EXAMPLE_COLUMNS)["text"])
        found = pl.concat([found, train.filter(train.is_in(keys))]).unique()
        looked += len(train)
        if looked >= most:
            break
    return len(found)


def tested_keys(lake: Lake, digest: str) -> pl.Series:
    """Return the near-duplicate keys of the texts on the test side."""
    return key_column(load_side(lake, digest, "test")["text"]).unique()


def load_quarantine(lake: Lake, digest: str) -> pl.DataFrame:
    """Return the quarantined rows with row, reason and uri (at most 100,000 per source; the manifest counts all)."""
    return read_parts(lake, side_keys(lake, load_manifest(lake, digest).digest, "quarantine"), QUARANTINED)


def read_parts(lake: Lake, keys: Sequence[str], schema: Any) -> pl.DataFrame:
    """Return the rows of some Parquet parts in the schema's columns and types; missing columns are null."""
    frames = [pl.DataFrame(schema=schema)]
    for key in keys:
        frame = pl.DataFrame(pq.read_table(pa.BufferReader(lake.read(key))))
        columns = [pl.col(name) if name in frame.columns else pl.lit(None).alias(name) for name in schema]
        frames.append(frame.select(columns).cast(schema))
    return pl.concat(frames)
