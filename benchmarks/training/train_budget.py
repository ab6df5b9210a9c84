"""Deadlines and quality of budgets: `python -m benchmarks train_budget [--busy]`.

Budgets times sizes of data, each a whole run in a process of its own: ingest of a CSV, tokens, training, packaging,
judging and registration in an MLflow of its own (SQLite, no server; Prefect's bookkeeping is left out). The package is
then scored on rows of the bundled data that it did not see. Rows beyond the bundled ones are made from them by joining
two at random, so that all sizes have the same test rows.

With `--busy` two endless loops per core run beside every cell, as on the computer of a user who works, and each cell is
repeated `--repeat` times. Then the result tells whether every run gave a version, and by how much it overran.

A cell that the result holds is not run again; `--again` forgets those that are named by `--budgets` and `--sizes`.
"""

import argparse
import contextlib
import csv
import hashlib
import json
import os
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from pathlib import Path
from typing import Any

from absa.errors import DeadlineMissedError
from benchmarks.figures import Row, write_json, write_result
from flows.training.reserve import OVERRUN_SHARE

ROOT = Path(__file__).parents[2]
RESULT = ROOT / "benchmarks" / "results" / "train_budget.json"
SAMPLE = ROOT / "absa" / "data" / "sample" / "feedback.csv"
BUDGETS_S = (60, 180, 600)
SIZES = (2_000, 100_000, 2_000_000)
BUSY_RESULT = ROOT / "benchmarks" / "results" / "train_budget_busy.json"
BUSY_BUDGETS_S = (120, 300, 900)
BUSY_SIZES = (2_000, 20_000, 200_000)
BUSY_REPEATS = {120: 10}  # others: once
LOOPS_PER_CORE = 2
PICTURE = ROOT / "docs" / "pictures" / "train_budget.png"
MOST_PASSES = 12
LEAST_USED = 0.9
Pair = dict[str, Any]
Cells = dict[str, dict[str, Any]]


def sides() -> dict[str, list[Pair]]:
    """The bundled rows by side, no text on two."""
    parts: dict[str, list[Pair]] = {"train": [], "validation": [], "test": []}
    with SAMPLE.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            at = hashlib.sha256(row["text"].casefold().encode()).digest()[0] / 256
            side = "train" if at < 0.8 else "validation" if at < 0.9 else "test"
            parts[side].append({"text": row["text"], "aspect": row["aspect"], "label": int(row["label"])})
    return parts


def write_rows(path: Path, rows: list[Pair], count: int, seed: int) -> None:
    """Write that many rows as a CSV, joined ones beyond those that there are."""
    chance = random.Random(seed)
    with path.open("w", encoding="utf-8", newline="") as file:
        write = csv.writer(file).writerow
        write(("text", "aspect", "label"))
        for number in range(count):
            row = rows[number % len(rows)]
            text = row["text"]
            if number >= len(rows):
                other = rows[chance.randrange(len(rows))]["text"]
                if row["aspect"].casefold() in other.casefold():
                    other = f"Note {_letters(number)}."
                text = f"{text} {other}" if number % 2 else f"{other} {text}"
            write((text, row["aspect"], row["label"]))


def _letters(number: int) -> str:
    """A number in letters: digits would make near-duplicates of each other."""
    return "".join(chr(ord("a") + int(digit)) for digit in str(number))


