"""Quality of the model by recipe: `python -m benchmarks quality`, or `make benchmark-quality`.

Group-split 5-fold cross-validation of the labelled rows beside the project (no text, nor a near-duplicate, on two
sides). A cell is one recipe, seed and fold: a student trained by passes, never by time, packaged as int8 and measured
as it would be served. Cells that the result holds are not run again, so a run that was stopped goes on; `--recipes`,
`--folds` and `--seeds` choose, `--again` forgets the chosen ones, `--tables` only writes the result anew.
"""

import argparse
import json
import time
from collections.abc import Collection, Sequence
from concurrent import futures
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, replace
from importlib.metadata import version
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

from absa.errors import EvergreenError
from absa.inference.tokenization import PairTokenizer
from absa.modeling.architecture import PairClassifier
from absa.modeling.bases import TOKENIZER, find_base, load_base, save_weights
from absa.packaging.calibrate import calibrate
from absa.task import ABSA
from absa.training.deadline import Deadline
from absa.training.pretrain import pretrain
from absa.training.rows.compose import Composer
from absa.training.rows.distill import taught
from absa.training.rows.scoring import score_as_teacher
from absa.training.rows.tokens import LabelledPair, TokenRows, tokenize
from absa.training.trainer import Trainer
from absa.training.training_settings import TrainingSettings
from benchmarks.figures import Row, gpu_name, share, write_json, write_result
from benchmarks.training import quality_data as data
from benchmarks.training.quality_picture import draw
from benchmarks.training.quality_recipes import (
    BASE,
    BUNDLED,
    CELL,
    COMMON,
    COMPARISONS,
    FINAL,
    RECIPES,
    TEACHERS,
    Cell,
    Recipe,
    alone,
    wanted,
)
from benchmarks.training.quality_teacher import mpnet, mpnet_folder, tf_idf
from flows.training.teaching.teachers import named_teachers

ROOT = Path(__file__).parents[2]
RESULT = ROOT / "benchmarks" / "results" / "quality.json"
CELLS = ROOT / "benchmarks" / "results" / "cells" / "quality.json"
BASES = ROOT / ".evergreen" / "bases"
BEHAVIOUR_CASES = 100
TEACHERS_SHARE = 0.5  # of a labelled row's target; the label has the rest
TOLD = ("train", "unlabelled", "unasked")  # pairs that teachers are asked about; only the first have labels
SCORES = "scores.npz"  # of a cell's test side
SAID = "said.npz"  # what a teacher says of its train side and of the pairs without labels


def bundled_sides() -> tuple[list[LabelledPair], list[LabelledPair], list[LabelledPair]]:
    """The bundled rows by the sides that every snapshot gives them."""
    from absa.data.bundled import FEEDBACK_CSV
    from absa.data.normalise import side

    rows = data.read(FEEDBACK_CSV)
    train, validation, test = (
        [row for row in rows if side(row.text) == name] for name in ("train", "validation", "test")
    )
    return train, validation, test


def run_cell(cell: Cell) -> dict[str, Any]:
    """Train and measure one cell; a student also as the package that would be served."""
    recipe = RECIPES[cell.recipe]
    train, validation, test = bundled_sides() if cell.recipe == BUNDLED else data.sides(cell.fold)
    cell.folder.mkdir(parents=True, exist_ok=True)
    started = time.time()
    if recipe.kind == "together":
        figures = figures_of(
            test, np.mean([kept(replace(cell, recipe=name), SCORES)["served"] for name in recipe.teachers], axis=0)
        )
    elif recipe.kind == "teacher":
        figures = run_teacher(cell, recipe, train, validation, test)
    elif recipe.kind != "student":
        scores_of = (mpnet if recipe.kind == "mpnet" else tf_idf)(train, cell.seed)
        found = scores_of(test)
        np.savez(cell.folder / SCORES, served=found)
        if cell.recipe in TEACHERS:
            tell(cell, {kind: scores_of(pairs_of(kind, train)) for kind in TOLD})
        figures = {"train_rows": len(train)} | figures_of(test, found)
    else:
        figures = run_student(cell, recipe, train, validation, test)
    return {**figures, "device": gpu_name() or "cpu", "wall_s": round(time.time() - started, 1)}


