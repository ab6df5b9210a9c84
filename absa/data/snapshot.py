"""Immutable, content-addressed datasets in the lake: what a version learns from and is judged on.

Rows flow through in bounded memory. Every block is validated, keyed and cut into partitions by the hash of its texts'
near-duplicate key, and spilled; then each partition, which holds all the rows that could be duplicates of each other,
is deduplicated on its own and written to the three sides. The digest is an order-free sum over the rows, so it depends
on neither the order of the input nor the number of partitions or processes.
"""

import hashlib
import json
import math
import os
import tempfile
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from multiprocessing import get_context
from pathlib import Path
from typing import IO, Any, Final

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from absa.adapters.lake import Lake
from absa.adapters.tables import EXAMPLES as ARROW_EXAMPLES
from absa.data.normalise import (
    TRAIN_BELOW,
    VALIDATION_BELOW,
    Words,
    hex_column,
    key_column,
    normalised_column,
    sha256_column,
)
from absa.data.read import (
    EXAMPLES,
    MAX_BAD_SHARE,
    QUARANTINED,
    check_bad_share,
    example_digests,
    scan_stream,
    validate,
)
from absa.data.sources import Source, find_sources
from absa.errors import InvalidDataError, UnavailableError
from absa.schema import SCHEMA_VERSION, SIDES, iso, utc_now

PARTITION_BYTES: Final = 48 << 20  # of input; a partition takes several times as much while it is deduplicated
MAX_PARTITIONS: Final = 512
POOL_FROM_BYTES: Final = 64 << 20  # smaller input is done in this process before a pool would have started
REPLACED_BY: Final = "replaced_by"  # in the manifest of a snapshot whose rows were forgotten
QUARANTINE_ROWS: Final = 100_000  # kept a source; all are counted
_WRITERS: Final = 8
_MASK: Final = (1 << 64) - 1


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """What a snapshot holds and where it came from. `rows` counts per side and label ("0", "1", "2")."""

    digest: str
    created_at: str
    parent: str | None
    sources: tuple[dict[str, Any], ...]  # {uri, rows, bytes}
    rows: dict[str, dict[str, int]]
    quarantined: dict[str, int]
    duplicates_removed: int
    conflicts_resolved: int
    segments: dict[str, int] = field(default_factory=dict)
    parts: dict[str, list[int]] = field(default_factory=dict)  # rows of each Parquet part of a side
    taken_at: str | None = None  # when the same rows were taken again after other snapshots
    schema_version: int = SCHEMA_VERSION

    @property
    def last_taken(self) -> str:
        """When these rows were taken last: the newest snapshot is the one that was taken last."""
        return self.taken_at or self.created_at

    @property
    def total_rows(self) -> int:
        """Rows on all three sides."""
        return sum(sum(labels.values()) for labels in self.rows.values())

    def side_rows(self, side: str) -> int:
        """Rows on one side."""
        return sum(self.rows[side].values())

    def to_json(self) -> str:
        """As it lies in the lake."""
        return json.dumps(asdict(self), indent=1, sort_keys=True)

    @classmethod
    def from_json(cls, text: str | bytes) -> "Manifest":
        """Read a manifest of this or an earlier release; fields added later are passed over."""
        record = json.loads(text)
        known = {name: record[name] for name in cls.__dataclass_fields__ if name in record}
        return cls(**known | {"sources": tuple(record["sources"])})


