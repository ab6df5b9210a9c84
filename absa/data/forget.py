"""Removal of a unit's texts, or of texts before a time, from the lake.

A text is removed with the last prediction that has it; a text that another unit sent too is kept. Feedback is rewritten
first, so that no later ingest learns from it. Predictions are rewritten last, because they name the rows to remove: a
run that was killed can be repeated.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Final

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from absa.data.files.reasons import UNREADABLE
from absa.data.ingest import build_snapshot
from absa.data.key_columns import normalised_column
from absa.data.snapshot import (
    Manifest,
    manifests,
    remove_snapshot,
    replace_snapshot,
    side_keys,
    sweep_replaced,
    take_again,
)
from absa.errors import InvalidDataError
from absa.records.lake import Lake
from absa.records.layout import (
    BATCH_FOLDER,
    FEEDBACK_FOLDER,
    MONITORING_FOLDER,
    PREDICTIONS_FOLDER,
    QUARANTINE_FOLDER,
    prediction_prefix,
)
from absa.records.schema import SIDES, iso, parse_iso
from absa.records.tables import write_parquet

# Other folders with rows of customers: drift references, answers of batches, bad rows of files that were refused.
OTHER_ROW_FOLDERS: Final = (MONITORING_FOLDER, BATCH_FOLDER, QUARANTINE_FOLDER)
_REASON: Final = "reason"


@dataclass(kw_only=True)
class Forgotten:
    """Counts of removed rows.

    `snapshots` maps the digest of each rewritten snapshot to its new digest, or to None if no row is left. `samples`
    counts rows of drift references, batches and the quarantine.
    """

    predictions: int = 0
    feedback: int = 0
    examples: int = 0
    samples: int = 0
    snapshots: dict[str, str | None] = field(default_factory=dict)

    @property
    def anything(self) -> bool:
        """True if any row was removed."""
        return bool(self.predictions or self.feedback or self.examples or self.samples)


def forget_unit(lake: Lake, unit_hash: str) -> Forgotten:
    """Remove everything that a unit sent, and the rows of files that name the unit.

    Args:
        lake: lake to rewrite.
        unit_hash: hash of the unit, as in prediction records.
    """
    return _forget(lake, pl.col("unit_given") & (pl.col("unit_hash") == unit_hash), unit_hash)


def forget_before(lake: Lake, cutoff: datetime) -> Forgotten:
    """Remove every prediction of a request before a time, its feedback, and the examples made of it."""
    last = prediction_prefix(cutoff) + "~"  # after all keys of the cutoff's hour
    if not any(key < last for key in lake.list(PREDICTIONS_FOLDER)):
        return Forgotten()
    return _forget(lake, pl.col("at") < cutoff)


@dataclass
class _Gone:
    """Rows to remove, by request, by text (hashes of the normalised texts) and by the hash of a unit."""

    requests: pl.Series
    texts: pl.Series
    unit: str | None


def _forget(lake: Lake, chosen: pl.Expr, unit: str | None = None) -> Forgotten:
    gone = _find(lake, chosen, unit)
    found = Forgotten()
    if gone.requests.is_empty() and unit is None:
        return found
    for key in _parquet(lake, FEEDBACK_FOLDER):
        found.feedback += _rewrite(lake, key, gone)
    found.snapshots, found.examples = _forget_examples(lake, gone)
    for prefix in OTHER_ROW_FOLDERS:
        for key in _parquet(lake, prefix):
            found.samples += _rewrite(lake, key, gone)
    for key in _parquet(lake, PREDICTIONS_FOLDER):
        found.predictions += _drop(lake, key, chosen)
    return found


def _find(lake: Lake, chosen: pl.Expr, unit: str | None) -> _Gone:
    requests = [pl.Series(dtype=pl.String)]
    gone, kept = [pl.Series(dtype=pl.UInt64)], [pl.Series(dtype=pl.UInt64)]
    for key in _parquet(lake, PREDICTIONS_FOLDER):
        frame = _read(lake, key)
        goes = frame.filter(chosen)
        requests.append(goes["request_id"])
        gone.append(_digests(goes["text"].drop_nulls()).unique())
        kept.append(_digests(frame.filter(~chosen)["text"].drop_nulls()).unique())
    texts = pl.concat(gone).unique()
    return _Gone(pl.concat(requests), texts.filter(~texts.is_in(pl.concat(kept).unique().implode())), unit)


def _forget_examples(lake: Lake, gone: _Gone) -> tuple[dict[str, str | None], int]:
    """Rewrite each snapshot that has such a text, also snapshots that an ingest publishes meanwhile.

    The oldest is rewritten first, so that a child names its parent's new digest.
    """
    sweep_replaced(lake)
    replaced: dict[str, str | None] = {}
    seen: set[str | None] = set()
    examples = 0
    while new := [manifest for manifest in manifests(lake) if manifest.digest not in seen]:
        for manifest in new:
            if manifest.digest in replaced:  # an ingest published it again
                _let_stand(lake, replaced[manifest.digest], manifest)
                continue
            for key in side_keys(lake, manifest.digest, "quarantine"):
                _rewrite(lake, key, gone)
            lost = sum(
                int(_hits(frame, gone).sum())
                for side in SIDES
                for frame in _frames(lake, side_keys(lake, manifest.digest, side))
            )
            if lost:
                replaced[manifest.digest] = _snapshot_without(lake, manifest, gone, replaced)
                examples += lost
            seen.add(replaced.get(manifest.digest, manifest.digest))
    return replaced, examples


def _snapshot_without(lake: Lake, manifest: Manifest, gone: _Gone, replaced: dict[str, str | None]) -> str | None:
    try:
        made = build_snapshot(
            lake, [], parent=manifest.digest, keep=lambda rows: rows.filter(~_hits(rows, gone)), recent=manifest.recent
        )
    except InvalidDataError:  # no row is left
        _let_stand(lake, None, manifest)
        return None
    if made.parent != manifest.digest:  # a snapshot with these rows exists, and keeps its manifest
        _let_stand(lake, made.digest, manifest)
        return made.digest
    later = parse_iso(manifest.created_at) + timedelta(microseconds=1)  # keeps the order of snapshots
    parent = replaced.get(manifest.parent, manifest.parent) if manifest.parent else None
    kept = replace(
        manifest, digest=made.digest, rows=made.rows, segments=made.segments, parts=made.parts, parent=parent,
        recent=made.recent,
    )  # fmt: skip
    replace_snapshot(lake, manifest, replace(kept, created_at=iso(later)))
    return made.digest


def _let_stand(lake: Lake, digest: str | None, manifest: Manifest) -> None:
    """Replace a snapshot by an existing one, which takes its place in the order of snapshots, or remove it."""
    if digest is not None:
        take_again(lake, digest, manifest.last_taken)
    remove_snapshot(lake, manifest, digest)


def _rewrite(lake: Lake, key: str, gone: _Gone) -> int:
    """Remove rows by request, text and unit; return the number of removed rows.

    Unreadable lines of a quarantine are removed too, because they may hold any text.
    """
    frame = _read(lake, key)
    hits = _hits(frame, gone)
    if QUARANTINE_FOLDER in key and _REASON in frame.columns:
        hits |= frame[_REASON].is_in(UNREADABLE).fill_null(value=False)
    return _drop(lake, key, pl.lit(hits))


def _hits(frame: pl.DataFrame, gone: _Gone) -> pl.Series:
    hits = pl.Series([False]).new_from_index(0, frame.height)
    for name in frame.columns:
        if name == "request_id":
            hits |= frame[name].is_in(gone.requests.implode()).fill_null(value=False)
        elif name == "unit_hash" and gone.unit is not None and frame[name].dtype == pl.String:
            hits |= (frame[name] == gone.unit).fill_null(value=False)
        elif name.strip().lower() == "text" and frame[name].dtype == pl.String:
            hits |= _digests(frame[name].fill_null("")).is_in(gone.texts.implode())
    return hits


def _drop(lake: Lake, key: str, goes: pl.Expr) -> int:
    table = pq.read_table(pa.BufferReader(lake.read(key)))
    stays = pl.DataFrame(table).select((~goes).fill_null(value=True)).to_series()
    lost = len(stays) - int(stays.sum())
    if lost and lost == table.num_rows:
        lake.delete(key)
    elif lost:
        write_parquet(lake, key, table.filter(stays.to_arrow()))
    return lost


def _digests(texts: pl.Series) -> pl.Series:
    return normalised_column(texts).hash()


def _parquet(lake: Lake, prefix: str) -> list[str]:
    return [key for key in lake.list(prefix) if key.endswith(".parquet")]


def _frames(lake: Lake, keys: list[str]) -> Iterator[pl.DataFrame]:
    return (_read(lake, key) for key in keys)


def _read(lake: Lake, key: str) -> pl.DataFrame:
    return pl.DataFrame(pq.read_table(pa.BufferReader(lake.read(key))))
