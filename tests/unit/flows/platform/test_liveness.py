"""Signs of life of flow runs, and which runs cannot be alive."""

import json
import os
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from absa.adapters.lake_stores import FolderLake
from absa.records.layout import flow_run_key
from flows.platform.artifacts import leave_signs
from flows.platform.liveness import (
    GONE_S,
    SILENT_S,
    START_ELSEWHERE_S,
    START_GRACE_S,
    Sight,
    Sign,
    death_of,
    keep_signing,
    leave_sign,
    lives_here,
    runs_with_a_process,
    sign_of,
    this_host,
)

HERE = Sign(host="here/1/p", pid=4711, created=1.0, at="2026-11-30T00:00:00.000000Z")
AWAY = replace(HERE, host="away/2/p")


def seen(sign: Sign | None, *, alive: bool = False, age_s: float = 0.0, unchanged_s: float = 0.0) -> Sight:
    return Sight(sign=sign, process_is_here=alive, state_age_s=age_s, unchanged_s=unchanged_s)


@pytest.mark.parametrize(
    ("sight", "only_worker", "first_look", "reason"),
    [
        (seen(HERE, alive=True, age_s=1e6, unchanged_s=1e6), True, True, None),
        (seen(HERE), False, True, "its process 4711 has ended"),
        (seen(HERE, unchanged_s=GONE_S - 1), True, False, None),  # its own worker is about to report it
        (seen(HERE, unchanged_s=GONE_S), True, False, "its process 4711 has ended"),
        (seen(AWAY, age_s=1e6), True, True, None),
        (seen(AWAY, age_s=1e6, unchanged_s=SILENT_S - 1), False, False, None),
        (seen(AWAY, unchanged_s=SILENT_S), False, False, "its host away gave no sign of life for 300 s"),
        (seen(None, alive=True, age_s=1e6), True, True, None),
        (seen(None, age_s=START_GRACE_S - 1), True, True, None),
        (seen(None, age_s=START_GRACE_S), True, True, "no other worker serves its deployment"),
        (seen(None, age_s=1e6), False, True, None),  # another worker's, or its machine is still to come
        (seen(None, age_s=1e6, unchanged_s=START_ELSEWHERE_S), False, False, "did not start within 900 s"),
    ],
)
def test_run_without_sign_of_life_is_dead(
    sight: Sight, only_worker: bool, first_look: bool, reason: str | None
) -> None:
    found = death_of(sight, host=HERE.host, only_worker=only_worker, first_look=first_look)
    assert (found is None) == (reason is None)
    assert reason is None or reason in str(found)


def test_sign_names_this_process(tmp_path: Path) -> None:
    lake = FolderLake(tmp_path)
    leave_sign(lake, "run-1")
    sign = sign_of(lake, "run-1")
    assert sign is not None
    assert (sign.host, sign.pid) == (this_host(), os.getpid())
    assert lives_here(sign)
    assert not lives_here(replace(sign, created=sign.created - 100)), "its number belongs to another process now"


def test_ended_process_does_not_live() -> None:
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    sign = replace(HERE, pid=child.pid, created=psutil.Process(child.pid).create_time())
    assert lives_here(sign)
    child.kill()
    child.wait()
    assert not lives_here(sign)


@pytest.mark.parametrize("note", [b"{", b"[]", b"{}", b'{"host": "a", "pid": "x", "created": 1, "at": ""}'])
def test_unreadable_sign_is_no_sign(tmp_path: Path, note: bytes) -> None:
    lake = FolderLake(tmp_path)
    lake.write(flow_run_key("run-1"), note)
    assert sign_of(lake, "run-1") is None


def test_process_of_run_is_found_by_environment() -> None:
    environment = {**os.environ, "PREFECT__FLOW_RUN_ID": "run-of-this-test"}
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, env=environment) as child:
        assert "run-of-this-test" in runs_with_a_process()
        child.kill()
    assert "run-of-this-test" not in runs_with_a_process()


def test_run_is_signed_with_a_format_version(tmp_path: Path) -> None:
    ended = threading.Event()
    ended.set()
    keep_signing(FolderLake(tmp_path), "run-1", ended=ended)
    assert json.loads((tmp_path / "flow_runs/run-1.json").read_text())["schema_version"] == 1


def test_unavailable_lake_ends_no_run(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "flow_runs").write_text("a file where the lake needs a folder")
    ended = threading.Event()
    ended.set()
    keep_signing(FolderLake(tmp_path), "run-1", ended=ended)
    assert "the sign of life of run run-1 was not written" in caplog.text


def test_run_of_a_command_leaves_no_sign(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EVERGREEN_HOME", str(tmp_path))
    leave_signs(None, SimpleNamespace(deployment_id=None, id="run-1"), None)
    assert not any(tmp_path.iterdir())
