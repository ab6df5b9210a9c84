"""How fast one machine serves: `python -m benchmarks.serving` writes benchmarks/results/serving.json.

Single-item requests on rows of a file, load generator on the same cores, answer cache off (every pair is scored), log
on. Models of fewer layers or width are cut from the base model for speed alone, and are named 'untrained'.
"""

import argparse
import csv
import hashlib
import json
import multiprocessing
import os
import platform
import random
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psutil

from absa.adapters.lake import FolderLake
from absa.adapters.ledger import Ledger, State
from absa.inference.engine import Engine
from absa.inference.package import package_digest
from absa.routing import Arm, TrafficPlan, assign, single
from benchmarks.load import open_loop, saturate, write_bodies

ROOT = Path(__file__).parents[1]
RESULT = ROOT / "benchmarks" / "results" / "serving.json"
SAMPLE = tuple((ROOT / "absa" / "data" / "sample").glob("[ft]*.csv"))
PORT = 18_950
_PATIENT = "5000"  # queue_ms where clients wait for their answer anyway: 128 of them are more than the usual bound
Pairs = list[tuple[str, str]]


@dataclass(frozen=True, kw_only=True)
class Model:
    """A model to measure. `hidden` None cuts only the depth of the base model."""

    name: str
    layers: int
    hidden: int | None = None


MODELS = (
    Model(name="MiniLM-L6 int8", layers=6),
    Model(name="3 layers of MiniLM int8, untrained", layers=3),
    Model(name="2 layers of width 128 int8, untrained", layers=2, hidden=128),
)


def read_rows(files: Sequence[Path]) -> Pairs:
    """Distinct pairs of text and aspect, shuffled with a fixed seed."""
    pairs: dict[tuple[str, str], None] = {}
    for path in files:
        with path.open(encoding="utf-8", newline="") as file:
            for row in csv.DictReader(file):
                lower = {name.lower(): value for name, value in row.items() if name}
                if lower["aspect"].casefold() in lower["text"].casefold():
                    pairs[lower["text"], lower["aspect"]] = None
    rows = list(pairs)
    random.Random(0).shuffle(rows)
    return rows


def build(model: Model, folder: Path, rows: Pairs) -> Path:
    """Make the package of a model, unless an earlier run left it."""
    if (folder / "warmup.jsonl").is_file():
        return folder
    import torch

    from absa.modeling.architecture import Architecture, PairClassifier
    from absa.modeling.bases import find_base, load_base
    from absa.packaging.build import build_package
    from absa.training.settings import TrainingSettings
    from absa.training.tokens import LabelledPair

    base = find_base("minilm-l6")
    if model.hidden is None:
        classifier, _ = load_base(base, layers=model.layers)
    else:
        torch.manual_seed(0)
        vocabulary = json.loads((base / "config.json").read_text(encoding="utf-8"))["vocab_size"]
        narrow = Architecture(
            layers=model.layers, hidden=model.hidden, heads=2, intermediate=4 * model.hidden, vocabulary=vocabulary
        )
        classifier = PairClassifier(narrow)
    validation = [LabelledPair(text=text, aspect=aspect, label=k % 3) for k, (text, aspect) in enumerate(rows[:6])]
    tokenizer = (base / "tokenizer.json").read_text(encoding="utf-8")
    build_package(classifier.eval(), tokenizer, TrainingSettings(layers=model.layers), validation, folder)
    return folder


def _kernel(folder: Path, rows: Pairs, seconds: float, rates: Any) -> None:
    engine = Engine.load(folder)
    encoded = sorted(engine.tokenizer.encode(rows), key=lambda row: row.tokens)
    engine.score_encoded(encoded[:256])
    begin, count = time.perf_counter(), 0
    while time.perf_counter() - begin < seconds:
        start = count % max(1, len(encoded) - 256)
        engine.score_encoded(encoded[start : start + 256])
        count += 256
    rates.put(count / (time.perf_counter() - begin))


def kernel_rate(folder: Path, rows: Pairs, workers: int, seconds: float = 4.0) -> float:
    """Rows a second of the engine alone, one process a core at once, rows sorted by length."""
    context = multiprocessing.get_context("spawn")
    rates = context.Queue()
    processes = [context.Process(target=_kernel, args=(folder, rows, seconds, rates)) for _ in range(workers)]
    for process in processes:
        process.start()
    total = sum(rates.get(timeout=seconds + 60) for _ in processes)
    for process in processes:
        process.join()
    return float(total)


