"""A batch killed at random times, the job or one of its workers: does the output verify after the next run?

`make test-kills` writes results/batch_kills.json: SIGKILL 20 times over runs of 200 partitions, on local processes and
on Ray. Odd kills hit the job, even ones a worker of it; then the same command is run again to its end and its output is
verified against the input. The moment is a random number of committed partitions and a random delay; a kill that came
too late, when the job was done already, is tried again.
"""

import argparse
import csv
import json
import os
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psutil

from absa.batch.verify_batch import verify_batch
from benchmarks.figures import Row, share, write_json, write_result
from tests.toy_package import WORDS, build_toy_package

ROOT = Path(__file__).parents[2]
RESULT = ROOT / "benchmarks" / "results" / "batch_kills.json"
ENGINES = ("local", "ray")
ROWS = 50  # of a partition
WORKERS = 2
PATIENCE_S = 600
LATEST = 0.9  # share of the partitions that may be done when the kill comes
TRIES = 5
RUN = """
import sys
from pathlib import Path
from absa.batch.ray_cluster import RayCluster
from absa.batch.batch_job import BatchJob, run_batch
from absa.batch.local import LocalProcesses
if __name__ == "__main__":
    given, output, package, engine, rows, workers = sys.argv[1:]
    wanted = BatchJob(
        input_uri=given, output_uri=output, package=Path(package), version="7", partition_rows=int(rows)
    )
    run_batch(wanted, engines={"local": LocalProcesses, "ray": RayCluster}[engine](workers=int(workers)))
"""


@dataclass(frozen=True, kw_only=True)
class Kill:
    """Outcome of one kill. `victim` is job or worker, `went_on` whether the job ended well by itself, `done` how many
    partitions were committed when the kill came, and `wrong` what verification found after the next run."""

    victim: str
    went_on: bool
    done: int
    wrong: tuple[str, ...]


def kill_batches(engine: str, *, kills: int, partitions: int, folder: Path, first: int = 0) -> Iterator[Kill]:
    """Kill a batch so many times, each in an output of its own; the kills before `first` are left out.

    Raises:
        RuntimeError: a job was always done before it could be killed, makes no progress, or fails when it is run again.
    """
    given = write_input(folder / "rows.csv", partitions * ROWS)
    package = build_toy_package(folder / "package")
    script = folder / "run.py"
    script.write_text(RUN)
    for number in range(first, kills):
        chance = random.Random(number)
        for attempt in range(TRIES):
            output = folder / f"out-{number}-{attempt}"
            command = [sys.executable, str(script), str(given), str(output), str(package)]
            command += [engine, str(ROWS), str(WORKERS)]
            victim = "worker" if number % 2 == 0 else "job"
            moment = chance.randrange(1, int(LATEST * partitions))
            if (found := _kill_once(command, output, victim, moment, chance.uniform(0, 0.05))) is not None:
                yield found
                break
        else:
            raise RuntimeError(f"the batch on {engine} was always done before it could be killed")


def write_input(path: Path, rows: int) -> Path:
    """A CSV of toy texts."""
    chance = random.Random(0)
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "text", "aspect"])
        for index in range(rows):
            text = " ".join(["the app", *chance.choices(sorted(WORDS), k=chance.randrange(20))])
            writer.writerow([index, text, "app"])
    return path


def _kill_once(command: list[str], output: Path, victim: str, moment: int, delay_s: float) -> Kill | None:
    """Kill, run again, verify; None where the job ended before the kill."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)
    ends = time.monotonic() + PATIENCE_S
    while process.poll() is None and _committed(output) < moment:
        if time.monotonic() > ends:
            process.kill()
            raise RuntimeError("the batch makes no progress")
        time.sleep(0.002)
    time.sleep(delay_s)
    killed = _kill(process, victim)
    done = _committed(output)
    process.wait(PATIENCE_S)
    if not killed:
        return None
    again = subprocess.run(command, env=environment, stderr=subprocess.PIPE, text=True, check=False, timeout=PATIENCE_S)
    if again.returncode:
        raise RuntimeError(f"the batch failed when it was run again: {again.stderr[-2000:]}")
    wrong = tuple(verify_batch(str(output)))
    return Kill(victim=victim, went_on=process.returncode == 0, done=done, wrong=wrong)


def _committed(output: Path) -> int:
    return len(list(output.glob("done/*.json")))


def _kill(process: "subprocess.Popen[bytes]", victim: str) -> bool:
    """Return whether there was something to kill."""
    try:
        found = psutil.Process(process.pid)
        if victim == "worker":
            found = next(each for each in found.children(recursive=True) if _is_worker(each))
        if process.poll() is not None:
            return False
        found.send_signal(signal.SIGKILL)
    except (StopIteration, psutil.NoSuchProcess):
        return False
    return True


def _is_worker(process: psutil.Process) -> bool:
    words = " ".join(process.cmdline())
    return "spawn_main" in words or "MapWorker" in words


def rows_of(engine: str, partitions: int, kills: list[Kill]) -> list[Row]:
    """The figures of one engine."""
    found = []
    for victim in ("job", "worker"):
        some = [each for each in kills if each.victim == victim]
        if not some:
            continue
        case = f"{engine}, {partitions} partitions, the {victim} killed"
        bad = sum(bool(each.wrong) for each in some)
        done = [each.done for each in some]
        found += [
            share(case, "does_not_verify_after_the_next_run", bad, len(some), target="<= 0", met=bad == 0),
            share(case, "ended_well_without_another_run", sum(each.went_on for each in some), len(some)),
            Row(
                case=case, metric="partitions_done_at_the_kill", value=statistics.median(done), low=min(done),
                high=max(done), runs=len(done), unit="1",
            ),
        ]  # fmt: skip
    return found


def main() -> int:
    """Kill, and write the result after every kill: a run that is cut short goes on where it was."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--partitions", type=int, default=200)
    parser.add_argument("--engines", nargs="+", choices=ENGINES, default=ENGINES)
    parser.add_argument("--out", type=Path, default=RESULT)
    parser.add_argument("--cells", type=Path, default=RESULT.parent / "cells" / "batch_kills.json")
    parser.add_argument("--again", action="store_true", help="forget the kills of earlier runs")
    options = parser.parse_args()
    cells: dict[str, list[dict[str, Any]]] = {}
    if options.cells.is_file() and not options.again:
        cells = json.loads(options.cells.read_text(encoding="utf-8"))
    for engine in options.engines:
        kills = cells.setdefault(engine, [])
        with tempfile.TemporaryDirectory(prefix="evergreen-kills-") as name:
            folder, first = Path(name), len(kills)
            for each in kill_batches(
                engine, kills=options.kills, partitions=options.partitions, folder=folder, first=first
            ):
                kills.append(asdict(each))
                print(f"{engine} {len(kills)}: {each}", flush=True)
                write(options, cells)
    return 1 if any(each["wrong"] for kills in cells.values() for each in kills) else 0


def write(options: argparse.Namespace, cells: dict[str, list[dict[str, Any]]]) -> None:
    """The kills so far, and the result made of them."""
    write_json(options.cells, cells)
    found = {
        engine: [Kill(**{**each, "wrong": tuple(each["wrong"])}) for each in cells.get(engine, ())]
        for engine in ENGINES
    }
    write_result(
        options.out, name="batch_kills", command="make test-kills", seed=0,
        rows=[row for engine, kills in found.items() for row in rows_of(engine, options.partitions, kills)],
        versions={name: version(name) for name in ("pyarrow", "onnxruntime", "ray")},
    )  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
