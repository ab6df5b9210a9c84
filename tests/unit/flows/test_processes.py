"""Parts as processes: what one leaves behind when it dies alone does not stand in the way of the next."""

import contextlib
import os
import sys
from pathlib import Path

import psutil
import pytest

from flows.doctor import examine
from flows.processes import Part, Supervisor
from flows.settings import Home, Settings, port_is_free
from tests.serving_replica import free_port, until

# a leader and a child that listens, as `mlflow server` has one
_SERVER = """
import subprocess, sys
subprocess.run([sys.executable, "-m", "http.server", "--bind", "127.0.0.1", sys.argv[1]])
"""


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setenv("EVERGREEN_HOME", str(tmp_path))
    monkeypatch.setenv("EVERGREEN_MLFLOW_PORT", str(free_port()))
    return Settings.load()


def test_a_part_that_was_killed_alone_can_be_started_again_and_ended_whole(settings: Settings) -> None:
    port = Home(settings).ports()["mlflow"]
    part = Part(
        name="mlflow", command=(sys.executable, "-c", _SERVER, str(port)), environment=dict(os.environ), port=port,
        ready_url=f"http://127.0.0.1:{port}/",
    )  # fmt: skip
    supervisor = Supervisor(settings)
    try:
        supervisor.start(part)
        supervisor.wait([part], timeout_s=30)
        assert supervisor.orphans("mlflow") == []
        first = supervisor.running("mlflow")
        assert first is not None
        first.kill()
        until(lambda: supervisor.running("mlflow") is None)
        (orphan,) = supervisor.orphans("mlflow")
        assert not port_is_free("127.0.0.1", port)
        assert [finding.ok for finding in examine(settings) if str(port) in finding.sentence] == [True]
        supervisor.start(part)
        supervisor.wait([part], timeout_s=30)
        with contextlib.suppress(psutil.NoSuchProcess):
            assert orphan.status() == psutil.STATUS_ZOMBIE
        second = supervisor.running("mlflow")
        assert second is not None
        second.kill()
        until(lambda: supervisor.running("mlflow") is None)
        assert supervisor.stop("mlflow")
        assert port_is_free("127.0.0.1", port)
    finally:
        supervisor.stop("mlflow")


def test_what_a_part_without_a_port_left_goes_on_until_it_is_stopped(settings: Settings) -> None:
    child = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'import time; time.sleep(60)'])"
    part = Part(name="deployments", command=(sys.executable, "-c", child), environment=dict(os.environ))
    supervisor = Supervisor(settings)
    try:
        for number in range(2):
            supervisor.start(part)
            leader = supervisor.running("deployments")
            assert leader is not None
            until(leader.children)
            leader.kill()
            until(lambda: supervisor.running("deployments") is None)
            assert len(supervisor.orphans("deployments")) == number + 1
        supervisor.start(part)
        assert len(supervisor.orphans("deployments")) == 2
        left = supervisor.orphans("deployments")
        assert supervisor.stop("deployments")
        assert supervisor.orphans("deployments") == []
        assert not [each for each in left if each.is_running() and each.status() != psutil.STATUS_ZOMBIE]
    finally:
        supervisor.stop("deployments")
