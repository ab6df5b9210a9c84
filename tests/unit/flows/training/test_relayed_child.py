"""Child processes of a training: events, log and end of a job or a teacher, and the failure of the shards' process."""

import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from absa.errors import DeadlineMissedError, PermanentError, TransientError
from absa.training.rows.shards import FAILED_FILE, PLAN_FILE, ShardCorpus, TokenPlan
from flows.training.job_process import relay_child, run_job
from flows.training.teaching.teachers import run_teacher
from flows.training.token_process import ShardMaker, Shards
from tests.serving_replica import until

EVENTS = "print('{\"event\": \"one\"}'); print('not JSON'); import sys; print('why', file=sys.stderr); sys.exit(3)"
ENDLESS = "print('{\"event\": \"pid\", \"pid\": ' + str(__import__('os').getpid()) + '}'); __import__('time').sleep(60)"
FAILS = "import sys; print('warning', file=sys.stderr); print('no space left', file=sys.stderr); sys.exit(7)"
KILLED = "import os; os.kill(os.getpid(), 9)"


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


def maker(tmp_path: Path, script: str) -> ShardMaker:
    """A process that makes no shard of a plan that has one."""
    plan = TokenPlan(snapshot="s" * 64, tokenizer="t", side="train", max_tokens=64, rows=(4,))
    (tmp_path / PLAN_FILE).write_text(plan.to_json())
    command = [sys.executable, "-S", "-c", script]
    return ShardMaker(command, tmp_path, log=tmp_path / "logs" / "log", environment=os.environ)


@pytest.mark.parametrize(
    ("script", "cause"), [(FAILS, r"ended \(exit 7\): no space left; see .*log"), (KILLED, r"ended \(exit -9\)")]
)
def test_failed_maker_ends_the_wait_with_its_cause(tmp_path: Path, script: str, cause: str) -> None:
    made, began = maker(tmp_path, script), time.monotonic()
    with pytest.raises(TransientError, match=f"the process that makes token shards {cause}"):
        ShardCorpus(tmp_path, left_s=lambda: 60.0).take(np.array([0]))
    assert time.monotonic() - began < 30
    made.stop()


def test_cause_of_an_earlier_maker_is_not_repeated(tmp_path: Path) -> None:
    for script in (FAILS, KILLED):
        made = maker(tmp_path, script)
        with pytest.raises(TransientError) as caught:
            ShardCorpus(tmp_path, left_s=lambda: 60.0).take(np.array([0]))
        made.stop()
        (tmp_path / FAILED_FILE).unlink()
    assert str(caught.value).endswith("(exit -9): it gave no reason")


def test_stopped_maker_leaves_no_cause(tmp_path: Path) -> None:
    made = maker(tmp_path, "import time; time.sleep(60)")
    Shards(tmp_path, made).stop()
    Shards(tmp_path, made).stop()
    assert not (tmp_path / FAILED_FILE).exists()


def has_ended(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return True


@pytest.mark.parametrize("end", ["time.sleep(60)", "sys.exit(1)"])
def test_workers_of_maker_end_with_it(tmp_path: Path, end: str) -> None:
    """Workers of a pool wait for tasks: they do not notice that the process that sends them is gone."""
    started = tmp_path / "pid"
    worker = "[sys.executable, '-S', '-c', 'import time; time.sleep(300)']"
    script = f"import pathlib, subprocess, sys, time; child = subprocess.Popen({worker})"
    made = maker(tmp_path, f"{script}; pathlib.Path({str(started)!r}).write_text(str(child.pid)); {end}")
    until(lambda: started.exists() and started.read_text())
    made.stop()
    until(lambda: has_ended(int(started.read_text())), seconds=60)
