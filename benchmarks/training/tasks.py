"""Three tasks beside simpler ways: `python -m benchmarks tasks`, or `make benchmark-tasks`: 25 minutes on two cores.

The bundled tickets; the product area of public reviews, whose files are beside the project; and aspect-based sentiment
on the bundled feedback. On each, with equal rows and sides: our training job with a budget, from its start to the int8
package that would be served; transformers' Trainer with its defaults on the same encoder, which may train for as long;
and the TF-IDF baseline that the gate shows a first version beside. Both trainings take all cores, so the machine must
be idle. Finished cells are kept; a run that was cut short goes on where it was.

The cell `before tasks` trains the default task on equal seeds by this checkout and by the last commit before other
tasks existed, and compares package and scores byte for byte. It needs that commit in the repository, and no idle
machine.
"""

import argparse
import csv
import io
import json
import os
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import numpy as np

from absa.data.bundled import BUNDLED, FEEDBACK_CSV, TICKETS
from absa.data.normalise import near_duplicate_key, side
from absa.task import ABSA, TaskSpec
from absa.training.rows.tokens import LabelledPair
from benchmarks.figures import Row, median_row, write_json, write_result

ROOT: Final = Path(__file__).parents[2]
RESULT: Final = ROOT / "benchmarks" / "results" / "tasks.json"
PUBLIC: Final = ROOT.parent / "shared" / "data" / "public"
BASE: Final = "minilm-l6"
MAX_TOKENS: Final = 128
BUDGET_S: Final = 60.0
SEEDS: Final = (0, 1, 2)
AREAS: Final = {
    "laptop": "laptop14", "mooc": "mooc", "restaurant": "restaurant14", "television": "television", "tshirt": "tshirt",
}  # fmt: skip
"""File of each label of the task of product areas."""
PRODUCT_AREA: Final = TaskSpec(name="product-area", input="text", labels=tuple(AREAS))
BEFORE: Final = "before tasks"
BEFORE_COMMIT: Final = "a768c48"
"""The last commit that knew the default task alone."""
_CALIBRATION_STEPS: Final = 15
_TRAIN_AND_SCORE: Final = """
import hashlib, json, sys, time
from pathlib import Path

from absa.inference.engine import Engine
from absa.inference.tokenization import PairTokenizer
from absa.job import main
from absa.modeling.folders import TOKENIZER, find_base
from absa.training.rows.shards import write_shard
from absa.training.rows.tokens import LabelledPair, tokenize

folder, scored, given = Path(sys.argv[1]), Path(sys.argv[2]), json.loads(Path(sys.argv[3]).read_text())
sides = {name: [LabelledPair(*row) for row in given[name]] for name in ("train", "validation", "test")}
tokenizer = find_base(given["settings"]["base_model"]) / TOKENIZER
write_shard(folder / "tokens", tokenize(sides["train"], PairTokenizer.from_file(tokenizer, 128)), tokenizer, 128)
lines = [json.dumps({"text": row.text, "aspect": row.aspect, "label": row.label}) for row in sides["validation"]]
(folder / "validation.jsonl").write_text("\\n".join(lines) + "\\n", encoding="utf-8")
(folder / "job.json").write_text(json.dumps({"settings": given["settings"], "ends_at": time.time() + 3600.0}))
if code := main([str(folder)]):
    sys.exit(code)
engine = Engine.load(scored)
engine.warm_up()
scores = engine.score([(row.text, row.aspect) for rows in sides.values() for row in rows])
print(json.dumps({"scores": hashlib.sha256(scores.tobytes()).hexdigest(), "labels": scores.argmax(1).tolist()}))
"""
# Runs in either checkout: trains, packages, and scores all rows with the package that is named.


@dataclass(frozen=True, kw_only=True)
class Sides:
    """Rows of a task by the sides that every snapshot gives them."""

    task: TaskSpec
    train: list[LabelledPair]
    validation: list[LabelledPair]
    test: list[LabelledPair]

    @classmethod
    def of(cls, task: TaskSpec, rows: Sequence[LabelledPair], share: float = 1.0) -> "Sides":
        """Split rows; of every side the first `share` of the rows is kept."""
        sides: dict[str, list[LabelledPair]] = {"train": [], "validation": [], "test": []}
        for row in rows:
            sides[side(row.text)].append(row)
        return cls(task=task, **{name: found[: max(1, round(share * len(found)))] for name, found in sides.items()})


def tickets() -> list[LabelledPair]:
    """Return the bundled tickets."""
    with BUNDLED[TICKETS.name].ingested.open(encoding="utf-8", newline="") as file:
        found = [(row["text"], TICKETS.number(row["label"])) for row in csv.DictReader(file)]
    return [LabelledPair(text, None, label) for text, label in found if label is not None]


