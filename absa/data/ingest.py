"""Ingest: make a snapshot of files, or of examples in memory.

Rows are processed in bounded memory. Every block is validated, cut into partitions by the hash of the texts'
near-duplicate keys, and written to temporary files. A partition holds all rows that could be duplicates of each other.
Then each partition is deduplicated on its own and written to the three sides. The digest is a sum over the rows, so it
depends on neither the order of the input nor the number of partitions or processes.
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
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path
from typing import IO, Any, Final

import polars as pl

from absa.data.account import Account, StrayQuotes
from absa.data.files import MAX_BAD_SHARE
from absa.data.files.raw_rows import scan_parts
from absa.data.files.source_files import SourceFile, find_sources
from absa.data.mapping import DEFAULT_MAPPING, DataMapping, check_coding
from absa.data.partitions import (
    QUARANTINE_BYTES,
    QUARANTINE_ROWS,
    BlockCounts,
    PartitionCounts,
    count_recent_texts,
    digest_of,
    settle_partition,
    spill,
    take_block,
    within,
)
from absa.data.read import (
    EXAMPLE_COLUMNS,
    QUARANTINED,
    add_codes,
    check_bad_share,
    too_many_bad,
)
from absa.data.recent_split import COMMON_SHARE, RecentRows, RecentSplit
from absa.data.snapshot import REPLACED_BY, Manifest, load_manifest, read_parts, remove_rows, side_keys, take_again
from absa.errors import IntegrityError, InvalidDataError, PermanentError, UnavailableError
from absa.records.lake import Lake
from absa.records.layout import manifest_key, quarantine_key, side_part_key
from absa.records.schema import SIDES, iso, utc_now
from absa.records.tables import write_parquet
from absa.task import ABSA, TaskSpec

PARTITION_BYTES: Final = 48 << 20  # of input; deduplication takes several times this memory
MAX_PARTITIONS: Final = 512
POOL_FROM_BYTES: Final = 64 << 20  # smaller input takes less time than the start of a pool
_WRITERS: Final = 8


def ingest(
    lake: Lake,
    paths: Sequence[str | Path],
    *,
    parent: str | None = None,
    max_bad_share: float = MAX_BAD_SHARE,
    source: str | None = None,
    processes: int | None = None,
    on_progress: Callable[[int], None] | None = None,
    mapping: DataMapping = DEFAULT_MAPPING,
    on_account: Callable[[Account], None] | None = None,
    on_refused: Callable[[pl.DataFrame], None] = lambda _: None,
    unit_secret: bytes | None = None,
    recent: RecentRows | None = None,
) -> Manifest:
    """Make a snapshot of files, folders or s3:// prefixes, together with the parent's rows.

    Args:
        lake: lake that the snapshot is written to.
        paths: CSV, TSV, JSONL or Parquet files, folders of them, or s3://bucket/prefix.
        parent: digest of a snapshot whose rows are inherited; a newer label for the same text and aspect wins.
        max_bad_share: largest share (0 to 1) of bad rows in one file. Above it the ingest stops, no snapshot is
            written, and the bad rows are kept under quarantine/ of the lake.
        source: origin of the labels; by default each file's name.
        processes: largest number of worker processes (default: one per core; small input needs none).
        on_progress: receives the bytes of input read so far.
        mapping: task, and the form of the files.
        on_account: receives the account of all rows.
        on_refused: receives the first quarantined rows of each file (columns of `read.QUARANTINED`).
        unit_secret: key of the hashes of units, by which `forget` finds their rows; None: units are left out.
        recent: recent texts. A larger share of them is on the test side, because the gate compares versions on them.
            None: a tenth of all texts is on the test side.

    Raises:
        InvalidDataError: a file is missing, empty or not UTF-8, lacks a column, codes its labels in another way, or too
            many of its rows are bad.
        NotFoundError: the parent does not exist.
        PermanentError: the parent is of another task.
        UnavailableError: the disk is full, a worker was killed, or the lake or S3 is unavailable.
    """
    sources = [found for path in paths for found in find_sources(str(path))]
    return _build(
        lake,
        sources,
        [],
        parent,
        max_bad_share,
        source,
        processes,
        on_progress,
        mapping=mapping,
        on_account=on_account,
        on_refused=on_refused,
        unit_secret=unit_secret,
        recent=recent,
    )


def build_snapshot(
    lake: Lake,
    frames: Iterable[pl.DataFrame],
    *,
    parent: str | None = None,
    uri: str = "memory",
    keep: Callable[[pl.DataFrame], pl.DataFrame] | None = None,
    task: TaskSpec | None = None,
    recent: RecentRows | RecentSplit | None = None,
) -> Manifest:
    """Make a snapshot of labelled examples in memory (columns of `read.EXAMPLE_COLUMNS`) and the parent's rows.

    Args:
        lake: lake that the snapshot is written to.
        frames: the examples.
        parent: digest of the parent.
        uri: name of the frames' origin in the manifest.
        keep: filters rows of the parent; its result is inherited. By default all rows are inherited.
        task: task of the rows; by default the parent's task, or the default task.
        recent: recent texts (see `ingest`), or the split of another snapshot; None: a tenth of all texts is on the
            test side.

    Raises:
        InvalidDataError: there are no rows.
        NotFoundError: the parent does not exist.
        PermanentError: the parent is of another task.
    """
    if task is None:
        task = load_manifest(lake, parent).task if parent else ABSA
    at_hand = [(uri, frame) for frame in frames]
    return _build(lake, [], at_hand, parent, MAX_BAD_SHARE, None, 1, None, keep, DataMapping(task=task), recent=recent)


class _Inline:
    """Pool without processes, for small input, which takes less time than the start of a pool."""

    def submit(self, work: Callable[..., Any], *args: Any, **kwargs: Any) -> "Future[Any]":
        future: Future[Any] = Future()
        try:
            future.set_result(work(*args, **kwargs))
        except BaseException as error:  # as in an executor, `result` raises it
            future.set_exception(error)
        return future

    def shutdown(self, **_: Any) -> None:
        """Do nothing, because there is no process to end."""


def _start_worker() -> None:
    pl.thread_pool_size()  # initialises Polars before the first block


def _pool(processes: int) -> Any:
    if processes <= 1:
        return _Inline()
    return ProcessPoolExecutor(processes, mp_context=get_context("spawn"), initializer=_start_worker)


def _bounded(pool: Any, jobs: Iterable[tuple[Callable[..., Any], dict[str, Any]]], width: int) -> Iterator[Any]:
    """Yield results in the order of the jobs; at most `width` jobs are in flight, which bounds the memory."""
    waiting: deque[Future[Any]] = deque()
    for work, arguments in jobs:
        waiting.append(pool.submit(work, **arguments))
        if len(waiting) >= width:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


def _build(
    lake: Lake,
    sources: Sequence[SourceFile],
    frames: Sequence[tuple[str, pl.DataFrame]],
    parent: str | None,
    max_bad_share: float,
    given_source: str | None,
    processes: int | None,
    on_progress: Callable[[int], None] | None,
    keep: Callable[[pl.DataFrame], pl.DataFrame] | None = None,
    mapping: DataMapping = DEFAULT_MAPPING,
    on_account: Callable[[Account], None] | None = None,
    on_refused: Callable[[pl.DataFrame], None] = lambda _: None,
    unit_secret: bytes | None = None,
    recent: RecentRows | RecentSplit | None = None,
) -> Manifest:
    ancestor = load_manifest(lake, parent) if parent else None
    if ancestor is not None and (misfit := mapping.task.misfit(ancestor.task)):
        raise PermanentError(f"snapshot {ancestor.digest[:12]} is of another task: {misfit}")
    at_hand = sum(frame.estimated_size() for _, frame in frames)
    size = sum(source.size_bytes for source in sources) + at_hand
    if ancestor:
        size += 100 * ancestor.total_rows  # estimate of bytes per row
    partitions = min(MAX_PARTITIONS, math.ceil(size / PARTITION_BYTES)) or 1
    workers = (processes or os.cpu_count() or 1) if size >= POOL_FROM_BYTES else 1
    with tempfile.TemporaryDirectory(prefix="evergreen-ingest-") as scratch:
        folder = Path(scratch)
        pool = _pool(workers)
        try:
            intake = _Intake(
                lake, pool, workers, partitions, folder, given_source, max_bad_share, on_progress, mapping, unit_secret,
                on_refused,
            )  # fmt: skip
            if ancestor:
                intake.inherit(ancestor.digest, keep)
            for uri, frame in frames:
                intake.take_frame(uri, frame)
            for source in sources:
                intake.take_source(source)
            spills = [path for path in intake.spills if path.exists()]
            if not spills:
                raise InvalidDataError("there are no labelled rows to make a snapshot of")
            split = _split(spills, partitions, recent)
            place = {"spills": spills, "folder": folder, "labels": mapping.task.n_labels, "split": split}
            jobs = ((settle_partition, {**place, "number": n}) for n in range(partitions))
            settled: list[PartitionCounts] = list(_bounded(pool, jobs, workers))
        except BrokenProcessPool:
            raise UnavailableError(
                "a worker of the ingest was killed, perhaps for memory; nothing was written"
            ) from None
        except OSError as error:
            failed = f"the ingest cannot write to {scratch}: {error.strerror or error}"
            raise UnavailableError(
                f"{failed}; free twice the input's size there, or set TMPDIR to another folder"
            ) from error
        finally:
            pool.shutdown(cancel_futures=True)
        manifest = _manifest(settled, intake, parent, mapping.task, split)
        account = intake.account(manifest)
        if not _publish(lake, manifest, settled, intake.quarantine) and keep is None:
            take_again(lake, manifest.digest, manifest.created_at)
    if on_account is not None:
        on_account(account)
    return load_manifest(lake, manifest.digest)


def _split(spills: Sequence[Path], partitions: int, recent: RecentRows | RecentSplit | None) -> RecentSplit | None:
    if not isinstance(recent, RecentRows):
        return recent
    most = math.ceil(recent.wanted / COMMON_SHARE)  # from so many texts on, the common share has enough rows
    return recent.split(count_recent_texts(spills, partitions, recent.since, most=most))


class _Intake:
    """Rows of an ingest in temporary files, and their counts before deduplication."""

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
        mapping: DataMapping,
        unit_secret: bytes | None,
        on_refused: Callable[[pl.DataFrame], None],
    ) -> None:
        self._lake, self._pool, self._workers = lake, pool, workers
        self._partitions, self._folder = partitions, folder
        self._given_source, self._max_bad_share = given_source, max_bad_share
        self._on_progress = on_progress
        self._mapping, self._unit_secret = mapping, unit_secret
        self._on_refused = on_refused
        self.notices: list[str] = []
        self.observed_at = utc_now()
        self._rows = self._bytes = 0
        self.inherited = 0
        self.stray_quotes: list[StrayQuotes] = []
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
            spill(examples, order=self._rows, inherited=inherited, partitions=self._partitions, path=path)
        self._rows += examples.height

    def inherit(self, parent: str, keep: Callable[[pl.DataFrame], pl.DataFrame] | None) -> None:
        """Add the parent's rows, or those rows of the parent that `keep` returns."""
        for key in [key for side in SIDES for key in side_keys(self._lake, parent, side)]:
            rows = read_parts(self._lake, [key], EXAMPLE_COLUMNS)
            rows = keep(rows) if keep else rows
            self.inherited += rows.height
            self._spill(rows, inherited=True)

    def take_frame(self, uri: str, frame: pl.DataFrame) -> None:
        """Add those examples of a frame that have a label."""
        labelled = frame.drop_nulls("label")
        if "unit_hash" not in labelled.columns:
            labelled = labelled.with_columns(unit_hash=pl.lit(None, pl.String))
        self._spill(labelled, inherited=False)
        self.records.append({"uri": uri, "rows": labelled.height, "bytes": frame.estimated_size()})

    def take_source(self, source: SourceFile) -> None:
        """Add one file, block by block."""
        valid, reasons, codes = 0, Counter[str](), dict[str, int]()
        first, quarantined = [pl.DataFrame(schema=QUARANTINED)], pl.DataFrame(schema=QUARANTINED)
        as_written: list[int] = []
        found: BlockCounts
        with source.open() as file:
            for found in _bounded(self._pool, self._blocks(source, file), self._workers + 1):
                valid += found.valid
                reasons.update(found.bad)
                add_codes(codes, found.codes)
                first.append(found.first_bad)
                as_written += found.as_written
                if found.quarantined.height:
                    quarantined = within(pl.concat([quarantined, found.quarantined]), QUARANTINE_ROWS, QUARANTINE_BYTES)
        check_coding(source.uri, self._mapping.codes, codes)
        if quarantined.height:
            self._on_refused(quarantined)
        kept = ""
        if too_many_bad(valid, reasons.total(), self._max_bad_share):
            kept = keep_bad_rows(self._lake, quarantined)
        check_bad_share(
            source.uri, valid, reasons, pl.concat(first), self._max_bad_share, kept=kept, mapping=self._mapping
        )
        self.bad += reasons
        if as_written:
            self.stray_quotes.append(StrayQuotes(uri=source.uri, rows=len(as_written), line=min(as_written)))
        self.quarantine.append(quarantined)
        self.records.append({"uri": source.uri, "rows": valid, "bytes": source.size_bytes})
        self._bytes += source.size_bytes

    def account(self, manifest: Manifest) -> Account:
        """Return the account of all rows.

        Raises:
            IntegrityError: the numbers do not add up, which is a defect of this program.
        """
        account = Account(
            read=sum(record["rows"] for record in self.records) + self.bad.total(),
            inherited=self.inherited,
            kept=manifest.total_rows,
            duplicates=manifest.duplicates_removed,
            conflicts=manifest.conflicts_resolved,
            quarantined=manifest.quarantined,
            stray_quotes=tuple(self.stray_quotes),
            notices=tuple(self.notices),
        )
        if account.rows_in != account.rows_out:
            raise IntegrityError(f"the ingest lost rows: {account.sentences[0]}; nothing was written")
        return account

    def _blocks(self, source: SourceFile, file: IO[bytes]) -> Iterator[tuple[Callable[..., Any], dict[str, Any]]]:
        for part in scan_parts(file, source.uri, mapping=self._mapping, on_notice=self.notices.append):
            path = self._next_spill()
            yield (
                take_block,
                {
                    "part": part if self._workers == 1 else part.handed_over(path.with_suffix(".raw")),
                    "uri": source.uri,
                    "source": self._given_source or source.name,
                    "observed_at": self.observed_at,
                    "order": self._rows,
                    "partitions": self._partitions,
                    "path": path,
                    "mapping": self._mapping,
                    "unit_secret": self._unit_secret,
                },
            )
            self._rows += part.lines  # an upper limit is enough, because the number only orders rows
            if self._on_progress:
                self._on_progress(self._bytes + file.tell())


