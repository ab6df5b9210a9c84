"""The job as a process, and the model that it leaves."""

import json
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from absa.inference.engine import Engine
from absa.inference.package import load_package
from absa.modeling.bases import load_base
from tests.conftest import finish, labelled_rows, run_job, start_job, write_job
from tests.tiny_encoders import save_bert


@pytest.fixture(scope="module")
def trained_job(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[dict[str, Any]]]:
    """Folder and events of a job that trained two layers for a few seconds."""
    folder = tmp_path_factory.mktemp("job")
    write_job(folder, budget_s=400, reserve_s=15, settings={"layers": 2, "max_epochs": 4}, rows=labelled_rows(400))
    code, events = run_job(folder)
    assert code == 0, events[-1:]
    return folder, events


@pytest.fixture(scope="module")
def trained_package(trained_job: tuple[Path, list[dict[str, Any]]]) -> Path:
    """Folder of a package that the real job trained; read it, do not change it."""
    return trained_job[0] / "package"


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Settings of jobs that are about the process: a tiny base, and no choice of precision."""
    base = save_bert(tmp_path_factory.mktemp("base") / "small")
    return {"base_model": str(base), "max_epochs": 2, "precision": "fp32"}


def test_it_has_learned_and_says_so(trained_job: tuple[Path, list[dict[str, Any]]]) -> None:
    folder, events = trained_job
    engine = Engine.load(folder / "package")
    rows = labelled_rows(150, seed=99)
    scores = engine.score([(row["text"], row["aspect"]) for row in rows])
    assert np.mean(scores.argmax(1) == [row["label"] for row in rows]) > 0.9
    done = events[-1]
    assert done["event"] == "done"
    assert done["parity"]["labels_equal"] >= 0.97
    assert done["digest"] == load_package(folder / "package").digest
    names = [event["name"] for event in events if event["event"] == "phase"]
    assert names == ["load", "tokenize", "train", "export", "calibrate", "parity", "warmup"]


def test_progress_comes_with_every_field(trained_job: tuple[Path, list[dict[str, Any]]]) -> None:
    ticks = [event for event in trained_job[1] if event["event"] == "progress"]
    assert ticks
    for tick in ticks:
        assert {"step", "epoch", "loss", "lr", "tokens_per_s", "elapsed_s", "remaining_s"} <= tick.keys()
    assert ticks[-1]["epoch"] == pytest.approx(4)


def test_the_package_is_whole_and_warms_up(trained_package: Path) -> None:
    names = {path.name for path in trained_package.iterdir()}
    assert {"model.onnx", "tokenizer.json", "config.json", "calibration.json", "model_card.md", "warmup.jsonl"} <= names
    assert Engine.load(trained_package).warm_up() >= 10


def test_the_package_holds_no_text_of_the_data(trained_package: Path) -> None:
    texts = {row["text"] for row in labelled_rows(400)}
    for path in trained_package.iterdir():
        if path.suffix in {".json", ".md", ".jsonl"} and path.name != "tokenizer.json":
            content = path.read_text(encoding="utf-8")
            assert not [text for text in texts if text in content and len(text) > 15], path.name


def test_weights_are_base_for_next_training(trained_job: tuple[Path, list[dict[str, Any]]]) -> None:
    model, has_head = load_base(trained_job[0] / "weights")
    assert has_head
    assert model.architecture.layers == 2


def test_a_finished_job_is_not_done_again(trained_job: tuple[Path, list[dict[str, Any]]]) -> None:
    folder, events = trained_job
    before = (folder / "package" / "model.onnx").stat().st_mtime_ns
    code, again = run_job(folder)
    assert code == 0
    assert again == [events[-1]]
    assert (folder / "package" / "model.onnx").stat().st_mtime_ns == before


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_a_killed_job_goes_on_from_its_checkpoint(tmp_path: Path, small: dict[str, Any], how: signal.Signals) -> None:
    settings = small | {"max_epochs": 25, "checkpoint_every_s": 0.1}
    folder = write_job(tmp_path / "job", budget_s=400, reserve_s=20, settings=settings, rows=labelled_rows(300))
    ends_at = json.loads((folder / "job.json").read_text())["ends_at"]
    child = start_job(folder)
    while not list((folder / "checkpoints").glob("*.json")) and time.time() < ends_at:
        time.sleep(0.05)
    child.send_signal(how)
    ((_, err),) = finish(child, timeout_s=120)
    assert "Traceback" not in err
    assert child.returncode == (143 if how == signal.SIGTERM else -9)
    assert not (folder / "package").exists()
    kept = max(int(path.stem) for path in (folder / "checkpoints").glob("*.json"))
    code, events = run_job(folder)
    assert code == 0
    assert events[-1]["resumed"]
    assert min(event["step"] for event in events if event["event"] == "progress") >= kept
    assert time.time() < ends_at
    Engine.load(folder / "package").warm_up()


def test_job_inside_its_reserve_ends_with_a_package(tmp_path: Path, small: dict[str, Any]) -> None:
    settings = small | {"max_epochs": 1}
    folder = write_job(tmp_path / "job", budget_s=80, reserve_s=80, settings=settings, rows=labelled_rows(60))
    code, events = run_job(folder)
    assert code == 0
    assert events[-1]["steps"] > 0
    Engine.load(folder / "package").warm_up()


def test_early_package_is_replaced_by_the_last(tmp_path: Path, small: dict[str, Any]) -> None:
    settings = small | {"max_epochs": 50}
    folder = write_job(tmp_path / "job", budget_s=250, reserve_s=250, settings=settings, rows=labelled_rows(200))
    code, events = run_job(folder)
    assert code == 0
    built = [event for event in events if event["event"] == "package"]
    assert [event["number"] for event in built] == list(range(1, len(built) + 1))
    assert len(built) >= 2
    assert built[0]["steps"] < built[-1]["steps"] == events[-1]["steps"]
    assert events[-1]["digest"] == load_package(folder / "package").digest


def test_guard_ends_the_job_with_the_newest_package(tmp_path: Path, small: dict[str, Any]) -> None:
    settings, rows = small | {"max_epochs": 1e6, "threads": 1}, labelled_rows(200)
    code = 3
    for budget_s in (8, 20, 60, 400):  # a busy machine builds no package in the shortest
        reserve_s = budget_s + 298.0  # two seconds of training are planned, so the first package comes at once
        folder = write_job(
            tmp_path / f"{budget_s}", budget_s=budget_s, reserve_s=reserve_s, settings=settings, rows=rows
        )
        (folder / "after.json").write_text(json.dumps({"after_s": -300.0}))  # training would end after the guard
        code, events = run_job(folder)
        if code == 0:
            break
    assert code == 0
    built = [event for event in events if event["event"] == "package"]
    assert events[-1]["event"] == "done"
    assert events[-1]["steps"] == built[-1]["steps"]
    assert not [event for event in events if event.get("name") == "export"], "the last package was never begun"
    Engine.load(folder / "package").warm_up()


def test_budget_without_time_for_a_package_is_missed(tmp_path: Path, small: dict[str, Any]) -> None:
    folder = write_job(tmp_path / "job", budget_s=0.5, reserve_s=3, settings=small, rows=labelled_rows(60))
    code, events = run_job(folder)
    assert code == 3
    assert events[-1]["event"] == "deadline_missed"
    assert "budget" in events[-1]["sentence"]
    assert not (folder / "package").exists()


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda folder: (folder / "job.json").unlink(), "job.json"),
        (lambda folder: (folder / "tokens" / "plan.json").unlink(), "plan.json"),
        (lambda folder: (folder / "validation.jsonl").unlink(), "validation.jsonl"),
    ],
)
def test_bad_input_is_one_sentence(tmp_path: Path, small: dict[str, Any], spoil: Any, said: str) -> None:
    folder = write_job(tmp_path / "job", budget_s=30, settings=small, rows=labelled_rows(20))
    spoil(folder)
    code, events = run_job(folder)
    assert code == 1
    assert said in events[-1]["sentence"]
