"""Rates of this checkout beside another one: `python -m benchmarks.router.releases --before FOLDER`.

Router saturation (small student), cache hits, cold start and batch rate, in turns on the same packages, so that a
machine whose speed changes from minute to minute slows both. The figures are ratios of neighbours: after / before.
FOLDER is a checkout of the earlier release (`git worktree add FOLDER COMMIT`); both run in this environment.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

from benchmarks.figures import Row, median_row, write_result
from benchmarks.router.serving import MODELS, ROOT, SAMPLE, build, read_rows

RESULT: Final = ROOT / "benchmarks" / "results" / "releases.json"
LIMIT: Final = 0.05
# Runs in either checkout: finds the benchmarks by what they define, because files move between releases.
_PROBE: Final = """
import importlib, json, sys
from pathlib import Path

case, package, given = sys.argv[1], Path(sys.argv[2]), sys.argv[5]
workers, seconds = int(sys.argv[3]), float(sys.argv[4])

def defining(text):
    for path in sorted(Path("benchmarks").rglob("*.py")):
        if "\\ndef " + text in path.read_text(encoding="utf-8"):
            return importlib.import_module(".".join(path.with_suffix("").parts))
    raise SystemExit("no benchmark defines " + text)

if case == "batch":
    value = defining("run_command(").run_command(Path(given), package, workers)[0]
else:
    module = defining("saturated(")
    rows = module.read_rows(module.SAMPLE)
    table, run = module.Table(), module.Run(rows=rows, workers=workers, runs=1, seconds=seconds)
    if case == "saturation":
        module.measure_model(table, run, module.MODELS[2], package)
    elif case == "cache":
        module.measure_cache(table, run, package)
    else:
        module.measure_cold_start(table, run, package)
    metric = "seconds" if case == "cold" else "requests_per_s"
    value = next(row["value"] for row in table.rows if row["metric"] == metric)
print("\\nPROBE " + json.dumps(value))
"""
# case, its name in the result, whether a higher figure is better
CASES: Final = (
    ("saturation", "router saturation, 2 layers of width 128", True),
    ("cache", "router, cache hits", True),
    ("cold", "cold start of a router", False),
    ("batch", "batch of CSV rows, whole command", False),
)


def probe(checkout: Path, case: str, package: Path, given: Path, *, workers: int, seconds: float) -> float:
    """Return one figure of a checkout: requests per second, or seconds.

    Raises:
        RuntimeError: the checkout's benchmark failed; its last lines are in the message.
    """
    environment = {**os.environ, "PYTHONPATH": str(checkout)}
    done = subprocess.run(
        [sys.executable, "-c", _PROBE, case, str(package), str(workers), str(seconds), str(given)],
        cwd=checkout, env=environment, capture_output=True, text=True, check=False, timeout=600,
    )  # fmt: skip
    found = [line for line in done.stdout.splitlines() if line.startswith("PROBE ")]
    if done.returncode or not found:
        raise RuntimeError(f"{case} in {checkout} failed: {(done.stderr or done.stdout)[-2000:]}")
    return float(json.loads(found[-1].removeprefix("PROBE ")))


def compared(before: list[float], after: list[float], *, case: str, higher_is_better: bool) -> Row:
    """Return the ratio of rates, after / before, of neighbouring runs: 1.0 is as fast, 0.95 is 5 % slower."""
    pairs = zip(before, after, strict=True)
    ratios = [b / a if higher_is_better else a / b for a, b in pairs]
    target, met = f">= {1 - LIMIT:g}", statistics.median(ratios) >= 1 - LIMIT
    return median_row(case, "speed_after_over_before", ratios, "ratio", target=target, met=met)


def main() -> None:
    """Measure in turns and write the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--before", type=Path, required=True, help="Checkout of the earlier release.")
    parser.add_argument("--rounds", type=int, default=5, help="Pairs of runs per case, 5 by default.")
    parser.add_argument("--seconds", type=float, default=5.0, help="Seconds per run of load, 5 by default.")
    parser.add_argument("--batch-rows", type=int, default=100_000, help="Rows of the batch, 100,000 by default.")
    parser.add_argument("--result", type=Path, default=RESULT, help="File to write.")
    chosen = parser.parse_args()
    workers = os.cpu_count() or 1
    rows: list[Row] = []
    with tempfile.TemporaryDirectory(prefix="evergreen-releases-") as name:
        folder = Path(name)
        pairs = read_rows(SAMPLE)
        package = build(MODELS[2], folder / "package", pairs)
        given = folder / "rows.jsonl"
        lines = [{"text": text, "aspect": aspect} for text, aspect in pairs]
        with given.open("w", encoding="utf-8") as file:
            for number in range(chosen.batch_rows):
                row: dict[str, Any] = lines[number % len(lines)]
                file.write(json.dumps({**row, "id": number}) + "\n")
        for case, label, higher in CASES:
            figures: dict[Path, list[float]] = {chosen.before: [], ROOT: []}
            for turn in range(chosen.rounds):
                order = (chosen.before, ROOT) if turn % 2 == 0 else (ROOT, chosen.before)
                for checkout in order:
                    figures[checkout].append(
                        probe(checkout, case, package, given, workers=workers, seconds=chosen.seconds)
                    )
                print(f"{label}: {figures[chosen.before][-1]:.3f} before, {figures[ROOT][-1]:.3f} after", flush=True)
            rows.append(compared(figures[chosen.before], figures[ROOT], case=label, higher_is_better=higher))
            unit = "1/s" if higher else "s"
            for side, values in (("before", figures[chosen.before]), ("after", figures[ROOT])):
                rows.append(median_row(label, side, values, unit))
    write_result(
        chosen.result, name="releases", command="make benchmark-releases ARGS='--before FOLDER'", seed=0, rows=rows,
        versions={"onnxruntime": version("onnxruntime")},
    )  # fmt: skip
    for row in rows:
        print(f"{row.case:45} {row.metric:24} {row.value:10.3f} ({row.low:.3f} to {row.high:.3f}) {row.unit}")


if __name__ == "__main__":
    main()