def product_areas(folder: Path = PUBLIC) -> list[LabelledPair]:
    """Return each text of the files of `AREAS` once, in a fixed mixed order; texts of two areas are left out.

    Raises:
        FileNotFoundError: a file is missing.
    """
    found: dict[str, tuple[str, set[int]]] = {}
    for label, name in enumerate(AREAS.values()):
        with (folder / f"{name}.csv").open(encoding="utf-8-sig", newline="") as file:
            for row in csv.DictReader(file):
                found.setdefault(near_duplicate_key(row["text"]), (row["text"], set()))[1].add(label)
    rows = [LabelledPair(text, None, label) for text, labels in found.values() if len(labels) == 1 for label in labels]
    return [rows[place] for place in np.random.default_rng(0).permutation(len(rows))]


def feedback() -> list[LabelledPair]:
    """Return the bundled feedback of the default task."""
    with FEEDBACK_CSV.open(encoding="utf-8", newline="") as file:
        return [LabelledPair(row["text"], row["aspect"], int(row["label"])) for row in csv.DictReader(file)]


TASKS: Final[dict[str, tuple[TaskSpec, Callable[[], list[LabelledPair]]]]] = {
    "bundled tickets, 6 intents": (TICKETS, tickets),
    "product area of public reviews, 5 areas": (PRODUCT_AREA, product_areas),
    "aspect-based sentiment, bundled feedback": (ABSA, feedback),
}


@cache
def sides_of(case: str, share: float) -> Sides:
    """Return the rows of a case; `share` below 1 is for a trial run."""
    task, read = TASKS[case]
    return Sides.of(task, read(), share)


def f1(sides: Sides, scores: Any) -> float:
    """Return the task's F1 on the test side."""
    from absa.evaluation.counts import task_f1

    return task_f1(np.array([row.label for row in sides.test]), np.asarray(scores).argmax(1), sides.task)


# What a cell does: (sides, seed, seconds) -> figures.


def evergreen(sides: Sides, seed: int, seconds: float, **settings: Any) -> dict[str, Any]:
    """Run a training job that ends after `seconds`, with further settings, and score its package."""
    from absa.inference.engine import Engine

    with tempfile.TemporaryDirectory() as scratch:
        folder, started = Path(scratch), time.time()
        write_job(folder, sides, {"base_model": BASE, "seed": seed, **settings}, ends_at=started + seconds)
        done = _last_line([sys.executable, "-m", "absa.job", str(folder)], ROOT)
        wall_s = time.time() - started
        scores = Engine.load(folder / "package").score([(row.text, row.aspect) for row in sides.test])
    return {"f1": f1(sides, scores), "wall_s": wall_s} | {name: done[name] for name in ("epochs", "batch_tokens")}


def write_job(folder: Path, sides: Sides, settings: dict[str, Any], *, ends_at: float) -> None:
    """Write the folder of a training job."""
    from absa.inference.tokenization import PairTokenizer
    from absa.job import JOB_FILE, JOB_TOKENS, VALIDATION_FILE
    from absa.modeling.folders import TOKENIZER, find_base
    from absa.training.rows.shards import write_shard
    from absa.training.rows.tokens import tokenize

    lines = [json.dumps({"text": row.text, "aspect": row.aspect, "label": row.label}) for row in sides.validation]
    (folder / VALIDATION_FILE).write_text("\n".join(lines) + "\n", encoding="utf-8")
    tokenizer = find_base(BASE) / TOKENIZER
    rows = tokenize(sides.train, PairTokenizer.from_file(tokenizer, MAX_TOKENS, task=sides.task))
    write_shard(folder / JOB_TOKENS, rows, tokenizer, MAX_TOKENS)
    job = {"settings": settings, "ends_at": ends_at, "task": sides.task.to_json()}
    (folder / JOB_FILE).write_text(json.dumps(job), encoding="utf-8")


def transformers_trainer(sides: Sides, seed: int, seconds: float) -> dict[str, Any]:
    """Train by transformers' Trainer with its defaults, in a process of its own, for `seconds` of its loop."""
    with tempfile.TemporaryDirectory() as scratch:
        rows = Path(scratch) / "rows.json"
        content = {
            "labels": sides.task.n_labels, "seconds": seconds, "seed": seed,
            "train": [vars(row) for row in sides.train], "test": [vars(row) for row in sides.test],
        }  # fmt: skip
        rows.write_text(json.dumps(content), encoding="utf-8")
        found = _last_line([sys.executable, "-m", "benchmarks.training.tasks", "--trainer", str(rows)], ROOT)
    return {"f1": f1(sides, found.pop("scores")), **found}


