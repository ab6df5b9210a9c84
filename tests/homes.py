"""Homes of installations under test: the demo run in one, and the processes that belong to it."""

import os
import subprocess
import sys
from pathlib import Path

import psutil

DEMO = (sys.executable, "-m", "flows.cli", "demo", "--scale", "tiny", "--no-keep")


def outer_environment() -> dict[str, str]:
    """The environment without what an installation sets, so that one of this machine's own is not touched."""
    return {k: v for k, v in os.environ.items() if not k.startswith(("EVERGREEN_", "PREFECT_", "MLFLOW_"))}


def tell(environment: dict[str, str], *, timeout_s: float) -> str:
    """Run the demo to its end, and give its story."""
    ended = subprocess.run(DEMO, env=environment, capture_output=True, text=True, timeout=timeout_s, check=False)
    assert ended.returncode == 0, ended.stdout[-3000:] + ended.stderr[-2000:]
    return ended.stdout


def family(home: Path) -> list[psutil.Process]:
    """Every process that belongs to an installation: its environment names the home."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.pid != os.getpid() and process.environ().get("EVERGREEN_HOME") == str(home):
                found.append(process)
        except (psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
            continue
    return found


def end_family(home: Path) -> None:
    """kill -9 of every process that belongs to an installation, until there is none."""
    while living := family(home):
        for process in living:
            process.kill()
        psutil.wait_procs(living, timeout=1)
