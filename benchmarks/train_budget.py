"""Does the deadline hold, and what does a budget buy: `python -m benchmarks.train_budget`.

Budgets times sizes of data, each a real job in a process: trained, packaged, and scored on rows of the bundled data
that it did not see. Rows beyond the bundled ones are made from them by joining two at random, so that all sizes have
the same test side. A cell that the result holds already is not run again; `--again` forgets them.
"""

import argparse
import csv
import hashlib
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks.figures import Row, write_result

ROOT = Path(__file__).parents[1]
RESULT = ROOT / "benchmarks" / "results" / "train_budget.json"
SAMPLE = ROOT / "absa" / "data" / "sample" / "feedback.csv"
BUDGETS_S = (60, 180, 600)
SIZES = (2_000, 100_000, 2_000_000)
RESERVE_S = 10.0
LEAST_USED = 0.9
Pair = dict[str, Any]


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
    """Write that many rows, joined ones beyond those that there are."""
    chance = random.Random(seed)
    with path.open("w", encoding="utf-8") as file:
        for number in range(count):
            row = rows[number % len(rows)]
            if number >= len(rows):
                other = rows[chance.randrange(len(rows))]["text"]
                if row["aspect"].casefold() in other.casefold():
                    other = f"Note {number}."
                row = row | {"text": f"{row['text']} {other}" if number % 2 else f"{other} {row['text']}"}
            file.write(json.dumps(row) + "\n")


def run_cell(budget_s: float, size: int, parts: dict[str, list[Pair]]) -> dict[str, Any]:
    """One job: what it used of its time, and how good it became."""
    from absa.inference.engine import Engine
    from absa.training.trainer import pos_neg_f1

    folder = Path(tempfile.mkdtemp(prefix="evergreen-budget-"))
    try:
        write_rows(folder / "train.jsonl", parts["train"], size, seed=0)
        write_rows(folder / "validation.jsonl", parts["validation"], len(parts["validation"]), seed=0)
        ends_at = time.time() + budget_s
        settings = {"max_epochs": 1e9 if size > 10_000 else 12}
        job = {"settings": settings, "ends_at": ends_at, "reserve_s": RESERVE_S, "snapshot": None}
        (folder / "job.json").write_text(json.dumps(job))
        start = time.time()
        child = subprocess.run(
            [sys.executable, "-m", "absa.job", str(folder)], cwd=ROOT, env=dict(os.environ), capture_output=True,
            text=True, check=False,
        )  # fmt: skip
        ended = time.time()
        done = json.loads(child.stdout.splitlines()[-1])
        if child.returncode:
            return {"held": False, "event": done}
        import numpy as np

        scores = Engine.load(folder / "package").score([(row["text"], row["aspect"]) for row in parts["test"]])
        labels = np.array([row["label"] for row in parts["test"]])
        return {
            "held": ended <= ends_at,
            "spare_s": ends_at - ended,
            "used_share": done["train_s"] / (budget_s - RESERVE_S),
            "epochs": done["epochs"],
            "rows_seen": done["rows"],
            "tokens_per_s": done["tokens"] / done["train_s"],
            "pos_neg_f1": pos_neg_f1(labels, scores.argmax(1)),
            "test_rows": len(labels),
            "wall_s": ended - start,
        }
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def rows_of(cells: dict[str, dict[str, Any]]) -> list[Row]:
    """The result's rows."""
    rows = []
    for case, cell in cells.items():
        rows.append(_row(case, "deadline_held", float(cell["held"]), "share", "1", bool(cell["held"])))
        if not cell["held"]:
            continue
        enough = cell["epochs"] < 11.9  # otherwise the data were learned before the time was over
        target = f">= {LEAST_USED:g}" if enough else None
        met = cell["used_share"] >= LEAST_USED if enough else None
        rows.append(_row(case, "share_of_time_in_training", cell["used_share"], "share", target, met))
        for metric, unit in (("spare_s", "s"), ("epochs", "passes"), ("rows_seen", "rows"), ("pos_neg_f1", "f1")):
            rows.append(_row(case, metric, cell[metric], unit))
        rows.append(_row(case, "tokens_per_s", cell["tokens_per_s"], "tokens/s"))
    return rows


def _row(case: str, metric: str, value: float, unit: str, target: str | None = None, met: bool | None = None) -> Row:
    value = round(float(value), 4)
    return Row(
        case=case, metric=metric, value=value, low=value, high=value, runs=1, unit=unit, target=target, met=met
    )  # fmt: skip


def main() -> None:
    """Run the cells that are missing and write the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--budgets", type=int, nargs="+", default=list(BUDGETS_S))
    parser.add_argument("--sizes", type=int, nargs="+", default=list(SIZES))
    parser.add_argument("--again", action="store_true", help="run cells again that the result holds")
    arguments = parser.parse_args()
    kept = RESULT.parent / "cells" / RESULT.name
    cells = {} if arguments.again or not kept.exists() else json.loads(kept.read_text())
    parts = sides()
    for budget_s in arguments.budgets:
        for size in arguments.sizes:
            case = f"{budget_s} s, {size} rows"
            if case in cells:
                continue
            cells[case] = run_cell(budget_s, size, parts)
            print(case, json.dumps(cells[case]), flush=True)
            kept.parent.mkdir(parents=True, exist_ok=True)
            kept.write_text(json.dumps(cells, indent=1) + "\n")
            packages = {name: version(name) for name in ("torch", "onnxruntime", "tokenizers")}
            write_result(
                RESULT, name="train_budget", command="python -m benchmarks.train_budget", seed=0,
                rows=rows_of(cells), versions=packages,
            )  # fmt: skip


if __name__ == "__main__":
    main()
