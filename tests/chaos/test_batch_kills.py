"""A batch that is killed at random times, the job or one of its workers, ends with every row once.

CI kills twice in 30 partitions (on Ray once, a worker); `make test-kills` kills 20 times in 200, local and on Ray.
"""

import csv
import os
import random
import signal
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path

import psutil
import pytest

from absa.batch.verify import verify_batch
from tests.toy_package import WORDS, build_toy_package

KILLS = int(os.environ.get("EVERGREEN_TEST_KILLS", "2"))
PARTITIONS = 200 if KILLS > 2 else 30
ROWS = 50
PATIENCE_S = 120
RUN = """
import sys
from pathlib import Path
from absa.batch.cluster import RayCluster
from absa.batch.job import BatchJob, run_batch
from absa.batch.local import LocalProcesses
if __name__ == "__main__":
    given, output, package, engine, rows = sys.argv[1:]
    wanted = BatchJob(
        input_uri=given, output_uri=output, package=Path(package), version="7", partition_rows=int(rows)
    )
    run_batch(wanted, engines={"local": LocalProcesses, "ray": RayCluster}[engine](workers=2))
"""
needs_ray = pytest.mark.skipif(find_spec("ray") is None, reason="needs requirements-ray.txt")


@pytest.mark.slow
@pytest.mark.timeout(0 if KILLS > 2 else 300)
@pytest.mark.parametrize("engine", ["local", pytest.param("ray", marks=needs_ray)])
def test_a_batch_that_is_killed_at_random_times_verifies_each_time(engine: str, tmp_path: Path) -> None:
    chance = random.Random(0)
    given = tmp_path / "rows.csv"
    with given.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "text", "aspect"])
        for index in range(PARTITIONS * ROWS):
            text = " ".join(["the app", *chance.choices(sorted(WORDS), k=chance.randrange(20))])
            writer.writerow([index, text, "app"])
    package = build_toy_package(tmp_path / "package")
    script = tmp_path / "run.py"
    script.write_text(RUN)
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2])}
    killed = 0
    kills = KILLS if KILLS > 2 or engine == "local" else 1
    for attempt in range(kills):
        output = tmp_path / f"out-{attempt}"
        command = [sys.executable, str(script), str(given), str(output), str(package), engine, str(ROWS)]
        process = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)
        wait_for(output, chance.randrange(1, PARTITIONS // 2), process)
        time.sleep(chance.uniform(0, 0.05))
        victim: psutil.Process | subprocess.Popen[bytes] | None = process
        if attempt % 2 == 0:
            victim = next(iter(workers_of(process)), None)
        if process.poll() is None and victim is not None:
            victim.send_signal(signal.SIGKILL)
            killed += 1
        process.wait(PATIENCE_S)
        subprocess.run(command, env=environment, check=True, stderr=subprocess.DEVNULL, timeout=PATIENCE_S)
        assert verify_batch(str(output)) == []
    assert killed >= (kills + 1) // 2


def wait_for(output: Path, partitions: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while process.poll() is None and len(list(output.glob("done/*.json"))) < partitions:
        assert time.monotonic() < deadline, "the batch makes no progress"
        time.sleep(0.002)


def workers_of(process: subprocess.Popen[bytes]) -> list[psutil.Process]:
    found = []
    for child in psutil.Process(process.pid).children(recursive=True):
        words = " ".join(child.cmdline())
        if "spawn_main" in words or "MapWorker" in words:
            found.append(child)
    return found