def run_teacher(
    cell: Cell, recipe: Recipe, train: list[LabelledPair], validation: list[LabelledPair], test: list[LabelledPair]
) -> dict[str, Any]:
    """Fine-tune and measure an encoder as `evergreen distill` does, but by passes."""
    (teacher,) = named_teachers([str(mpnet_folder())], task=ABSA.to_json(), budget_s=0.0)
    seed = cell.seed + recipe.settings.get("seed", 0)
    settings = TrainingSettings.from_json({**CELL, **teacher.settings, "seed": seed})
    model, tokenizer, rows, result = train_student(cell, recipe, settings, train, validation)
    tell(cell, {kind: score_as_teacher(model, tokenize(pairs_of(kind, train), tokenizer)) for kind in TOLD})
    scores = score_as_teacher(model, tokenize(test, tokenizer))
    np.savez(cell.folder / SCORES, served=scores)
    return {**figures_of(test, scores), "train_rows": len(rows), "train_s": round(result.train_s, 1)}


def run_student(
    cell: Cell, recipe: Recipe, train: list[LabelledPair], validation: list[LabelledPair], test: list[LabelledPair]
) -> dict[str, Any]:
    """Train, package and measure a student; weights, package and scores are kept for error analysis."""
    from absa.inference.engine import Engine
    from absa.packaging.build import build_package

    name = public_base() if recipe.public else "minilm-l6"
    settings = TrainingSettings.from_json({**COMMON, **recipe.settings, "base_model": name, "seed": cell.seed})
    model, tokenizer, rows, result = train_student(cell, recipe, settings, train, validation)
    tokenizer_json = (find_base(name) / TOKENIZER).read_text(encoding="utf-8")
    if cell.recipe in TEACHERS:
        tell(cell, {kind: score_as_teacher(model, tokenize(pairs_of(kind, train), tokenizer)) for kind in TOLD})
    fp32 = score_as_teacher(model, tokenize(test, tokenizer))
    model.cpu()
    save_weights(model, tokenizer_json, cell.folder / "weights")
    shown = replace(settings, base_model="minilm-l6 after public rows" if recipe.public else "minilm-l6")
    built = build_package(model, tokenizer_json, shown, validation, cell.folder / "package", training=asdict(result))
    engine = Engine.load(cell.folder / "package")
    served = engine.score([(row.text, row.aspect) for row in test])
    np.savez(cell.folder / SCORES, served=served, fp32=fp32)
    labels = np.array([row.label for row in test])
    return {
        **figures_of(test, served),
        "train_rows": len(rows),
        "confusion_fp32": confusion(labels, fp32),
        "labels_equal": int((served.argmax(1) == fp32.argmax(1)).sum()),
        "temperature": built.calibration.temperature,
        "ece_uncalibrated": calibration_error(labels, heat(served, built.calibration.temperature)),
        "calibration_side": asdict(calibrate(np.log(np.maximum(served, 1e-12)), labels)),
        "size_mb": built.size_mb,
        "steps": result.steps,
        "tokens": result.tokens,
        "train_s": round(result.train_s, 1),
        **(behaviours(engine) if cell.fold == 0 else {}),
    }


def public_base() -> str:
    """The folder of the base that the public rows make."""
    with alone("base"):
        return str(pretrain(data.public(), BASE, BASES))


def figures_of(test: list[LabelledPair], scores: Any) -> dict[str, Any]:
    """Facts that judge every cell."""
    labels = np.array([row.label for row in test])
    return {"rows": len(test), "confusion": confusion(labels, scores), "ece": calibration_error(labels, scores)}


def pairs_of(kind: str, train: list[LabelledPair]) -> list[LabelledPair]:
    """Pairs that a teacher is asked about, of one kind of TOLD."""
    return train if kind == "train" else data.unlabelled() if kind == "unlabelled" else data.unasked(train)


def tell(cell: Cell, scores: dict[str, Any]) -> None:
    """Keep what a teacher says."""
    np.savez(cell.folder / SAID, **scores)


def kept(cell: Cell, file: str) -> dict[str, Any]:
    """Return the results that a finished cell keeps in SAID or SCORES."""
    path = cell.folder / file
    if not path.is_file():
        raise EvergreenError(f"{cell.name} has not run here: name its recipe first")
    with np.load(path) as found:
        return dict(found)


