"""Gain of the hot route: `make benchmark-hot_route` writes benchmarks/results/hot_route.json.

The same worker, package, rows and clients, in turns on the hot route, through ASGI and through FastAPI. Then a profile:
where the processor time of a request goes on the hot route, by thread and stage (`--profile`: only that).
"""

import argparse
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from hashlib import sha256
from importlib.metadata import version
from json import loads
from pathlib import Path
from typing import Any, Final

import psutil

from absa.inference.batching import group_by_length
from absa.inference.engine import Engine
from benchmarks.figures import Row, median_row, write_result
from benchmarks.router.load import ClosedLoop, body_of, closed_loop
from benchmarks.router.serving import MODELS, ROOT, SAMPLE, Pairs, build, read_rows
from benchmarks.router.serving_steps import measure_steps
from benchmarks.router.worker_routes import ROUTES

RESULT: Final = ROOT / "benchmarks" / "results" / "hot_route.json"
LEAST_GAIN: Final = 1.15
_CACHED_ROWS: Final = 200
_STEADY_ROWS: Final = 2_000  # rows of one engine measurement


@dataclass(frozen=True, kw_only=True)
class Case:
    """Traffic to measure: rows, and answers that a worker remembers (0: every row is scored)."""

    name: str
    rows: Pairs
    cache: int = 0


@dataclass(frozen=True, kw_only=True)
class Effort:
    """Rounds, seconds of one, connections of the clients, and workers of a crowded machine."""

    runs: int = 5
    seconds: float = 4.0
    connections: int = 64
    workers: int = os.cpu_count() or 2


@dataclass(frozen=True, kw_only=True)
class Server:
    """One worker that answers."""

    port: int
    process: psutil.Process


def load(servers: Sequence[Server], case: Case, effort: Effort) -> tuple[ClosedLoop, float]:
    """Ask as fast as the servers answer; also returns their processor time per request in microseconds."""

    def spent_s() -> float:
        return float(sum(sum(each.process.cpu_times()[:2]) for each in servers))

    before_s, ports = spent_s(), [each.port for each in servers]
    bodies = [body_of(text, aspect, number) for number, (text, aspect) in enumerate(case.rows)]
    found = closed_loop("127.0.0.1", ports, bodies, connections=effort.connections, seconds=effort.seconds)
    if found.failed:
        raise RuntimeError(f"{case.name}: {found.failed} of {found.requests} requests failed; expected none")
    return found, (spent_s() - before_s) / found.requests * 1e6


@contextmanager
def server(route: str, package: Path, case: Case, *, profile: Path | None = None) -> Iterator[Server]:
    """Run one worker, in a folder that goes away after."""
    import httpx

    with tempfile.TemporaryDirectory(prefix="evergreen-benchmark-") as name:
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        command = [sys.executable, "-m", "benchmarks.router.worker_routes", route, "--package", str(package)]
        command += ["--folder", name, "--port", str(port), "--cache", str(case.cache)]
        command += [] if profile is None else ["--profile", str(profile)]
        environment = {key: value for key, value in os.environ.items() if not key.startswith("EVERGREEN_")}
        process = subprocess.Popen(command, cwd=ROOT, env=environment)
        text, aspect = case.rows[0]
        try:
            ends = time.monotonic() + 60
            while process.poll() is None and time.monotonic() < ends:
                try:
                    answer = httpx.post(f"http://127.0.0.1:{port}/v1/predict", json={"text": text, "aspect": aspect})
                    if answer.status_code == 200:
                        break
                except httpx.TransportError:
                    pass
                time.sleep(0.05)
            else:
                raise TimeoutError(f"the worker on {route} did not answer within 60 s")
            yield Server(port=port, process=psutil.Process(process.pid))
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(60)


def compare(package: Path, case: Case, effort: Effort) -> list[Row]:
    """Return rate and processor time of each route, and the hot route's gain over the others, round by round."""
    rates: dict[str, list[float]] = {route: [] for route in ROUTES}
    costs: dict[str, list[float]] = {route: [] for route in ROUTES}
    with ExitStack() as stack:
        servers = {route: stack.enter_context(server(route, package, case)) for route in ROUTES}
        for each in servers.values():
            load([each], case, effort)
        for run in range(effort.runs):
            for k in range(len(ROUTES)):
                route = ROUTES[(k + run) % len(ROUTES)]  # each is first in turn
                found, cost_us = load([servers[route]], case, effort)
                rates[route].append(found.rate)
                costs[route].append(cost_us)
    rows = []
    for route in ROUTES:
        rows.append(median_row(f"{case.name}, {route}", "requests_per_s", rates[route], "1/s"))
        rows.append(median_row(f"{case.name}, {route}", "worker_cpu_per_request", costs[route], "us"))
    hot = rates[ROUTES[0]]
    for route in ROUTES[1:]:
        gains = [fast / slow for fast, slow in zip(hot, rates[route], strict=True)]
        target, met = (
            (f">= {LEAST_GAIN:g}", statistics.median(gains) >= LEAST_GAIN) if route == "ASGI" else (None, None)
        )
        title = f"{case.name}, hot route over {route}"
        rows.append(median_row(title, "rate_ratio", gains, "ratio", target=target, met=met))
    return rows


