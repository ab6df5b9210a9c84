"""A new version comes in beside the old one; one that is broken leaves the old one serving and says why."""

import asyncio
import json
from pathlib import Path

import onnx
import pytest
from onnx import numpy_helper

from absa.inference.package import package_digest
from absa.ledger.routing import Arm, TrafficPlan, single
from absa.task import TaskSpec
from serving.engine.pool import ModelPool
from serving.replica_state import RouterState
from tests.toy_package import build_toy_package


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("packages")
    return {version: build_toy_package(root / version, seed=seed) for seed, version in enumerate("12")}


def ab(champion: str, challenger: str) -> TrafficPlan:
    arms = (Arm(name="champion", version=champion, share=0.5), Arm(name="challenger", version=challenger, share=0.5))
    return TrafficPlan(mode="ab", experiment="e", salt="s", arms=arms)


def state(revision: int, plan: TrafficPlan, folders: dict[str, Path], **digests: str) -> RouterState:
    versions = {version: package_digest(folder) for version, folder in folders.items()} | digests
    return RouterState(
        lake="l",
        revision=revision,
        champion=plan.champion.version,
        plan=plan,
        versions=versions,
        folders={versions[version]: str(folder) for version, folder in folders.items()},
    )


def stages(pool: ModelPool) -> dict[str, str]:
    return {each["version"]: each["state"] for each in pool.describe()}


def forget_tokens(path: Path) -> None:
    """Leave the graph one known token: it loads, and fails where it is run."""
    model = onnx.load(path)
    (table,) = [each for each in model.graph.initializer if each.name == "table"]
    table.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(table)[:1], "table"))
    onnx.save(model, path)


def test_plan_is_active_with_every_model(packages: dict[str, Path]) -> None:
    pool = ModelPool()
    assert asyncio.run(pool.follow(state(3, ab("1", "2"), packages)))
    assert pool.in_force is not None
    assert pool.in_force.revision == 3
    assert {v: m.digest for v, m in pool.in_force.models.items()} == {v: package_digest(p) for v, p in packages.items()}
    assert stages(pool) == {"1": "serving", "2": "serving"}


def test_kept_model_is_not_loaded_again(packages: dict[str, Path]) -> None:
    pool = ModelPool()
    asyncio.run(pool.follow(state(1, single("1"), packages)))
    assert pool.in_force is not None
    before = pool.in_force.models["1"]
    asyncio.run(pool.follow(state(2, ab("1", "2"), packages)))
    assert pool.in_force.models["1"] is before
    asyncio.run(pool.follow(state(3, single("2"), packages)))
    assert set(pool.in_force.models) == {"2"}


@pytest.mark.parametrize("damage", ["missing", "digest", "warm-up", "graph", "run"])
def test_broken_version_leaves_old_plan(packages: dict[str, Path], tmp_path: Path, damage: str) -> None:
    pool = ModelPool()
    asyncio.run(pool.follow(state(1, single("1"), packages)))
    bad = build_toy_package(tmp_path / "bad", seed=5)
    if damage == "warm-up":
        rows = (bad / "warmup.jsonl").read_text(encoding="utf-8").splitlines()
        (bad / "warmup.jsonl").write_text(json.dumps({**json.loads(rows[0]), "scores": [0, 0, 1]}), encoding="utf-8")
    if damage == "graph":
        (bad / "model.onnx").write_bytes(b"no graph")
    if damage == "run":
        forget_tokens(bad / "model.onnx")
    wanted = state(2, ab("1", "bad"), {"1": packages["1"], "bad": bad})
    if damage == "digest":
        (bad / "calibration.json").write_text('{"temperature": 9}', encoding="utf-8")
    if damage == "missing":
        wanted.folders.pop(wanted.versions["bad"])
    assert not asyncio.run(pool.follow(wanted))
    assert pool.in_force is not None
    assert pool.in_force.revision == 1
    (described,) = [each for each in pool.describe() if each["version"] == "bad"]
    assert described["state"] == "failed"
    assert described["last_error"]
    assert pool.load_failures == (0 if damage == "missing" else 1)
    anew = ModelPool()  # that of a worker that is started again
    assert not asyncio.run(anew.follow(wanted))
    assert anew.in_force is not None
    assert anew.in_force.plan == single("1", salt="s")


@pytest.mark.parametrize(
    ("task", "serves"),
    [
        (TaskSpec(name="tickets", input="text", labels=("billing", "bug", "praise")), True),
        (TaskSpec(name="tickets", input="text", labels=("billing", "praise", "bug")), False),
        (TaskSpec(name="tickets", input="text+topic", labels=("billing", "bug")), False),
        (TaskSpec(name="mails", input="text", labels=("billing", "bug")), False),
    ],
)
def test_package_of_other_task_leaves_old_plan(tmp_path: Path, task: TaskSpec, serves: bool) -> None:
    first = TaskSpec(name="tickets", input="text", labels=("billing", "bug"))
    folders = {"1": build_toy_package(tmp_path / "1", task=first), "2": build_toy_package(tmp_path / "2", task=task)}
    pool = ModelPool()
    asyncio.run(pool.follow(state(1, single("1"), folders)))
    assert asyncio.run(pool.follow(state(2, ab("1", "2"), folders))) == serves
    assert pool.in_force is not None
    assert pool.in_force.task == (task if serves else first)
    described = {each["version"]: each for each in pool.describe()}
    assert described["1"]["labels"] == ["billing", "bug"]
    if not serves:
        assert (described["2"]["state"], described["2"]["task"]) == ("failed", None)
        error = described["2"]["last_error"]
        assert f"expected a package of the active task {first.describe()}, got one of {task.describe()}" in error


def test_first_plan_serves_without_broken_challenger(packages: dict[str, Path]) -> None:
    pool = ModelPool()
    folders = {"1": packages["1"]}
    assert not asyncio.run(pool.follow(state(4, ab("1", "9"), folders, **{"9": "0" * 64})))
    assert pool.in_force is not None
    assert pool.in_force.plan.mode == "single"
    assert pool.in_force.plan.champion.version == "1"