@contextmanager
def router(package: Path, workers: int, **settings: str) -> Iterator[psutil.Process]:
    """A replica that serves a package, on a home of its own that goes away after."""
    with tempfile.TemporaryDirectory(prefix="evergreen-benchmark-") as name:
        home = Path(name)
        shutil.copytree(package, home / "registry" / "1")
        plan = single("1", salt="s")
        Ledger(FolderLake(home / "lake")).append(
            expected=0, actor="benchmark", action="promote", reason="benchmark",
            state=State(champion="1", plan=plan), versions={"1": package_digest(package)},
        )  # fmt: skip
        environment = {
            **{key: value for key, value in os.environ.items() if not key.startswith("EVERGREEN_")},
            "EVERGREEN_HOME": str(home),
            "EVERGREEN_ROUTER_PORT": str(PORT),
            "EVERGREEN_WORKERS": str(workers),
            "EVERGREEN_MODEL_SOURCE": f"folder:{home / 'registry'}",
            "EVERGREEN_CACHE_ENTRIES": "0",
            **settings,
        }
        process = subprocess.Popen(
            [sys.executable, "-m", "serving"], cwd=ROOT, env=environment, stderr=subprocess.DEVNULL
        )
        try:
            _wait_ready(workers)
            yield psutil.Process(process.pid)
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(60)


def _wait_ready(workers: int, seconds: float = 30.0) -> None:
    import httpx

    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        try:
            held = httpx.get(f"http://127.0.0.1:{PORT}/v1/models").json()["workers"]
            if sum(each["ready"] for each in held) == workers:
                return
        except (httpx.HTTPError, ValueError):
            pass
        time.sleep(0.02)
    raise TimeoutError("the router did not become ready")


def memory_mb(parent: psutil.Process) -> float:
    """Resident memory of parent and workers."""
    return sum(each.memory_info().rss for each in (parent, *parent.children())) / 1e6


class Table:
    """Rows of a result as contracts write them."""

    def __init__(self) -> None:
        self.rows: list[dict[str, Any]] = []

    def add(
        self, case: str, metric: str, values: Sequence[float], unit: str, target: str | None, met: bool | None
    ) -> None:
        """Add the median of some runs, and print it."""
        value = statistics.median(values)
        self.rows.append(
            {
                "case": case, "metric": metric, "value": round(value, 3), "low": round(min(values), 3),
                "high": round(max(values), 3), "runs": len(values), "unit": unit, "target": target, "met": met,
                "projected": False,
            }
        )  # fmt: skip
        print(
            f"{case:52} {metric:28} {value:10.3f} {unit:8} {target or '':24} {'' if met is None else met}", flush=True
        )


def measure_model(table: Table, model: Model, package: Path, rows: Pairs, workers: int, runs: int) -> float:
    """Saturation of one model, beside its kernel. Returns requests a second."""
    kernel = kernel_rate(package, rows, workers)
    table.add(model.name, "kernel_rows_per_s", [kernel], "1/s", None, None)
    with tempfile.TemporaryDirectory() as name, router(package, workers, EVERGREEN_QUEUE_MS=_PATIENT) as parent:
        bodies = Path(name) / "bodies"
        write_bodies(bodies, rows)
        saturate(f"http://127.0.0.1:{PORT}", bodies, seconds=3)
        begin_cpu = _worker_cpu_s(parent)
        loops = [saturate(f"http://127.0.0.1:{PORT}", bodies) for _ in range(runs)]
        cpu_s = _worker_cpu_s(parent) - begin_cpu
    rates = [loop.rate for loop in loops]
    rate = statistics.median(rates)
    floors = {6: 1800.0, 3: 0.0, 2: 10_000.0}
    share = rate / kernel
    if model.layers == 2:
        table.add(f"{model.name}, saturation", "requests_per_s", rates, "1/s", ">= 10000", rate >= floors[2])
    elif model.layers == 6:
        met = rate >= floors[6] or share >= 0.75
        table.add(f"{model.name}, saturation", "requests_per_s", rates, "1/s", ">= 1800 or 75 % of kernel", met)
    else:
        table.add(f"{model.name}, saturation", "requests_per_s", rates, "1/s", ">= 75 % of kernel", share >= 0.75)
    table.add(f"{model.name}, saturation", "share_of_kernel", [share], "share", None, None)
    table.add(f"{model.name}, saturation", "failed_requests", [sum(x.failed for x in loops)], "", None, None)
    per_request_us = cpu_s / sum(loop.requests - loop.failed for loop in loops) * 1e6
    table.add(f"{model.name}, saturation", "worker_cpu_per_request", [per_request_us], "us", None, None)
    return rate