def ingest(
    lake: Lake,
    paths: Sequence[str | Path],
    *,
    parent: str | None = None,
    max_bad_share: float = MAX_BAD_SHARE,
    source: str | None = None,
    processes: int | None = None,
    on_progress: Callable[[int], None] | None = None,
) -> Manifest:
    """Make a snapshot of files, folders or s3:// prefixes, united with the parent's rows.

    Args:
        lake: where the snapshot goes.
        paths: CSV, TSV, JSONL or Parquet files, folders of them, or s3://bucket/prefix.
        parent: digest of a snapshot whose rows are taken over; a newer label for the same text and aspect wins.
        max_bad_share: more bad rows than this in one file (0 to 1) stop the ingest; nothing is written then.
        source: who gave the labels; by default each file's name.
        processes: at most so many worker processes (default: one a core; small input needs none).
        on_progress: called with the bytes of input read so far.

    Raises:
        InvalidDataError: a file is missing, empty, not UTF-8, lacks a column, or too many of its rows are bad.
        NotFoundError: there is no such parent.
        UnavailableError: the disk is full, a worker was killed, or the lake or S3 does not answer.
    """
    sources = [found for path in paths for found in find_sources(str(path))]
    return _build(lake, sources, [], parent, max_bad_share, source, processes, on_progress)


def build_snapshot(
    lake: Lake,
    frames: Iterable[pl.DataFrame],
    *,
    parent: str | None = None,
    uri: str = "memory",
    keep: Callable[[pl.DataFrame], pl.DataFrame] | None = None,
) -> Manifest:
    """Make a snapshot of examples at hand (columns of `read.EXAMPLES`, labelled), united with the parent's rows.

    Args:
        lake: where the snapshot goes.
        frames: the examples.
        parent: digest of the parent.
        uri: what the manifest calls where the frames come from.
        keep: takes rows of the parent and gives those that are taken over; by default all are.

    Raises:
        InvalidDataError: there is no row at all.
        NotFoundError: there is no such parent.
    """
    return _build(lake, [], [(uri, frame) for frame in frames], parent, MAX_BAD_SHARE, None, 1, None, keep)


def load_manifest(lake: Lake, digest: str) -> Manifest:
    """The manifest of a snapshot, or of the one that took its place when rows of it were forgotten.

    Raises:
        NotFoundError: there is no such snapshot.
    """
    data = lake.read(_manifest_key(digest))
    replaced_by = json.loads(data).get(REPLACED_BY)
    return load_manifest(lake, replaced_by) if replaced_by else Manifest.from_json(data)


def manifests(lake: Lake) -> list[Manifest]:
    """Every snapshot's manifest, oldest first; those that were replaced are left out."""
    found = [lake.read(key) for key in lake.list("snapshots/") if key.endswith("/manifest.json")]
    made = [Manifest.from_json(data) for data in found if REPLACED_BY not in json.loads(data)]
    return sorted(made, key=lambda manifest: (manifest.created_at, manifest.digest))


def latest_manifest(lake: Lake) -> Manifest | None:
    """The manifest whose rows were taken last, or None where there is no snapshot yet."""
    return max(manifests(lake), key=lambda manifest: (manifest.last_taken, manifest.created_at), default=None)


def take_again(lake: Lake, digest: str, at: str) -> None:
    """Say that the rows of a snapshot that is there were taken once more; its rows and `created_at` stay."""
    newest, manifest = latest_manifest(lake), load_manifest(lake, digest)
    if manifest != newest and at > manifest.last_taken:
        lake.write(_manifest_key(manifest.digest), replace(manifest, taken_at=at).to_json().encode())


def replace_snapshot(lake: Lake, old: Manifest, new: Manifest) -> None:
    """Let another snapshot, whose rows are in the lake, stand for one whose rows are removed."""
    for key in side_keys(lake, old.digest, "quarantine"):
        lake.write(f"snapshots/{new.digest}/quarantine/{key.rsplit('/', 1)[1]}", lake.read(key))
    lake.write(_manifest_key(new.digest), new.to_json().encode())
    remove_snapshot(lake, old, new.digest)


def remove_snapshot(lake: Lake, old: Manifest, replaced_by: str | None) -> None:
    """Remove a snapshot's rows and let its manifest name the snapshot that stands for it, or none."""
    record = json.loads(old.to_json()) | {REPLACED_BY: replaced_by}
    lake.write(_manifest_key(old.digest), json.dumps(record, indent=1, sort_keys=True).encode())
    _remove_rows(lake, old.digest)


