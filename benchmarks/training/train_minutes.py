"""F1 reached in some minutes beside transformers' Trainer: `python -m benchmarks train_minutes`.

Three sets of rows: the bundled feedback, and beside the project the labelled rows and the public reviews. On each, with
equal rows, sides, seconds and base model: our training job with the recipe `fast`, from its start to the int8 package
that would be served; the same with the top three layers learning; and transformers' Trainer with its defaults, whose
seconds are those of its loop alone. All take all cores, so the machine must be idle.

A cell is one set, budget, way and seed; each prints beforehand how long it takes at most. Finished cells are kept, so a
run that was cut short goes on where it was; the ways of a budget run in turns. One seed takes up to 3.5 hours;
`--cases` and `--budgets` choose.
"""

import argparse
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cache, partial
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any, Final

from absa.task import ABSA
from absa.training.recipes import RECIPES
from absa.training.rows.tokens import LabelledPair
from benchmarks.figures import Row, median_row, write_result
from benchmarks.training import quality_data
from benchmarks.training.tasks import Sides, evergreen, feedback, transformers_trainer

RESULT: Final = Path(__file__).parents[2] / "benchmarks" / "results" / "train_minutes.json"
BUDGETS_S: Final = (60, 120, 300, 900)
MAX_VALIDATION_ROWS: Final = 2_000  # as a run of the product has them
CASES: Final[Mapping[str, Callable[[], list[LabelledPair]]]] = {
    "bundled": feedback,
    "labelled": quality_data.labelled,
    "public": quality_data.public,
}
"""Rows of each set; the latter two are beside the project."""
FAST: Final = RECIPES["fast"].settings(warm=False)
OURS, TOP, PEER = "evergreen", "evergreen-top3", "trainer"
WAYS: Final[Mapping[str, Callable[[Sides, int, float], dict[str, Any]]]] = {
    OURS: partial(evergreen, **FAST),
    TOP: partial(evergreen, **FAST, train_layers=3),
    PEER: transformers_trainer,
}
Cells = dict[str, dict[str, Any]]


@cache
def sides_of(case: str) -> Sides:
    """Return the rows of a set by sides."""
    sides = Sides.of(ABSA, CASES[case]())
    return replace(sides, validation=sides.validation[:MAX_VALIDATION_ROWS])


def name_of(case: str, budget_s: int, way: str, seed: int) -> str:
    """Return the name of a cell."""
    return f"{case} | {budget_s} s | {way} | {seed}"


def rows_of(cells: Cells, peer: str) -> list[Row]:
    """Return the result's rows: medians over the seeds, and how far ours is ahead of the peer."""
    rows: list[Row] = []
    for case in CASES:
        for budget_s in BUDGETS_S:
            where, found = f"{case}, {budget_s} s", {}
            for way in WAYS:
                start = name_of(case, budget_s, way, 0).removesuffix("0")
                done = [cell for name, cell in cells.items() if name.startswith(start)]
                if not done:
                    continue
                found[way] = median(cell["f1"] for cell in done)
                named = peer if way == PEER else None
                for metric, unit in (("f1", "f1"), ("epochs", "passes"), ("wall_s", "s")):
                    rows.append(median_row(f"{where}, {way}", metric, [c[metric] for c in done], unit, peer=named))
            if {OURS, PEER} <= found.keys():
                ahead = round(found[OURS] - found[PEER], 4)
                rows.append(
                    Row(case=where, metric="f1 ahead of the peer", value=ahead, low=ahead, high=ahead, runs=1,
                        unit="f1", target="> 0", met=ahead > 0)
                )  # fmt: skip
    return rows


def main() -> None:
    """Run the cells that are missing and write the result from those that there are."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", nargs="+", default=list(CASES), choices=CASES)
    parser.add_argument("--budgets", nargs="+", type=int, default=list(BUDGETS_S), choices=BUDGETS_S, metavar="S")
    parser.add_argument("--ways", nargs="+", default=list(WAYS), choices=WAYS)
    parser.add_argument("--seeds", type=int, default=1, help="seeds of each cell (default: 1)")
    parser.add_argument("--out", type=Path, default=RESULT)
    options = parser.parse_args()
    file = options.out.parent / "cells" / options.out.name
    cells: Cells = json.loads(file.read_text()) if file.exists() else {}
    file.parent.mkdir(parents=True, exist_ok=True)
    cases = [case for case in options.cases if case == "bundled" or quality_data.DATA.is_dir()]
    if len(cases) < len(options.cases):
        print(f"skipped the rows beside the project: they are not at {quality_data.DATA}")
    wanted = [
        (name, case, budget_s, way, seed)
        for budget_s in options.budgets for case in cases for seed in range(options.seeds) for way in options.ways
        if (name := name_of(case, budget_s, way, seed)) not in cells
    ]  # fmt: skip
    for number, (name, case, budget_s, way, seed) in enumerate(wanted, 1):
        print(f"{number} of {len(wanted)}: {name}, {1.1 * budget_s + 60:.0f} s at most", flush=True)
        started = time.time()
        cells[name] = WAYS[way](sides_of(case), seed, float(budget_s))
        cells[name]["took_s"] = round(time.time() - started, 1)
        file.write_text(json.dumps(cells, indent=1) + "\n")
        print(json.dumps(cells[name]), flush=True)
    versions = {name: version(name) for name in ("torch", "transformers", "onnxruntime")}
    write_result(
        options.out, name="train_minutes", command="make benchmark-train_minutes", seed=0,
        rows=rows_of(cells, f"transformers {versions['transformers']}, Trainer with its defaults"), versions=versions,
    )  # fmt: skip


if __name__ == "__main__":
    main()
