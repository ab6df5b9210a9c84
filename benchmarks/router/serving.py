"""Serving rates of one machine: `python -m benchmarks serving` writes benchmarks/results/serving.json.

Single-item requests on rows of a file, load generator on the same cores, answer cache off (every pair is scored), log
on. Models of fewer layers or width are cut from the base model for speed alone, and are named 'untrained'.
"""

import argparse
import csv
import hashlib
import itertools
import json
import multiprocessing
import os
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psutil

from absa.adapters.lake_stores import FolderLake
from absa.adapters.package_store import PackageStore
from absa.inference.batching import group_by_length
from absa.inference.engine import Engine
from absa.ledger.routing import single
from absa.ledger.state import State
from absa.ledger.store import Ledger
from benchmarks.figures import Row, machine, median_row
from benchmarks.router.load import ClosedLoop, open_loop, saturate, write_bodies
from benchmarks.router.serving_steps import measure_steps
from tests.homes import configure

ROOT = Path(__file__).parents[2]
RESULT = ROOT / "benchmarks" / "results" / "serving.json"
SAMPLE = tuple((ROOT / "absa" / "data" / "sample").glob("[ft]*.csv"))
PORT = 18_950
_PATIENT = "5000"  # queue_ms where clients wait for their answer anyway: 128 of them are more than the usual bound
_FLAT_MB = 20.0
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
    from absa.training.rows.tokens import LabelledPair
    from absa.training.training_settings import TrainingSettings

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
    encoded = engine.tokenizer.encode(rows)
    groups = [[encoded[k] for k in group] for group in group_by_length([row.tokens for row in encoded])]
    random.Random(0).shuffle(groups)  # a short run must not see the shortest rows alone
    for group in groups[:10]:
        engine.score_group(group)
    begin, count = time.perf_counter(), 0
    for group in itertools.cycle(groups):
        engine.score_group(group)
        count += len(group)
        if time.perf_counter() - begin > seconds:
            break
    rates.put(count / (time.perf_counter() - begin))


def kernel_rate(folder: Path, rows: Pairs, workers: int, seconds: float = 4.0) -> float:
    """Rows a second of the engine alone, one process a core at once: groups out of all rows, so hardly any padding."""
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
def router(
    package: Path, workers: int, *, tuning: Mapping[str, object] | None = None, **settings: str
) -> Iterator[psutil.Process]:
    """A replica that serves a package, on a home of its own that goes away after."""
    with tempfile.TemporaryDirectory(prefix="evergreen-benchmark-") as name:
        home = Path(name)
        plan, lake = single("1", salt="s"), FolderLake(home / "lake")
        Ledger(lake).append(
            expected=0, actor="benchmark", action="promote", reason="benchmark",
            state=State(champion="1", plan=plan), versions={"1": PackageStore(lake).put(package)},
        )  # fmt: skip
        environment = {
            **{key: value for key, value in os.environ.items() if not key.startswith("EVERGREEN_")},
            "EVERGREEN_HOME": str(home),
            "EVERGREEN_ROUTER_PORT": str(PORT),
            "EVERGREEN_WORKERS": str(workers),
            **settings,
        }
        configure(home, router={"cache_entries": 0, **(tuning or {})})
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
        self,
        case: str,
        metric: str,
        values: Sequence[float],
        unit: str,
        target: str | None = None,
        met: bool | None = None,
        *,
        peer: str | None = None,
    ) -> None:
        """Add the median of some runs, and print it."""
        self.take(median_row(case, metric, values, unit, target=target, met=met, peer=peer))

    def take(self, row: Row) -> None:
        """Add a row, and print it."""
        self.rows.append(row.to_json())
        met = "" if row.met is None else row.met
        print(f"{row.case:52} {row.metric:28} {row.value:10.3f} {row.unit:8} {row.target or '':24} {met}", flush=True)


@dataclass(frozen=True, kw_only=True)
class Run:
    """Settings of all cases: rows of the file, workers of the router, runs a case, seconds a run."""

    rows: Pairs
    workers: int
    runs: int
    seconds: float