def replaced_digests(lake: Lake) -> set[str]:
    """The digests of the snapshots that rows were forgotten of."""
    found = [key for key in lake.list("snapshots/") if key.endswith("/manifest.json")]
    return {key.split("/")[1] for key in found if REPLACED_BY in json.loads(lake.read(key))}


def sweep_replaced(lake: Lake) -> None:
    """Remove the rows of replaced snapshots that a kill in the middle of `remove_snapshot` left."""
    for digest in replaced_digests(lake):
        _remove_rows(lake, digest)


def _remove_rows(lake: Lake, digest: str) -> None:
    for key in (*lake.list(f"snapshots/{digest}/"), *lake.list(f"tokens/{digest}-")):
        if key != _manifest_key(digest):
            lake.delete(key)


def _manifest_key(digest: str) -> str:
    return f"snapshots/{digest}/manifest.json"


def side_keys(lake: Lake, digest: str, side: str) -> list[str]:
    """The lake keys of the Parquet parts of one side (train, validation, test) or of the quarantine, in order."""
    return [key for key in lake.list(f"snapshots/{digest}/{side}/") if key.endswith(".parquet")]


def load_side(lake: Lake, digest: str, side: str) -> pl.DataFrame:
    """The rows of one side, in the columns of `read.EXAMPLES`.

    Raises:
        NotFoundError: there is no such snapshot.
    """
    return _read_parts(lake, side_keys(lake, load_manifest(lake, digest).digest, side), EXAMPLES)


def sample_side(lake: Lake, digest: str, side: str, most: int, *, since: datetime | None = None) -> pl.DataFrame:
    """At most so many rows of one side, whatever its size: the first parts, which the hash of texts has chosen.

    With `since`, rows that were observed later get half of the places, or more where others are few, and the other way
    round.

    Raises:
        NotFoundError: there is no such snapshot.
    """
    digest = load_manifest(lake, digest).digest
    recent = established = _read_parts(lake, [], EXAMPLES)
    for key in side_keys(lake, digest, side):
        rows = _read_parts(lake, [key], EXAMPLES)
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
    """How many tested texts stand, but for digits and punctuation, on the train side too; none should.

    Looks at so many rows of the train side at most.
    """
    keys = key_column(tested).unique().implode()
    found, looked = pl.Series([], dtype=pl.String), 0
    for part in side_keys(lake, digest, "train"):
        train = key_column(_read_parts(lake, [part], EXAMPLES)["text"])
        found = pl.concat([found, train.filter(train.is_in(keys))]).unique()
        looked += len(train)
        if looked >= most:
            break
    return len(found)


def load_quarantine(lake: Lake, digest: str) -> pl.DataFrame:
    """The rows that were set aside, with row, reason and uri (at most 100,000 a source; the manifest counts all)."""
    return _read_parts(lake, side_keys(lake, load_manifest(lake, digest).digest, "quarantine"), QUARANTINED)


def _read_parts(lake: Lake, keys: Sequence[str], schema: Any) -> pl.DataFrame:
    frames = [pl.DataFrame(pq.read_table(pa.BufferReader(lake.read(key)))) for key in keys]
    return pl.concat([pl.DataFrame(schema=schema), *(frame.select(list(schema)).cast(schema) for frame in frames)])


# Spilling: blocks of rows, keyed and cut into partitions

_SPILLED: Final = (
    "text",
    "aspect",
    "label",
    "observed_at",
    "source",
    "segment",
    "order",
    "inherited",
    "word0",  # the first half of the near-duplicate key's SHA-256
    "word1",
)


@dataclass(frozen=True)
class _BlockCounts:
    valid: int
    bad: dict[str, int]
    first_bad: pl.DataFrame
    quarantined: pl.DataFrame


