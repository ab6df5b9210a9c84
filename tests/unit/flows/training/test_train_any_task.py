"""Use case of training for tasks other than the default one, with a real training of a tiny model in this process."""

import csv
import json
import random
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, cast

import pytest
import torch

from absa.adapters.mlflow_client import MlflowRegistry
from absa.data.mapping import DataMapping
from absa.errors import InvalidDataError, PermanentError
from absa.inference.engine import Engine
from absa.inference.package import load_package
from absa.job import TrainingJob
from absa.modeling.architecture import Architecture, PairClassifier
from absa.modeling.bases import TOKENIZER, find_base, save_weights
from absa.policies import GatePolicy, TrainingRecipe
from absa.task import TaskSpec
from flows.platform.services import Services, build_services
from flows.platform.settings import Settings
from flows.training.job_process import JobResult, RunJob
from flows.training.judging import Judging
from flows.training.train_version import TrainedVersion, TrainingRequest, train_version
from tests.conftest import job_here
from tests.homes import said_in, words_of_default_task
from tests.stand_ins import FakeRegistry, FakeRuns
from tests.toy_package import build_toy_package

SIZES = Architecture(layers=1, hidden=64, heads=2, intermediate=64, vocabulary=30_522, positions=128)
TICKETS = TaskSpec(name="tickets", input="text", labels=("billing", "bug", "praise", "login"))
TOPICS = TaskSpec(name="topics", input="text+topic", labels=("no", "yes"), evaluated=("yes",))
WORDS = {"billing": "invoice", "bug": "crash", "praise": "lovely", "login": "password"}
DIGITS = ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")


def job_of_a_toy(folder: Path, **_: Any) -> JobResult:
    """Package a toy that knows the names of its labels, instead of a training."""
    build_toy_package(folder / "package", task=TrainingJob.read(folder).task)
    (folder / "weights").mkdir()
    parity = {"rows": 50, "labels_equal": 1.0, "f1_fp32": 0.8, "f1_int8": 0.8}
    return JobResult(folder=folder, done={"rows": 400, "parity": parity}, starts=1)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("base")
    torch.manual_seed(0)
    model = PairClassifier(SIZES, dropout=0.0)
    torch.nn.init.normal_(model.words.weight, std=1.0)
    save_weights(model, (find_base("minilm-l6") / TOKENIZER).read_text(encoding="utf-8"), folder)
    return folder


@dataclass
class World:
    """A home of one task."""

    folder: Path
    base: Path
    task: TaskSpec
    gate: GatePolicy
    registry: FakeRegistry = field(default_factory=FakeRegistry)

    def __post_init__(self) -> None:
        self.runs = FakeRuns(self.registry)

    @property
    def services(self) -> Services:
        recipe = TrainingRecipe(base_model=str(self.base), learning_rate=3e-3)
        settings = Settings(home=self.folder, gate=self.gate, training=recipe, data=DataMapping(task=self.task))
        return build_services(settings, environment={}, registry=self.registry, runs=self.runs)

    def train(self, *sources: Path, job: RunJob = job_here) -> TrainedVersion:
        judging = partial(Judging, validate=lambda _: 100.0, draw=lambda *_: None)
        request = TrainingRequest(budget_s=120.0, sources=tuple(map(str, sources)))
        return train_version(self.services, request, job=job, judging=judging)

    def package(self, version: str) -> Path:
        return self.services.packages.get(version, self.registry.tags(version)["digest"]).folder


@pytest.fixture
def world(tmp_path: Path, base: Path) -> World:
    gate = GatePolicy(min_recent_rows=20, min_rows=20, behaviour_cases=6, max_ece=1.0)
    return World(tmp_path, base, TICKETS, gate)


def written(file: Path, task: TaskSpec, numbers: range) -> Path:
    """Write rows whose texts hold the word of their label, or of their topic."""
    with file.open("w", newline="", encoding="utf-8") as out:
        write = csv.writer(out).writerow
        write(("text", *([task.phrase] if task.phrase else []), "label"))
        names = task.labels if task.phrase is None else tuple(WORDS)
        for number in numbers:
            digits = " ".join(DIGITS[int(digit)] for digit in str(number))
            chance = random.Random(number)
            name = chance.choice(names)
            text = f"{digits} my {WORDS.get(name, 'refund')} of today"
            if task.phrase is None:
                write((text, name))
            else:
                asked = chance.choice((name, chance.choice(names)))
                write((text, asked, "yes" if asked == name else "no"))
    return file


