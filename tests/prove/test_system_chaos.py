"""Any process of the whole system is killed at any time while the demo runs: it ends with one consistent story.

`make prove` kills EVERGREEN_PROVE_KILLS times (20), a demo each. A demo whose own process or servers died is started
again, as a person would, and goes on where it stopped.
"""

import os
import random
import signal
import sqlite3
import subprocess
import threading
from pathlib import Path

import polars as pl
import psutil
import pytest

from absa.adapters.lake_stores import FolderLake
from absa.ledger.store import Ledger
from monitoring.verdicts import VerdictStore
from tests.homes import DEMO, choose_ports, end_family, family, outer_environment

KILLS = int(os.environ.get("EVERGREEN_PROVE_KILLS", "0"))
DEMO_S = 600
STARTS = 4
pytestmark = [
    pytest.mark.timeout(DEMO_S * STARTS + 60),
    pytest.mark.skipif(not KILLS, reason="minutes for each kill: `make prove`"),
]


class Killer:
    """Kills one process of a home, drawn at random, after so many seconds."""

    def __init__(self, home: Path, seed: int) -> None:
        self._home, self._chance = home, random.Random(seed)
        self.after_s = self._chance.uniform(5, 120)
        self.killed = ""
        self._timer = threading.Timer(self.after_s, self._kill)

    def _kill(self) -> None:
        living = sorted(family(self._home), key=lambda process: process.pid)
        if living:
            chosen = self._chance.choice(living)
            try:
                self.killed = " ".join(chosen.cmdline())[-150:]
                os.kill(chosen.pid, signal.SIGKILL)
            except (psutil.NoSuchProcess, ProcessLookupError):
                self.killed = ""

    def __enter__(self) -> "Killer":
        self._timer.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._timer.cancel()
        self._timer.join()


def run_demo(home: Path, log: Path) -> int:
    """Start the demo, or go on with it; its exit code, negative where a signal ended it."""
    environment = outer_environment() | {"EVERGREEN_HOME": str(home)}
    with log.open("ab") as file:
        return subprocess.run(DEMO, env=environment, stdout=file, stderr=file, timeout=DEMO_S, check=False).returncode


@pytest.mark.parametrize("seed", range(KILLS))
def test_whatever_is_killed_the_story_ends_consistent(tmp_path: Path, seed: int) -> None:
    home, log = tmp_path / "home", tmp_path / "demo.log"
    choose_ports(home)
    try:
        with Killer(home, seed) as killer:
            codes = [run_demo(home, log)]
        while codes[-1] and len(codes) < STARTS:
            codes.append(run_demo(home, log))
        said = f"killed after {killer.after_s:.0f} s: {killer.killed}; exit codes {codes}\n{log.read_text()[-3000:]}"
        assert codes[-1] == 0, said
        assert_consistent(home, said)
        assert family(home) == [], said
    finally:
        end_family(home)


def assert_consistent(home: Path, said: str) -> None:
    """Ledger, registry and lake tell one story."""
    ledger = Ledger(FolderLake(home / "lake"))
    assert ledger.verify() == [], said
    head = ledger.head()
    assert head is not None, said
    assert head.state.champion is not None, said
    with sqlite3.connect(home / "mlflow" / "mlflow.db") as database:
        aliases = dict(database.execute("select alias, version from registered_model_aliases"))
        runs = [run for (run,) in database.execute("select run_id from model_versions where run_id is not null")]
        tags = dict(database.execute("select version, value from model_version_tags where key = 'digest'"))
    assert str(aliases["champion"]) == head.state.champion, said
    assert len(runs) == len(set(runs)), f"two versions of one run; {said}"
    for record in ledger.follow():
        assert all(tags[int(version)] == digest for version, digest in record.versions.items()), said
    rows = pl.read_parquet(home / "lake" / "predictions" / "**" / "*.parquet")
    keys = rows.select("request_id", "model_version", "shadow")
    assert keys.height == keys.unique().height, said
    for verdict in VerdictStore(FolderLake(home / "lake")).history():
        assert sum(attempt.state == "completed" for attempt in verdict.attempts) <= 1, said