def _spill(examples: pl.DataFrame, *, order: int, inherited: bool, partitions: int, path: Path) -> None:
    """Write a block as an Arrow file of `partitions` batches, the n-th for partition n."""
    words = sha256_column(key_column(examples["text"]))
    partition = (words[:, 1] % np.uint64(partitions)).astype(np.int32)
    keyed = examples.with_columns(
        word0=pl.Series(words[:, 0]),
        word1=pl.Series(words[:, 1]),
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


def _take_block(
    raw: pl.DataFrame | Path,
    *,
    uri: str,
    source: str,
    observed_at: Any,
    order: int,
    partitions: int,
    path: Path,
) -> _BlockCounts:
    """Validate one block of raw rows, handed over as they are or in an Arrow file, and spill the valid ones."""
    if isinstance(raw, Path):
        handed_over, raw = raw, pl.read_ipc(raw)
        handed_over.unlink()
    valid, bad = validate(raw, uri=uri, source=source, observed_at=observed_at)
    if valid.height:
        _spill(valid, order=order, inherited=False, partitions=partitions, path=path)
    reasons = dict(bad.group_by("reason").len().iter_rows())
    return _BlockCounts(valid.height, reasons, bad.sort("row").head(1), bad.head(QUARANTINE_ROWS))


def _handed_over(raw: pl.DataFrame, path: Path) -> Path:
    """Rows for a worker in a file of the page cache: a pipe costs several times as much."""
    raw.write_ipc(path, compression="uncompressed")
    return path


# Deduplicating: one partition at a time


@dataclass(frozen=True)
class _PartitionCounts:
    total: tuple[int, int, int, int]  # order-free sum of the rows' digests, 4 words
    rows: dict[str, dict[str, int]]
    segments: dict[str, int]
    duplicates: int
    conflicts: int
    parts: dict[str, str]  # side -> file


def resolve(rows: pl.DataFrame) -> tuple[pl.DataFrame, int, int]:
    """One row for each near-duplicate text and aspect; how many duplicates went, and how many labels were in conflict.

    Among this ingest's own rows the majority's label wins, and on a tie the newest row's (in one file the later row
    counts as newer). Against an inherited row the newer label wins. Of the rows with the winning label the oldest is
    kept, so that a row that is seen again does not become recent again.
    """
    shared = rows["word0"].is_duplicated()  # texts that stand in several rows, some with several aspects: all are few
    if not shared.any():
        return rows, 0, 0
    candidates = rows.filter(shared)
    candidates = candidates.with_columns(aspect_key=normalised_column(candidates["aspect"]))
    pair = ["word0", "word1", "aspect_key"]
    again = candidates.select(pl.struct(pair).is_duplicated().alias("again"))["again"]
    repeated = candidates.filter(again)
    if repeated.height == 0:
        return rows, 0, 0
    single = pl.concat([rows.filter(~shared), candidates.filter(~again).drop("aspect_key")])
    votes = (
        repeated.sort("observed_at", "order")
        .group_by(*pair, "inherited", "label")
        .agg(votes=pl.len(), at=pl.col("observed_at").last(), order=pl.col("order").last())
        .sort("votes", "at", "order")
    )
    elected = votes.group_by(*pair, "inherited").agg(
        label=pl.col("label").last(), at=pl.col("at").max(), labels=pl.len()
    )
    winners = (
        elected.sort("at", ~pl.col("inherited"))  # of equally old ones the inherited one gives way
        .group_by(pair)
        .agg(
            winner=pl.col("label").last(),
            conflict=(pl.col("label").n_unique() > 1) | (pl.col("labels").max() > 1),
        )
    )
    kept = (
        repeated.join(winners, on=pair)
        .filter(pl.col("label") == pl.col("winner"))
        .sort(~pl.col("inherited"), "observed_at", "text", "source", "order")
        .unique(pair, keep="first", maintain_order=True)
        .select(rows.columns)
    )
    return pl.concat([single, kept]), repeated.height - kept.height, int(winners["conflict"].sum())


def _settle_partition(spills: Sequence[Path], number: int, folder: Path) -> _PartitionCounts:
    """Deduplicate one partition, write its rows to the three sides, and count."""
    batches = []
    for path in spills:
        with pa.memory_map(str(path)) as source:
            batches.append(pa.ipc.open_file(source).get_batch(number))
    rows, duplicates, conflicts = resolve(pl.DataFrame(pa.Table.from_batches(batches)))
    rows = rows.sort("word0")  # as good as shuffled, and the same however the rows arrived
    digests = example_digests(rows)
    examples = rows.with_columns(
        schema_version=pl.lit(SCHEMA_VERSION, pl.Int16), example_id=hex_column(digests)
    ).select(list(EXAMPLES))
    sides = np.digitize(rows["word0"].to_numpy().astype(np.float64) / 2.0**64, [TRAIN_BELOW, VALIDATION_BELOW])
    counts: dict[str, dict[str, int]] = {}
    parts: dict[str, str] = {}
    for n, side in enumerate(SIDES):
        part = examples.filter(pl.Series(sides == n))
        labels = dict(part.group_by("label").len().iter_rows())
        counts[side] = {str(label): labels.get(label, 0) for label in range(3)}
        if part.height:
            file = folder / f"{side}-{number:05d}.parquet"
            table = part.to_arrow(compat_level=pl.CompatLevel.oldest()).cast(ARROW_EXAMPLES)
            pq.write_table(
                table,
                file,
                compression="zstd",
                compression_level=1,
                use_dictionary=["aspect", "source", "segment"],
                write_statistics=["label", "observed_at"],
            )
            parts[side] = str(file)
    segments = {str(s): n for s, n in examples.drop_nulls("segment").group_by("segment").len().iter_rows()}
    return _PartitionCounts(_sum_of_rows(examples, digests), counts, segments, duplicates, conflicts, parts)


def _sum_of_rows(examples: pl.DataFrame, digests: Words) -> tuple[int, int, int, int]:
    """Sum of a digest a row over text, aspect, source, label and segment, modulo 2^64 in each of four words.

    The time a row was seen is left out: it changes nothing that is learned, and equal files give equal digests. Label
    and segment are mixed into the digest of the rest by splitmix64 (Steele, Lea and Flood 2014).
    """
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


def _digest(total: Words | Sequence[int], rows: int) -> str:
    text = ":".join([str(SCHEMA_VERSION), str(rows), *(str(int(word)) for word in total)])
    return hashlib.sha256(text.encode()).hexdigest()


# The whole


class _Inline:
    """A pool of no processes: small input is done before a pool would have started."""

    def submit(self, work: Callable[..., Any], *args: Any, **kwargs: Any) -> "Future[Any]":
        future: Future[Any] = Future()
        try:
            future.set_result(work(*args, **kwargs))
        except BaseException as error:  # as the executor does: the caller sees it at result()
            future.set_exception(error)
        return future

    def shutdown(self, **_: Any) -> None:
        """Nothing to end."""


def _start_worker() -> None:
    pl.thread_pool_size()  # touch Polars once, before the first block is timed


def _pool(processes: int) -> Any:
    if processes <= 1:
        return _Inline()
    return ProcessPoolExecutor(processes, mp_context=get_context("spawn"), initializer=_start_worker)


def _bounded(pool: Any, jobs: Iterable[tuple[Callable[..., Any], dict[str, Any]]], width: int) -> Iterator[Any]:
    """Results in order, with at most `width` jobs in flight: memory is bounded by it."""
    waiting: deque[Future[Any]] = deque()
    for work, arguments in jobs:
        waiting.append(pool.submit(work, **arguments))
        if len(waiting) >= width:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


def _build(
    lake: Lake,
    sources: Sequence[Source],
    frames: Sequence[tuple[str, pl.DataFrame]],
    parent: str | None,
    max_bad_share: float,
    given_source: str | None,
    processes: int | None,
    on_progress: Callable[[int], None] | None,
    keep: Callable[[pl.DataFrame], pl.DataFrame] | None = None,
) -> Manifest:
    ancestor = load_manifest(lake, parent) if parent else None
    at_hand = sum(frame.estimated_size() for _, frame in frames)
    size = sum(source.size_bytes for source in sources) + at_hand
    if ancestor:
        size += 100 * ancestor.total_rows  # bytes a row, roughly
    partitions = min(MAX_PARTITIONS, math.ceil(size / PARTITION_BYTES)) or 1
    workers = min(processes or os.cpu_count() or 1, 8) if size >= POOL_FROM_BYTES else 1
    with tempfile.TemporaryDirectory(prefix="evergreen-ingest-") as scratch:
        folder = Path(scratch)
        pool = _pool(workers)
        try:
            intake = _Intake(lake, pool, workers, partitions, folder, given_source, max_bad_share, on_progress)
            if ancestor:
                intake.inherit(ancestor.digest, keep)
            for uri, frame in frames:
                intake.take_frame(uri, frame)
            for source in sources:
                intake.take_source(source)
            spills = [path for path in intake.spills if path.exists()]
            if not spills:
                raise InvalidDataError("there are no labelled rows to make a snapshot of")
            jobs = ((_settle_partition, {"spills": spills, "number": n, "folder": folder}) for n in range(partitions))
            settled: list[_PartitionCounts] = list(_bounded(pool, jobs, workers))
        except BrokenProcessPool:
            raise UnavailableError(
                "a worker of the ingest was killed, perhaps for memory; nothing was written"
            ) from None
        except OSError as error:
            place = f"the ingest cannot write to {scratch}: {error.strerror or error}"
            raise UnavailableError(f"{place}; it needs twice the input's size there (TMPDIR moves it)") from error
        finally:
            pool.shutdown(cancel_futures=True)
        manifest = _manifest(settled, intake.records, intake.bad, parent, iso(intake.observed_at))
        if not _publish(lake, manifest, settled, intake.quarantine) and keep is None:
            take_again(lake, manifest.digest, manifest.created_at)
    return load_manifest(lake, manifest.digest)


class _Intake:
    """Every row of an ingest, spilled; and what is known of it before deduplication."""

    def __init__(
        self,
        lake: Lake,
        pool: Any,
        workers: int,
        partitions: int,
        folder: Path,
        given_source: str | None,
        max_bad_share: float,
        on_progress: Callable[[int], None] | None,
    ) -> None:
        self._lake, self._pool, self._workers = lake, pool, workers
        self._partitions, self._folder = partitions, folder
        self._given_source, self._max_bad_share = given_source, max_bad_share
        self._on_progress = on_progress
        self.observed_at = utc_now()
        self._rows = self._bytes = 0
        self.spills: list[Path] = []
        self.records: list[dict[str, Any]] = []
        self.bad: Counter[str] = Counter()
        self.quarantine: list[pl.DataFrame] = []

    def _next_spill(self) -> Path:
        self.spills.append(self._folder / f"block-{len(self.spills):06d}.arrow")
        return self.spills[-1]

    def _spill(self, examples: pl.DataFrame, *, inherited: bool) -> None:
        if examples.height:
            path = self._next_spill()
            _spill(examples, order=self._rows, inherited=inherited, partitions=self._partitions, path=path)
        self._rows += examples.height

    def inherit(self, parent: str, keep: Callable[[pl.DataFrame], pl.DataFrame] | None) -> None:
        """Take the parent's rows over, or those that `keep` keeps of them."""
        for key in [key for side in SIDES for key in side_keys(self._lake, parent, side)]:
            rows = _read_parts(self._lake, [key], EXAMPLES)
            self._spill(keep(rows) if keep else rows, inherited=True)

    def take_frame(self, uri: str, frame: pl.DataFrame) -> None:
        """Take examples at hand, those of them that have a label."""
        labelled = frame.drop_nulls("label")
        self._spill(labelled, inherited=False)
        self.records.append({"uri": uri, "rows": labelled.height, "bytes": frame.estimated_size()})

    def take_source(self, source: Source) -> None:
        """Take one file, block by block."""
        with source.open() as file:
            counts: list[_BlockCounts] = list(_bounded(self._pool, self._blocks(source, file), self._workers + 1))
        reasons: Counter[str] = Counter()
        for block in counts:
            reasons.update(block.bad)
        valid, first = sum(c.valid for c in counts), pl.concat([c.first_bad for c in counts])
        check_bad_share(source.uri, valid, first, self._max_bad_share, bad_rows=reasons.total())
        self.bad += reasons
        self.quarantine.append(pl.concat([c.quarantined for c in counts]).head(QUARANTINE_ROWS))
        self.records.append({"uri": source.uri, "rows": valid, "bytes": source.size_bytes})
        self._bytes += source.size_bytes

    def _blocks(self, source: Source, file: IO[bytes]) -> Iterator[tuple[Callable[..., Any], dict[str, Any]]]:
        for raw in scan_stream(file, source.uri):
            path = self._next_spill()
            yield (
                _take_block,
                {
                    "raw": raw if self._workers == 1 else _handed_over(raw, path.with_suffix(".raw")),
                    "uri": source.uri,
                    "source": self._given_source or source.name,
                    "observed_at": self.observed_at,
                    "order": self._rows,
                    "partitions": self._partitions,
                    "path": path,
                },
            )
            self._rows += raw.height
            if self._on_progress:
                self._on_progress(self._bytes + file.tell())


def _manifest(
    settled: Sequence[_PartitionCounts],
    records: Sequence[dict[str, Any]],
    bad: Counter[str],
    parent: str | None,
    created_at: str,
) -> Manifest:
    rows = {side: {str(label): sum(p.rows[side][str(label)] for p in settled) for label in range(3)} for side in SIDES}
    total = [sum(p.total[n] for p in settled) & _MASK for n in range(4)]
    segments: Counter[str] = Counter()
    for partition in settled:
        segments.update(partition.segments)
    return Manifest(
        digest=_digest(total, sum(sum(labels.values()) for labels in rows.values())),
        created_at=created_at,
        parent=parent,
        sources=tuple(records),
        rows=rows,
        quarantined=dict(sorted(bad.items())),
        duplicates_removed=sum(p.duplicates for p in settled),
        conflicts_resolved=sum(p.conflicts for p in settled),
        segments=dict(sorted(segments.items())),
        parts={side: [sum(p.rows[side].values()) for p in settled if side in p.parts] for side in SIDES},
    )


def _publish(
    lake: Lake, manifest: Manifest, settled: Sequence[_PartitionCounts], quarantine: Sequence[pl.DataFrame]
) -> bool:
    """Put the parts, then the manifest: a snapshot without a manifest does not exist.

    Returns:
        False where equal rows are there already; those of a snapshot that was replaced are not.
    """
    root, manifest_key = f"snapshots/{manifest.digest}", _manifest_key(manifest.digest)
    if lake.exists(manifest_key):
        if REPLACED_BY not in json.loads(lake.read(manifest_key)):
            return False
        _remove_rows(lake, manifest.digest)  # a kill may have left some
    with ThreadPoolExecutor(_WRITERS, thread_name_prefix="publish") as writers:  # a disk's or S3's answers overlap
        written = []
        for side in SIDES:
            files = [Path(partition.parts[side]) for partition in settled if side in partition.parts]
            for n, file in enumerate(files):
                key = f"{root}/{side}/part-{n:05d}.parquet"
                written.append(writers.submit(lambda key, file: lake.write(key, file.read_bytes()), key, file))
        for each in written:
            each.result()
    bad = pl.concat([pl.DataFrame(schema=QUARANTINED), *quarantine])
    if bad.height:
        sink = pa.BufferOutputStream()
        pq.write_table(bad.to_arrow(compat_level=pl.CompatLevel.oldest()), sink, compression="zstd")
        lake.write(f"{root}/quarantine/part-00000.parquet", sink.getvalue().to_pybytes())
    lake.write(manifest_key, manifest.to_json().encode())
    return True