@dataclass(frozen=True, kw_only=True)
class Saturated:
    """A router under as many requests as it answers."""

    loops: list[ClosedLoop]
    cpu_us: float
    cache_hits: float

    @property
    def rates(self) -> list[float]:
        """Answered requests a second, by run."""
        return [loop.rate for loop in self.loops]

    @property
    def failed(self) -> int:
        """Requests that were not answered with 200."""
        return sum(loop.failed for loop in self.loops)


def saturated(
    run: Run,
    package: Path,
    rows: Pairs,
    *,
    runs: int | None = None,
    kernels: list[float] | None = None,
    tuning: Mapping[str, object] | None = None,
    **settings: str,
) -> Saturated:
    """Ask a fresh router as fast as it answers, after a time to warm up.

    The rate of the engine alone goes into `kernels` just before each run, while the router is idle: on a machine whose
    speed changes from minute to minute only neighbours can be compared.
    """
    with tempfile.TemporaryDirectory() as name, router(package, run.workers, tuning=tuning, **settings) as parent:
        bodies = Path(name) / "bodies"
        write_bodies(bodies, rows)
        saturate(f"http://127.0.0.1:{PORT}", bodies, seconds=min(3.0, run.seconds))
        begin_s = _worker_cpu_s(parent)
        loops = []
        for _ in range(runs or run.runs):
            if kernels is not None:
                kernels.append(kernel_rate(package, rows, run.workers, min(3.0, run.seconds)))
            loops.append(saturate(f"http://127.0.0.1:{PORT}", bodies, seconds=run.seconds))
        cpu_us = (_worker_cpu_s(parent) - begin_s) / max(1, sum(each.requests for each in loops)) * 1e6
        time.sleep(0.7)  # what workers say of themselves is half a second old
        return Saturated(loops=loops, cpu_us=cpu_us, cache_hits=_metric("evergreen_cache_hits_total"))


def _worker_cpu_s(parent: psutil.Process) -> float:
    return float(sum(sum(each.cpu_times()[:2]) for each in parent.children()))


def _metric(name: str) -> float:
    import httpx

    lines = httpx.get(f"http://127.0.0.1:{PORT}/metrics").text.splitlines()
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(name))


def measure_model(table: Table, run: Run, model: Model, package: Path) -> float:
    """Saturation of one model, beside its kernel. Returns requests a second."""
    kernels: list[float] = []
    found = saturated(run, package, run.rows, kernels=kernels, EVERGREEN_QUEUE_MS=_PATIENT)
    table.add(model.name, "kernel_rows_per_s", kernels, "1/s")
    case = f"{model.name}, saturation"
    rate = statistics.median(found.rates)
    shares = [each / beside for each, beside in zip(found.rates, kernels, strict=True)]
    share = statistics.median(shares)
    if model.layers == 2:
        table.add(case, "requests_per_s", found.rates, "1/s", ">= 10000", rate >= 10_000)
    elif model.layers == 6:
        table.add(
            case, "requests_per_s", found.rates, "1/s", ">= 1800 or 75 % of kernel", rate >= 1800 or share >= 0.75
        )
    else:
        table.add(case, "requests_per_s", found.rates, "1/s", ">= 75 % of kernel", share >= 0.75)
    table.add(case, "share_of_kernel", shares, "share")
    table.add(case, "failed_requests", [found.failed], "")
    table.add(case, "cache_hits", [found.cache_hits], "", "0", found.cache_hits == 0)
    table.add(case, "worker_cpu_per_request", [found.cpu_us], "us")
    return rate


def measure_cache(table: Table, run: Run, package: Path) -> None:
    """Every answer from the cache."""
    found = saturated(run, package, run.rows[:200], tuning={"cache_entries": 20_000})
    met = statistics.median(found.rates) >= 20_000
    table.add("cache hit", "requests_per_s", found.rates, "1/s", ">= 20000", met)
    table.add("cache hit", "failed_requests", [found.failed], "")
    table.add("cache hit", "cpu_per_request", [found.cpu_us], "us")


