"""Rate of scoring a dataset on one machine: `python -m benchmarks batch` writes benchmarks/results/batch.json.

The whole command is timed, from its start to its manifest: CSV in, Parquet out, on rows of the sample that were varied
by words until each is distinct. Beside it run the engine alone and, where they are installed, the peers. Weights that
were cut or not trained are named so: they stand for speed alone.
"""

import argparse
import csv
import hashlib
import json
import multiprocessing
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import psutil

from absa.batch.batch_job import PARTITION_ROWS
from absa.inference.engine import Engine
from benchmarks.datasets.batch_peers import BLOCKS_A_CORE
from benchmarks.figures import Row, write_json, write_result
from benchmarks.router.serving import MODELS, ROOT, SAMPLE, Model, Pairs, build, read_rows

RESULT = ROOT / "benchmarks" / "results" / "batch.json"
PRICES = ROOT / "infra" / "cost" / "prices.csv"
HOST = "c8a.xlarge"  # rented; a core that is faster than the measured one makes a row cheaper than projected
MILLION = 1_000_000
PIPELINE_ROWS = 1_500
CELLS = ("large", "pipeline", "large beside ray", "small", "small beside ray")
LOOK_EVERY_S = 2.0  # at the memory: looking takes time from the batch


def varied(rows: Pairs, count: int) -> Pairs:
    """Distinct pairs of about the sample's lengths: words of a text are replaced by other words of the sample."""
    chance = random.Random(0)
    words = [word for text, _ in rows for word in text.split()]
    found = dict.fromkeys(rows[:count])
    while len(found) < count:
        text, aspect = rows[chance.randrange(len(rows))]
        before, middle, after = text.partition(aspect)
        if not middle:
            continue
        head, tail = before.split(" "), after.split(" ")
        for part in (head, tail):
            spots = [k for k, word in enumerate(part) if len(word) > 2]
            for spot in chance.sample(spots, min(2, len(spots))):
                part[spot] = chance.choice(words)
        found[" ".join(head) + middle + " ".join(tail), aspect] = None
    return list(found)


