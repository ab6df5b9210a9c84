"""Token shards of a snapshot, made by parallel processes: `python -m absa.data.token_shards ...`.

The lake has them in tokens/<snapshot digest>-<tokenizer digest>/. A shard that exists is not made again. The process
runs at low priority, because a training on the first shards runs at the same time.
"""

import argparse
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from functools import cache
from itertools import islice
from multiprocessing import get_context
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from absa.adapters.lake_stores import FolderLake, open_lake
from absa.data.snapshot import load_manifest, side_keys
from absa.errors import EvergreenError
from absa.inference.tokenization import PairTokenizer
from absa.records.lake import Lake
from absa.records.layout import shards_prefix, side_part_key
from absa.task import ABSA, TaskSpec
from absa.training.rows.shards import PLAN_FILE, TokenPlan, pack_shard, shard_name, tokenizer_digest
from absa.training.rows.tokens import TokenRows, stack, tokenize_columns

SMALL_ROWS: Final = 50_000  # encoding fewer rows takes less time than the start of a pool
_NICE: Final = 15


def plan_shards(lake: Lake, snapshot: str, tokenizer: Path, max_tokens: int, side: str = "train") -> TokenPlan:
    """Write the plan of a side's shards into their folder, and return it.

    Raises:
        NotFoundError: the snapshot does not exist.
    """
    manifest = load_manifest(lake, snapshot)
    snapshot, counts = manifest.digest, manifest.parts.get(side)
    if counts is None:  # snapshots of earlier releases: only the Parquet files have the numbers of rows
        counts = [_rows(lake, key) for key in side_keys(lake, snapshot, side)]
    digest = tokenizer_digest(tokenizer.read_bytes(), max_tokens)
    plan = TokenPlan(
        snapshot=snapshot, tokenizer=digest, side=side, max_tokens=max_tokens, rows=tuple(counts), task=manifest.task
    )
    lake.write(shards_prefix(snapshot, digest) + PLAN_FILE, plan.to_json().encode())
    return plan


def _rows(lake: Lake, key: str) -> int:
    place = lake.url(key) if isinstance(lake, FolderLake) else pa.BufferReader(lake.read(key))
    return int(pq.read_metadata(place).num_rows)


def make_shards(
    lake: Lake,
    plan: TokenPlan,
    tokenizer: Path,
    *,
    into: Path | None = None,
    processes: int | None = None,
    on_shard: Callable[[int], None] = lambda _: None,
) -> int:
    """Make the missing shards in order; return the number of shards that were made.

    Args:
        lake: lake of the snapshot and the shards.
        plan: result of `plan_shards`.
        tokenizer: path of tokenizer.json.
        into: local folder that gets a copy of every shard; needed if the lake is not a folder.
        processes: largest number of worker processes (default: one per core; few rows need none).
        on_shard: receives the number of each complete shard.
    """
    workers = min(processes or os.cpu_count() or 1, len(plan.rows))
    jobs = iter(range(len(plan.rows)))
    made = 0
    if workers <= 1 or sum(plan.rows) < SMALL_ROWS:
        for number in jobs:
            made += _make(lake.uri, plan, tokenizer, into, number)
            on_shard(number)
        return made
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        waiting: dict[Future[int], int] = {}
        while True:
            for number in islice(jobs, 2 * workers - len(waiting)):
                waiting[pool.submit(_make, lake.uri, plan, tokenizer, into, number)] = number
            if not waiting:
                return made
            for future in wait(waiting, return_when=FIRST_COMPLETED).done:
                made += future.result()
                on_shard(waiting.pop(future))


def _make(uri: str, plan: TokenPlan, tokenizer: Path, into: Path | None, number: int) -> int:
    """Make one shard if it is missing; return the number of shards that were made."""
    lake = open_lake(uri)
    name = shard_name(plan.side, number)
    key = shards_prefix(plan.snapshot, plan.tokenizer) + name
    copy = into / name if into is not None else None
    if copy is not None and copy.exists():
        return 0
    if not lake.exists(key):
        part = side_part_key(plan.snapshot, plan.side, number)
        rows = tokenize_part(lake.read(part), _tokenizer(tokenizer, plan.max_tokens, plan.task), plan.task)
        data = pack_shard(rows)
        lake.write(key, data)
        made = 1
    else:
        data, made = (lake.read(key) if copy is not None else b""), 0
    if copy is not None:
        FolderLake(copy.parent).write(copy.name, data)
    return made


@cache
def _tokenizer(path: Path, max_tokens: int, task: TaskSpec) -> PairTokenizer:
    return PairTokenizer.from_file(path, max_tokens, task=task)


def tokenize_part(parquet: bytes, tokenizer: PairTokenizer, task: TaskSpec = ABSA) -> TokenRows:
    """Return the token ids of a Parquet part's rows; encodes in blocks, so that few Python strings are in memory."""
    return stack([_block(table, tokenizer, task) for table in _blocks(parquet)])


def _blocks(parquet: bytes, rows: int = 65_536) -> Iterator[pa.RecordBatch]:
    file = pq.ParquetFile(pa.BufferReader(parquet))
    yield from file.iter_batches(batch_size=rows, columns=["text", "aspect", "label", "observed_at"])


def _block(batch: pa.RecordBatch, tokenizer: PairTokenizer, task: TaskSpec) -> TokenRows:
    seconds = batch.column("observed_at").cast(pa.int64()).to_numpy(zero_copy_only=False).astype(np.float64) / 1e6
    return tokenize_columns(
        batch.column("text").to_pylist(),
        None if task.phrase is None else batch.column("aspect").to_pylist(),
        batch.column("label").to_numpy(zero_copy_only=False).astype(np.int8),
        tokenizer,
        seconds,
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Plan and make the shards of a snapshot's train side; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m absa.data.token_shards", description=__doc__)
    parser.add_argument("--lake", required=True, help="folder or s3://bucket/prefix")
    parser.add_argument("--snapshot", required=True, help="digest of the snapshot")
    parser.add_argument("--tokenizer", required=True, type=Path, help="tokenizer.json")
    parser.add_argument("--max-tokens", type=int, default=128)
    parser.add_argument("--into", type=Path, default=None, help="local folder that gets a copy of every shard")
    parser.add_argument("--processes", type=int, default=None)
    chosen = parser.parse_args(arguments)
    try:
        lake = open_lake(chosen.lake)
        plan = plan_shards(lake, chosen.snapshot, chosen.tokenizer, chosen.max_tokens)
        make_shards(lake, plan, chosen.tokenizer, into=chosen.into, processes=chosen.processes)
    except EvergreenError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    os.nice(_NICE)
    sys.exit(main())
