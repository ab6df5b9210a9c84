"""A training job in a child process under a deadline: its events are relayed, a killed child is started again."""

import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from absa.errors import DeadlineMissedError, PermanentError
from absa.job import EXIT_DEADLINE_MISSED

_RESTART_FLOOR_S: Final = 4.0  # with less left a new start cannot end well; with more the job itself keeps the deadline
_MAX_STARTS: Final = 5

OnEvent = Callable[[Mapping[str, Any]], None]


@dataclass(frozen=True, kw_only=True)
class JobResult:
    """What a job left. `done` is its last event."""

    folder: Path
    package: Path
    done: Mapping[str, Any]
    starts: int


def run_job(folder: Path, *, ends_at: float, environment: Mapping[str, str], on_event: OnEvent) -> JobResult:
    """Run `python -m absa.job FOLDER` to its end. Native code cannot be stopped by a flow's timeout; a process can.

    Args:
        folder: the job's folder, with job.json and the rows.
        ends_at: wall-clock deadline, epoch seconds. Behind it the child is killed.
        environment: the child's environment.
        on_event: gets every event that the child prints.

    Raises:
        DeadlineMissedError: too little time was left.
        PermanentError: the job failed by itself; the message names its log.
    """
    log = folder / "job.log"
    for start in range(1, _MAX_STARTS + 1):
        returncode, done = _run_once(folder, log, ends_at, environment, on_event)
        if returncode == 0 and done is not None:
            return JobResult(folder=folder, package=folder / "package", done=done, starts=start)
        if returncode == EXIT_DEADLINE_MISSED:
            raise DeadlineMissedError("the budget was too short for a valid version; nothing was registered")
        if returncode > 0 and returncode != 128 + 15:
            raise PermanentError(f"training failed (exit {returncode}): see {log}")
        if ends_at - time.time() < _RESTART_FLOOR_S:
            raise DeadlineMissedError("training was interrupted and too little time is left to go on")
        on_event({"event": "restart", "sentence": f"the training process ended by signal; start {start + 1}"})
    raise PermanentError(f"training was interrupted {_MAX_STARTS} times: see {log}")


def _run_once(
    folder: Path,
    log: Path,
    ends_at: float,
    environment: Mapping[str, str],
    on_event: OnEvent,
) -> tuple[int, Mapping[str, Any] | None]:
    done: Mapping[str, Any] | None = None
    with (
        log.open("ab") as errors,
        subprocess.Popen(  # noqa: S603  our own module
            [sys.executable, "-u", "-m", "absa.job", str(folder)],
            stdout=subprocess.PIPE,
            stderr=errors,
            env=dict(environment),
            text=True,
        ) as child,
    ):
        limit = threading.Timer(max(0.0, ends_at - time.time()), child.kill)
        limit.start()
        try:
            for line in child.stdout or ():
                try:
                    event = json.loads(line)
                except ValueError:
                    errors.write(line.encode())
                    continue
                if event.get("event") == "done":
                    done = event
                on_event(event)
            return child.wait(), done
        finally:
            limit.cancel()
            if child.poll() is None:
                child.terminate()
                child.wait()
