"""The demo's trainings: the first one runs in a process of its own, and the progress of each is shown."""

import json
import subprocess
import sys
import time
from pathlib import Path

from absa.errors import PermanentError
from flows.story import Story
from flows.stream import Stream
from flows.training import LATEST_EVENT
from flows.wiring import Services


def train_in_process(services: Services, story: Story, stream: Stream, *, budget_s: float) -> None:
    """`evergreen train` in a process of its own, its words in a log, its progress shown here."""
    log = services.home.folder("logs") / "train.log"
    folder = services.home.folder("demo")
    source = stream.write_ingest(folder / "feedback.csv")
    command = [sys.executable, "-m", "flows.cli", "train", str(source), "--reason", "first"]
    command += ["--budget", f"{budget_s:.0f}"]
    began = time.time()
    with log.open("ab") as file:
        child = subprocess.Popen(command, stdout=file, stderr=file, env=dict(services.environment))  # noqa: S603
        try:
            while child.poll() is None:
                show_training(services, story, began, budget_s)
                time.sleep(0.25)
        finally:
            if child.poll() is None:
                child.terminate()
                child.wait()
    if child.returncode != 0:
        raise PermanentError(f"training failed: {_last_line(log)}")


def show_training(services: Services, story: Story, began: float, budget_s: float) -> None:
    """One look at the training that began at a time (epoch seconds): its progress, as its last event says."""
    file = services.home.folder("jobs") / LATEST_EVENT
    share = (time.time() - began) / budget_s
    text = "preparing"
    if file.exists() and file.stat().st_mtime > began:
        event = json.loads(file.read_text())
        if event.get("event") == "progress":
            text = (
                f"epoch {event['epoch']:.1f}, loss {event['loss']:.2f}, {event['tokens_per_s']:.0f} tokens/s, "
                f"{event['remaining_s']:.0f} s left to train"
            )
        elif event.get("event") in {"phase", "done"}:
            text = str(event.get("name", "judging and registering"))
    story.progress(share, text)


def _last_line(log: Path) -> str:
    lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return lines[-1] if lines else f"see {log}"
