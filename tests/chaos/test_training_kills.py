"""SIGKILL at any second: every time the training goes on and ends before its deadline with one valid package.

The first run is killed once it has a checkpoint, the others at random seconds. Where few are
killed, their caller needs more time once the training goes on: its deadline moves closer, and the test ends sooner.

EVERGREEN_TEST_KILLS says how many runs are killed (default 2; `make test-training-kills` kills 20). They run
a few at a time: a busy machine is the harder case.
"""

import json
import os
import random
import signal
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from absa.inference.engine import Engine
from absa.inference.package import load_package
from flows.training.job_process import JobResult, run_job, write_after
from tests.conftest import labelled_rows, write_job
from tests.tiny_encoders import save_bert

KILLS = int(os.environ.get("EVERGREEN_TEST_KILLS", "2"))
AT_A_TIME = 4
RESERVE_S = 20.0 * min(KILLS, AT_A_TIME)  # covers a start and packaging beside the others; it ends early elsewhere
BUDGET_S = RESERVE_S + (30.0 if KILLS > AT_A_TIME else 20.0)
AFTER_S = 2.0  # that the caller needs after the job, as a flow does
GOES_ON_S = 6.0  # of a run of few, from its first progress after the restart to its new deadline
ENDLESS = {"max_epochs": 1e6, "checkpoint_every_s": 0.5, "threads": 1, "precision": "fp32"}


@dataclass
class Killed:
    """A run whose process is killed at its second, or once it has a checkpoint; hears every event."""

    folder: Path
    ends_at: float
    after_s: float = 0.0
    needs_checkpoint: bool = False
    kept: bool = False
    events: list[Mapping[str, Any]] = field(default_factory=list)
    kills: int = 0
    restarted: bool = False
    needs_s: float = AFTER_S
    result: JobResult | None = None
    ended: float = 0.0

    def run(self) -> "Killed":
        """Run it to its end."""
        self.result = run_job(
            self.folder,
            ends_at=self.ends_at,
            environment=dict(os.environ),
            on_event=self,
            least_after_s=lambda: self.needs_s,
        )
        self.ended = time.time()
        return self

    def __call__(self, event: Mapping[str, Any]) -> None:
        self.events.append(event)
        left_s = self.ends_at - time.time()
        self.restarted |= event["event"] == "restart"
        if KILLS <= AT_A_TIME and self.restarted and self.needs_s == AFTER_S and trained_s(event):
            self.needs_s = max(AFTER_S + 1.0, left_s - GOES_ON_S)
            write_after(self.folder, self.needs_s)
        age_s = BUDGET_S - left_s
        if not self.kills and age_s >= self.after_s and (self.has_checkpoint() or not self.needs_checkpoint):
            self.after_s = age_s
            for process in _jobs_in(self.folder):
                os.kill(process, signal.SIGKILL)
                self.kills += 1
            self.kept = self.has_checkpoint()

    @property
    def packaged_again(self) -> bool:
        """Return True if the training that went on made a package; else that of the first start is the result."""
        names = [event["event"] for event in self.events]
        return "package" in names[names.index("restart") :]

    def has_checkpoint(self) -> bool:
        """Return True if a complete checkpoint exists."""
        return any((self.folder / "checkpoints").glob("*.json"))


def trained_s(event: Mapping[str, Any]) -> float:
    """Seconds of training that an event tells of."""
    return float(event["elapsed_s"]) if event["event"] == "progress" else 0.0


def _jobs_in(folder: Path) -> list[int]:
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and (entry / "cmdline").read_bytes().split(b"\0")[-2:-1] == [bytes(folder)]:
                found.append(int(entry.name))
        except OSError:
            continue
    return found


def killed_run(folder: Path, number: int) -> Killed:
    """Write a job and kill it: the first once it has a checkpoint, others at random before the reserve begins."""
    settings = ENDLESS | {"base_model": str(save_bert(folder / "base"))}
    write_job(folder, budget_s=BUDGET_S, reserve_s=RESERVE_S, settings=settings, rows=labelled_rows(400))
    ends_at = float(json.loads((folder / "job.json").read_text())["ends_at"])
    if number == 0:
        return Killed(folder, ends_at, needs_checkpoint=True).run()
    return Killed(folder, ends_at, random.Random(number).uniform(0.0, BUDGET_S - RESERVE_S - 1.0)).run()


@pytest.mark.timeout(60 + BUDGET_S * (1 + KILLS // AT_A_TIME))
@pytest.mark.skipif(not Path("/proc/self/cmdline").exists(), reason="finds the processes to kill in /proc")
def test_killed_runs_end_in_time_with_one_package(tmp_path: Path) -> None:
    with ThreadPoolExecutor(AT_A_TIME) as several:
        runs = list(several.map(lambda number: killed_run(tmp_path / f"job-{number}", number), range(KILLS)))
    assert runs[0].kept
    for run in runs:
        assert run.kills == 1
        assert run.ended < run.ends_at
        assert run.result is not None
        assert run.result.starts == 2
        assert [event["event"] for event in run.events].count("done") == 1
        assert run.result.done["resumed"] == (run.kept and run.packaged_again)
        assert load_package(run.result.package).digest == run.result.done["digest"]
        assert Engine.load(run.result.package).warm_up() >= 10
        if not any(event["event"] == "ended_early" for event in run.events):  # its caller may end it at the deadline
            assert not (run.folder / "checkpoints").exists()
        assert not list(run.folder.glob(".package*"))
    late = [round(run.ends_at - run.ended, 1) for run in runs]
    print(f"{KILLS} runs killed after {[round(run.after_s, 1) for run in runs]} s; spare seconds {late}")
