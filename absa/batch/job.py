"""A batch job: cut, score on every core, write each partition once, go on where a killed run was.

Under the output:
- `job.json`: what the job is, written once;
- `part-<number>.parquet`, and `quarantine/part-<number>.parquet` where rows were set aside;
- `done/<number>.json`: the commit of a partition, with its counts;
- `manifest.json`: the commit of the job.

Every write is whole or not at all, a commit comes after its data, and a partition that is written twice after a kill is
written with the same rows under the same name: every row stands in the output once.
"""

import json
import multiprocessing
import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

import pyarrow as pa

from absa.adapters.lake import Lake, open_lake, write_parquet
from absa.batch.score import score_partition
from absa.batch.source import Source, inspect, partitions
from absa.errors import AlreadyExistsError, ConflictError, InvalidDataError, NotFoundError, TransientError
from absa.inference.engine import Engine
from absa.inference.package import load_package
from absa.labels import SENTIMENTS
from absa.schema import SCHEMA_VERSION, iso, utc_now

PARTITION_ROWS: Final = 20_000
JOB_KEY: Final = "job.json"
MANIFEST_KEY: Final = "manifest.json"
MAX_BAD_SHARE: Final = 0.1
_MAX_RESTARTS: Final = 5
_PARENT_POLL_S: Final = 0.5


@dataclass(frozen=True, kw_only=True)
class BatchJob:
    """What is to be done. Two jobs of equal fields give equal output."""

    input_uri: str
    output_uri: str
    package: Path
    version: str
    partition_rows: int = PARTITION_ROWS
    max_bad_share: float = MAX_BAD_SHARE


@dataclass(frozen=True, kw_only=True)
class Progress:
    """How far a job is. `rows` counts this run and the runs before it; `rows_per_s` this run alone."""

    partitions: int
    rows: int
    rows_per_s: float
    elapsed_s: float


@dataclass(frozen=True, kw_only=True)
class PartitionCounts:
    """The commit record of one partition."""

    number: int
    rows: int
    quarantined: dict[str, int] = field(default_factory=dict)
    by_sentiment: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class BatchResult:
    """What a job came to. `already_done` is true where an earlier run had finished it and nothing was scored."""

    manifest: dict[str, Any]
    already_done: bool


def part_key(number: int) -> str:
    """Where the scored rows of a partition lie."""
    return f"part-{number:06d}.parquet"


def quarantine_key(number: int) -> str:
    """Where the rows lie that a partition set aside; absent where there are none."""
    return f"quarantine/part-{number:06d}.parquet"


def done_key(number: int) -> str:
    """Where the commit record of a partition lies."""
    return f"done/{number:06d}.json"


def run_batch(
    job: BatchJob, *, workers: int | None = None, on_progress: Callable[[Progress], None] = lambda _: None
) -> BatchResult:
    """Score an input into an output, or finish what an earlier run began.

    Args:
        job: what is to be done.
        workers: processes, one inference thread each; by default one a core. 0 scores in this process: for small
            inputs, where starting processes would take longer than scoring.
        on_progress: told after every partition.

    Raises:
        NotFoundError: the input does not exist.
        InvalidDataError: the input cannot be read, or more of its rows are bad than the job allows.
        ConflictError: the output belongs to another input, version or partition size.
        IntegrityError: the package is broken.
        TransientError: workers were killed again and again.
    """
    source, output = inspect(job.input_uri), open_lake(job.output_uri)
    package = load_package(job.package)
    identity = {
        "schema_version": SCHEMA_VERSION,
        "input": job.input_uri,
        "input_digest": source.digest,
        "files": [asdict(each) for each in source.files],
        "text_column": source.text,
        "aspect_column": source.aspect,
        "model_version": job.version,
        "model_digest": package.digest,
        "partition_rows": job.partition_rows,
    }
    _claim(output, identity, job.output_uri)
    if output.exists(MANIFEST_KEY):
        return BatchResult(manifest=json.loads(output.read(MANIFEST_KEY)), already_done=True)

    started_at, started = utc_now(), time.monotonic()
    counts = _committed(output)
    before = sum(each.rows + sum(each.quarantined.values()) for each in counts.values())

    def note(found: PartitionCounts) -> None:
        counts[found.number] = found
        rows = sum(each.rows + sum(each.quarantined.values()) for each in counts.values())
        elapsed_s = time.monotonic() - started
        on_progress(
            Progress(
                partitions=len(counts),
                rows=rows,
                rows_per_s=(rows - before) / max(elapsed_s, 1e-9),
                elapsed_s=elapsed_s,
            )
        )

    restarts = 0
    while True:
        try:
            total = _score_missing(job, source, counts, _cores() if workers is None else workers, note)
            break
        except BrokenProcessPool as error:
            restarts += 1
            if restarts > _MAX_RESTARTS:
                raise TransientError(
                    f"workers of the batch were killed {restarts} times; what is done stays, run it again"
                ) from error
    manifest = _manifest(identity, [counts[number] for number in range(total)])
    _check_bad_share(manifest, job)
    manifest |= {
        "started_at": iso(started_at),
        "finished_at": iso(utc_now()),
        "elapsed_s": round(time.monotonic() - started, 3),
    }
    output.write(MANIFEST_KEY, json.dumps(manifest, indent=1).encode())
    return BatchResult(manifest=manifest, already_done=False)