def train_student(
    cell: Cell, recipe: Recipe, settings: TrainingSettings, train: list[LabelledPair], validation: list[LabelledPair]
) -> tuple[PairClassifier, PairTokenizer, TokenRows, Any]:
    """Train by passes. A student of teachers learns from pairs without labels too."""
    base = find_base(settings.base_model)
    tokenizer = PairTokenizer.from_file(base / TOKENIZER, settings.max_tokens)
    rows = tokenize(train, tokenizer)
    if recipe.teachers:
        kinds = [kind for kind in TOLD[1:] if getattr(recipe, kind)]
        others = tokenize([row for kind in kinds for row in pairs_of(kind, train)], tokenizer) if kinds else None
        said = [np.concatenate([told[kind] for kind in ("train", *kinds)])
                for told in (kept(replace(cell, recipe=teacher), SAID) for teacher in recipe.teachers)]  # fmt: skip
        rows = taught(rows, others, said, TEACHERS_SHARE)
    model, has_head = load_base(
        base, layers=settings.layers, hidden=settings.hidden, dropout=settings.dropout, seed=settings.seed
    )
    if recipe.plain:
        make_plain(model)
    trainer = Trainer(
        model, rows, tokenize(validation, tokenizer), settings, Deadline.after(30 * 86_400),
        new_head=not has_head, compose=Composer.of(tokenizer, settings),
    )  # fmt: skip
    result = trainer.run()
    return trainer.averaged().to(trainer.device), tokenizer, rows, result


def make_plain(model: PairClassifier) -> None:
    """Leave the model the first token's view alone and no mark, as a plain pair classifier has it."""
    import torch

    width = model.architecture.hidden
    keep = torch.zeros_like(model.classifier.weight)
    keep[:, :width] = 1
    with torch.no_grad():
        model.classifier.weight.mul_(keep)
    model.classifier.weight.register_hook(lambda slope: slope * keep.to(slope.device))
    model.mark.register_hook(torch.zeros_like)


def confusion(labels: Any, scores: Any) -> list[list[int]]:
    """Counts, true labels as rows."""
    from absa.evaluation.counts import confusion_counts

    return [[int(count) for count in row] for row in confusion_counts(labels, scores.argmax(1))]


def heat(scores: Any, temperature: float) -> Any:
    """Calibrated scores as they were before the temperature."""
    from absa.inference.engine import softmax

    return softmax(np.log(np.maximum(scores, 1e-12)) * np.float32(temperature))


def calibration_error(labels: Any, scores: Any) -> float:
    """ECE over bins of equal size."""
    from absa.evaluation.reliability import expected_calibration_error

    return round(expected_calibration_error(labels, scores), 4)


def behaviours(engine: Any) -> dict[str, Any]:
    """Failures of each behaviour, and how much the aspect decides."""
    from absa.evaluation.behaviour import run_suite

    results = run_suite(engine.score, cases=BEHAVIOUR_CASES)
    return {
        "behaviours": {each.name: [each.failures, each.cases] for each in results},
        "masking_margin": round(masking_margin(engine.score, cases=BEHAVIOUR_CASES), 4),
    }


def masking_margin(score: Any, *, cases: int) -> float:
    """Return the influence of the aspect: the right label's mean score with it, minus that with a mask instead.

    On sentences that praise one thing and blame another, so a model that does not look at the aspect has about 0.

    Args:
        score: scorer of (text, aspect) pairs.
        cases: sentences; each is asked about both of its aspects.
    """
    from absa.evaluation.behaviour import draw_cases

    asked: list[tuple[str, str]] = []
    masked: list[tuple[str, str]] = []
    right: list[int] = []
    for case in draw_cases("contrast", cases=cases):
        for (text, aspect), (label,) in zip(case.pairs, case.expected, strict=True):
            asked.append((text, aspect))
            masked.append((text, "[MASK]"))
            right.append(int(label))
    scores, index = score([*asked, *masked]), np.arange(len(asked))
    margin = scores[index, right] - scores[index + len(asked), right]
    return float(margin.mean())


def rows_of(cells: dict[str, dict[str, Any]]) -> list[Row]:
    """The result's rows: figures pooled over a recipe's folds and seeds, low and high over its cells."""
    rows: list[Row] = []
    for name, recipe in RECIPES.items():
        mine = [cell for key, cell in cells.items() if key.split(" | ")[0] == name]
        if not mine:
            continue
        case = f"{name}: {recipe.title}"
        rows += recipe_rows(case, mine, final=name == FINAL)
        if recipe.kind == "student":
            rows += served_rows(case, mine) + behaviour_rows(case, mine, bundled=name == BUNDLED)
    return rows + comparison_rows(cells)


