"""How good is the model, by recipe: `python -m benchmarks.quality`, or `make benchmark-quality`.

Group-split 5-fold cross-validation of the labelled rows beside the project (no text, nor a near-duplicate, on two
sides). A cell is one recipe, seed and fold: a student trained by passes, never by time, packaged as int8 and measured
as it would be served. Cells that the result holds are not run again, so a run that was stopped goes on; `--recipes`,
`--folds` and `--seeds` choose, `--again` forgets the chosen ones, `--tables` only writes the result anew.
"""

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from absa.errors import EvergreenError
from absa.inference.tokenization import PairTokenizer
from absa.modeling.architecture import PairClassifier
from absa.modeling.bases import TOKENIZER, find_base, load_base, save_weights
from absa.packaging.calibrate import calibrate
from absa.training.compose import Composer, Connectors
from absa.training.deadline import Deadline
from absa.training.distill import score, taught
from absa.training.pretrain import pretrain
from absa.training.settings import TrainingSettings
from absa.training.tokens import LabelledPair, TokenRows, tokenize
from absa.training.trainer import Trainer
from benchmarks import quality_data as data
from benchmarks.figures import Row, write_result

ROOT = Path(__file__).parents[1]
RESULT = ROOT / "benchmarks" / "results" / "quality.json"
CELLS = ROOT / "benchmarks" / "results" / "cells" / "quality.json"
KEPT = ROOT / ".evergreen" / "quality"
BASES = ROOT / ".evergreen" / "bases"
BEHAVIOUR_CASES = 100
BUNDLED = "bundled"  # the recipe that sees no row from beside the project

COMMON = {"precision": "fp32", "batch_tokens": 384, "max_epochs": 3, "learning_rate": 1e-4, "checkpoint_every_s": 60.0}
BASE = TrainingSettings(
    max_epochs=2, batch_tokens=512, learning_rate=1.5e-4, compose_share=0.0, precision="fp32", checkpoint_every_s=60
)


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """One line of the ablation. `settings` are what differs from COMMON."""

    title: str
    settings: dict[str, Any] = field(default_factory=dict)
    public: bool = True  # starts from the base that the public rows made
    plain: bool = False  # the head reads the first token alone, and nothing marks the aspect
    teachers: tuple[str, ...] = ()  # recipes whose models of the same fold and seed are averaged
    weight: float = 0.5
    unlabelled: bool = False  # the teachers label test.csv's pairs too


MARKED = "base+marks"
RECIPES: dict[str, Recipe] = {
    "plain": Recipe(
        title="MiniLM-L6 fine-tuned plainly",
        settings={"compose_share": 0.0, "ema_horizon": 0.0},
        public=False,
        plain=True,
    ),
    "marks": Recipe(title="marks, composition, EMA; no base", public=False),
    "base+plain": Recipe(
        title="public base, fine-tuned without composition and EMA",
        settings={"compose_share": 0.0, "ema_horizon": 0.0},
    ),
    MARKED: Recipe(title="public base, marks, composition, EMA"),
    "smoothing": Recipe(title="and label smoothing 0.1", settings={"label_smoothing": 0.1}),
    "robust": Recipe(title="and generalised cross entropy, q 0.5", settings={"noise_robustness": 0.5}),
    "r-drop": Recipe(title="and R-Drop, weight 1, dropout 0.1", settings={"r_drop": 1.0, "dropout": 0.1}),
    "fgm": Recipe(title="and FGM, length 1", settings={"adversarial": 1.0}),
    "distilled": Recipe(
        title="and distilled from three of the above, with unlabelled pairs",
        teachers=(MARKED, "smoothing", "robust"),
        unlabelled=True,
    ),
    "3 layers": Recipe(
        title="3 layers, distilled from the above",
        settings={"layers": 3},
        teachers=(MARKED, "smoothing", "robust"),
        unlabelled=True,
    ),
    "2 layers": Recipe(
        title="2 layers, distilled from the above",
        settings={"layers": 2},
        teachers=(MARKED, "smoothing", "robust"),
        unlabelled=True,
    ),
    "width 256": Recipe(
        title="2 layers of width 256, distilled from the above",
        settings={"layers": 2, "hidden": 256, "max_epochs": 12, "learning_rate": 5e-4, "train_words": True},
        teachers=(MARKED, "smoothing", "robust"),
        unlabelled=True,
    ),
    BUNDLED: Recipe(title="the bundled data alone", settings={"max_epochs": 4}, public=False),
}