def _manifest(
    settled: Sequence[PartitionCounts], intake: _Intake, parent: str | None, task: TaskSpec, split: RecentSplit | None
) -> Manifest:
    labels = [str(label) for label in range(task.n_labels)]
    rows = {side: {label: sum(p.rows[side][label] for p in settled) for label in labels} for side in SIDES}
    segments: Counter[str] = Counter()
    for partition in settled:
        segments.update(partition.segments)
    return Manifest(
        digest=digest_of(settled, task),
        created_at=iso(intake.observed_at),
        parent=parent,
        sources=tuple(intake.records),
        rows=rows,
        quarantined=dict(sorted(intake.bad.items())),
        duplicates_removed=sum(p.duplicates for p in settled),
        conflicts_resolved=sum(p.conflicts for p in settled),
        inherited=intake.inherited,
        segments=dict(sorted(segments.items())),
        parts={side: [sum(p.rows[side].values()) for p in settled if side in p.parts] for side in SIDES},
        task=task,
        recent=split
        and replace(split, rows=sum(p.recent for p in settled), test_rows=sum(p.recent_tested for p in settled)),
    )


def keep_bad_rows(lake: Lake, bad: pl.DataFrame) -> str:
    """Write the bad rows of a refused file to the quarantine and return the URL; equal content has equal keys."""
    digest = hashlib.sha256(bad.write_ndjson().encode()).hexdigest()
    key = quarantine_key(digest)
    write_parquet(lake, key, bad.to_arrow(compat_level=pl.CompatLevel.oldest()))
    return lake.url(key)