def recipe_rows(case: str, cells: list[dict[str, Any]], *, final: bool) -> list[Row]:
    """Return the quality of a recipe."""
    from absa.evaluation.counts import f1_of

    def off_diagonal(*pairs: tuple[int, int]) -> Any:
        return lambda part: sum(pooled("confusion", part)[pair] for pair in pairs) / sum(c["rows"] for c in part)

    f1 = row_of(case, "pos_neg_f1", cells, pos_neg_f1, "f1")
    return [
        judged(row_of(case, "accuracy", cells, accuracy, "share"), 0.775, final),
        row_of(case, "macro_f1", cells, lambda part: f1_of(pooled("confusion", part)).mean(), "f1"),
        judged(f1, 0.785, final),
        row_of(case, "flips", cells, off_diagonal((0, 2), (2, 0)), "share"),
        row_of(case, "misses_to_neutral", cells, off_diagonal((0, 1), (2, 1)), "share"),
        row_of(case, "ece", cells, mean("ece"), "share"),
    ]  # fmt: skip


def comparison_rows(cells: dict[str, dict[str, Any]]) -> list[Row]:
    """Return paired comparisons: a recipe beside its reference on the cells that both have, of equal seed and fold.

    The difference is that of the pooled figures, low and high are those of single cells.
    """
    rows = []
    for name, reference in COMPARISONS:
        pairs = [
            (cell, cells[other])
            for key, cell in cells.items()
            if key.split(" | ")[0] == name and (other := key.replace(name, reference, 1)) in cells
        ]
        if not pairs:
            continue
        case = f"{name} against {reference}"
        mine, theirs = ([pair[side] for pair in pairs] for side in (0, 1))
        for metric, measure, unit in (("pos_neg_f1", pos_neg_f1, "f1"), ("accuracy", accuracy, "share")):
            each = [measure([cell]) - measure([other]) for cell, other in pairs]
            whole = measure(mine) - measure(theirs)
            rows += [
                row_of(case, metric, mine, measure, unit),
                row_of(case, f"{metric}_of_reference", theirs, measure, unit),
                Row(
                    case=case, metric=f"{metric}_difference", value=round(whole, 4), low=round(min(*each, whole), 4),
                    high=round(max(*each, whole), 4), runs=len(pairs), unit=unit,
                ),
            ]  # fmt: skip
    return rows


def accuracy(cells: Sequence[dict[str, Any]]) -> float:
    """Share of right labels over all cells."""
    counts = pooled("confusion", cells)
    return float(np.trace(counts) / counts.sum())


def pos_neg_f1(cells: Sequence[dict[str, Any]]) -> float:
    """Return pos/neg F1 over all cells."""
    from absa.evaluation.counts import pos_neg_f1_of

    return float(pos_neg_f1_of(pooled("confusion", cells)))


def served_rows(case: str, cells: list[dict[str, Any]]) -> list[Row]:
    """Return the loss of a recipe by int8."""
    from absa.evaluation.counts import pos_neg_f1_of

    fp32, int8 = (pos_neg_f1_of(pooled(kind, cells)) for kind in ("confusion_fp32", "confusion"))
    equal = row_of(
        case, "int8_labels_equal", cells,
        lambda part: sum(c["labels_equal"] for c in part) / sum(c["rows"] for c in part), "share",
    )  # fmt: skip
    lost = round(float(fp32 - int8), 4)
    return [
        row_of(case, "pos_neg_f1_fp32", cells, lambda part: pos_neg_f1_of(pooled("confusion_fp32", part)), "f1"),
        judged(equal, 0.99, sure=True),
        Row(case=case, metric="int8_f1_loss", value=lost, low=lost, high=lost, runs=len(cells), unit="f1",
            target="<= 0.005", met=lost <= 0.005),
        row_of(case, "ece_uncalibrated", cells, mean("ece_uncalibrated"), "share"),
        row_of(case, "size_mb", cells, mean("size_mb"), "MB"),
    ]  # fmt: skip


def behaviour_rows(case: str, cells: list[dict[str, Any]], *, bundled: bool) -> list[Row]:
    """Failures of each behaviour, added up over seeds."""
    tested = [cell for cell in cells if "behaviours" in cell]
    rows = []
    for behaviour in tested[0]["behaviours"] if tested else ():
        failed, cases = (sum(cell["behaviours"][behaviour][part] for cell in tested) for part in (0, 1))
        if behaviour == "contrast":
            right = share(case, "contrast pairs both right", cases - failed, cases)
            rows.append(judged(right, 0.85, sure=bundled))
        else:
            rows.append(share(case, f"fails {behaviour}", failed, cases))
    if tested:
        rows.append(row_of(case, "masking_margin", tested, mean("masking_margin"), "share"))
    return rows