def measure_log(table: Table, run: Run, name: str, package: Path) -> None:
    """The same requests with the prediction log and without, in turns."""
    with_log, without = [], []
    for _ in range(run.runs):
        with_log += saturated(run, package, run.rows, runs=1, EVERGREEN_QUEUE_MS=_PATIENT).rates
        without += saturated(
            run, package, run.rows, runs=1, EVERGREEN_QUEUE_MS=_PATIENT, tuning={"spool_limit_mb": 0}
        ).rates
    case = f"prediction log, {name}"
    table.add(case, "requests_per_s_with", with_log, "1/s")
    table.add(case, "requests_per_s_without", without, "1/s")
    cost = 1 - statistics.median(with_log) / statistics.median(without)
    table.add(case, "share_of_throughput", [cost], "share", "<= 0.05", cost <= 0.05)


def measure_latency(table: Table, run: Run, package: Path, rate: float) -> None:
    """Open loop at half of saturation."""
    with router(package, run.workers):
        open_loop("127.0.0.1", PORT, run.rows, rate=rate / 4, seconds=min(2.0, run.seconds))
        results = [
            open_loop("127.0.0.1", PORT, run.rows, rate=rate / 2, seconds=run.seconds, seed=seed)
            for seed in range(run.runs)
        ]
    case = f"{MODELS[0].name}, open loop at 50 % of saturation"
    p99 = [each.percentile_ms(0.99) for each in results]
    table.add(case, "p50", [each.percentile_ms(0.5) for each in results], "ms")
    table.add(case, "p99", p99, "ms", "<= 25", statistics.median(p99) <= 25)
    table.add(case, "not_answered", [sum(each.sent - each.count(200) for each in results)], "")


def measure_burst(table: Table, run: Run, package: Path, rate: float, seconds: float) -> None:
    """From 0 to three times saturation, then quiet."""
    with router(package, run.workers) as parent:
        open_loop("127.0.0.1", PORT, run.rows, rate=rate / 4, seconds=8)  # the parent has shipped, with all it loads
        before_mb = memory_mb(parent)
        burst = open_loop("127.0.0.1", PORT, run.rows, rate=3 * rate, seconds=seconds)
        after_mb = memory_mb(parent)
        time.sleep(2)
        calm = open_loop("127.0.0.1", PORT, run.rows, rate=rate / 4, seconds=3)
    case = f"burst to 3 x saturation for {seconds:g} s"
    served = burst.count(200) / max(seconds, burst.last_answer_s)
    p99, calm_p99, grown_mb = burst.percentile_ms(0.99), calm.percentile_ms(0.99), after_mb - before_mb
    neither = burst.sent - burst.count(200) - burst.count(429)
    table.add(case, "served_share_of_saturation", [served / rate], "share", ">= 0.95", served / rate >= 0.95)
    table.add(case, "p99_of_what_is_served", [p99], "ms", "<= 250", p99 <= 250)
    table.add(case, "refused_with_429", [burst.count(429)], "")
    table.add(case, "neither_200_nor_429", [neither], "", "0", neither == 0)
    table.add(case, "memory_growth", [grown_mb], "MB", f"<= {_FLAT_MB:g}", grown_mb <= _FLAT_MB)
    table.add(case, "p99_two_seconds_later", [calm_p99], "ms", "<= 25", calm_p99 <= 25)


def measure_cold_start(table: Table, run: Run, package: Path) -> None:
    """From the parent's start to the first prediction's readiness, model files fetched and checked on the way."""
    times = []
    for _ in range(run.runs):
        begin = time.perf_counter()
        with router(package, 1):
            times.append(time.perf_counter() - begin)
    table.add("cold start of a router, one worker", "seconds", times, "s", "<= 3", statistics.median(times) <= 3)