@dataclass(frozen=True, order=True)
class Cell:
    """One training."""

    recipe: str
    seed: int
    fold: int

    @property
    def name(self) -> str:
        """Under which its figures are kept."""
        return f"{self.recipe} | seed {self.seed} | fold {self.fold}"

    @property
    def folder(self) -> Path:
        """Where its weights, package and scores lie."""
        return KEPT / self.recipe.replace(" ", "-") / f"{self.seed}-{self.fold}"


def wanted(recipes: Sequence[str], seeds: Sequence[int], folds: Sequence[int]) -> list[Cell]:
    """The cells of some recipes, a recipe after the other. The bundled data have one split: fold 0."""
    return [
        Cell(recipe, seed, fold)
        for recipe in recipes
        for seed in seeds
        for fold in (folds if recipe != BUNDLED else folds[:1])
    ]


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
    """Train, package and measure one cell; its weights, package and scores are kept for teachers and error analysis."""
    from absa.inference.engine import Engine
    from absa.packaging.build import build_package

    recipe = RECIPES[cell.recipe]
    train, validation, test = bundled_sides() if cell.recipe == BUNDLED else data.sides(cell.fold)
    name = str(pretrain(data.public(), BASE, BASES)) if recipe.public else "minilm-l6"
    settings = TrainingSettings.from_json({**COMMON, **recipe.settings, "base_model": name, "seed": cell.seed})
    started, cpu = time.time(), time.process_time()
    model, rows, result = train_student(cell, recipe, settings, train, validation)
    train_cpu_s = time.process_time() - cpu
    tokenizer_json = (find_base(name) / TOKENIZER).read_text(encoding="utf-8")
    save_weights(model, tokenizer_json, cell.folder / "weights")
    shown = replace(settings, base_model="minilm-l6 after public rows" if recipe.public else "minilm-l6")
    built = build_package(model, tokenizer_json, shown, validation, cell.folder / "package", training=asdict(result))
    engine = Engine.load(cell.folder / "package")
    int8 = engine.score([(row.text, row.aspect) for row in test])
    fp32 = score(
        model, tokenize(test, PairTokenizer.from_file(cell.folder / "weights" / TOKENIZER, settings.max_tokens))
    )
    np.savez(cell.folder / "scores.npz", int8=int8, fp32=fp32)
    labels = np.array([row.label for row in test])
    return {
        "rows": len(test),
        "train_rows": len(rows),
        "confusion_int8": confusion(labels, int8),
        "confusion_fp32": confusion(labels, fp32),
        "labels_equal": int((int8.argmax(1) == fp32.argmax(1)).sum()),
        "temperature": built.calibration.temperature,
        "ece": calibration_error(labels, int8),
        "ece_uncalibrated": calibration_error(labels, heat(int8, built.calibration.temperature)),
        "calibration_side": asdict(calibrate(np.log(np.maximum(int8, 1e-12)), labels)),
        "size_mb": built.size_mb,
        "steps": result.steps,
        "tokens": result.tokens,
        "train_cpu_s": round(train_cpu_s, 1),
        "wall_s": round(time.time() - started, 1),
        **(behaviours(engine) if cell.fold == 0 else {}),
    }


def train_student(
    cell: Cell, recipe: Recipe, settings: TrainingSettings, train: list[LabelledPair], validation: list[LabelledPair]
) -> tuple[PairClassifier, TokenRows, Any]:
    """Train by passes. A student of teachers learns from the unlabelled pairs too."""
    base = find_base(settings.base_model)
    tokenizer = PairTokenizer.from_file(base / TOKENIZER, settings.max_tokens)
    rows = tokenize(train, tokenizer)
    if recipe.teachers:
        others = tokenize(data.unlabelled(), tokenizer) if recipe.unlabelled else None
        said = [np.concatenate([score(teacher, part) for part in (rows, others) if part is not None])
                for teacher in map(load_kept, (replace_recipe(cell, name) for name in recipe.teachers))]  # fmt: skip
        rows = taught(rows, others, said, recipe.weight)
    model, has_head = load_base(
        base, layers=settings.layers, hidden=settings.hidden, dropout=settings.dropout, seed=settings.seed
    )
    if recipe.plain:
        make_plain(model)
    compose = None
    if settings.compose_share:
        compose = Composer(Connectors.of(tokenizer), settings.compose_share, settings.max_tokens)
    trainer = Trainer(
        model, rows, tokenize(validation, tokenizer), settings, Deadline.after(30 * 86_400),
        new_head=not has_head, compose=compose,
    )  # fmt: skip
    result = trainer.run()
    return trainer.averaged(), rows, result