def write_rows(path: Path, rows: Pairs) -> Path:
    """A CSV of an id, text and aspect."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "text", "aspect"])
        writer.writerows([k, *row] for k, row in enumerate(rows))
    return path


def _kernel(package: Path, rows: Pairs, seconds: float, ready: Any, rates: Any) -> None:
    engine = Engine.load(package)
    encoded = engine.tokenizer.encode(random.Random(0).sample(rows, min(PARTITION_ROWS, len(rows))))
    engine.score_encoded(encoded[:256])
    ready.wait()
    begin, count = time.perf_counter(), 0
    while time.perf_counter() - begin < seconds:
        engine.score_encoded(encoded)
        count += len(encoded)
    rates.put(count / (time.perf_counter() - begin))


def kernel_rate(package: Path, rows: Pairs, workers: int, seconds: float) -> float:
    """Rows a second of the engine on rows that are encoded already, one process a core, in the windows of a batch."""
    context = multiprocessing.get_context("spawn")
    rates, ready = context.Queue(), context.Barrier(workers)
    processes = [context.Process(target=_kernel, args=(package, rows, seconds, ready, rates)) for _ in range(workers)]
    for process in processes:
        process.start()
    total = sum(rates.get(timeout=600) for _ in processes)
    for process in processes:
        process.join()
    return float(total)


def run_command(
    given: Path, package: Path, workers: int, *, engine: str = "local", partition_rows: int = PARTITION_ROWS
) -> tuple[float, float]:
    """Seconds of the whole command, and the peak memory in MB of its processes together (shared pages once)."""
    with tempfile.TemporaryDirectory(prefix="evergreen-batch-") as folder:
        command = [
            sys.executable, "-m", "flows.cli", "batch", "--input", str(given), "--output", f"{folder}/out",
            "--model", str(package), "--workers", str(workers), "--engine", engine,
            "--partition-rows", str(partition_rows),
        ]  # fmt: skip
        environment = {**os.environ, "EVERGREEN_HOME": f"{folder}/home", "PYTHONPATH": str(ROOT)}
        begin, peak_mb = time.perf_counter(), 0.0
        process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        while process.poll() is None:
            peak_mb = max(peak_mb, _memory_mb(process.pid))
            time.sleep(LOOK_EVERY_S)
        elapsed = time.perf_counter() - begin
        if process.returncode:
            raise RuntimeError(process.stderr.read().decode() if process.stderr else "the batch failed")
    return elapsed, peak_mb


def _memory_mb(pid: int) -> float:
    try:
        parent = psutil.Process(pid)
        return float(sum(each.memory_full_info().pss for each in (parent, *parent.children(recursive=True)))) / 1e6
    except psutil.Error:
        return 0.0


def peer_rate(name: str, rows: Path, package: Path) -> float:
    """Rows a second of a peer, in a process of its own."""
    environment = {key: value for key, value in os.environ.items() if key != "OMP_NUM_THREADS"}
    found = subprocess.run(
        [sys.executable, "-m", "benchmarks.datasets.batch_peers", name, str(rows), str(package)],
        cwd=ROOT, env=environment, capture_output=True, text=True, check=True,
    )  # fmt: skip
    return next(float(line.split()[1]) for line in found.stdout.splitlines() if line.startswith("rows_per_s"))


def row(case: str, metric: str, values: Sequence[float], unit: str, target: str | None = None, **more: Any) -> Row:
    """A figure with the span of its runs, printed as it comes."""
    value = statistics.median(values)
    print(f"{case:58} {metric:24} {value:12.4f} {unit:6} {target or '':10} {more.get('met', '')}", flush=True)
    return Row(
        case=case, metric=metric, value=round(value, 5), low=round(min(values), 5), high=round(max(values), 5),
        runs=len(values), unit=unit, target=target, **more,
    )  # fmt: skip


def measure_model(
    model: Model, package: Path, rows: Pairs, folder: Path, workers: int, runs: int, kernel_s: float
) -> list[Row]:
    """One model: the command between two measurements of the engine alone, so that both see the same machine."""
    given = write_rows(folder / "rows.csv", rows)
    kernels, rates, shares, peaks = [kernel_rate(package, rows, workers, kernel_s)], [], [], []
    for _ in range(runs):
        elapsed, peak_mb = run_command(given, package, workers)
        kernels.append(kernel_rate(package, rows, workers, kernel_s))
        rates.append(len(rows) / elapsed)
        shares.append(rates[-1] / statistics.mean(kernels[-2:]))
        peaks.append(peak_mb)
    share = statistics.median(shares)
    return [
        row(model.name, "kernel_rows_per_s", kernels, "1/s"),
        row(model.name, "rows_per_s", rates, "1/s"),
        row(model.name, "share_of_kernel", shares, "share", ">= 0.9", met=share >= 0.9),
        row(f"{len(rows):,} rows, {model.name}", "peak_memory", peaks, "MB", "<= 2000", met=max(peaks) <= 2000),
        *price_rows(model, statistics.median(rates) / workers),
    ]


def price_rows(model: Model, rows_per_core_s: float) -> list[Row]:
    """US dollars a million rows on rented cores as fast as the measured ones, by the committed price table."""
    if not PRICES.is_file():
        return []
    with PRICES.open(encoding="utf-8", newline="") as file:
        price = next((each for each in csv.DictReader(file) if each["item"] == HOST), None)
    if price is None:
        return []
    found = []
    for market, column in (("on demand", "usd"), ("spot", "spot_usd")):
        if price[column]:
            usd = float(price[column]) / float(price["vcpus"]) / 3_600 / rows_per_core_s * MILLION
            case = f"{model.name}, {HOST} {market}, its core as fast as this one"
            found.append(row(case, "usd_per_million_rows", [usd], "USD", projected=True))
    return found


def measure_pipeline(package: Path, rows: Pairs, folder: Path, rate: float) -> list[Row]:
    """A plain transformers pipeline on the larger model's rows."""
    case = MODELS[0].name
    slow = peer_rate("pipeline", write_rows(folder / "few.csv", rows), package)
    return [
        row(case, "rows_per_s", [slow], "1/s", peer=f"transformers {version('transformers')} pipeline, batch 32, fp32"),
        row(case, "times_pipeline", [rate / slow], "x", ">= 20", met=rate / slow >= 20),
    ]


