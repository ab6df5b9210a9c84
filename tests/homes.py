"""Homes of installations under test: the demo run in one, and the processes that belong to it."""

import json
import os
import random
import re
import sqlite3
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import psutil

from absa.adapters.lake_stores import FolderLake
from absa.configuration import CONFIGURATION_FILE
from absa.ledger.store import Ledger
from absa.task import TaskSpec
from flows.platform.settings import PARTS, port_is_free
from monitoring.verdicts import VerdictStore

_PORTS = range(20_000, 32_000)  # below those that the kernel gives to clients
_OF_DEFAULT_TASK = re.compile(r"\w*(?:aspect|sentiment|opinion|neutral|pos.?neg)\w*", re.IGNORECASE)
_MODULE = "inference/aspect_span.py"  # travels with a model; MLflow logs its requests by path
_TEXTS = (".csv", ".html", ".json", ".jsonl", ".log", ".md", ".prom", ".toml")
_NO_MESSAGES = ("tokenizer.json", "validation.jsonl")  # a vocabulary; records, whose columns are those of every task
DEMO = (sys.executable, "-m", "flows.cli", "demo", "--scale", "tiny", "--no-keep")


def configure(home: Path, **sections: Mapping[str, object]) -> None:
    """Write evergreen.toml into a home."""
    home.mkdir(parents=True, exist_ok=True)
    tables = (f"[{name}]\n{_lines(table)}" for name, table in sections.items())
    (home / CONFIGURATION_FILE).write_text("".join(tables), encoding="utf-8")


def _lines(table: Mapping[str, object]) -> str:
    return "".join(f"{key} = {json.dumps(value)}\n" for key, value in table.items())


def choose_ports(home: Path) -> None:
    """Give a home ports of its own: systems that start side by side would choose the same ones."""
    home.mkdir(parents=True, exist_ok=True)
    (home / "ports.json").write_text(json.dumps(dict(zip(PARTS, _free_ports(), strict=False))), encoding="utf-8")


def _free_ports() -> list[int]:
    drawn = random.SystemRandom().sample(_PORTS, 40)
    return [port for port in drawn if port_is_free("127.0.0.1", port)]


def outer_environment() -> dict[str, str]:
    """The environment without what an installation sets, so that one of this machine's own is not touched."""
    return {k: v for k, v in os.environ.items() if not k.startswith(("EVERGREEN_", "PREFECT_", "MLFLOW_"))}


@contextmanager
def home_environment(home: Path) -> Iterator[dict[str, str]]:
    """Environment of commands in a small home of its own with a free router port; its processes end with the body."""
    try:
        yield {
            **outer_environment(),
            "EVERGREEN_HOME": str(home),
            "EVERGREEN_PROFILE": "test",
            "EVERGREEN_ROUTER_PORT": str(_free_ports()[0]),
            "EVERGREEN_WORKERS": "1",
        }
    finally:
        end_family(home)


def tell(environment: dict[str, str], *words: str, timeout_s: float) -> str:
    """Run the demo to its end, and give its story."""
    choose_ports(Path(environment["EVERGREEN_HOME"]))
    ended = subprocess.run(
        [*DEMO, *words], env=environment, capture_output=True, text=True, timeout=timeout_s, check=False
    )
    assert ended.returncode == 0, ended.stdout[-3000:] + ended.stderr[-2000:]
    return ended.stdout


def run_loop(home: Path, task: TaskSpec, *words: str, timeout_s: float) -> str:
    """Run the demo of a task, assert that drift led to one retraining and its version's promotion, give the story."""
    environment = outer_environment() | {"EVERGREEN_HOME": str(home)}
    try:
        story = tell(environment, *words, timeout_s=timeout_s)
    finally:
        end_family(home)
    ledger = Ledger(FolderLake(home / "lake"))
    assert ledger.verify() == []
    assert ledger.task() == task
    records = ledger.follow()
    assert (records[-1].action, records[-1].state.champion) == ("promote", "2")
    verdicts = VerdictStore(FolderLake(home / "lake")).history()
    assert (verdicts[0].verdict == "STALE", verdicts[-1].verdict == "STALE") == (False, True)
    assert verdicts[-1].report_uri is not None
    assert [attempt.state for verdict in verdicts for attempt in verdict.attempts] == ["completed"]
    return story


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
            with suppress(psutil.NoSuchProcess):  # it has just ended
                process.kill()
        psutil.wait_procs(living, timeout=1)


def said_in(home: Path) -> Iterator[tuple[str, str]]:
    """Yield each text file of a home, and each of its SQLite databases as text, with its path."""
    for file in sorted(home.rglob("*")):
        if file.name in _NO_MESSAGES or not file.is_file():
            continue
        place = str(file.relative_to(home))
        if file.suffix in _TEXTS:
            yield place, file.read_text(encoding="utf-8", errors="replace")
        elif file.suffix == ".db":
            with closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as database:
                yield place, "\n".join(database.iterdump())


def words_of_default_task(said: str) -> list[str]:
    """Return the words that speak of aspects or sentiments, which no message of a plain-text home may have."""
    return _OF_DEFAULT_TASK.findall(said.replace(_MODULE, ""))
