"""Command `evergreen gate`: exit codes, page, JSON; and the workflow of its document."""

import csv
import json
import re
import shlex
from pathlib import Path

import pytest
import typer.main
import yaml

from absa.task import TaskSpec
from flows.cli.commands import app
from tests.command_line import evergreen
from tests.homes import configure
from tests.toy_package import WORDS, build_toy_package

PAGE = Path(__file__).parents[3] / "docs/integrations/gate_in_ci.md"


@pytest.fixture(scope="module")
def toys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("toys")
    build_toy_package(root / "candidate")
    build_toy_package(root / "poor", forgets=WORDS)
    with (root / "test.csv").open("w", newline="", encoding="utf-8") as out:
        write = csv.writer(out).writerow
        write(("text", "aspect", "label"))
        for number in range(300):
            write((f"the app is {('terrible', 'a tool', 'great')[number % 3]} {number}", "app", number % 3))
    return root


@pytest.fixture(autouse=True)
def no_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with limits that fit toys; the command makes nothing in it."""
    monkeypatch.chdir(tmp_path)
    configure(tmp_path, gate={"behaviour_cases": 12, "behaviour_margin": 1.0, "max_ece": 1.0})
    monkeypatch.setenv("EVERGREEN_HOME", str(tmp_path / "home"))
    return tmp_path


def test_gate_needs_no_home_and_exits_by_verdict(toys: Path, no_home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = ["--data", toys / "test.csv"]
    assert evergreen("gate", toys / "poor", toys / "candidate", *data) == 5
    assert evergreen("admin", "gate", toys / "candidate", toys / "candidate", *data) == 4
    capsys.readouterr()
    assert evergreen("gate", toys / "candidate", toys / "poor", *data, "--markdown") == 0
    page = capsys.readouterr().out
    assert page.startswith("## PROMOTE: candidate ")
    assert "| all | 300 | 1.000 |" in page
    assert evergreen("gate", toys / "candidate", toys / "poor", *data, "--json") == 0
    assert json.loads(capsys.readouterr().out)["verdict"] == "PROMOTE"
    assert [path.name for path in no_home.iterdir()] == ["evergreen.toml"]


def test_gate_of_plain_text_task_promotes(tmp_path: Path) -> None:
    task = TaskSpec(name="tickets", input="text", labels=("billing", "bug", "praise", "question"))
    build_toy_package(tmp_path / "candidate", task=task)
    build_toy_package(tmp_path / "poor", task=task, forgets=("billing", "bug", "praise", "question"))
    lines = [f"this is {task.labels[number % 4]} {number},{task.labels[number % 4]}" for number in range(400)]
    (tmp_path / "test.csv").write_text("\n".join(["text,label", *lines]) + "\n", encoding="utf-8")
    data = ["--data", tmp_path / "test.csv"]
    assert evergreen("gate", tmp_path / "candidate", tmp_path / "poor", *data) == 0


def test_gate_of_unusable_words_is_an_error(toys: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert evergreen("gate", toys / "candidate", toys / "poor") == 1
    assert "there is no home" in capsys.readouterr().err
    assert evergreen("gate", toys / "candidate", toys / "poor", "--data", "none.csv") == 1
    assert "none.csv cannot be read" in capsys.readouterr().err


def test_workflow_of_document_calls_known_commands() -> None:
    (workflow,) = re.findall(r"```yaml\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    steps = yaml.safe_load(workflow)["jobs"]["gate"]["steps"]
    lines = [line.strip() for step in steps for line in step.get("run", "").splitlines() if "evergreen " in line]
    called = [shlex.split(line.split(" >> ")[0].split("evergreen ")[1]) for line in lines]
    assert [words[0] for words in called] == ["export", "train", "export", "gate"]
    commands = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    for name, *words in called:
        options = {option for parameter in commands[name].params for option in parameter.opts}
        assert {word for word in words if word.startswith("--")} <= options
