"""Batch on one machine: one process per core, each with its own engine and one inference thread."""

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from typing import Final

from absa.batch.batch_input import Partition
from absa.batch.partition_job import Assignment, PartitionCommit, PartitionWorker
from absa.errors import TransientError

_MAX_RESTARTS: Final = 5
_PARENT_POLL_S: Final = 0.5


@dataclass(frozen=True, kw_only=True)
class LocalProcesses:
    """Score on this machine.

    Args:
        workers: number of processes; None: one per core. 0: score in this process, for small inputs, because
            starting processes would take longer than scoring.
    """

    workers: int | None = None

    @property
    def cores(self) -> int:
        """Number of cores that score."""
        return cores() if self.workers is None else max(1, self.workers)

    def run(
        self,
        assignment: Assignment,
        missing: Callable[[], Iterator[Partition]],
        note: Callable[[PartitionCommit], None],
    ) -> None:
        """Score every partition that `missing` yields, and call `note` when a partition is committed.

        Raises:
            TransientError: workers were killed repeatedly.
        """
        if self.workers == 0:
            worker = PartitionWorker(assignment)
            for partition in missing():
                note(worker.score(partition))
            return
        for _ in range(_MAX_RESTARTS + 1):
            try:
                _score_in_pool(assignment, missing(), self.cores, note)
            except BrokenProcessPool:
                continue
            return
        raise TransientError(
            f"workers of the batch were killed {_MAX_RESTARTS + 1} times; finished partitions are kept, so run "
            "the command again"
        )


def _score_in_pool(
    assignment: Assignment, missing: Iterator[Partition], workers: int, note: Callable[[PartitionCommit], None]
) -> None:
    pool = ProcessPoolExecutor(
        max_workers=workers,
        mp_context=multiprocessing.get_context("spawn"),
        initializer=_start_worker,
        initargs=(assignment, os.getpid()),
    )
    running: set[Future[PartitionCommit]] = set()
    try:
        for partition in missing:
            running.add(pool.submit(_score, partition))
            if len(running) > workers + 1:  # one partition waits, so that no core is idle
                running = _collect(running, note)
        while running:
            running = _collect(running, note)
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _collect(
    running: set[Future[PartitionCommit]], note: Callable[[PartitionCommit], None]
) -> set[Future[PartitionCommit]]:
    finished, rest = wait(running, return_when=FIRST_COMPLETED)
    for each in finished:
        note(each.result())
    return rest


_assignment: Assignment | None = None  # assignment of this worker process
_worker: PartitionWorker | None = None


def _start_worker(assignment: Assignment, parent: int) -> None:
    global _assignment  # noqa: PLW0603  a pool's initializer can pass it in no other way
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # only the parent handles Ctrl-C: running partitions are finished
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    _assignment = assignment


def _end_with(parent: int) -> None:
    """End this process when its parent has ended, so that a killed job leaves no workers."""
    while os.getppid() == parent:
        time.sleep(_PARENT_POLL_S)
    os._exit(1)


def _score(partition: Partition) -> PartitionCommit:
    global _worker  # noqa: PLW0603
    if _worker is None:  # not in the initializer: the caller does not receive its errors
        assert _assignment is not None
        _worker = PartitionWorker(_assignment)
    return _worker.score(partition)


def cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