def _claim(output: Lake, identity: dict[str, Any], uri: str) -> None:
    """Say what the output belongs to; of several jobs one has it."""
    try:
        output.create(JOB_KEY, json.dumps(identity, indent=1).encode())
    except AlreadyExistsError:
        there = json.loads(output.read(JOB_KEY))
        same = ("input_digest", "model_version", "model_digest", "partition_rows")
        if other := [name for name in same if there.get(name) != identity[name]]:
            raise ConflictError(
                f"{uri} holds the output of another job (its {' and '.join(other)} differ); choose another output"
            ) from None


def _committed(output: Lake) -> dict[int, PartitionCounts]:
    records = (PartitionCounts(**json.loads(output.read(key))) for key in output.list("done/"))
    return {each.number: each for each in records}


def _score_missing(
    job: BatchJob,
    source: Source,
    counts: dict[int, PartitionCounts],
    workers: int,
    note: Callable[[PartitionCounts], None],
) -> int:
    """Score every partition that has no commit record, and say how many partitions there are."""
    total = 0

    def missing() -> Iterator[tuple[int, pa.Table]]:
        nonlocal total
        for number, table in enumerate(partitions(source, job.partition_rows)):
            total = number + 1
            if number not in counts:
                yield number, table

    if workers == 0:
        engine = Engine.load(job.package)
        for number, table in missing():
            note(_write(engine, number, table, source.text, source.aspect, job.version, job.output_uri))
        return total
    pool = ProcessPoolExecutor(
        max_workers=workers,
        mp_context=multiprocessing.get_context("spawn"),
        initializer=_start_worker,
        initargs=(str(job.package), os.getpid()),
    )
    running: set[Future[PartitionCounts]] = set()
    try:
        for number, table in missing():
            running.add(pool.submit(_work, number, table, source.text, source.aspect, job.version, job.output_uri))
            if len(running) > workers + 1:  # one waits while the others are scored: bounded memory, no idle core
                running = _collect(running, note)
        while running:
            running = _collect(running, note)
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
    return total


def _collect(
    running: set[Future[PartitionCounts]], note: Callable[[PartitionCounts], None]
) -> set[Future[PartitionCounts]]:
    finished, rest = wait(running, return_when=FIRST_COMPLETED)
    for each in finished:
        note(each.result())
    return rest


_engine: Engine | None = None  # of this worker process


def _start_worker(package: str, parent: int) -> None:
    global _engine  # noqa: PLW0603  a pool's initializer has no other place to leave the engine
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    _engine = Engine.load(package)


def _end_with(parent: int) -> None:
    """End this process when its parent is gone: a killed job leaves no worker behind."""
    while os.getppid() == parent:
        time.sleep(_PARENT_POLL_S)
    os._exit(1)


def _work(number: int, table: pa.Table, text: str, aspect: str, version: str, output_uri: str) -> PartitionCounts:
    assert _engine is not None
    return _write(_engine, number, table, text, aspect, version, output_uri)


def _write(
    engine: Engine, number: int, table: pa.Table, text: str, aspect: str, version: str, output_uri: str
) -> PartitionCounts:
    output = open_lake(output_uri)
    found = score_partition(engine, table, text=text, aspect=aspect, version=version, scored_at=utc_now())
    write_parquet(output, part_key(number), found.scored)
    if found.quarantined.num_rows:
        write_parquet(output, quarantine_key(number), found.quarantined)
    sentiments = Counter(found.scored.column("sentiment").to_pylist())
    counts = PartitionCounts(
        number=number,
        rows=found.scored.num_rows,
        quarantined=dict(sorted(Counter(found.quarantined.column("reason").to_pylist()).items())),
        by_sentiment={name: sentiments[name] for name in SENTIMENTS},
    )
    output.write(done_key(number), json.dumps(asdict(counts)).encode())
    return counts


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _manifest(identity: dict[str, Any], counts: list[PartitionCounts]) -> dict[str, Any]:
    quarantined: Counter[str] = Counter()
    sentiments: Counter[str] = Counter()
    for each in counts:
        quarantined.update(each.quarantined)
        sentiments.update(each.by_sentiment)
    return {
        **identity,
        "rows": sum(each.rows for each in counts),
        "quarantined": dict(sorted(quarantined.items())),
        "by_sentiment": {name: sentiments[name] for name in SENTIMENTS},
        "partitions": [
            {"number": each.number, "rows": each.rows, "quarantined": sum(each.quarantined.values())} for each in counts
        ],
    }


def _check_bad_share(manifest: dict[str, Any], job: BatchJob) -> None:
    bad = sum(manifest["quarantined"].values())
    total = manifest["rows"] + bad
    if total == 0:
        raise InvalidDataError(f"{job.input_uri} holds no rows")
    if bad / total > job.max_bad_share:
        reasons = ", ".join(f"{count} {reason}" for reason, count in manifest["quarantined"].items())
        raise InvalidDataError(
            f"{bad} of {total} rows of {job.input_uri} cannot be scored ({reasons}), at most {job.max_bad_share:.0%} "
            f"may be bad; they lie in {job.output_uri}/quarantine"
        )


def read_manifest(output: Lake) -> dict[str, Any]:
    """The manifest of a finished job.

    Raises:
        NotFoundError: no job has finished there.
    """
    try:
        manifest: dict[str, Any] = json.loads(output.read(MANIFEST_KEY))
    except NotFoundError:
        raise NotFoundError(f"no batch job has finished at {output.uri}; run it again to finish it") from None
    return manifest
