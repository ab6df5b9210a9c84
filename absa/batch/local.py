"""A batch on one machine: one process per core, each with its engine and one inference thread."""

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
        workers: processes; None is one a core. 0 scores in this process: for small inputs, where starting processes
            would take longer than scoring.
    """

    workers: int | None = None

    @property
    def cores(self) -> int:
        """Cores that are kept busy."""
        return cores() if self.workers is None else max(1, self.workers)

    def run(
        self,
        assignment: Assignment,
        missing: Callable[[], Iterator[Partition]],
        note: Callable[[PartitionCommit], None],
    ) -> None:
        """Score every partition that `missing` gives, and note each when it is committed.

        Raises:
            TransientError: workers were killed again and again.
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
            f"workers of the batch were killed {_MAX_RESTARTS + 1} times; what is done stays, run it again"
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
            if len(running) > workers + 1:  # one waits while the others are scored: no idle core
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


_assignment: Assignment | None = None  # of this worker process
_worker: PartitionWorker | None = None


def _start_worker(assignment: Assignment, parent: int) -> None:
    global _assignment  # noqa: PLW0603  a pool's initializer has no other place to leave it
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's: partitions that run are finished
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    _assignment = assignment


def _end_with(parent: int) -> None:
    """End this process when its parent is gone: a killed job leaves no worker behind."""
    while os.getppid() == parent:
        time.sleep(_PARENT_POLL_S)
    os._exit(1)


def _score(partition: Partition) -> PartitionCommit:
    global _worker  # noqa: PLW0603
    if _worker is None:  # not in the initializer: what goes wrong there reaches nobody
        assert _assignment is not None
        _worker = PartitionWorker(_assignment)
    return _worker.score(partition)


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
