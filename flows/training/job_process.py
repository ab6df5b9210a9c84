"""Training job in a child process with a deadline. Events are relayed, and a killed child is restarted."""

import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from absa.errors import DeadlineMissedError, PermanentError
from absa.job import AFTER_FILE, EXIT_DEADLINE_MISSED
from absa.packaging.numbered import PACKAGE_FOLDER, WEIGHTS_FOLDER, NumberedPackages
from absa.records.files import write_whole

_RESTART_FLOOR_S: Final = 4.0  # a restart needs more time than this; with more the job keeps the deadline itself
_MAX_STARTS: Final = 5
_LOOK_EVERY_S: Final = 0.2

OnEvent = Callable[[Mapping[str, Any]], None]
RunJob = Callable[..., "JobResult"]
"""Runner of a training job: `run_job`, or a fake with its parameters."""


@dataclass(frozen=True, kw_only=True)
class JobResult:
    """Result of a job. `done` holds the facts of its package."""

    folder: Path
    done: Mapping[str, Any]
    starts: int

    @property
    def package(self) -> Path:
        """Folder of the package."""
        return self.folder / PACKAGE_FOLDER

    @property
    def weights(self) -> Path:
        """Folder of the fp32 weights."""
        return self.folder / WEIGHTS_FOLDER


def write_after(folder: Path, after_s: float) -> None:
    """Update the seconds that the caller needs after the job in this folder."""
    write_whole(folder / AFTER_FILE, json.dumps({"after_s": round(after_s, 2)}))


def run_job(
    folder: Path,
    *,
    ends_at: float,
    environment: Mapping[str, str],
    on_event: OnEvent,
    overrun_s: float = 0.0,
    least_after_s: Callable[[], float] = lambda: 0.0,
) -> JobResult:
    """Run `python -m absa.job FOLDER` and return its newest complete package.

    A flow's timeout cannot stop native code, but killing a process does. The child is killed as soon as a package is
    complete and the caller needs the remaining time, and at the latest at `ends_at` plus `overrun_s`.

    Args:
        folder: the job's folder, with job.json and the rows.
        ends_at: wall-clock deadline of the run, epoch seconds.
        environment: the child's environment.
        on_event: receives every event that the child prints.
        overrun_s: seconds after the deadline in which the job may still complete a package.
        least_after_s: returns the seconds that the caller needs after the job; called repeatedly.

    Raises:
        DeadlineMissedError: the time ended before a first package was complete.
        PermanentError: the job failed; the message has its reason, or names its log.
    """
    log, packages = folder / "job.log", NumberedPackages(folder)
    command, stops_at = [sys.executable, "-u", "-m", "absa.job", str(folder)], ends_at + overrun_s

    def is_over() -> bool:
        now = time.time()
        return now >= stops_at or (now >= stops_at - least_after_s() and packages.newest() is not None)

    for start in range(1, _MAX_STARTS + 1):
        returncode, why = relay_child(command, log=log, environment=environment, on_event=on_event, is_over=is_over)
        late = stops_at - time.time() < _RESTART_FLOOR_S + least_after_s()
        killed = returncode < 0 or returncode == 128 + 15
        if returncode == 0 or not killed or late or start == _MAX_STARTS:
            facts = packages.settle()
            if facts is not None:
                if returncode != 0:
                    on_event({"event": "ended_early", "sentence": _why_early(returncode, late, log)})
                    on_event({"event": "done", **facts})
                return JobResult(folder=folder, done=facts, starts=start)
        if returncode == EXIT_DEADLINE_MISSED or (killed and late):
            raise DeadlineMissedError("the time ended before a first package was complete")
        if not killed:
            raise PermanentError(f"training failed (exit {returncode}): {why or f'see {log}'}")
        on_event({"event": "restart", "sentence": f"the training process ended by signal; start {start + 1}"})
    raise PermanentError(f"training was interrupted {_MAX_STARTS} times: see {log}")


def _why_early(returncode: int, late: bool, log: Path) -> str:
    if returncode > 0 and returncode != 128 + 15:
        return f"training failed (exit {returncode}), see {log}: the newest complete package is used"
    if late:
        return "the time for training ended: the newest complete package is used"
    return f"training was interrupted {_MAX_STARTS} times, see {log}: the newest complete package is used"


def relay_child(
    command: Sequence[str],
    *,
    log: Path,
    environment: Mapping[str, str],
    on_event: OnEvent,
    is_over: Callable[[], bool],
) -> tuple[int, str | None]:
    """Run a child that prints events as lines of JSON, and relay them.

    Other output of the child goes to its log. The child does not outlive the call.

    Args:
        command: command of the child.
        log: file for its standard error.
        environment: environment of the child.
        on_event: receives every event.
        is_over: returns True when the child has to be killed; called five times per second, in another thread.

    Returns:
        Exit code of the child, and the sentence of its event `failed`; None without this event.
    """
    ended = threading.Event()
    why: str | None = None
    with (
        log.open("ab") as errors,
        subprocess.Popen(  # noqa: S603  our own module
            command, stdout=subprocess.PIPE, stderr=errors, env=dict(environment), text=True
        ) as child,
    ):

        def stop_in_time() -> None:
            while not ended.wait(_LOOK_EVERY_S):
                if is_over():
                    child.kill()
                    return

        watch = threading.Thread(target=stop_in_time, name="deadline", daemon=True)
        watch.start()
        try:
            for line in child.stdout or ():
                try:
                    event = json.loads(line)
                except ValueError:
                    errors.write(line.encode())
                    continue
                if event.get("event") == "failed":
                    why = str(event["sentence"])
                on_event(event)
            return child.wait(), why
        finally:
            ended.set()
            if child.poll() is None:
                child.terminate()
                child.wait()
            watch.join()
