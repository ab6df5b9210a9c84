"""Progress of the running training: a small file that the training writes, and the line that other processes show."""

import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TextIO

from absa.records.files import write_whole
from flows.platform.terminal import ProgressLine

LATEST_FILE: Final = "latest.json"  # in HOME/jobs

_PHASES: Final = {
    "begin": "preparing",
    "teach": "asking a teacher",
    "answer": "asking a teacher",
    "snapshot": "reading tokens",
    "load": "loading the model",
    "tokenize": "loading the model",
    "train": "training",
    "package": "packaging a first version",
    "export": "packaging",
    "calibrate": "packaging",
    "parity": "packaging",
    "warmup": "packaging",
    "judge": "judging",
    "gate": "registering",
    "done": "finishing",
}


@dataclass(frozen=True, kw_only=True)
class TrainingProgress:
    """State of a training. Instants are epoch seconds.

    Attributes:
        started: start of the run.
        ends_at: deadline of the run.
        phase: present phase, in words.
        detail: passes, loss and rate during training; empty otherwise.
        notes: sentences for the user so far.
    """

    started: float
    ends_at: float
    phase: str
    detail: str = ""
    notes: tuple[str, ...] = ()

    def share(self, now: float) -> float:
        """Return the used share of the budget, 0 to 1."""
        return min(1.0, max(0.0, (now - self.started) / max(1e-9, self.ends_at - self.started)))

    def line(self, now: float) -> str:
        """Return one line: phase, time left of the budget, and details of the training."""
        left_s = self.ends_at - now
        time_left = f"{left_s:.0f} s left" if left_s >= 0 else f"{-left_s:.0f} s over the budget"
        return f"{self.phase}, {time_left}{', ' if self.detail else ''}{self.detail}"


def writer(folder: Path, *, started: float, ends_at: float) -> Callable[[Mapping[str, Any]], None]:
    """Return a listener that writes the state of a training after each of its events.

    Args:
        folder: HOME/jobs.
        started: start of the run, epoch seconds.
        ends_at: deadline of the run, epoch seconds.
    """
    state: dict[str, Any] = {"started": started, "ends_at": ends_at, "notes": []}

    def write(event: Mapping[str, Any]) -> None:
        kind = event.get("event")
        if kind in {"note", "ended_early", "restart"}:
            state["notes"].append(str(event["sentence"]))
        elif kind in {"phase", "progress", "done"}:
            phase = "train" if kind == "progress" else str(event.get("name", "done"))
            state.update(phase=_PHASES.get(phase, phase), detail=_detail(event))
        write_whole(folder / LATEST_FILE, json.dumps(state))

    write({"event": "phase", "name": "begin"})
    return write


def read_progress(folder: Path, *, since: float) -> TrainingProgress | None:
    """Return the state of the newest training that started at or after `since` (epoch seconds), or None."""
    try:
        state = json.loads((folder / LATEST_FILE).read_text())
        found = TrainingProgress(
            started=float(state["started"]),
            ends_at=float(state["ends_at"]),
            phase=str(state["phase"]),
            detail=str(state["detail"]),
            notes=tuple(state["notes"]),
        )
    except (FileNotFoundError, KeyError, ValueError):  # missing, of an earlier release, or damaged by a power failure
        return None
    return found if found.started >= since else None


@contextmanager
def shown(folder: Path, out: TextIO | None = None) -> Iterator[None]:
    """Show the training that starts in the body: one redrawn line on a terminal, else a line every ten seconds.

    Args:
        folder: HOME/jobs.
        out: stream for the lines; None: standard error.
    """
    line, ended, since = ProgressLine(out), threading.Event(), time.time()
    told = 0

    def look() -> None:
        nonlocal told
        progress = read_progress(folder, since=since)
        if progress is None:
            return
        for sentence in progress.notes[told:]:
            line.print(sentence)
        told = len(progress.notes)
        now = time.time()
        line.update(progress.share(now), progress.line(now))

    def follow() -> None:
        while not ended.wait(0.5):
            look()

    thread = threading.Thread(target=follow, name="progress", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        look()
        line.close()


def _detail(event: Mapping[str, Any]) -> str:
    if event.get("event") != "progress":
        return ""
    return f"epoch {event['epoch']:.1f}, loss {event['loss']:.2f}, {event['tokens_per_s']:.0f} tokens/s"