def one_run(budget_s: float, source: Path, home: Path) -> dict[str, Any]:
    """One whole run in this process: what it used of its time."""
    os.environ.pop("PREFECT_API_URL", None)
    os.environ["EVERGREEN_HOME"] = str(home)
    from absa.adapters.mlflow_client import EXPERIMENT
    from absa.job import JOB_FILE
    from flows.platform.services import build_services
    from flows.platform.settings import Settings, apply_environment
    from flows.training.job_process import run_job
    from flows.training.train_version import TrainingRequest, train_version

    settings = Settings(home=home)
    environment = apply_environment(settings) | {"MLFLOW_TRACKING_URI": f"sqlite:///{home}/mlflow.db"}
    seen: dict[str, float] = {}
    done: dict[str, Any] = {}

    def until_the_deadline(folder: Path, **others: Any) -> Any:
        file = folder / JOB_FILE
        described = json.loads(file.read_text())
        described["settings"]["max_epochs"] = MOST_PASSES
        file.write_text(json.dumps(described))
        return run_job(folder, **others)

    def note(event: Any) -> None:
        name = event.get("name") if event["event"] == "phase" else event["event"]
        seen.setdefault(str(name), time.time())
        if event["event"] == "done":
            done.update(event)

    import mlflow

    mlflow.set_tracking_uri(environment["MLFLOW_TRACKING_URI"])
    mlflow.set_experiment(EXPERIMENT)  # the registry is there before the run begins, as where it is a server
    started = time.time()
    try:
        outcome = train_version(
            build_services(settings, environment=environment),
            TrainingRequest(budget_s=budget_s, sources=(str(source),), reason="benchmark"),
            on_event=note,
            job=until_the_deadline,
        )
    except DeadlineMissedError as error:
        return {"held": False, "event": str(error), "phases": {name: at - started for name, at in seen.items()}}
    ended = time.time()
    spare_s = started + budget_s - ended
    (folder,) = (path for path in (home / "jobs").iterdir() if path.is_dir())
    return {
        "held": spare_s >= 0 and outcome.version is not None,
        "used_s": ended - started,
        "version": outcome.version,
        "verdict": outcome.verdict,
        "spare_s": spare_s,
        "snapshot_s": seen["snapshot"] - started,
        "start_s": seen["train"] - seen["snapshot"],
        "train_s": done["train_s"],
        "package_s": done["package_s"],
        "last_package": "ended_early" not in seen,
        "judge_s": seen["gate"] - seen["done"],
        "register_s": ended - seen["gate"],
        "used_share": done["train_s"] / (done["train_s"] + spare_s),
        "passes": done["epochs"],
        "rows_seen": done["rows"],
        "candidates": done["choice"]["candidates"],
        "tokens_per_s": done["tokens_per_s"],
        "mfu": done["mfu"],
        "package": str(folder / "package"),
    }


def run_cell(budget_s: float, size: int, parts: dict[str, list[Pair]]) -> dict[str, Any]:
    """One whole run in a process of its own, and how good its model became."""
    import numpy as np

    from absa.evaluation.counts import pos_neg_f1
    from absa.inference.engine import Engine

    with tempfile.TemporaryDirectory(prefix="evergreen-budget-") as scratch:
        folder = Path(scratch)
        write_rows(folder / "rows.csv", parts["train"], size, seed=0)
        command = ["--one", str(budget_s), str(folder / "rows.csv"), str(folder / "home")]
        child = subprocess.run(
            [sys.executable, "-m", "benchmarks.training.train_budget", *command],
            cwd=ROOT, env=dict(os.environ), capture_output=True, text=True, check=False,
        )  # fmt: skip
        if child.returncode:
            return {"held": False, "event": child.stderr.strip().splitlines()[-1:]}
        cell: dict[str, Any] = json.loads(child.stdout.splitlines()[-1])
        if not cell["held"] and "package" not in cell:
            return cell
        engine = Engine.load(Path(cell.pop("package")))
        scores = engine.score([(row["text"], row["aspect"]) for row in parts["test"]])
    labels = np.array([row["label"] for row in parts["test"]])
    return cell | {"pos_neg_f1": pos_neg_f1(labels, scores.argmax(1)), "test_rows": len(labels)}


@contextlib.contextmanager
def busy_machine() -> Iterator[None]:
    """Run two endless loops per core while the body runs."""
    loop = "import os\nparent = os.getppid()\nwhile os.getppid() == parent:\n    sum(range(100_000))"
    count = LOOPS_PER_CORE * (os.cpu_count() or 1)
    loops = [subprocess.Popen([sys.executable, "-c", loop]) for _ in range(count)]
    try:
        yield
    finally:
        for each in loops:
            each.kill()
            each.wait()


