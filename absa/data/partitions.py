"""Partitions of an ingest: blocks of rows are cut by text and written to temporary files, then settled.

A partition holds all rows that could be duplicates of each other. So each process can settle a partition on its own:
deduplicate its rows and write them to the three sides.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from absa.data.files.raw_rows import FilePart
from absa.data.key_columns import hex_column, key_digests, normalised_column, sha256_column
from absa.data.mapping import DataMapping
from absa.data.normalise import TRAIN_BELOW, VALIDATION_BELOW, Words
from absa.data.read import EXAMPLE_COLUMNS, example_digests, telling_codes, validate
from absa.data.recent_split import RecentSplit
from absa.records.schema import SCHEMA_VERSION, SIDES
from absa.records.tables import EXAMPLES as ARROW_EXAMPLES
from absa.task import TaskSpec

QUARANTINE_ROWS: Final = 100_000  # kept per source; every row is counted
QUARANTINE_BYTES: Final = 64 << 20  # kept per source, and per block
_MASK: Final = (1 << 64) - 1
_TEST: Final = SIDES.index("test")

_IDS: Final = ("id0", "id1", "id2", "id3")  # SHA-256 whose first half is the example_id
_SPILLED: Final = (
    "text",
    "aspect",
    "label",
    "observed_at",
    "source",
    "segment",
    "unit_hash",
    "order",
    "inherited",
    "word0",  # the first half of the near-duplicate key's SHA-256
    "word1",
    *_IDS,
)


@dataclass(frozen=True)
class BlockCounts:
    """Counts of a block, and its quarantined rows with their reasons.

    `codes` counts the written labels that show how the file codes sentiments. `as_written` has the lines with quotes
    that were read as written.
    """

    valid: int
    bad: dict[str, int]
    first_bad: pl.DataFrame
    quarantined: pl.DataFrame
    codes: dict[str, int]
    as_written: tuple[int, ...]


def spill(examples: pl.DataFrame, *, order: int, inherited: bool, partitions: int, path: Path) -> None:
    """Write a block as an Arrow file of `partitions` batches; batch n has the rows of partition n."""
    words = key_digests(examples["text"])
    partition = (words[:, 1] % np.uint64(partitions)).astype(np.int32)
    keyed = examples.with_columns(
        word0=pl.Series(words[:, 0]),
        word1=pl.Series(words[:, 1]),
        **{name: pl.Series(word) for name, word in zip(_IDS, example_digests(examples).T, strict=True)},
        order=pl.int_range(order, order + pl.len(), dtype=pl.Int64),
        inherited=pl.lit(value=inherited),
    ).select(_SPILLED)
    by_partition = np.argsort(partition, kind="stable")
    bounds = np.searchsorted(partition[by_partition], np.arange(partitions + 1))
    table = keyed[by_partition].to_arrow(compat_level=pl.CompatLevel.oldest())
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        for n in range(partitions):
            for batch in table.slice(bounds[n], bounds[n + 1] - bounds[n]).combine_chunks().to_batches() or [
                pa.RecordBatch.from_pylist([], schema=table.schema)
            ]:
                writer.write_batch(batch)


def take_block(
    part: FilePart,
    *,
    uri: str,
    source: str,
    observed_at: Any,
    order: int,
    partitions: int,
    path: Path,
    mapping: DataMapping,
    unit_secret: bytes | None,
) -> BlockCounts:
    """Parse and validate one block of a file, and write the valid rows to a temporary file."""
    raw = part.rows()
    valid, bad = validate(
        raw, uri=uri, source=source, observed_at=observed_at, mapping=mapping, unit_secret=unit_secret
    )
    if valid.height:
        spill(valid, order=order, inherited=False, partitions=partitions, path=path)
    reasons = dict(bad.group_by("reason").len().iter_rows())
    return BlockCounts(
        valid=valid.height,
        bad=reasons,
        first_bad=bad.sort("row").head(1),
        quarantined=within(bad, QUARANTINE_ROWS, QUARANTINE_BYTES),
        codes=telling_codes(raw),
        as_written=tuple(raw.filter(pl.col("as_written"))["row"].to_list()),
    )


def within(rows: pl.DataFrame, most_rows: int, most_bytes: int) -> pl.DataFrame:
    """Return the first rows, at most `most_rows` rows and about `most_bytes` bytes of text."""
    sizes = pl.sum_horizontal(pl.col(pl.String).str.len_bytes().fill_null(0).cast(pl.Int64))
    return rows.head(most_rows).filter(sizes.cum_sum() <= most_bytes)


@dataclass(frozen=True)
class PartitionCounts:
    """Counts of a settled partition and the place of its rows.

    `total` is the sum of the rows' digests in four words. `held_total` is the same sum over rows that are on the test
    side only because their text is recent. `recent` counts rows of recent texts, `recent_tested` those on the test
    side.
    """

    total: tuple[int, int, int, int]
    rows: dict[str, dict[str, int]]
    segments: dict[str, int]
    duplicates: int
    conflicts: int
    parts: dict[str, str]  # side -> file
    held_total: tuple[int, int, int, int] = (0, 0, 0, 0)
    recent: int = 0
    recent_tested: int = 0


def resolve(rows: pl.DataFrame) -> tuple[pl.DataFrame, int, int]:
    """Return one row per near-duplicate text and aspect, and the numbers of duplicates and of lost conflicts.

    A row whose label lost counts as a lost conflict, even if it is a duplicate too.

    Among this ingest's own rows the label of the majority wins, and on a tie the label of the newest row (in one file
    the later row counts as newer). Between inherited and new rows the newer label wins. The oldest row with the winning
    label is kept, so that a row that is observed again does not become recent again.
    """
    rows = rows.with_columns(aspect_key=normalised_column(rows["aspect"].fill_null("")))
    pair = ["word0", "word1", "aspect_key"]
    again = rows.select(again=pl.struct(pair).is_duplicated())["again"]
    single, repeated = rows.filter(~again), rows.filter(again)
    if repeated.height == 0:
        return single, 0, 0
    votes = (
        repeated.sort("observed_at", "order")
        .group_by(*pair, "inherited", "label")
        .agg(votes=pl.len(), at=pl.col("observed_at").last(), order=pl.col("order").last())
        .sort("votes", "at", "order")
    )
    elected = votes.group_by(*pair, "inherited").agg(label=pl.col("label").last(), at=pl.col("at").max())
    winners = (
        elected.sort("at", ~pl.col("inherited"))  # if labels are equally old, this ingest's label wins
        .group_by(pair)
        .agg(
            winner=pl.col("label").last(),
        )
    )
    agreeing = repeated.join(winners, on=pair).filter(pl.col("label") == pl.col("winner"))
    kept = (
        agreeing.sort(~pl.col("inherited"), "observed_at", "text", "source", "order")
        .unique(pair, keep="first", maintain_order=True)
        .select(single.columns)
    )
    return pl.concat([single, kept]), agreeing.height - kept.height, repeated.height - agreeing.height


def _kept(rows: pl.DataFrame) -> tuple[npt.NDArray[np.int64], int, int]:
    """Return the places of the kept rows in the order of their hashes, and the numbers of both kinds of lost rows.

    The order of hashes is random, does not depend on the order of arrival, and makes each side one slice.
    """
    words = rows["word0"].to_numpy()
    by_word = np.argsort(words, kind="stable")
    same = words[by_word][1:] == words[by_word][:-1]
    shared = np.append(same, False) | np.append(False, same)
    if not same.any():
        return by_word, 0, 0
    places = by_word[shared]
    resolved, duplicates, conflicts = resolve(rows[places].with_columns(place=pl.Series(places)))
    stays = np.ones(len(words), dtype=np.bool_)
    stays[places] = False
    stays[resolved["place"].to_numpy()] = True
    return by_word[stays[by_word]], duplicates, conflicts


def _rows_of(spills: Sequence[Path], number: int, columns: Sequence[str] | None = None) -> pl.DataFrame:
    """Return the rows of a partition, with some or all columns."""
    batches = []
    for path in spills:
        with pa.memory_map(str(path)) as source:
            batch = pa.ipc.open_file(source).get_batch(number)
            batches.append(batch if columns is None else batch.select(columns))
    return pl.DataFrame(pa.Table.from_batches(batches))


def count_recent_texts(spills: Sequence[Path], partitions: int, since: datetime, *, most: int) -> int:
    """Return the number of texts that occur only in rows later than `since`; counting stops at about `most`."""
    count = 0
    for number in range(partitions):
        if count >= most:
            break
        rows = _rows_of(spills, number, ["word0", "observed_at"])
        count += rows.filter(_are_recent(rows, since))["word0"].n_unique()
    return count


def _are_recent(rows: pl.DataFrame, since: datetime) -> pl.Series:
    """Return a mask of the rows whose text is in no row up to `since`."""
    later = rows["observed_at"] > since
    if not later.any():
        return later
    return later & ~rows["word0"].is_in(rows["word0"].filter(~later).unique().implode())


def settle_partition(
    spills: Sequence[Path], number: int, folder: Path, labels: int, split: RecentSplit | None = None
) -> PartitionCounts:
    """Deduplicate one partition, write its rows to the three sides, and count them by side and label."""
    rows = _rows_of(spills, number)
    kept, duplicates, conflicts = _kept(rows)
    points = rows["word0"].to_numpy()[kept].astype(np.float64) / 2.0**64
    sides = np.searchsorted([TRAIN_BELOW, VALIDATION_BELOW], points, side="right")
    recent = np.zeros(len(kept), dtype=np.bool_)
    if split is not None:
        recent = _are_recent(rows, split.since).to_numpy()[kept]
    held = np.zeros(len(kept), dtype=np.bool_) if split is None else recent & split.holds_out(points)
    if held.any():
        sides[held] = _TEST
        by_side = np.argsort(sides, kind="stable")
        kept, sides, recent, held = kept[by_side], sides[by_side], recent[by_side], held[by_side]
    rows = rows.select(*(column for column in EXAMPLE_COLUMNS if column in rows.columns), *_IDS)[kept]
    digests = rows.select(_IDS).to_numpy()
    examples = rows.with_columns(
        schema_version=pl.lit(SCHEMA_VERSION, pl.Int16), example_id=hex_column(digests)
    ).select(list(EXAMPLE_COLUMNS))
    table = examples.to_arrow(compat_level=pl.CompatLevel.oldest()).cast(ARROW_EXAMPLES)
    ends = [0, *np.searchsorted(sides, [1, 2]).tolist(), len(sides)]
    numbers = examples["label"].to_numpy()
    counts: dict[str, dict[str, int]] = {}
    parts: dict[str, str] = {}
    for side, start, stop in zip(SIDES, ends, ends[1:], strict=False):
        by_label = np.bincount(numbers[start:stop], minlength=labels)
        counts[side] = {str(label): int(by_label[label]) for label in range(labels)}
        if stop > start:
            file = folder / f"{side}-{number:05d}.parquet"
            pq.write_table(
                table.slice(start, stop - start),
                file,
                compression="zstd",
                compression_level=1,
                use_dictionary=["aspect", "source", "segment"],
                write_statistics=["label", "observed_at"],
            )
            parts[side] = str(file)
    segments = {str(s): n for s, n in examples.drop_nulls("segment").group_by("segment").len().iter_rows()}
    return PartitionCounts(
        total=_sum_of_rows(examples, digests),
        rows=counts,
        segments=segments,
        duplicates=duplicates,
        conflicts=conflicts,
        parts=parts,
        held_total=_sum_of_rows(examples.filter(pl.Series(held)), digests[held]),
        recent=int(recent.sum()),
        recent_tested=int((recent & (sides == _TEST)).sum()),
    )


def _sum_of_rows(examples: pl.DataFrame, digests: Words) -> tuple[int, int, int, int]:
    """Return the sum of one digest per row over text, aspect, source, label and segment, modulo 2^64 in each word.

    The time of observation is left out: the training does not depend on it, and equal files must give equal digests.
    Label and segment are mixed into the digest of the other fields by splitmix64 (Steele, Lea and Flood 2014).
    """
    if examples.height == 0:
        return 0, 0, 0, 0
    kinds = examples.select(
        pl.concat_str(pl.col("label").cast(pl.String), pl.col("segment").fill_null("\0"), separator="\0").alias("kind")
    )["kind"]
    names = kinds.unique().sort()
    numbers = kinds.replace_strict(names, pl.Series(range(len(names)), dtype=pl.Int64)).to_numpy()
    z = digests ^ sha256_column(names)[numbers]  # (n, 4)
    with np.errstate(over="ignore"):
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        a, b, c, d = (int(total) for total in (z ^ (z >> np.uint64(31))).sum(axis=0, dtype=np.uint64))
    return a, b, c, d


def digest_of(settled: Sequence[PartitionCounts], task: TaskSpec) -> str:
    """Return the digest of a snapshot (64 hex digits); the order of the partitions does not matter.

    Snapshots with equal rows have different digests if their tasks differ, or if other texts are on the test side. The
    default task and a split without recent texts are not part of the digest, so that digests of earlier releases are
    kept.
    """
    rows = sum(sum(labels.values()) for partition in settled for labels in partition.rows.values())
    words = [sum(partition.total[n] for partition in settled) & _MASK for n in range(4)]
    held = [sum(partition.held_total[n] for partition in settled) & _MASK for n in range(4)]
    named = [] if task.is_default else [json.dumps(task.to_json())]
    moved = ["tested", *held] if any(held) else []
    text = ":".join(map(str, [SCHEMA_VERSION, rows, *words, *named, *moved]))
    return hashlib.sha256(text.encode()).hexdigest()