def measure_peers(table: Table, run: Run, name: str, package: Path) -> None:
    """uvicorn and its own workers: with the same int8 model behind FastAPI, and with an app that does nothing."""
    workers = f"{run.workers} workers of uvicorn {version('uvicorn')}"
    rates = peer_rates(run, ["benchmarks.router.plain_fastapi:scoring", "--factory"], package, connections=32)
    table.add(f"{name}, saturation", "requests_per_s", rates, "1/s", peer=f"plain fastapi, {workers}")
    rates = peer_rates(run, ["benchmarks.router.plain_fastapi:nothing", "--lifespan", "off"], package, connections=128)
    table.add("cache hit", "requests_per_s", rates, "1/s", peer=f"an ASGI app that does nothing, {workers}")


def peer_rates(run: Run, app: list[str], package: Path, *, connections: int) -> list[float]:
    """Answered requests a second of an app under uvicorn, by run."""
    command = [sys.executable, "-m", "uvicorn", *app, "--port", str(PORT), "--workers", str(run.workers)]
    command += ["--no-access-log", "--log-level", "error"]
    environment = {**os.environ, "PACKAGE": str(package)}
    url = f"http://127.0.0.1:{PORT}"
    with tempfile.TemporaryDirectory() as folder:
        bodies = Path(folder) / "bodies"
        write_bodies(bodies, run.rows)
        process = subprocess.Popen(command, cwd=ROOT, env=environment)
        try:
            _wait_for_answer(run.rows[0])
            saturate(url, bodies, seconds=min(3.0, run.seconds), connections=connections)
            found = [saturate(url, bodies, seconds=run.seconds, connections=connections) for _ in range(run.runs)]
        finally:
            process.terminate()
            process.wait(30)
    return [each.rate for each in found]


def _wait_for_answer(row: tuple[str, str], seconds: float = 30.0) -> None:
    import httpx

    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        try:
            body = {"text": row[0], "aspect": row[1]}
            if httpx.post(f"http://127.0.0.1:{PORT}/v1/predict", json=body).status_code == 200:
                time.sleep(1.0)  # the other workers
                return
        except httpx.HTTPError:
            time.sleep(0.05)
    raise TimeoutError("the peer did not become ready")


def add_options(parser: argparse.ArgumentParser) -> None:
    """Requests of every measurement of a router."""
    parser.add_argument("--rows", type=Path, nargs="*", default=list(SAMPLE), help="CSV files with text and aspect")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=6.0, help="of one run")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 2)
    parser.add_argument("--packages", type=Path, default=ROOT / ".evergreen" / "benchmark-packages")


def main() -> None:
    """Run everything and write the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    add_options(parser)
    parser.add_argument("--burst-s", type=float, default=30.0)
    parser.add_argument("--out", type=Path, default=RESULT)
    arguments = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    rows = read_rows(arguments.rows)
    run = Run(rows=rows, workers=arguments.workers, runs=arguments.runs, seconds=arguments.seconds)
    table = Table()
    packages = [
        build(model, arguments.packages / hashlib.sha256(model.name.encode()).hexdigest()[:12], rows)
        for model in MODELS
    ]
    load_before = os.getloadavg()[0]
    tokens = [row.tokens for row in Engine.load(packages[0]).tokenizer.encode(rows)]
    table.add("rows", "tokens_per_row", [statistics.mean(tokens)], "tokens")
    table.add("rows", "distinct_pairs", [len(rows)], "")
    rates = [measure_model(table, run, model, package) for model, package in zip(MODELS, packages, strict=True)]
    measure_peers(table, run, MODELS[0].name, packages[0])
    measure_cache(table, run, packages[2])
    measure_log(table, run, MODELS[2].name, packages[2])
    measure_latency(table, run, packages[0], rates[0])
    measure_burst(table, run, packages[0], rates[0], arguments.burst_s)
    measure_cold_start(table, run, packages[0])
    for step in measure_steps(MODELS[2].name, packages[2], rows):
        table.take(step)
    table.add("machine", "load_average_before", [load_before], "")
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    result = {
        "name": "serving",
        "command": "make benchmark-serving",
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "commit": commit.stdout.strip(),
        "seed": 0,
        "machine": machine(),
        "versions": {
            name: version(name)
            for name in ("onnxruntime", "uvicorn", "uvloop", "tokenizers", "nanotoken", "numpy", "fastapi")
        },
        "rows": table.rows,
    }
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
