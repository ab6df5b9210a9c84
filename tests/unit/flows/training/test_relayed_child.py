"""Child process of a training or a teacher: its events, its log, its end."""

import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from absa.errors import DeadlineMissedError, PermanentError
from flows.training.job_process import relay_child, run_job
from flows.training.teaching.teachers import run_teacher

EVENTS = "print('{\"event\": \"one\"}'); print('not JSON'); import sys; print('why', file=sys.stderr); sys.exit(3)"
ENDLESS = "print('{\"event\": \"pid\", \"pid\": ' + str(__import__('os').getpid()) + '}'); __import__('time').sleep(60)"


def run(tmp_path: Path, script: str, events: list[Mapping[str, Any]], *, over: bool = False) -> tuple[int, str | None]:
    return relay_child(
        [sys.executable, "-u", "-S", "-c", script],
        log=tmp_path / "child.log", environment=os.environ, on_event=events.append, is_over=lambda: over,
    )  # fmt: skip


def test_events_are_relayed_and_rest_is_logged(tmp_path: Path) -> None:
    events: list[Mapping[str, Any]] = []
    assert run(tmp_path, EVENTS, events) == (3, None)
    assert events == [{"event": "one"}]
    assert sorted((tmp_path / "child.log").read_text().split("\n")) == ["", "not JSON", "why"]


def test_child_is_killed_when_time_is_over(tmp_path: Path) -> None:
    assert run(tmp_path, ENDLESS, [], over=True)[0] < 0


def test_child_does_not_outlive_a_failing_listener(tmp_path: Path) -> None:
    pids: list[int] = []

    def listen(event: Mapping[str, Any]) -> None:
        pids.append(event["pid"])
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        relay_child(
            [sys.executable, "-u", "-S", "-c", ENDLESS],
            log=tmp_path / "child.log", environment=os.environ, on_event=listen, is_over=lambda: False,
        )  # fmt: skip
    with pytest.raises(ProcessLookupError):
        os.kill(pids[0], 0)


def test_teacher_without_time_says_why(tmp_path: Path) -> None:
    package = tmp_path / "path" / "absa" / "training"
    package.mkdir(parents=True)
    (package / "teacher.py").write_text('print(\'{"event": "failed", "sentence": "no time"}\'); raise SystemExit(3)')
    environment = {**os.environ, "PYTHONPATH": str(package.parents[1]), "PYTHONSAFEPATH": "1"}
    with pytest.raises(DeadlineMissedError, match=r"^no time$"):
        run_teacher(tmp_path, ends_at=time.time() + 60, environment=environment, on_event=lambda _: None)


def test_failed_job_says_why(tmp_path: Path) -> None:
    package = tmp_path / "path" / "absa"
    package.mkdir(parents=True)
    (package / "job.py").write_text(
        'print(\'{"event": "failed", "sentence": "nothing to learn"}\'); raise SystemExit(1)'
    )
    environment = {**os.environ, "PYTHONPATH": str(package.parent), "PYTHONSAFEPATH": "1"}
    with pytest.raises(PermanentError, match=r"training failed \(exit 1\): nothing to learn"):
        run_job(tmp_path, ends_at=time.time() + 60, environment=environment, on_event=lambda _: None)
