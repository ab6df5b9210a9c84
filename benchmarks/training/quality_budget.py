"""Quality that 15 minutes on two cores buy: `python -m benchmarks quality_budget`, or `make benchmark-quality_budget`.

Times, so the machine must be idle: how long `pretrain` takes on the public rows, real jobs of 15 minutes on fold 0
of the labelled rows, with the data alone and with that base, and rows a second on one core of each student of the
ladder that `quality` kept, in turns. `--stages` chooses; a stage that the result holds is not run again,
`ladder` always is. The base is kept where `quality` finds it.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from absa.inference.tokenization import PairTokenizer
from absa.job import JOB_TOKENS, VALIDATION_FILE
from absa.modeling.folders import TOKENIZER, find_base
from absa.training.pretrain import pretrain
from absa.training.rows.shards import write_shard
from absa.training.rows.tokens import tokenize
from benchmarks.figures import Row, write_json, write_result
from benchmarks.training import quality_data as data
from benchmarks.training.quality import BASES, ROOT, confusion
from benchmarks.training.quality_recipes import BASE, LADDER, Cell

RESULT = ROOT / "benchmarks" / "results" / "quality_budget.json"
CELLS = RESULT.parent / "cells" / RESULT.name
BUDGET_S = 900.0
RANKING = "ladder"
ROUNDS = 5
MAX_TOKENS = 128
STAGES = ("base", "with the base", "data alone", RANKING)
EPOCHS = {"with the base": 2, "data alone": 4}


def make_base() -> dict[str, Any]:
    """Make the base from the public rows and time it; one that is there already was not timed."""
    found: list[Path] = []
    start = time.time()
    folder = pretrain(data.public(), BASE, BASES, found=found.append, watch=lambda progress: print(
        json.dumps(progress.to_json()), flush=True) if progress.step % 25 < 3 else None)  # fmt: skip
    facts = json.loads((folder / "base.json").read_text())
    wall_s = facts["training"]["train_s"] if found else time.time() - start
    return {"wall_s": round(wall_s, 1), "rows": facts["rows"], "tokens": facts["training"]["tokens"]}


def run_job(stage: str) -> dict[str, Any]:
    """One real job with a deadline on fold 0, measured on its test side as it would be served."""
    from absa.inference.engine import Engine

    train, validation, test = data.sides(0)
    folder = Path(tempfile.mkdtemp(prefix="evergreen-quality-"))
    try:
        base = str(pretrain(data.public(), BASE, BASES)) if stage == "with the base" else "minilm-l6"
        settings = {"max_epochs": EPOCHS[stage], "base_model": base}
        start = time.time()
        lines = [json.dumps({"text": row.text, "aspect": row.aspect, "label": row.label}) for row in validation]
        (folder / VALIDATION_FILE).write_text("\n".join(lines) + "\n", encoding="utf-8")
        tokenizer = find_base(base) / TOKENIZER
        rows = tokenize(train, PairTokenizer.from_file(tokenizer, MAX_TOKENS))
        write_shard(folder / JOB_TOKENS, rows, tokenizer, MAX_TOKENS)
        job = {"settings": settings, "ends_at": start + BUDGET_S, "reserve_s": 60.0, "snapshot": None}
        (folder / "job.json").write_text(json.dumps(job))
        child = subprocess.run(
            [sys.executable, "-m", "absa.job", str(folder)], cwd=ROOT, env=dict(os.environ), capture_output=True,
            text=True, check=False,
        )  # fmt: skip
        wall_s = time.time() - start
        done = json.loads(child.stdout.splitlines()[-1])
        if child.returncode:
            raise SystemExit(f"{stage}: {done.get('sentence', done)}")
        scores = Engine.load(folder / "package").score([(row.text, row.aspect) for row in test])
        counts = confusion(np.array([row.label for row in test]), scores)
        return {"wall_s": round(wall_s, 1), "epochs": done["epochs"], "tokens": done["tokens"], "confusion": counts}
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def rank_ladder() -> dict[str, list[float]]:
    """Rows a second of one thread, from texts to scores, in turns over the students that were kept.

    Speed is a matter of shape alone, so any student of six layers stands for six.
    """
    from absa.inference.engine import Engine

    _, _, test = data.sides(0)
    pairs = [(row.text, row.aspect) for row in test]
    folders = {step: Cell(recipe, 0, 0).folder / "package" for step, recipe in LADDER.items()}
    engines = {name: Engine.load(folder) for name, folder in folders.items() if folder.is_dir()}
    speeds: dict[str, list[float]] = {name: [] for name in engines}
    for _ in range(ROUNDS):
        for name, engine in engines.items():
            start = time.perf_counter()
            engine.score(pairs)
            speeds[name].append(round(len(pairs) / (time.perf_counter() - start), 1))
    return speeds


def rows_of(cells: dict[str, dict[str, Any]]) -> list[Row]:
    """The result's rows."""
    from absa.evaluation.counts import pos_neg_f1_of

    rows = []
    for student, speeds in cells.get(RANKING, {}).items():
        value, low, high = median(speeds), min(speeds), max(speeds)
        case, runs = f"{student}, one core", len(speeds)
        rows.append(Row(case=case, metric="rows_per_s", value=value, low=low, high=high, runs=runs, unit="rows/s"))
    for stage in STAGES:
        if stage not in cells or stage == RANKING:
            continue
        cell = cells[stage]
        case = {"base": f"a base from {cell.get('rows', 0):,} public rows"}.get(stage, f"15 minutes, {stage}, fold 0")
        found = [("wall_s", cell["wall_s"], "s")]
        if "confusion" in cell:
            counts = np.array(cell["confusion"], float)
            found += [
                ("accuracy", float(np.trace(counts) / counts.sum()), "share"),
                ("pos_neg_f1", float(pos_neg_f1_of(counts)), "f1"),
                ("epochs", cell["epochs"], "passes"),
            ]
        for metric, exact, unit in found:
            timed, value = metric == "wall_s" and stage != "base", round(exact, 4)
            row = Row(case=case, metric=metric, value=value, low=value, high=value, runs=1, unit=unit)
            rows.append(replace(row, target="<= 900", met=value <= BUDGET_S) if timed else row)
    return rows


def main() -> None:
    """Run the stages that are missing and write the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--stages", nargs="+", default=list(STAGES), choices=STAGES)
    arguments = parser.parse_args()
    cells: dict[str, Any] = json.loads(CELLS.read_text()) if CELLS.exists() else {}
    for stage in arguments.stages:
        if stage in cells and stage != RANKING:
            continue
        cells[stage] = make_base() if stage == "base" else rank_ladder() if stage == RANKING else run_job(stage)
        print(stage, json.dumps(cells[stage]), flush=True)
        write_json(CELLS, cells)
        packages = {name: version(name) for name in ("torch", "onnxruntime", "tokenizers")}
        write_result(
            RESULT, name="quality_budget", command="make benchmark-quality_budget", seed=0, rows=rows_of(cells),
            versions=packages,
        )  # fmt: skip


if __name__ == "__main__":
    main()
