"""Power cut in the middle of a real training, by commands alone: the next training and the monitor run.

`test_power_cut.py` has every kind of run and of death, with runs that hang.
"""

import csv
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest

from flows.demo.pace import PACES
from flows.platform.settings import Home, Settings
from tests.conftest import labelled_rows
from tests.homes import choose_ports, end_family, family, outer_environment
from tests.serving_replica import until

COMMAND_S = 300


def evergreen(home: Path, *words: str) -> str:
    """Run a command as an operator does, and return what it printed."""
    environment = outer_environment() | {
        "EVERGREEN_PROFILE": PACES["tiny"].profile, "EVERGREEN_BUDGET_S": f"{PACES['tiny'].budget_s:g}",

        "EVERGREEN_HOME": str(home), "EVERGREEN_SCHEDULE_MONITOR": "false",
        "PREFECT_SERVER_DEPLOYMENTS_CONCURRENCY_SLOT_WAIT_SECONDS": "5",
    }  # fmt: skip
    ended = subprocess.run(
        (sys.executable, "-m", "flows.cli", *words),
        env=environment, capture_output=True, text=True, timeout=COMMAND_S, check=False,
    )  # fmt: skip
    assert ended.returncode == 0, f"{words}: {ended.stdout[-2000:]}{ended.stderr[-2000:]}"
    return ended.stdout


def trainings(home: Path) -> list[str]:
    """Return the states of the runs of the training deployment, the newest last."""
    url = f"{Home(Settings(home=home)).url('prefect')}/api"
    deployment = httpx.get(f"{url}/deployments/name/continuous-training/continuous-training", timeout=30).json()["id"]
    wanted: dict[str, Any] = {"deployments": {"id": {"any_": [deployment]}}, "sort": "START_TIME_ASC"}
    runs = httpx.post(f"{url}/flow_runs/filter", json=wanted, timeout=30).json()
    return [run["state"]["type"] for run in sorted(runs, key=lambda run: run["created"])]


def job_runs(home: Path) -> bool:
    return any("absa.job" in process.cmdline() for process in family(home))


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_power_cut_during_training_blocks_nothing(tmp_path: Path) -> None:
    home, rows = tmp_path / "home", tmp_path / "rows.csv"
    with rows.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, ("text", "aspect", "label"))
        writer.writeheader()
        writer.writerows(labelled_rows(1_500))
    choose_ports(home)
    try:
        evergreen(home, "ingest", str(rows))
        evergreen(home, "up")
        evergreen(home, "retrain", "--budget", "100")
        until(lambda: job_runs(home), what="the training's job runs", seconds=180, every_s=0.5)
        end_family(home)

        evergreen(home, "up")
        until(lambda: trainings(home) == ["CRASHED"], what="the dead run is marked", seconds=120, every_s=0.5)
        evergreen(home, "retrain", "--budget", "60")
        until(lambda: job_runs(home), what="the next training's job runs", seconds=180, every_s=0.5)
        until(
            lambda: trainings(home) == ["CRASHED", "COMPLETED"], what="the next training ends", seconds=300, every_s=0.5
        )
        assert "action: " in evergreen(home, "monitor", "--last", "60")
    finally:
        end_family(home)
