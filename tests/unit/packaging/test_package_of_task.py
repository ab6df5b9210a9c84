"""A package is built for any task: its config, warm-up rows and answers follow from the task of the model."""

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from absa.inference.engine import Engine
from absa.inference.package import load_package
from absa.modeling.architecture import Architecture, PairClassifier
from absa.modeling.bases import TOKENIZER, find_base
from absa.packaging.build import WARMUP_PAIRS, Effort, build_package, warmup_inputs
from absa.task import ABSA, InputForm, TaskSpec
from absa.training.rows.scoring import score_as_teacher
from absa.training.rows.tokens import LabelledPair, tokenize
from absa.training.training_settings import TrainingSettings

SIZES = Architecture(layers=1, hidden=32, heads=2, intermediate=32, vocabulary=30_522, positions=64)
TICKETS = TaskSpec(name="tickets", input="text", labels=("billing", "bug", "praise", "login"))
EFFORT = Effort(observed_rows=8, strengths=(0.5,), rows=24)


def test_default_task_keeps_its_warmup_pairs() -> None:
    assert warmup_inputs(ABSA) is WARMUP_PAIRS
    assert len(WARMUP_PAIRS) == 16


def test_warmup_of_other_forms_has_their_inputs() -> None:
    assert {phrase for _, phrase in warmup_inputs(TICKETS)} == {None}
    topics = Counter(phrase for _, phrase in warmup_inputs(replace(TICKETS, input="text+topic")))
    assert set(topics) == set(TICKETS.labels)
    assert len(warmup_inputs(TICKETS)) == len(set(warmup_inputs(TICKETS))) == 15


@pytest.mark.parametrize("form", ["text", "text+topic", "text+aspect"])
def test_package_answers_in_the_form_of_its_task(form: InputForm, tmp_path: Path) -> None:
    task = replace(TICKETS, input=form)
    torch.manual_seed(0)
    model = PairClassifier(SIZES, dropout=0.0, task=task).eval()
    torch.nn.init.normal_(model.classifier.weight, std=2.0)
    base = tmp_path / "our-base"
    base.mkdir()
    settings = TrainingSettings(max_tokens=32, base_model=str(base), warm_start=str(base))
    aspect = None if form == "text" else "app"
    rows = [LabelledPair(f"the app is number {k} of many", aspect, k % 4) for k in range(24)]
    tokenizer_json = (find_base("minilm-l6") / TOKENIZER).read_text(encoding="utf-8")
    report = build_package(model, tokenizer_json, settings, rows, tmp_path / "package", effort=EFFORT)
    package = load_package(tmp_path / "package", expected_digest=report.digest)
    assert package.config.task == task
    assert package.config.base_model == "our-base"
    for name in ("config.json", "model_card.md"):
        assert str(tmp_path) not in (package.folder / name).read_text(encoding="utf-8")
    engine = Engine.load(package)
    assert engine.warm_up() == len(warmup_inputs(task))
    scores = engine.score([(row.text, row.aspect) for row in rows])
    assert scores.shape == (24, 4)
    fp32 = score_as_teacher(model, tokenize(rows, engine.tokenizer))
    assert np.mean(scores.argmax(1) == fp32.argmax(1)) >= 0.9
    kept = [json.loads(line) for line in package.warmup_path.read_text(encoding="utf-8").splitlines()]
    assert {len(row["scores"]) for row in kept} == {4}
    assert ("aspect" in kept[0]) == (form != "text")
    assert f"# {task.name}" in (tmp_path / "package" / "model_card.md").read_text(encoding="utf-8")
