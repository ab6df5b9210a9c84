"""A base is made once from equal rows and settings, and later trainings start from it."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from absa.errors import InvalidDataError
from absa.modeling.architecture import Architecture, PairClassifier
from absa.modeling.bases import TOKENIZER, find_base, load_base, save_weights
from absa.task import TaskSpec
from absa.training.pretrain import bases_in, is_base, pretrain
from absa.training.rows.tokens import LabelledPair
from absa.training.training_settings import TrainingSettings
from tests.conftest import labelled_rows

ROWS = [LabelledPair(row["text"], row["aspect"], row["label"]) for row in labelled_rows(40)]


@pytest.fixture
def settings(tmp_path: Path) -> TrainingSettings:
    """One step after the other on an encoder of one narrow layer."""
    torch.manual_seed(0)
    sizes = Architecture(layers=1, hidden=32, heads=1, intermediate=64, vocabulary=30_522)
    save_weights(PairClassifier(sizes), (find_base("minilm-l6") / TOKENIZER).read_text(), tmp_path / "start")
    return TrainingSettings(base_model=str(tmp_path / "start"), max_epochs=3, threads=1, precision="fp32")


def test_equal_rows_in_any_order_find_base(settings: TrainingSettings, tmp_path: Path) -> None:
    made = pretrain(ROWS, settings, tmp_path / "bases")
    found: list[Path] = []
    again = pretrain(ROWS[::-1], replace(settings, threads=2), tmp_path / "bases", found=found.append)
    assert again == made
    assert found == [made]
    assert bases_in(tmp_path / "bases") == {made.name: made}
    assert json.loads((made / "base.json").read_text())["rows"] == len(ROWS)
    assert not (made / "checkpoints").exists()


@pytest.mark.parametrize("other", ["a row less", "another setting", "a budget"])
def test_any_other_input_makes_another_base(settings: TrainingSettings, tmp_path: Path, other: str) -> None:
    made = pretrain(ROWS, settings, tmp_path / "bases")
    changed = replace(settings, learning_rate=5e-5) if other == "another setting" else settings
    rows = ROWS[:-1] if other == "a row less" else ROWS
    assert pretrain(rows, changed, tmp_path / "bases", budget_s=60 if other == "a budget" else None) != made


def test_base_of_another_task_has_its_labels(settings: TrainingSettings, tmp_path: Path) -> None:
    task = TaskSpec(name="tickets", input="text", labels=("billing", "bug", "praise", "login"))
    rows = [replace(row, aspect=None) for row in ROWS]
    made = pretrain(rows, settings, tmp_path / "bases", task=task)
    model, has_head = load_base(made, task=task)
    assert (has_head, model.classifier.out_features) == (True, 4)
    assert pretrain(rows, settings, tmp_path / "bases", task=replace(task, name="other")) != made


def test_training_starts_from_base_with_head(settings: TrainingSettings, tmp_path: Path) -> None:
    made = pretrain(ROWS, settings, tmp_path / "bases")
    model, has_head = load_base(find_base(str(made)))
    assert has_head
    first, _ = load_base(find_base(settings.base_model))
    assert not torch.equal(model.classifier.weight, first.classifier.weight)


def test_an_unfinished_base_is_none(settings: TrainingSettings, tmp_path: Path) -> None:
    made = pretrain(ROWS, settings, tmp_path / "bases")
    (made / "base.json").unlink()
    assert not is_base(made)
    assert bases_in(tmp_path / "bases") == {}


def test_without_rows_there_is_no_base(settings: TrainingSettings, tmp_path: Path) -> None:
    with pytest.raises(InvalidDataError, match="labelled rows"):
        pretrain([], settings, tmp_path / "bases")