def replace_recipe(cell: Cell, recipe: str) -> Cell:
    """The cell of another recipe on the same fold, by the same seed."""
    return replace(cell, recipe=recipe)


def load_kept(cell: Cell) -> PairClassifier:
    """The fp32 model of a cell that ran before."""
    folder = cell.folder / "weights"
    if not folder.is_dir():
        raise EvergreenError(f"{cell.name} teaches and has not run: name its recipe first")
    return load_base(folder, dropout=0.0)[0]


def make_plain(model: PairClassifier) -> None:
    """Leave the model the first token's view alone and no mark, as a plain pair classifier has it."""
    import torch

    width = model.architecture.hidden
    keep = torch.zeros_like(model.classifier.weight)
    keep[:, :width] = 1
    with torch.no_grad():
        model.classifier.weight.mul_(keep)
    model.classifier.weight.register_hook(lambda slope: slope * keep)
    model.mark.register_hook(torch.zeros_like)


def confusion(labels: Any, scores: Any) -> list[list[int]]:
    """Counts, true labels as rows."""
    from absa.evaluation.metrics import confusion_counts

    return [[int(count) for count in row] for row in confusion_counts(labels, scores.argmax(1))]


def heat(scores: Any, temperature: float) -> Any:
    """Calibrated scores as they were before the temperature."""
    from absa.inference.engine import softmax

    return softmax(np.log(np.maximum(scores, 1e-12)) * np.float32(temperature))


def calibration_error(labels: Any, scores: Any) -> float:
    """ECE over bins of equal size."""
    from absa.evaluation.metrics import expected_calibration_error

    return round(expected_calibration_error(labels, scores), 4)


def behaviours(engine: Any) -> dict[str, Any]:
    """Failures of each behaviour, and how much the aspect decides."""
    from absa.evaluation.behaviour import masking_margin, run_suite

    results = run_suite(engine.score, cases=BEHAVIOUR_CASES)
    return {
        "behaviours": {each.name: [each.failures, each.cases] for each in results},
        "masking_margin": round(masking_margin(engine.score, cases=BEHAVIOUR_CASES), 4),
    }


def rows_of(cells: dict[str, dict[str, Any]]) -> list[Row]:
    """The result's rows: figures pooled over a recipe's folds and seeds, low and high over its cells."""
    rows: list[Row] = []
    for name, recipe in RECIPES.items():
        mine = {key: cell for key, cell in cells.items() if key.split(" | ")[0] == name}
        if mine:
            rows += recipe_rows(f"{name}: {recipe.title}", mine, final=name == "distilled", bundled=name == BUNDLED)
    return rows


