"""Load of this machine: the slowdown by other processes."""

import hashlib
import os
import threading
import time
from typing import Final

_WORK_S: Final = 0.25  # processor time of the measurement, per core
_BLOCK: Final = bytes(65_536)
_MOST: Final = 6.0


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):  # not on macOS
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def slowdown() -> float:
    """Measure the slowdown of work on all cores by other processes, 1 (idle machine) to 6.

    The measurement takes a quarter of a second on an idle machine.
    """
    ratios: list[float] = []

    def work() -> None:
        began, used = time.perf_counter(), time.thread_time()
        while time.thread_time() - used < _WORK_S:
            hashlib.sha256(_BLOCK).digest()  # releases the interpreter's lock, so that threads run in parallel
        ratios.append((time.perf_counter() - began) / _WORK_S)

    threads = [threading.Thread(target=work) for _ in range(_cores())]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return min(_MOST, max(1.0, sum(ratios) / len(ratios)))
