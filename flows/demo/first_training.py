"""Trainings of the demo: the first one in a child process, and the progress of each."""

import subprocess
import sys
import time
from pathlib import Path

from absa.errors import PermanentError
from flows.demo.customer_stream import Stream
from flows.demo.story import Story
from flows.platform.services import Services
from flows.training.run_progress import read_progress


def train_in_process(services: Services, story: Story, stream: Stream, *, budget_s: float) -> None:
    """Run `evergreen train` in a child process with its output in a log, and show its progress.

    Raises:
        PermanentError: the training failed.
    """
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
                show_training(services, story, began)
                time.sleep(0.25)
        finally:
            if child.poll() is None:
                child.terminate()
                child.wait()
    if child.returncode != 0:
        raise PermanentError(f"training failed: {_last_line(log)}")


def show_training(services: Services, story: Story, began: float) -> None:
    """Show the newest training that started at or after `began` (epoch seconds)."""
    progress = read_progress(services.home.folder("jobs"), since=began)
    if progress is None:
        story.progress(0.0, "the training starts")
    else:
        now = time.time()
        story.progress(progress.share(now), progress.line(now))


def _last_line(log: Path) -> str:
    lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return lines[-1] if lines else f"see {log}"
