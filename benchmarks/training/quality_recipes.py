"""Recipes that the benchmark `quality` compares: one line of the ablation each, and the cells that they take."""

import fcntl
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from absa.training.recipes import RECIPES as PRODUCT_RECIPES
from absa.training.training_settings import TrainingSettings

KEPT = Path(__file__).parents[2] / ".evergreen" / "quality"
CELL = {"precision": "fp32", "compiled": "off", "checkpoint_every_s": 60.0}
COMMON = {**CELL, "batch_tokens": 384, "max_epochs": 3, "learning_rate": 1e-4}
BASE = TrainingSettings(
    max_epochs=2, batch_tokens=512, learning_rate=1.5e-4, compose_share=0.0, precision="fp32", compiled="off",
    checkpoint_every_s=60,
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """One line of the ablation. `settings` are what differs from COMMON."""

    title: str
    kind: Literal["student", "teacher", "mpnet", "tf-idf", "together"] = "student"
    settings: dict[str, Any] = field(default_factory=dict)
    public: bool = True  # starts from the base that the public rows made
    plain: bool = False  # the head reads the first token alone, and nothing marks the aspect
    teachers: tuple[str, ...] = ()  # recipes whose models of the same fold and seed are averaged
    unlabelled: bool = False  # the teachers label test.csv's pairs too
    unasked: bool = False  # and aspects that a text names without having been asked about them


def _product(name: str) -> dict[str, Any]:
    """Return what a recipe of the product changes; batches are the product's own too."""
    return {"batch_tokens": None, **PRODUCT_RECIPES[name].settings(warm=False)}


PLAIN, MARKED, MPNET, BUNDLED, FINAL = "plain", "base+marks", "mpnet", "bundled", "from all"
_OTHER_SEED = 1_000
_SMALL = (MARKED, "smoothing")
_BOTH = (*_SMALL, MPNET)
_ALL_PAIRS: dict[str, Any] = {"unlabelled": True, "unasked": True}
RECIPES: dict[str, Recipe] = {
    "tf-idf": Recipe(title="TF-IDF, logistic regression", kind="tf-idf", public=False),
    MPNET: Recipe(title="two MPNets averaged; not served", kind="mpnet"),
    PLAIN: Recipe(
        title="MiniLM, plain",
        settings={"compose_share": 0.0, "ema_horizon": 0.0},
        public=False,
        plain=True,
    ),
    "marks": Recipe(title="marks, composition, averaging; no base", public=False),
    "base+plain": Recipe(
        title="base and marks; no composition, no averaging",
        settings={"compose_share": 0.0, "ema_horizon": 0.0},
    ),
    MARKED: Recipe(title="reference (base, marks, composition, averaging)"),
    "no composition": Recipe(title="reference without composition", settings={"compose_share": 0.0}),
    "no ema": Recipe(title="reference without averaging", settings={"ema_horizon": 0.0}),
    "smoothing": Recipe(title="reference with label smoothing 0.1", settings={"label_smoothing": 0.1}),
    "r-drop": Recipe(title="reference with R-Drop and dropout 0.1", settings={"r_drop": 1.0, "dropout": 0.1}),
    "distilled": Recipe(title="student of three small teachers", teachers=_SMALL, unlabelled=True),
    "from mpnet": Recipe(title="student of two MPNets", teachers=(MPNET,), unlabelled=True),
    "from mpnet, unasked": Recipe(title="student of two MPNets, unasked pairs too", teachers=(MPNET,), **_ALL_PAIRS),
    FINAL: Recipe(title="student of all teachers, unasked pairs too", teachers=_BOTH, **_ALL_PAIRS),
    "3 layers": Recipe(title="that student with 3 layers", settings={"layers": 3}, teachers=_BOTH, **_ALL_PAIRS),
    "2 layers": Recipe(title="that student with 2 layers", settings={"layers": 2}, teachers=_BOTH, **_ALL_PAIRS),
    "width 256": Recipe(
        title="that student with 2 layers of width 256",
        settings={"layers": 2, "hidden": 256, "max_epochs": 12, "learning_rate": 5e-4, "train_words": True},
        teachers=_BOTH,
        **_ALL_PAIRS,
    ),
    "with its teacher": Recipe(
        title="that student and the MPNets averaged; not served", kind="together", teachers=(MPNET, FINAL)
    ),
    "recipe fast": Recipe(title="`--recipe fast`, rows alone", settings=_product("fast"), public=False),
    "recipe best": Recipe(title="`--recipe best`, rows alone", settings=_product("best"), public=False),
    "best, no contrast": Recipe(
        title="`--recipe best` without contrast sets", settings=_product("best") | {"contrast_share": 0.0}, public=False
    ),
    "teacher": Recipe(title="MPNet as `distill` fine-tunes it: a teacher, not served", kind="teacher", public=False),
    "teacher 2": Recipe(
        title="the same with another seed", kind="teacher", settings={"seed": _OTHER_SEED}, public=False
    ),
    "recipe distilled": Recipe(
        title="`--recipe distilled` by those two", settings=_product("distilled"), public=False,
        teachers=("teacher", "teacher 2"), **_ALL_PAIRS,
    ),
    BUNDLED: Recipe(title="the bundled data alone", settings={"max_epochs": 4}, public=False),
}  # fmt: skip
COMPARISONS = (
    ("plain", "tf-idf"),
    ("marks", "plain"),
    ("base+plain", "plain"),
    (MARKED, "marks"),
    (MARKED, "no composition"),
    (MARKED, "no ema"),
    ("smoothing", MARKED),
    ("r-drop", MARKED),
    ("distilled", MARKED),
    (FINAL, MARKED),
    (FINAL, "distilled"),
    ("from mpnet, unasked", "from mpnet"),
    (FINAL, "from mpnet, unasked"),
    (FINAL, MPNET),
    ("with its teacher", FINAL),
    ("3 layers", FINAL),
    ("2 layers", FINAL),
    ("width 256", FINAL),
    ("recipe best", "recipe fast"),
    ("recipe best", "best, no contrast"),
    ("recipe distilled", "recipe best"),
    ("robust", MARKED),
    ("fgm", MARKED),
    ("adapted", MARKED),
    ("dropout", MARKED),
    ("no base, dropout", "marks"),
    ("from mpnet, dropout", "from mpnet"),
    ("from mpnet, words", "from mpnet, dropout"),
    ("from all, more said", FINAL),
    ("together", "with its teacher"),
)
"""Pairs of a recipe and its reference that documents compare; cells of removed recipes are kept."""
LADDER = {"6 layers": BUNDLED, "3 layers": "3 layers", "2 layers": "2 layers", "width 256": "width 256"}  # for speed
TEACHERS = {name for recipe in RECIPES.values() if recipe.kind == "student" for name in recipe.teachers}


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
        """Return the folder of its weights, package and scores."""
        return KEPT / self.recipe.replace(", ", "-").replace(" ", "-") / f"{self.seed}-{self.fold}"


def wanted(recipes: Sequence[str], seeds: Sequence[int], folds: Sequence[int]) -> list[Cell]:
    """The cells of some recipes, a recipe after the other. The bundled data have one split: fold 0."""
    return [
        Cell(recipe, seed, fold)
        for recipe in recipes
        for seed in seeds
        for fold in (folds if recipe != BUNDLED else [fold for fold in folds if fold == 0])
    ]


@contextmanager
def alone(what: str) -> Iterator[None]:
    """One process at a time of those that run cells."""
    KEPT.mkdir(parents=True, exist_ok=True)
    with (KEPT / f"{what}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