def recipe_rows(case: str, cells: dict[str, dict[str, Any]], *, final: bool, bundled: bool) -> list[Row]:
    """One recipe's figures."""
    from absa.evaluation.metrics import f1_of, pos_neg_f1_of

    def pooled(kind: str, part: Sequence[dict[str, Any]]) -> Any:
        return np.sum([np.array(cell[kind], float) for cell in part], axis=0)

    def row(metric: str, measure: Any, unit: str, target: str | None = None, met: bool | None = None) -> Row:
        each = [float(measure([cell])) for cell in cells.values()]
        value = float(measure(list(cells.values())))
        digits = 4 if unit in ("share", "f1") else 2
        return Row(
            case=case, metric=metric, value=round(value, digits), low=round(min(each), digits),
            high=round(max(each), digits), runs=len(each), unit=unit, target=target, met=met,
        )  # fmt: skip

    def f1(kind: str) -> Any:
        return lambda part: pos_neg_f1_of(pooled(kind, part))

    def off_diagonal(pairs: Sequence[tuple[int, int]]) -> Any:
        return lambda part: sum(pooled("confusion_int8", part)[pair] for pair in pairs) / sum(c["rows"] for c in part)

    def mean(field_name: str) -> Any:
        return lambda part: np.average([cell[field_name] for cell in part], weights=[cell["rows"] for cell in part])

    def accuracy(part: Sequence[dict[str, Any]]) -> float:
        counts = pooled("confusion_int8", part)
        return float(np.trace(counts) / counts.sum())

    rows = [
        judged(row("accuracy", accuracy, "share"), 0.775, final),
        row("macro_f1", lambda part: f1_of(pooled("confusion_int8", part)).mean(), "f1"),
        judged(row("pos_neg_f1", f1("confusion_int8"), "f1"), 0.785, final),
        row("pos_neg_f1_fp32", f1("confusion_fp32"), "f1"),
        row(
            "int8_labels_equal",
            lambda part: sum(c["labels_equal"] for c in part) / sum(c["rows"] for c in part),
            "share",
        ),
        row("flips", off_diagonal([(0, 2), (2, 0)]), "share"),
        row("misses_to_neutral", off_diagonal([(0, 1), (2, 1)]), "share"),
        row("ece", mean("ece"), "share"),
        row("ece_uncalibrated", mean("ece_uncalibrated"), "share"),
        row("train_cpu_s", mean("train_cpu_s"), "s"),
        row("size_mb", mean("size_mb"), "MB"),
    ]
    rows[4] = judged(rows[4], 0.99, sure=True)
    lost = rows[3].value - rows[2].value
    rows.append(
        Row(case=case, metric="int8_f1_loss", value=round(lost, 4), low=round(lost, 4), high=round(lost, 4),
            runs=len(cells), unit="f1", target="<= 0.005", met=lost <= 0.005)
    )  # fmt: skip
    for cell in cells.values():
        for behaviour, (failed, cases) in cell.get("behaviours", {}).items():
            from benchmarks.figures import share

            found = share(case, f"fails {behaviour}", failed, cases)
            if behaviour == "contrast":
                found = share(case, "contrast pairs both right", cases - failed, cases)
                found = judged(found, 0.85, sure=bundled)
            rows.append(found)
        if "masking_margin" in cell:
            margin = cell["masking_margin"]
            rows.append(
                Row(case=case, metric="masking_margin", value=margin, low=margin, high=margin, runs=1, unit="share")
            )
    return rows


def judged(row: Row, floor: float, sure: bool) -> Row:
    """The row with its target, where it has one."""
    return replace(row, target=f">= {floor:g}", met=row.value >= floor) if sure else row


def main() -> None:
    """Run the cells that are missing and write the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--recipes", nargs="+", default=list(RECIPES), choices=list(RECIPES))
    parser.add_argument("--folds", type=int, nargs="+", default=list(range(data.FOLDS)))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--again", action="store_true", help="run the chosen cells again")
    parser.add_argument("--tables", action="store_true", help="run nothing, write the result from the cells")
    arguments = parser.parse_args()
    cells: dict[str, dict[str, Any]] = json.loads(CELLS.read_text()) if CELLS.exists() else {}
    chosen = [] if arguments.tables else wanted(arguments.recipes, arguments.seeds, arguments.folds)
    if not data.DATA.is_dir():
        chosen = [cell for cell in chosen if cell.recipe == BUNDLED]
        print(f"the labelled rows are not at {data.DATA}: only the bundled data are measured")
    for cell in chosen:
        if cell.name in cells and not arguments.again:
            continue
        figures = run_cell(cell)
        cells = {**(json.loads(CELLS.read_text()) if CELLS.exists() else {}), cell.name: figures}
        CELLS.parent.mkdir(parents=True, exist_ok=True)
        CELLS.write_text(json.dumps(cells, indent=1) + "\n")
        print(
            cell.name,
            json.dumps({key: figures[key] for key in ("confusion_int8", "train_cpu_s", "wall_s")}),
            flush=True,
        )
        write(cells)
    write(cells)


def write(cells: dict[str, dict[str, Any]]) -> None:
    """The result from the cells that there are."""
    if cells:
        packages = {name: version(name) for name in ("torch", "onnxruntime", "tokenizers", "numpy")}
        write_result(
            RESULT, name="quality", command="make benchmark-quality", seed=0, rows=rows_of(cells), versions=packages
        )


if __name__ == "__main__":
    main()