def test_registered_model_has_the_name_of_the_task(tmp_path: Path) -> None:
    services = build_services(Settings(home=tmp_path, data=DataMapping(task=TICKETS)), environment={})
    assert cast(MlflowRegistry, services.registry).model == "tickets"


def test_plain_text_task_becomes_a_registered_package(
    world: World, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    outcome = world.train(written(tmp_path / "tickets.csv", TICKETS, range(400)))
    assert (outcome.version, outcome.action, outcome.task) == ("1", "crowned", TICKETS)
    assert world.runs.kept[0].columns == ["text", "label"]
    tags = world.registry.tags("1")
    assert tags["f1"] == f"{outcome.f1:.4f}"
    assert tags["metric"] == "macro F1 of billing, bug, praise and login over all rows"
    assert "pos_neg_f1" not in tags
    assert len(json.loads(tags["test_confusion"])) == 4
    folder = world.package("1")
    engine = Engine.load(load_package(folder, expected_digest=tags["digest"]))
    assert engine.package.config.task == TICKETS
    assert engine.warm_up() == 15
    scores = engine.score([(f"one two seven my {word} of today", None) for word in WORDS.values()])
    assert scores.argmax(1).tolist() == [0, 1, 2, 3]
    said = dict(said_in(tmp_path)) | {
        "tags": json.dumps(tags),
        "run": str(vars(world.runs.kept[0])),
        "events": "".join(capfd.readouterr()),
    }
    assert {name: found for name, each in said.items() if (found := words_of_default_task(each))} == {}


def test_topic_task_becomes_a_registered_package(world: World, tmp_path: Path) -> None:
    world.task = TOPICS
    outcome = world.train(written(tmp_path / "topics.csv", TOPICS, range(600)))
    assert (outcome.version, outcome.task) == ("1", TOPICS)
    assert world.runs.kept[0].columns == ["text", "topic", "label"]
    config = load_package(world.package("1")).config
    assert config.task == TOPICS
    assert world.registry.tags("1")["metric"] == "macro F1 of yes over all rows"


def test_added_label_is_learned_from_the_older_head(world: World, tmp_path: Path) -> None:
    world.train(written(tmp_path / "tickets.csv", TICKETS, range(400)))
    world.task = replace(TICKETS, labels=(*TICKETS.labels, "refund"), evaluated=())
    outcome = world.train(written(tmp_path / "more.csv", world.task, range(1000, 1500)))
    assert (outcome.version, outcome.task) == ("2", world.task)
    engine = Engine.load(world.package("2"))
    assert engine.score([("one two seven my refund of today", None)]).argmax() == 4
    gate: dict[str, Any] = json.loads((world.package("2") / "gate.json").read_text(encoding="utf-8"))
    (new,) = gate["evidence"]["new_labels"]
    assert (new["name"], new["rows"] > 0, new["f1"] > 0.8) == ("refund", True, True)
    assert gate["evidence"]["whole"]["rows"] > gate["evidence"]["overall"]["rows"]
    assert gate["evidence"]["metric"] == "macro F1 of billing, bug, praise and login over all rows"
    assert Engine.load(world.package("1")).score([("seven refund", None)]).shape == (1, 4)  # serves as before


def test_own_tests_of_the_user_are_judged(world: World, tmp_path: Path) -> None:
    (tmp_path / "own.csv").write_text("text,label,name\na bug,bug,crashes\na bug,praise,wrong\n")
    world.gate = replace(world.gate, tests="own.csv")
    outcome = world.train(written(tmp_path / "tickets.csv", TICKETS, range(400)), job=job_of_a_toy)
    assert outcome.verdict == "HOLD"
    assert any("1 of 2 own tests pass" in reason for reason in outcome.reasons)
    (tmp_path / "own.csv").write_text("text,label\na bug,unknown\n")
    with pytest.raises(InvalidDataError, match=r"own\.csv line 2: expected a label"):
        world.train()


def test_changed_task_of_a_home_is_refused(world: World, tmp_path: Path) -> None:
    world.train(written(tmp_path / "tickets.csv", TICKETS, range(200)), job=job_of_a_toy)
    world.task = replace(TICKETS, labels=("bug", "billing"), evaluated=())
    with pytest.raises(PermanentError, match=r"expected tickets \(text; billing,.*got tickets \(text; bug, billing"):
        world.train()