def train_by_transformers(content: dict[str, Any]) -> dict[str, Any]:
    """Train as transformers' documentation shows: a linear schedule of as many steps as the seconds allow.

    The number of steps comes from a first few on the same rows, which are not counted.
    """
    import torch
    from transformers import (
        AutoModelForSequenceClassification,
        AutoTokenizer,
        DataCollatorWithPadding,
        Trainer,
        TrainerCallback,
        TrainingArguments,
        set_seed,
    )

    from absa.modeling.bases import find_base

    folder = find_base(BASE)
    tokenizer = AutoTokenizer.from_pretrained(folder)

    def encoded(row: dict[str, Any]) -> dict[str, Any]:
        inputs = (row["text"],) if row["aspect"] is None else (row["text"], row["aspect"])
        cut = "longest_first" if row["aspect"] is None else "only_first"
        return {**tokenizer(*inputs, truncation=cut, max_length=MAX_TOKENS), "labels": row["label"]}

    class Clock(TrainerCallback):
        def on_step_end(self, _args: object, _state: object, control: object, **_: object) -> None:
            if time.perf_counter() - started >= content["seconds"]:
                control.should_training_stop = True  # type: ignore[attr-defined]

    def trainer_of(steps: int, scratch: str) -> Trainer:
        set_seed(content["seed"])
        model = AutoModelForSequenceClassification.from_pretrained(folder, num_labels=content["labels"])
        arguments = TrainingArguments(
            scratch, max_steps=steps, seed=content["seed"], report_to=[], save_strategy="no", logging_strategy="no",
            use_cpu=True, disable_tqdm=True,
        )  # fmt: skip
        return Trainer(
            model, arguments, data_collator=DataCollatorWithPadding(tokenizer), train_dataset=train,  # type: ignore[arg-type]
            callbacks=[Clock()],
        )  # fmt: skip

    train, test = ([encoded(row) for row in content[name]] for name in ("train", "test"))
    with tempfile.TemporaryDirectory() as scratch:
        started = time.perf_counter()
        trainer_of(_CALIBRATION_STEPS, scratch).train()
        steps = max(1, int(content["seconds"] * _CALIBRATION_STEPS / (time.perf_counter() - started)))
        trainer, started = trainer_of(steps, scratch), time.perf_counter()
        trainer.train()
        wall_s = time.perf_counter() - started
        logits = trainer.predict(test).predictions  # type: ignore[arg-type]
    return {
        "scores": torch.softmax(torch.tensor(logits), 1).tolist(), "wall_s": wall_s,
        "epochs": trainer.state.epoch,
    }  # fmt: skip


def tf_idf(sides: Sides, _seed: int, _seconds: float) -> dict[str, Any]:
    """Train the baseline that the gate shows a first version beside; equal rows give equal scores."""
    import polars as pl

    from absa.evaluation.baseline import train_baseline

    started = time.perf_counter()
    columns = {name: [getattr(row, name) for row in sides.train] for name in ("text", "aspect", "label")}
    baseline = train_baseline(pl.DataFrame(columns, schema_overrides={"aspect": pl.String}), sides.task)
    if baseline is None:
        raise RuntimeError("the training rows have no word in common")
    scores = baseline.score([(row.text, row.aspect) for row in sides.test])
    return {"f1": f1(sides, scores), "wall_s": time.perf_counter() - started, "epochs": None}


RECIPES: Final[dict[str, tuple[Callable[[Sides, int, float], dict[str, Any]], tuple[int, ...], str | None]]] = {
    "evergreen": (evergreen, SEEDS, None),
    "trainer": (transformers_trainer, SEEDS, "transformers {transformers}, Trainer with its defaults"),
    "tf-idf": (tf_idf, SEEDS[:1], "scikit-learn {scikit-learn}, TF-IDF and logistic regression"),
}
"""Function, seeds and peer's name of each way to train; TF-IDF has no seed."""


def compare_before(share: float) -> dict[str, Any]:
    """Train the default task for a quarter of a pass by both commits, score all rows by both with the earlier package.

    Raises:
        RuntimeError: a training or a scoring failed.
    """
    sides = Sides.of(ABSA, feedback(), share)
    settings = {"base_model": BASE, "layers": 2, "max_epochs": 0.25, "precision": "fp32", "threads": 1}
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        archive = subprocess.run(["git", "archive", BEFORE_COMMIT], cwd=ROOT, capture_output=True, check=True).stdout
        with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
            tar.extractall(folder / "checkout", filter="data")
        names = ("train", "validation", "test")
        rows = {name: [(row.text, row.aspect, row.label) for row in getattr(sides, name)] for name in names}
        given, found = folder / "given.json", []
        given.write_text(json.dumps({"settings": settings, **rows}), encoding="utf-8")
        for name, checkout in (("before", folder / "checkout"), ("after", ROOT)):
            (folder / name).mkdir()
            arguments = [str(folder / name), str(folder / "before" / "package"), str(given)]
            found.append(_last_line([sys.executable, "-c", _TRAIN_AND_SCORE, *arguments], checkout))
        models = [(folder / name / "package" / "model.onnx").read_bytes() for name in ("before", "after")]
    before, after = (np.array(each["labels"]) for each in found)
    return {
        "rows": len(before),
        "labels_equal": int((before == after).sum()),
        "scores_equal": found[0]["scores"] == found[1]["scores"],
        "model_equal": models[0] == models[1],
    }


