"""Homes of installations under test: the demo run in one, and the processes that belong to it."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import psutil

from absa.configuration import CONFIGURATION_FILE

_OF_DEFAULT_TASK = re.compile(r"\w*(?:aspect|sentiment|opinion|neutral|pos.?neg)\w*", re.IGNORECASE)
DEMO = (sys.executable, "-m", "flows.cli", "demo", "--scale", "tiny", "--no-keep")


def configure(home: Path, **sections: Mapping[str, object]) -> None:
    """Write evergreen.toml into a home."""
    home.mkdir(parents=True, exist_ok=True)
    tables = (f"[{name}]\n{_lines(table)}" for name, table in sections.items())
    (home / CONFIGURATION_FILE).write_text("".join(tables), encoding="utf-8")


def _lines(table: Mapping[str, object]) -> str:
    return "".join(f"{key} = {json.dumps(value)}\n" for key, value in table.items())


def outer_environment() -> dict[str, str]:
    """The environment without what an installation sets, so that one of this machine's own is not touched."""
    return {k: v for k, v in os.environ.items() if not k.startswith(("EVERGREEN_", "PREFECT_", "MLFLOW_"))}


def tell(environment: dict[str, str], *words: str, timeout_s: float) -> str:
    """Run the demo to its end, and give its story."""
    ended = subprocess.run(
        [*DEMO, *words], env=environment, capture_output=True, text=True, timeout=timeout_s, check=False
    )
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


def words_of_default_task(said: str) -> list[str]:
    """Return the words that speak of aspects or sentiments, which no message of a plain-text home may have."""
    return _OF_DEFAULT_TASK.findall(said)
