"""Teachers of a student: fine-tuned once, kept in the lake, asked again until they are stale."""

import csv
import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from absa.data.bundled import FEEDBACK_CSV
from absa.data.normalise import side
from absa.errors import DeadlineMissedError, PermanentError
from absa.job import TrainingJob
from absa.modeling.architecture import Architecture, PairClassifier
from absa.modeling.bases import TOKENIZER, find_base, save_weights
from absa.policies import TrainingRecipe
from absa.training.rows.distill import ANSWERS_FILE, PAIRS_FILE, Answers
from absa.training.teacher import teach
from flows.platform.services import Services, build_services
from flows.platform.settings import Settings
from flows.training.job_process import JobResult
from flows.training.judging import Judging
from flows.training.teaching.lesson import Lesson, make_lesson, unlabelled_pairs
from flows.training.teaching.teachers import is_stale
from flows.training.train_version import TrainingRequest, train_version
from flows.training.training_snapshot import take_snapshot
from tests.conftest import labelled_rows
from tests.stand_ins import FakeRegistry, FakeRuns
from tests.toy_package import build_toy_package

SIZES = Architecture(layers=1, hidden=32, heads=1, intermediate=64, vocabulary=30_522, positions=128)
NOW = datetime(2026, 11, 30, 8, tzinfo=UTC)
WORDS = ("one", "two", "three", "four", "five", "six")
TEXTS = [f"the toolbar of screen {word} is slow" for word in WORDS]
NEW = [text for text in TEXTS if side(text) == "train"]


@dataclass
class World:
    """A home with labelled rows, a tiny encoder that teaches, and its processes: True for kept weights."""

    folder: Path
    now: datetime = NOW
    runs: list[bool] = field(default_factory=list)
    policy: TrainingRecipe = field(default_factory=lambda: TrainingRecipe(recipe="distilled"))

    @property
    def services(self) -> Services:
        settings = Settings(home=self.folder / "home", training=self.policy)
        registry = FakeRegistry()
        made = build_services(settings, environment={}, registry=registry, runs=FakeRuns(registry))
        return replace(made, clock=lambda: self.now)

    @property
    def encoder(self) -> str:
        return str(self.folder / "tiny")

    def teacher(self, folder: Path, **_: Any) -> None:
        described = json.loads((folder / "teacher.json").read_text())
        self.runs.append(described["weights"] is not None)
        described["settings"] |= {"max_epochs": 1.0, "threads": 1, "precision": "fp32", "batch_tokens": 2048}
        (folder / "teacher.json").write_text(json.dumps(described))
        teach(folder)

    def lesson(self, *teachers: str, budget_s: float = 60.0, files: tuple[str, ...] = ()) -> Lesson:
        services = self.services
        return make_lesson(
            services, take_snapshot(services, [str(self.rows)]), teachers=teachers, budget_s=budget_s, files=files,
            max_tokens=64, on_event=lambda _: None, run=self.teacher,
        )  # fmt: skip

    @property
    def rows(self) -> Path:
        return write(self.folder / "labelled.csv", labelled_rows(300))