def _worker_cpu_s(parent: psutil.Process) -> float:
    return float(sum(sum(each.cpu_times()[:2]) for each in parent.children()))


def measure_cache(table: Table, package: Path, rows: Pairs, workers: int, runs: int) -> None:
    """Every answer from the cache."""
    with tempfile.TemporaryDirectory() as name, router(package, workers, EVERGREEN_CACHE_ENTRIES="20000"):
        bodies = Path(name) / "bodies"
        write_bodies(bodies, rows[:200])
        saturate(f"http://127.0.0.1:{PORT}", bodies, seconds=3)
        rates = [saturate(f"http://127.0.0.1:{PORT}", bodies, seconds=5).rate for _ in range(runs)]
    table.add("cache hit", "requests_per_s", rates, "1/s", ">= 20000", statistics.median(rates) >= 20_000)


def measure_latency(table: Table, package: Path, rows: Pairs, workers: int, rate: float) -> None:
    """Open loop at half of saturation."""
    with router(package, workers):
        open_loop("127.0.0.1", PORT, rows, rate=rate / 4, seconds=2)
        result = open_loop("127.0.0.1", PORT, rows, rate=rate / 2, seconds=10)
    case = f"{MODELS[0].name}, open loop at 50 % of saturation"
    p99 = result.percentile_ms(0.99)
    table.add(case, "p50", [result.percentile_ms(0.5)], "ms", None, None)
    table.add(case, "p99", [p99], "ms", "<= 25", p99 <= 25)
    table.add(case, "not_answered", [result.sent - result.count(200)], "", None, None)


def measure_burst(table: Table, package: Path, rows: Pairs, workers: int, rate: float, seconds: float) -> None:
    """From 0 to three times saturation, then quiet."""
    with router(package, workers) as parent:
        open_loop("127.0.0.1", PORT, rows, rate=rate / 4, seconds=2)
        before_mb = memory_mb(parent)
        burst = open_loop("127.0.0.1", PORT, rows, rate=3 * rate, seconds=seconds)
        after_mb = memory_mb(parent)
        time.sleep(2)
        calm = open_loop("127.0.0.1", PORT, rows, rate=rate / 4, seconds=3)
    case = f"burst to 3 x saturation for {seconds:g} s"
    served = burst.count(200) / max(seconds, burst.last_answer_s)
    p99 = burst.percentile_ms(0.99)
    table.add(case, "served_share_of_saturation", [served / rate], "share", ">= 0.95", served / rate >= 0.95)
    table.add(case, "p99_of_what_is_served", [p99], "ms", "<= 250", p99 <= 250)
    table.add(case, "refused_with_429", [burst.count(429)], "", None, None)
    table.add(case, "neither_200_nor_429", [burst.sent - burst.count(200) - burst.count(429)], "", "0", None)
    table.add(case, "memory_growth", [after_mb - before_mb], "MB", None, None)
    table.add(case, "p99_two_seconds_later", [calm.percentile_ms(0.99)], "ms", None, None)


def measure_cold_start(table: Table, package: Path, runs: int) -> None:
    """From the parent's start to the first prediction's readiness, model files fetched and checked on the way."""
    times = []
    for _ in range(runs):
        begin = time.perf_counter()
        with router(package, 1):
            times.append(time.perf_counter() - begin)
    table.add("cold start of a router, one worker", "seconds", times, "s", "<= 3", statistics.median(times) <= 3)