def row_of(case: str, metric: str, cells: list[dict[str, Any]], measure: Any, unit: str) -> Row:
    """A figure over all cells, low and high over each."""
    each, digits = [float(measure([cell])) for cell in cells], 4 if unit in ("share", "f1") else 2
    return Row(
        case=case, metric=metric, value=round(float(measure(cells)), digits), low=round(min(each), digits),
        high=round(max(each), digits), runs=len(each), unit=unit,
    )  # fmt: skip


def pooled(kind: str, cells: Sequence[dict[str, Any]]) -> Any:
    """Counts added up."""
    return np.sum([np.array(cell[kind], float) for cell in cells], axis=0)


def mean(name: str) -> Any:
    """A measure: the mean of a field over cells, by their rows."""
    return lambda cells: np.average([cell[name] for cell in cells], weights=[cell["rows"] for cell in cells])


def judged(row: Row, floor: float, sure: bool) -> Row:
    """The row with its target, where it has one."""
    return replace(row, target=f">= {floor:g}", met=row.value >= floor) if sure else row


def main() -> None:
    """Run the cells that are missing and write the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--recipes", nargs="+", default=list(RECIPES), choices=list(RECIPES))
    parser.add_argument("--folds", type=int, nargs="+", default=list(range(data.FOLDS)))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--jobs", type=int, default=1, help="cells at once, each in a process and a thread of its own")
    parser.add_argument("--again", action="store_true", help="run the chosen cells again")
    parser.add_argument("--tables", action="store_true", help="run nothing, write the result from the cells")
    arguments = parser.parse_args()
    chosen = [] if arguments.tables else wanted(arguments.recipes, arguments.seeds, arguments.folds)
    if not data.DATA.is_dir():
        chosen = [cell for cell in chosen if cell.recipe == BUNDLED]
        print(f"the labelled rows are not at {data.DATA}: only the bundled data are measured")
    if not arguments.again:
        done = kept_cells()
        chosen = [cell for cell in chosen if cell.name not in done]
    if arguments.jobs == 1:
        for cell in chosen:
            work(cell)
    elif chosen:
        run_at_once(chosen, arguments.jobs)
    write(kept_cells())


def work(cell: Cell) -> None:
    """Run a cell and keep its figures."""
    figures = run_cell(cell)
    keep(cell, figures)
    print(cell.name, json.dumps({key: figures[key] for key in ("confusion", "wall_s")}), flush=True)


def run_at_once(cells: Sequence[Cell], jobs: int) -> None:
    """Run cells side by side; a student waits for its teachers."""
    waiting, running = list(cells), {}
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn"), initializer=set_threads) as pool:
        while waiting or running:
            for cell in ready(waiting, running.values())[: jobs - len(running)]:
                waiting.remove(cell)
                running[pool.submit(work, cell)] = cell
            for future in futures.wait(running, return_when=futures.FIRST_COMPLETED).done:
                cell = running.pop(future)
                if error := future.exception():
                    print(f"{cell.name} failed: {error}", flush=True)


def ready(waiting: Sequence[Cell], running: Collection[Cell]) -> list[Cell]:
    """Those that wait for nobody: all of their teachers have run."""
    busy = {*waiting, *running}
    return [
        cell for cell in waiting if not busy & {replace(cell, recipe=name) for name in RECIPES[cell.recipe].teachers}
    ]


def set_threads() -> None:
    """One thread for each of many processes."""
    import torch

    torch.set_num_threads(1)


def kept_cells() -> dict[str, dict[str, Any]]:
    """Figures of the cells that ran."""
    return json.loads(CELLS.read_text()) if CELLS.exists() else {}


def keep(cell: Cell, figures: dict[str, Any]) -> None:
    """Add a cell's figures; several processes may run cells at once."""
    with alone("cells"):
        write_json(CELLS, kept_cells() | {cell.name: figures})


def write(cells: dict[str, dict[str, Any]]) -> None:
    """Write the result and its picture from the cells so far."""
    if cells:
        packages = {name: version(name) for name in ("torch", "onnxruntime", "tokenizers", "numpy")}
        devices = sorted({cell["device"] for cell in cells.values()} - {"cpu"})
        rows = rows_of(cells)
        write_result(
            RESULT, name="quality", command="make benchmark-quality", seed=0, rows=rows, versions=packages,
            accelerator=", ".join(devices) or None,
        )  # fmt: skip
        draw(rows)


if __name__ == "__main__":
    main()