def profiled(package: Path, case: Case, effort: Effort) -> list[Row]:
    """Return where the processor time of a request goes on the hot route.

    Rows are microseconds per request. The stages and the rests add up to the worker's processor time; a rest is a
    thread's time outside of every stage: socket reads and writes, the event loop, waking the other thread. Beside them:
    the time without a profile, and with a worker per core beside the clients.
    """
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "profile.json"
        with server(ROUTES[0], package, case, profile=path) as running:
            load([running], case, effort)
            loaded, cost_us = load([running], case, effort)
        found: dict[str, Any] = loads(path.read_text(encoding="utf-8"))
    requests = next(each["calls"] for each in found["stages"] if each["stage"] == "assign, cache, ticket")
    title = f"{case.name}, profile of the hot route"

    def row(metric: str, value: float, unit: str = "us") -> Row:
        return median_row(title, metric, [value], unit)

    rows = [row("requests_per_s", loaded.rate, "1/s"), row("worker_cpu, profiled", cost_us)]
    for count in sorted({1, effort.workers}):
        with ExitStack() as stack:
            plain = [stack.enter_context(server(ROUTES[0], package, case)) for _ in range(count)]
            load(plain, case, effort)
            rows.append(row(f"worker_cpu, {count} workers", load(plain, case, effort)[1]))
    staged: dict[str, float] = {}
    for each in found["stages"]:
        rows.append(row(f"{each['thread']}: {each['stage']}", each["us"] / requests))
        staged[each["thread"]] = staged.get(each["thread"], 0.0) + each["us"] / requests
    for thread, (cpu_us, kernel_us, waited_us) in found["threads"].items():
        rows.append(row(f"{thread}: rest", cpu_us / requests - staged.get(thread, 0.0)))
        rows.append(row(f"{thread}: of all, in the kernel", kernel_us / requests))
        rows.append(row(f"{thread}: ready, waiting for a core", waited_us / requests))
    rows.append(row("stages and rests", sum(each[0] for each in found["threads"].values()) / requests))
    batches = found["counters"]["batches"]
    if batches:
        size = found["counters"]["batched_rows"] / batches
        rows.append(row("rows_per_batch", size, "rows"))
        live = max(1, round(size))
        for most, shown in ((1, "1 row"), (live, f"{live} rows as live"), (10_000, "a whole token budget")):
            rows.append(row(f"engine alone, groups of {shown}", _engine_us(package, case.rows, most)))
    return rows


def _engine_us(package: Path, rows: Pairs, most: int) -> float:
    """Return the engine's processor time per row in groups of like length, of this many rows at most."""
    engine = Engine.load(package)
    encoded = engine.tokenizer.encode(rows[:_STEADY_ROWS])
    whole = group_by_length([row.tokens for row in encoded])
    groups = [group[k : k + most] for group in whole for k in range(0, len(group), most)]
    for warm in (True, False):
        begin, scored = time.process_time(), 0
        for group in groups[:20] if warm else groups:
            engine.score_group([encoded[k] for k in group])
            scored += len(group)
    return (time.process_time() - begin) / scored * 1e6


def main() -> None:
    """Measure, print and write the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=Effort.runs, help="rounds of each case")
    parser.add_argument("--seconds", type=float, default=Effort.seconds, help="of one measurement")
    parser.add_argument("--connections", type=int, default=Effort.connections)
    parser.add_argument("--package", type=Path, help="model to serve; unset: 2 layers of width 128, made once")
    parser.add_argument("--rows", type=Path, nargs="*", default=list(SAMPLE), help="CSV files with text and aspect")
    parser.add_argument("--profile", action="store_true", help="only say where the time of a request goes")
    parser.add_argument("--out", type=Path, help="result file; unset: none with --profile")
    arguments = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    pairs = read_rows(arguments.rows)
    model = MODELS[-1]
    kept = ROOT / ".evergreen" / "benchmark-packages" / sha256(model.name.encode()).hexdigest()[:12]
    package = arguments.package or build(model, kept, pairs)
    effort = Effort(runs=arguments.runs, seconds=arguments.seconds, connections=arguments.connections)
    cases = (
        Case(name=model.name if arguments.package is None else package.name, rows=pairs),
        Case(name="cache hit", rows=pairs[:_CACHED_ROWS], cache=20_000),
    )
    rows: list[Row] = []
    for case in cases:
        found = [] if arguments.profile else compare(package, case, effort)
        found += profiled(package, case, effort)
        if not case.cache:
            found += measure_steps(case.name, package, pairs)
        for row in found:
            print(
                f"{row.case:60} {row.metric:48} {row.value:10.2f} ({row.low:.2f} to {row.high:.2f}) {row.unit}",
                flush=True,
            )
        rows += found
    out = arguments.out or (None if arguments.profile else RESULT)
    if out is not None:
        versions = {name: version(name) for name in ("fastapi", "onnxruntime", "uvicorn", "uvloop", "httptools")}
        write_result(out, name="hot_route", command="make benchmark-hot_route", seed=0, rows=rows, versions=versions)


if __name__ == "__main__":
    main()
