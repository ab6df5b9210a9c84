"""Processes of homes in whole-system tests: a process of a home is found and ended, another is left alone."""

import subprocess
import sys
from pathlib import Path

from tests.homes import end_family, family, outer_environment

WAITS = (sys.executable, "-c", "print(flush=True); input()")


def started(home: Path) -> "subprocess.Popen[bytes]":
    """A process of a home in a session of its own, as a server is."""
    child = subprocess.Popen(
        WAITS, env=outer_environment() | {"EVERGREEN_HOME": str(home)}, start_new_session=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip
    assert child.stdout is not None
    child.stdout.readline()
    return child


def test_only_own_processes_are_found_and_ended(tmp_path: Path) -> None:
    with started(tmp_path / "one") as one, started(tmp_path / "two") as two:
        try:
            assert [process.pid for process in family(tmp_path / "one")] == [one.pid]
            end_family(tmp_path / "one")
            assert family(tmp_path / "one") == []
            assert two.poll() is None
        finally:
            one.kill()
            two.kill()
