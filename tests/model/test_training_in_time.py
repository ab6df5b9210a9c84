"""A training job under the watch of its caller: the newest complete package is its result, in time."""

import json
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from absa.errors import DeadlineMissedError, PermanentError
from absa.inference.package import load_package
from flows.training.job_process import run_job, write_after
from tests.conftest import labelled_rows, write_job
from tests.tiny_encoders import save_bert

ENDLESS = {"max_epochs": 1e6, "threads": 1, "precision": "fp32"}


class Events(list[Mapping[str, Any]]):
    """Events of a job, in order."""

    def __call__(self, event: Mapping[str, Any]) -> None:
        self.append(event)

    def named(self, name: str) -> list[Mapping[str, Any]]:
        return [event for event in self if event["event"] == name]


def start(folder: Path, *, budget_s: float, reserve_s: float = 5.0, **changes: Any) -> float:
    """Write a job and return its deadline. The first package comes after a fifth of what the reserve leaves."""
    settings = ENDLESS | {"base_model": str(save_bert(folder / "base"))} | changes
    write_job(folder, budget_s=budget_s, reserve_s=reserve_s, settings=settings, rows=labelled_rows(200))
    return float(json.loads((folder / "job.json").read_text())["ends_at"])


def test_caller_takes_newest_package_in_time(tmp_path: Path) -> None:
    ends_at, events = start(tmp_path, budget_s=60, reserve_s=80), Events()
    write_after(tmp_path, -30.0)  # the job believes that it may train on

    def needed() -> float:
        return 100.0 if events.named("package") else 10.0  # the caller's own time begins after the first package

    result = run_job(tmp_path, ends_at=ends_at, environment=os.environ, on_event=events, least_after_s=needed)
    assert time.time() < ends_at - 5.0
    assert result.done["digest"] == load_package(result.package).digest
    assert (result.weights / "config.json").is_file()
    assert "newest complete package" in events.named("ended_early")[-1]["sentence"]


def test_job_learns_what_its_caller_needs(tmp_path: Path) -> None:
    ends_at, events = start(tmp_path, budget_s=56), Events()
    write_after(tmp_path, 50.0)
    run_job(tmp_path, ends_at=ends_at, environment=os.environ, on_event=events)
    assert events.named("done")
    assert ends_at - time.time() > 20.0  # a job that did not learn it would leave 5 s


def test_failed_job_gives_its_newest_package(tmp_path: Path) -> None:
    ends_at, events = start(tmp_path, budget_s=120, reserve_s=116), Events()

    def spoil(event: Mapping[str, Any]) -> None:
        events(event)
        if event["event"] == "package":
            (tmp_path / "after.json").write_text("{}")  # the next look at it raises

    result = run_job(tmp_path, ends_at=ends_at, environment=os.environ, on_event=spoil)
    assert result.done["digest"] == load_package(result.package).digest
    assert "training failed (exit 1)" in events.named("ended_early")[-1]["sentence"]


def test_job_without_a_package_is_a_missed_deadline(tmp_path: Path) -> None:
    ends_at = start(tmp_path, budget_s=1.0)
    with pytest.raises(DeadlineMissedError, match="first package"):
        run_job(tmp_path, ends_at=ends_at, environment=os.environ, on_event=Events())
    assert time.time() < ends_at + 5.0


def test_failed_job_without_a_package_names_the_reason(tmp_path: Path) -> None:
    ends_at = start(tmp_path, budget_s=60, precision="half")
    with pytest.raises(PermanentError, match="precision: expected one of auto, fp32, bf16, got 'half'"):
        run_job(tmp_path, ends_at=ends_at, environment=os.environ, on_event=Events())