def _publish(
    lake: Lake, manifest: Manifest, settled: Sequence[PartitionCounts], quarantine: Sequence[pl.DataFrame]
) -> bool:
    """Write the parts, then the manifest: a snapshot without a manifest does not exist.

    Returns:
        False if a snapshot with equal rows exists; a snapshot that was replaced does not count.
    """
    digest, named = manifest.digest, manifest_key(manifest.digest)
    if lake.exists(named):
        if REPLACED_BY not in json.loads(lake.read(named)):
            return False
        remove_rows(lake, digest)  # a kill may have left rows
    with ThreadPoolExecutor(_WRITERS, thread_name_prefix="publish") as writers:  # writes overlap
        written = []
        for side in SIDES:
            files = [Path(partition.parts[side]) for partition in settled if side in partition.parts]
            for n, file in enumerate(files):
                key = side_part_key(digest, side, n)
                written.append(writers.submit(lambda key, file: lake.write(key, file.read_bytes()), key, file))
        for each in written:
            each.result()
    bad = pl.concat([pl.DataFrame(schema=QUARANTINED), *quarantine])
    if bad.height:
        table = bad.to_arrow(compat_level=pl.CompatLevel.oldest())
        write_parquet(lake, side_part_key(digest, "quarantine", 0), table)
    lake.write(named, manifest.to_json().encode())
    return True
