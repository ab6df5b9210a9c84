"""Benchmark of the hot route, at small scale: real workers on each route, and a profile that adds up."""

from pathlib import Path

import pytest

from benchmarks.router.hot_route import Case, Effort, compare, profiled
from tests.toy_package import build_toy_package

ROWS = [(f"the app is {word}", "app") for word in ("great", "slow", "good", "bad", "fast", "broken")]
EFFORT = Effort(runs=1, seconds=0.3, connections=4, workers=1)


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_toy_package(tmp_path_factory.mktemp("package"))


def test_comparison_measures_each_route(package: Path) -> None:
    rows = {(row.case, row.metric): row for row in compare(package, Case(name="c", rows=ROWS, cache=100), EFFORT)}
    for route in ("hot route", "ASGI", "FastAPI"):
        assert rows[f"c, {route}", "requests_per_s"].value > 0
        assert rows[f"c, {route}", "worker_cpu_per_request"].value > 0
    gain = rows["c, hot route over ASGI", "rate_ratio"]
    assert (gain.target, gain.met) == (">= 1.15", gain.value >= 1.15)


def test_profile_stages_add_up_to_the_threads(package: Path) -> None:
    rows = {row.metric: row.value for row in profiled(package, Case(name="c", rows=ROWS), EFFORT)}
    total = rows.pop("stages and rests")
    parts = [value for name, value in rows.items() if ": " in name and ": of all" not in name and ": ready" not in name]
    assert sum(parts) == pytest.approx(total, rel=0.01)
    assert rows["inference: engine"] > 0
    assert rows["event loop: http: parse, protocol"] > 0
    assert rows["rows_per_batch"] >= 1
