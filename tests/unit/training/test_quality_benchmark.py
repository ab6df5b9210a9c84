"""The quality benchmark: folds leak no text, cells are chosen in order, figures are pooled as they are said to be."""

import csv
from itertools import product
from pathlib import Path

import pytest

from benchmarks.training import quality_data as data
from benchmarks.training.quality import bundled_sides, ready, rows_of
from benchmarks.training.quality_recipes import BUNDLED, FINAL, MPNET, RECIPES, Cell, wanted

CELL = {
    "rows": 100, "confusion": [[30, 5, 5], [4, 20, 6], [2, 3, 25]], "labels_equal": 99, "steps": 10,
    "confusion_fp32": [[31, 5, 4], [4, 20, 6], [2, 3, 25]], "temperature": 1.1, "ece": 0.02, "ece_uncalibrated": 0.05,
    "device": "cpu", "size_mb": 22.8,
}  # fmt: skip


def test_recipe_runs_each_fold_and_bundled_once() -> None:
    cells = wanted(["plain", BUNDLED], [0, 1], [0, 1])
    assert cells == [Cell("plain", s, f) for s in (0, 1) for f in (0, 1)] + [Cell(BUNDLED, 0, 0), Cell(BUNDLED, 1, 0)]
    assert len({cell.folder for cell in cells}) == len(cells)


def test_teacher_recipe_comes_before_student() -> None:
    names = list(RECIPES)
    for name, recipe in RECIPES.items():
        assert all(names.index(teacher) < names.index(name) for teacher in recipe.teachers)


def test_student_waits_for_teachers_of_its_fold() -> None:
    student, teacher = Cell("from mpnet", 0, 0), Cell(MPNET, 0, 0)
    assert ready([student, teacher], []) == [teacher]
    assert ready([student], [teacher]) == []
    assert ready([student], [Cell(MPNET, 0, 1), Cell(MPNET, 1, 0)]) == [student]


def test_figures_are_pooled_with_spread_of_cells() -> None:
    better = CELL | {"confusion": [[38, 1, 1], [2, 26, 2], [1, 1, 28]]}
    cells = {Cell("plain", 0, 0).name: CELL, Cell("plain", 0, 1).name: better}
    rows = {row.metric: row for row in rows_of(cells)}
    accuracy = rows["accuracy"]
    assert (accuracy.value, accuracy.low, accuracy.high, accuracy.runs) == (0.835, 0.75, 0.92, 2)
    assert rows["flips"].value == pytest.approx((7 + 2) / 200)
    assert rows["int8_labels_equal"].met
    assert accuracy.target is None


def test_final_recipe_and_bundled_carry_targets() -> None:
    cells = {
        Cell(FINAL, 0, 0).name: CELL,
        Cell(BUNDLED, 0, 0).name: CELL | {"behaviours": {"contrast": [10, 100]}, "masking_margin": 0.4},
    }
    found = {(row.case.split(":")[0], row.metric): row for row in rows_of(cells)}
    assert found[FINAL, "accuracy"].met is False
    assert found[BUNDLED, "contrast pairs both right"].value == 0.9
    assert found[BUNDLED, "contrast pairs both right"].met


def test_the_bundled_sides_share_no_text() -> None:
    train, validation, test = ({data.key(row.text) for row in side} for side in bundled_sides())
    assert train
    assert validation
    assert test
    assert not train & test
    assert not validation & test


@pytest.fixture(params=["made up", "beside the project"])
def rows_that_count(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The labelled rows where there are some, and made-up ones: each text beside its near-duplicate."""
    if request.param == "beside the project":
        if not data.DATA.is_dir():
            pytest.skip("the labelled rows are not beside the project")
        return
    names = ["".join(letters) for letters in product("abcdef", repeat=3)]
    texts = [text for name in names for text in (f"the app {name} is slow", f"The App {name} is slow, 7!")]
    monkeypatch.setattr(data, "DATA", tmp_path)
    (tmp_path / "enterpret").mkdir()
    with (tmp_path / "enterpret" / "train.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("text", "aspect", "label"), *((text, "app", 0) for text in texts)])


@pytest.mark.usefixtures("rows_that_count")
def test_texts_are_in_one_side_of_fold() -> None:
    tests = []
    for fold in range(data.FOLDS):
        train, validation, test = ({data.key(row.text) for row in side} for side in data.sides(fold))
        assert train
        assert validation
        assert test
        assert not test & (train | validation)
        assert not train & validation
        tests += data.sides(fold)[2]
    assert len(tests) == len(data.labelled())


def test_comparison_pairs_cells_of_equal_folds() -> None:
    better = CELL | {"confusion": [[38, 1, 1], [2, 26, 2], [1, 1, 28]]}
    cells = {
        Cell("marks", 0, 0).name: better, Cell("plain", 0, 0).name: CELL, Cell("marks", 0, 1).name: CELL,
        Cell("plain", 0, 1).name: CELL, Cell("plain", 0, 2).name: better,
    }  # fmt: skip
    rows = {row.metric: row for row in rows_of(cells) if row.case == "marks against plain"}
    difference = rows["accuracy_difference"]
    assert (difference.value, difference.low, difference.high, difference.runs) == (0.085, 0.0, 0.17, 2)
    assert rows["accuracy_of_reference"].value == 0.75