def measure_steps(table: Table, package: Path, rows: Pairs) -> None:
    """Microseconds a request by step, one after the other in one process."""
    import orjson

    from serving.identifiers import RequestIds, unit_hash
    from serving.parsing import Limits, parse_predict
    from serving.spool import PREDICTIONS, SpoolWriter

    engine = Engine.load(package)
    bodies = [
        json.dumps({"text": text, "aspect": aspect, "unit_id": f"u{k}"}).encode()
        for k, (text, aspect) in enumerate(rows)
    ]
    arms = (Arm(name="champion", version="1", share=0.75), Arm(name="challenger", version="2", share=0.25))
    plan = TrafficPlan(mode="ab", experiment="e", salt="s", arms=arms)
    ids, limits = RequestIds(), Limits()

    def timed(step: str, once: Callable[[int], object], *, count: int, target: float | None = None) -> None:
        values = []
        for _ in range(3):
            begin = time.perf_counter()
            for k in range(count):
                once(k % len(rows))
            values.append((time.perf_counter() - begin) / count * 1e6)
        met = None if target is None else statistics.median(values) <= target
        table.add("a request by step", step, values, "us", None if target is None else f"<= {target:g}", met)

    timed("assignment", lambda k: assign(plan, f"u{k}"), count=20_000, target=5.0)
    timed("parse_and_validate", lambda k: parse_predict(bodies[k], limits), count=20_000)
    timed("tokenise", lambda k: engine.tokenizer.encode(rows[k : k + 1]), count=2_000)
    encoded = engine.tokenizer.encode(rows)
    timed("engine_batch_of_one", lambda k: engine.score_group(encoded[k : k + 1]), count=300)
    with tempfile.TemporaryDirectory() as name:
        spool = SpoolWriter(Path(name), "w0", limit_bytes=1e12)

        def log(k: int) -> None:
            text, aspect = rows[k]
            line = [
                ids.new(time.time_ns() // 1000),
                0,
                unit_hash("u", b"s"),
                True,
                None,
                text,
                aspect,
                2,
                [0.1, 0.2, 0.7],
            ]
            line += ["1", "champion", None, 1, False, False, 1.0]
            spool.append(PREDICTIONS, orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE), 1)

        timed("log_a_write_each", log, count=20_000)
        lines = spool.appended_bytes / (3 * 20_000)
    table.add("prediction log", "bytes_per_prediction", [lines], "B", None, None)


def machine() -> dict[str, Any]:
    """What the run ran on."""
    cpu = next(
        (line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line),
        platform.processor(),
    )
    memory_gb = round(psutil.virtual_memory().total / 2**30)
    return {"cpu": cpu, "cores": os.cpu_count(), "memory_gb": memory_gb, "accelerator": None}


def main() -> None:
    """Run everything and write the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=Path, nargs="*", default=list(SAMPLE), help="CSV files with text and aspect")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 2)
    parser.add_argument("--burst-s", type=float, default=30.0)
    parser.add_argument("--packages", type=Path, default=ROOT / ".evergreen" / "benchmark-packages")
    parser.add_argument("--out", type=Path, default=RESULT)
    arguments = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    rows = read_rows(arguments.rows)
    table = Table()
    packages = [
        build(model, arguments.packages / hashlib.sha256(model.name.encode()).hexdigest()[:12], rows)
        for model in MODELS
    ]
    load_before = os.getloadavg()[0]
    tokens = [row.tokens for row in Engine.load(packages[0]).tokenizer.encode(rows)]
    table.add("rows", "tokens_per_row", [statistics.mean(tokens)], "tokens", None, None)
    table.add("rows", "distinct_pairs", [len(rows)], "", None, None)
    rates = [
        measure_model(table, m, p, rows, arguments.workers, arguments.runs)
        for m, p in zip(MODELS, packages, strict=True)
    ]
    measure_cache(table, packages[2], rows, arguments.workers, arguments.runs)
    measure_latency(table, packages[0], rows, arguments.workers, rates[0])
    measure_burst(table, packages[0], rows, arguments.workers, rates[0], arguments.burst_s)
    measure_cold_start(table, packages[0], arguments.runs)
    measure_steps(table, packages[0], rows)
    table.add("machine", "load_average_before", [load_before], "", None, None)
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    result = {
        "name": "serving",
        "command": "python -m benchmarks.serving",
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "commit": commit.stdout.strip(),
        "seed": 0,
        "machine": machine(),
        "versions": {
            name: version(name) for name in ("onnxruntime", "uvicorn", "uvloop", "tokenizers", "numpy", "fastapi")
        },
        "rows": table.rows,
    }
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