def run_busy(arguments: argparse.Namespace, cells: Cells, save: Callable[[], None]) -> None:
    """Run the missing runs of the busy table, so many at a time."""
    parts, lock, jobs = sides(), threading.Lock(), int(arguments.jobs)
    beside = f", {jobs} runs at a time" if jobs > 1 else ""
    beside += ", other work beside" if arguments.shared_machine else ""

    def run(case: str, budget_s: int, size: int) -> None:
        found = run_cell(budget_s, size, parts)
        with lock:
            cells.setdefault(case, {"budget_s": budget_s, "runs": []})["runs"].append(found)
            print(case, json.dumps(found), flush=True)
            save()

    missing: list[tuple[str, int, int]] = []
    for budget_s in sorted(arguments.budgets):
        for size in arguments.sizes:
            case = f"{budget_s} s, {size} rows, {LOOPS_PER_CORE} loops per core{beside}"
            wanted = arguments.repeat or BUSY_REPEATS.get(budget_s, 1)
            missing += [(case, budget_s, size)] * (wanted - len(cells.get(case, {"runs": []})["runs"]))
    with busy_machine(), ThreadPoolExecutor(jobs) as several:
        for done in [several.submit(run, *each) for each in missing]:
            done.result()


def busy_rows(cells: Cells) -> list[Row]:
    """Rows of the busy table: versions, overrun and quality, over the runs of each cell."""
    rows = []
    for case, cell in cells.items():
        runs, budget_s = cell["runs"], float(cell["budget_s"])
        good = [run for run in runs if run.get("version")]
        share = len(good) / max(1, len(runs))
        in_time = [run for run in good if run["used_s"] <= (1 + OVERRUN_SHARE) * budget_s]
        rows.append(_row(case, "runs_with_a_version", share, "share", "1", share == 1.0, runs=len(runs)))
        within = len(in_time) / max(1, len(runs))
        rows.append(_row(case, "runs_within_budget_and_overrun", within, "share", "1", within == 1.0, runs=len(runs)))
        for name, unit in (("used_s", "s"), ("train_s", "s"), ("pos_neg_f1", "f1")):
            found = sorted(float(run[name]) for run in good if name in run)
            if found:
                middle, low, high = found[len(found) // 2], found[0], found[-1]
                rows.append(_row(case, name, middle, unit, low=low, high=high, runs=len(found)))
    return rows


def rows_of(cells: dict[str, dict[str, Any]]) -> list[Row]:
    """The result's rows."""
    rows = []
    for name_of_cell, cell in cells.items():
        case = f"{name_of_cell} (shared machine)" if cell.get("shared_machine") else name_of_cell
        rows.append(_row(case, "deadline_held", float(cell["held"]), "share", "1", bool(cell["held"])))
        if not cell["held"]:
            continue
        enough = cell["passes"] < MOST_PASSES - 0.1  # otherwise the data were learned before the time was over
        target = f">= {LEAST_USED:g}" if enough else None
        met = cell["used_share"] >= LEAST_USED if enough else None
        rows.append(_row(case, "share_of_time_in_training", cell["used_share"], "share", target, met))
        rows.append(_row(case, "pos_neg_f1", cell["pos_neg_f1"], "f1"))
        for name in ("snapshot_s", "start_s", "train_s", "package_s", "judge_s", "register_s", "spare_s"):
            rows.append(_row(case, name, cell[name], "s"))
        for name, unit in (("passes", "passes"), ("rows_seen", "rows"), ("candidates", "rows"), ("mfu", "share")):
            rows.append(_row(case, name, cell[name], unit))
        rows.append(_row(case, "tokens_per_s", cell["tokens_per_s"], "tokens/s"))
    return rows


def draw(cells: dict[str, dict[str, Any]]) -> None:
    """Quality over the budget, a line for each size of data."""
    import matplotlib as mpl

    mpl.use("agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(6, 3.6))
    for size in SIZES:
        held = [(b, cells.get(f"{b} s, {size} rows", {}).get("pos_neg_f1")) for b in BUDGETS_S]
        points = [(budget_s, f1) for budget_s, f1 in held if f1 is not None]
        axes.plot([b for b, _ in points], [f1 for _, f1 in points], marker="o", label=f"{size:,} rows")
    axes.set_xlabel("budget of the whole run, s")
    axes.set_ylabel("pos/neg F1 on unseen rows")
    axes.grid(alpha=0.3)
    axes.legend()
    figure.tight_layout()
    PICTURE.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(PICTURE, dpi=120, metadata={"Software": None})
    plt.close(figure)


def _row(
    case: str, metric: str, value: float, unit: str, target: str | None = None, met: bool | None = None, *,
    low: float | None = None, high: float | None = None, runs: int = 1,
) -> Row:  # fmt: skip
    low, high = value if low is None else low, value if high is None else high
    return Row(
        case=case, metric=metric, value=round(float(value), 4), low=round(float(low), 4), high=round(float(high), 4),
        runs=runs, unit=unit, target=target, met=met,
    )  # fmt: skip


def measure_busy(arguments: argparse.Namespace) -> None:
    """Run the busy table and write its result."""
    out: Path = arguments.out or BUSY_RESULT
    kept = out.parent / "cells" / out.name
    cells: Cells = json.loads(kept.read_text()) if kept.exists() else {}
    arguments.budgets = arguments.budgets or list(BUSY_BUDGETS_S)
    arguments.sizes = arguments.sizes or list(BUSY_SIZES)
    if arguments.again:
        named = [f"{budget_s} s, {size} rows," for budget_s in arguments.budgets for size in arguments.sizes]
        cells = {case: cell for case, cell in cells.items() if not case.startswith(tuple(named))}

    def save() -> None:
        write_json(kept, cells)
        packages = {name: version(name) for name in ("torch", "onnxruntime", "tokenizers", "mlflow", "polars")}
        write_result(
            out, name="train_budget_busy", command="make benchmark-train_budget ARGS=--busy", seed=0,
            rows=busy_rows(cells), versions=packages,
        )  # fmt: skip

    run_busy(arguments, cells, save)


def main() -> None:
    """Run the cells that are missing and write the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--budgets", type=int, nargs="+")
    parser.add_argument("--sizes", type=int, nargs="+")
    parser.add_argument("--busy", action="store_true", help="run beside two endless loops per core")
    parser.add_argument("--jobs", type=int, default=1, help="busy runs at a time; more make the machine busier still")
    parser.add_argument("--repeat", type=int, help="runs of each busy cell; default 10 for 120 s, else 1")
    parser.add_argument("--again", action="store_true", help="run cells again that the result holds")
    parser.add_argument("--shared-machine", action="store_true", help="note that others used the machine meanwhile")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--one", nargs=3, metavar=("BUDGET_S", "CSV", "HOME"), help="one run; prints its figures")
    arguments = parser.parse_args()
    if arguments.one:
        budget_s, source, home = arguments.one
        print(json.dumps(one_run(float(budget_s), Path(source), Path(home))))
        return
    if arguments.busy:
        measure_busy(arguments)
        return
    arguments.out = arguments.out or RESULT
    arguments.budgets, arguments.sizes = arguments.budgets or list(BUDGETS_S), arguments.sizes or list(SIZES)
    kept = arguments.out.parent / "cells" / arguments.out.name
    cells = json.loads(kept.read_text()) if kept.exists() else {}
    parts = sides()
    for budget_s in arguments.budgets:
        for size in arguments.sizes:
            case = f"{budget_s} s, {size} rows"
            if case in cells and not arguments.again:
                continue
            cells[case] = run_cell(budget_s, size, parts) | {"shared_machine": arguments.shared_machine}
            print(case, json.dumps(cells[case]), flush=True)
            write_json(kept, cells)
            packages = {name: version(name) for name in ("torch", "onnxruntime", "tokenizers", "mlflow", "polars")}
            write_result(
                arguments.out, name="train_budget", command="make benchmark-train_budget", seed=0,
                rows=rows_of(cells), versions=packages,
            )  # fmt: skip
    if arguments.out == RESULT:
        draw(cells)


if __name__ == "__main__":
    main()