def measure_ray(model: Model, package: Path, rows: Pairs, folder: Path, workers: int) -> list[Row]:
    """A plain Ray Data job, the command, and the command on Ray, one after the other on the same rows."""
    if find_spec("ray") is None:
        print("Ray is not installed (make ray): its rows are left out")
        return []
    given, case = write_rows(folder / "rows.csv", rows), f"{len(rows):,} rows, {model.name}"
    plain = peer_rate("ray", given, package)
    pieces = min(PARTITION_ROWS, -(-len(rows) // (BLOCKS_A_CORE * workers)))  # no fewer than the plain job has
    here, _ = run_command(given, package, workers, partition_rows=pieces)
    on_ray, _ = run_command(given, package, workers, engine="ray", partition_rows=pieces)
    rate = len(rows) / here
    peer = f"ray {version('ray')} data map_batches, batch 32, same ONNX file"
    return [
        row(case, "rows_per_s", [plain], "1/s", peer=peer),
        row(case, "rows_per_s", [rate], "1/s"),
        row(f"{case}, --engine ray", "rows_per_s", [len(rows) / on_ray], "1/s"),
        row(case, "times_ray_map_batches", [rate / plain], "x", ">= 2", met=rate / plain >= 2),
    ]


class Cells:
    """Results so far, a list of rows a cell: a run that is cut short goes on where it was."""

    def __init__(self, path: Path, out: Path, wanted: Sequence[str]) -> None:
        self._path, self._out, self._wanted = path, out, wanted
        self._rows: dict[str, list[Row]] = {}
        if path.is_file():
            found = json.loads(path.read_text(encoding="utf-8"))
            self._rows = {name: [Row(**each) for each in rows] for name, rows in found.items()}

    def value(self, cell: str, metric: str) -> float:
        """A figure of a cell."""
        return next(each.value for each in self._rows[cell] if each.metric == metric)

    def fill(self, cell: str, measure: Callable[[], list[Row]]) -> None:
        """Measure a cell that is wanted and missing, and write the result so far."""
        if cell not in self._wanted or cell in self._rows:
            return
        self._rows[cell] = measure()
        plain = {name: [each.to_json() for each in rows] for name, rows in self._rows.items()}
        write_json(self._path, plain)
        names = ("onnxruntime", "tokenizers", "nanotoken", "pyarrow", "transformers", "ray")
        write_result(
            self._out, name="batch", command="make benchmark-batch", seed=0,
            rows=[each for name in CELLS if name in self._rows for each in self._rows[name]],
            versions={each: version(each) for each in names if find_spec(each) is not None},
        )  # fmt: skip


def main() -> None:
    """Run what is missing and write the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 2)
    parser.add_argument("--large-rows", type=int, default=20_000, help="rows for the larger model")
    parser.add_argument("--small-rows", type=int, default=MILLION, help="rows for the small student")
    parser.add_argument("--ray-large-rows", type=int, default=4_000, help="rows beside Ray, larger model")
    parser.add_argument("--ray-small-rows", type=int, default=50_000, help="rows beside Ray, small student")
    parser.add_argument("--kernel-s", type=float, default=8.0)
    parser.add_argument("--packages", type=Path, default=ROOT / ".evergreen" / "benchmark-packages")
    parser.add_argument("--out", type=Path, default=RESULT)
    parser.add_argument("--cells", type=Path, default=RESULT.parent / "cells" / "batch.json")
    parser.add_argument("--only", nargs="+", choices=CELLS, default=CELLS, help="cells to run; unset: all that lack")
    parser.add_argument("--again", action="store_true", help="forget the cells of earlier runs")
    arguments = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    if arguments.again:
        arguments.cells.unlink(missing_ok=True)
    cells = Cells(arguments.cells, arguments.out, arguments.only)
    sample, workers = read_rows(SAMPLE), arguments.workers
    large, small = (
        (each, build(each, arguments.packages / hashlib.sha256(each.name.encode()).hexdigest()[:12], sample))
        for each in (MODELS[0], MODELS[-1])
    )
    with tempfile.TemporaryDirectory(prefix="evergreen-benchmark-") as name:
        folder = Path(name)

        def whole(which: tuple[Model, Path], count: int) -> list[Row]:
            return measure_model(*which, varied(sample, count), folder, workers, arguments.runs, arguments.kernel_s)

        def beside_ray(which: tuple[Model, Path], count: int) -> list[Row]:
            return measure_ray(*which, varied(sample, count), folder, workers)

        def pipeline() -> list[Row]:
            rows = varied(sample, PIPELINE_ROWS)
            return measure_pipeline(large[1], rows, folder, cells.value("large", "rows_per_s"))

        cells.fill("large", lambda: whole(large, arguments.large_rows))
        cells.fill("pipeline", pipeline)
        cells.fill("large beside ray", lambda: beside_ray(large, arguments.ray_large_rows))
        cells.fill("small", lambda: whole(small, arguments.small_rows))
        cells.fill("small beside ray", lambda: beside_ray(small, arguments.ray_small_rows))


if __name__ == "__main__":
    main()