def write(file: Path, rows: list[dict[str, Any]]) -> Path:
    with file.open("w", newline="", encoding="utf-8") as out:
        writer = csv.DictWriter(out, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return file


@pytest.fixture
def world(tmp_path: Path) -> World:
    torch.manual_seed(0)
    model = PairClassifier(SIZES)
    save_weights(model, (find_base("minilm-l6") / TOKENIZER).read_text(encoding="utf-8"), tmp_path / "tiny")
    return World(tmp_path)


def test_teacher_is_fine_tuned_once_then_answers(world: World) -> None:
    first = world.lesson(world.encoder)
    assert first.answers.labelled.shape == (first.manifest.side_rows("train"), 3)
    assert np.allclose(first.answers.labelled.sum(1), 1, atol=1e-3)
    assert len(first.answers.pairs) == len(first.pairs.splitlines())
    again = world.lesson(world.encoder)
    assert world.runs == [False]  # equal rows: the lake has the answers
    assert np.array_equal(again.answers.labelled, first.answers.labelled)
    file = write(world.folder / "inputs.csv", [{"text": NEW[0], "aspect": "toolbar"}])
    more = world.lesson(world.encoder, files=(str(file),))
    assert world.runs == [False, True]  # other pairs: the kept weights answer
    assert NEW[0].encode() in more.pairs
    world.now += timedelta(days=31)
    world.lesson(world.encoder)
    assert world.runs == [False, True, False]
    assert not list((world.folder / "home" / "teachers").rglob(PAIRS_FILE))


def test_teacher_named_twice_has_two_seeds(world: World) -> None:
    lesson = world.lesson(world.encoder, world.encoder)
    assert world.runs == [False, False]
    assert lesson.facts["taught_rows"] == lesson.manifest.side_rows("train")
    assert len(world.services.lake.list("teachers/")) == 2 * 5  # three files of weights, facts, answers


def test_too_short_budget_names_the_teacher(world: World) -> None:
    with pytest.raises(DeadlineMissedError, match=r"teacher .*tiny: give a larger --teacher-budget"):
        world.lesson(world.encoder, budget_s=1e-3)


@pytest.mark.parametrize(
    ("days", "rows", "stale"), [(29, 100, False), (31, 100, True), (0, 125, False), (0, 126, True)]
)
def test_teacher_is_stale_by_age_and_growth(days: int, rows: int, stale: bool) -> None:
    assert is_stale(made_at=NOW - timedelta(days=days), rows=100, now=NOW, rows_now=rows) is stale


def test_pairs_leave_out_other_sides_and_asked_ones(world: World) -> None:
    services = world.services
    manifest = take_snapshot(services, [str(FEEDBACK_CSV)])
    file = write(world.folder / "inputs.csv", [{"text": text, "aspect": "toolbar"} for text in TEXTS])
    pairs = unlabelled_pairs(services, manifest, [str(file)])
    assert [pair for pair in pairs if pair[1] == "toolbar"] == [(text, "toolbar") for text in NEW]
    assert 0 < len(NEW) < len(TEXTS) < len(pairs)  # aspects of other rows that a text names
    assert all(side(text) == "train" and str(aspect) in text.casefold() for text, aspect in pairs)


@pytest.mark.parametrize("ladder", [(), (6, 3)])
def test_distilled_training_gives_job_its_lesson(world: World, ladder: tuple[int, ...]) -> None:
    """The sizes of a ladder share one lesson."""
    lessons: list[tuple[TrainingJob, Answers]] = []
    world.policy = replace(world.policy, ladder=ladder)

    def job(folder: Path, **_: Any) -> JobResult:
        described = TrainingJob.read(folder)
        lessons.append((described, Answers.read(Path(str(described.lesson)) / ANSWERS_FILE)))
        build_toy_package(folder / "package")
        shutil.copytree(world.encoder, folder / "weights")
        parity = {"rows": 50, "labels_equal": 1.0, "f1_fp32": 0.8, "f1_int8": 0.8}
        return JobResult(folder=folder, done={"rows": 400, "parity": parity}, starts=1)

    def no_teacher(folder: Path, *, on_event: Any, **_: Mapping[str, Any]) -> None:
        world.runs.append(False)
        rows = json.loads(next((world.folder / "home").rglob("plan.json")).read_text())["rows"]
        pairs = len((folder / PAIRS_FILE).read_bytes().splitlines())
        Answers(np.full((sum(rows), 3), 1 / 3, np.float32), np.zeros((pairs, 3), np.float32)).write(
            folder / ANSWERS_FILE
        )
        (folder / "weights").mkdir()
        for name in ("config.json", "model.safetensors", "tokenizer.json"):
            (folder / "weights" / name).write_text("{}")

    judging = partial(
        Judging, validate=lambda _: 100.0, draw=lambda *_: None, measure=lambda scorers, _: [100.0] * len(scorers)
    )
    request = TrainingRequest(budget_s=300.0, sources=(str(world.rows),), teachers=(world.encoder,))
    assert train_version(world.services, request, job=job, judging=judging, teacher=no_teacher).version == "1"
    assert [described.settings.get("layers") for described, _ in lessons] == list(ladder or (None,))
    assert world.runs == [False]
    for described, answers in lessons:
        assert described.teacher_weight == 0.5
        assert len(answers.labelled) > 100


def test_teachers_without_their_recipe_are_refused(world: World) -> None:
    world.policy = TrainingRecipe()
    with pytest.raises(PermanentError, match="need the recipe distilled"):
        train_version(world.services, TrainingRequest(budget_s=60.0, teachers=(world.encoder,)))