def _last_line(command: Sequence[str], checkout: Path) -> dict[str, Any]:
    """Run a command by a checkout's code; return the JSON of its last line.

    Raises:
        RuntimeError: it failed; the message has its last words.
    """
    child = subprocess.run(
        command, cwd=checkout, env={**os.environ, "PYTHONPATH": str(checkout)}, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    if child.returncode:
        raise RuntimeError(f"{' '.join(command[1:3])[:60]} failed: {(child.stdout + child.stderr)[-800:]}")
    found: dict[str, Any] = json.loads(child.stdout.splitlines()[-1])
    return found


def rows_of(cells: dict[str, dict[str, Any]], versions: dict[str, str]) -> list[Row]:
    """Return the result's rows: medians over the seeds with their range, ours first."""
    rows: list[Row] = []
    for case in TASKS:
        for recipe, (_, seeds, peer) in RECIPES.items():
            done = [cells[name] for seed in seeds if (name := f"{case} | {recipe} | {seed}") in cells]
            if not done:
                continue
            named = None if peer is None else peer.format_map(versions)
            rows.append(median_row(case, "f1", [cell["f1"] for cell in done], "f1", peer=named))
            rows.append(median_row(case, "wall_s", [cell["wall_s"] for cell in done], "s", peer=named))
            passes = [cell["epochs"] for cell in done if cell["epochs"] is not None]
            if passes:
                rows.append(median_row(case, "passes", passes, "passes", peer=named))
    if (same := cells.get(BEFORE)) is not None:
        case = f"default task, commit {BEFORE_COMMIT} beside this one"
        for metric, value in (
            ("labels_equal", same["labels_equal"] / same["rows"]),
            ("scores_equal_byte_for_byte", float(same["scores_equal"])),
            ("trained_model_equal_byte_for_byte", float(same["model_equal"])),
        ):
            row = Row(case=case, metric=metric, value=value, low=value, high=value, runs=same["rows"], unit="share")
            trained = metric.startswith("trained")  # a later change of the training may change what it learns
            rows.append(row if trained else replace(row, target="1", met=value == 1.0))
    return rows


def main() -> None:
    """Run the cells that are missing and write the result from those that there are."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--recipes", nargs="+", default=[*RECIPES, "before"], choices=[*RECIPES, "before"])
    parser.add_argument("--seconds", type=float, default=BUDGET_S, help="budget of a training (default: 60)")
    parser.add_argument("--share", type=float, default=1.0, help="of the rows, for a trial run (default: 1)")
    parser.add_argument("--out", type=Path, default=RESULT)
    parser.add_argument("--trainer", type=Path, help=argparse.SUPPRESS)  # the process of one Trainer
    options = parser.parse_args()
    if options.trainer is not None:
        print(json.dumps(train_by_transformers(json.loads(options.trainer.read_text(encoding="utf-8")))))
        return
    file = options.out.parent / "cells" / options.out.name
    cells: dict[str, dict[str, Any]] = json.loads(file.read_text()) if file.exists() else {}

    def keep(name: str, figures: dict[str, Any]) -> None:
        cells[name] = figures
        write_json(file, cells)
        print(name, json.dumps(figures), flush=True)

    if "before" in options.recipes and BEFORE not in cells:
        has_commit = ["git", "cat-file", "-e", f"{BEFORE_COMMIT}^{{commit}}"]
        if subprocess.run(has_commit, cwd=ROOT, capture_output=True, check=False).returncode:
            print(f"skipped {BEFORE}: commit {BEFORE_COMMIT} is not in this repository (a shallow clone?)")
        else:
            keep(BEFORE, compare_before(options.share))
    for case, (task, _) in TASKS.items():
        if task is PRODUCT_AREA and not PUBLIC.is_dir():
            print(f"skipped {case}: the public reviews are not at {PUBLIC}")
            continue
        for recipe in (recipe for recipe in RECIPES if recipe in options.recipes):
            train, seeds, _ = RECIPES[recipe]
            for seed in seeds:
                if (name := f"{case} | {recipe} | {seed}") not in cells:
                    keep(name, train(sides_of(case, options.share), seed, options.seconds))
    versions = {name: version(name) for name in ("torch", "transformers", "scikit-learn", "onnxruntime")}
    write_result(
        options.out, name="tasks", command="make benchmark-tasks", seed=SEEDS[0], rows=rows_of(cells, versions),
        versions=versions,
    )  # fmt: skip


if __name__ == "__main__":
    main()
