"""`evergreen predict` in a home without a router, in the words of its task."""

import json
from pathlib import Path

import pytest

from absa.ledger.lifecycle import crowned
from absa.task import TaskSpec
from flows.platform.services import build_services
from flows.platform.settings import Settings
from tests.command_line import evergreen
from tests.stand_ins import FakeRegistry
from tests.toy_package import build_toy_package

TOML = '[task]\nname = "tickets"\ninput = "{form}"\nlabels = ["billing", "bug"]\n'


@pytest.fixture
def home(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A home of a task in one input form, with a champion."""
    task = TaskSpec(name="tickets", input=request.param, labels=("billing", "bug"))
    monkeypatch.setenv("EVERGREEN_HOME", str(tmp_path / "home"))
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "evergreen.toml").write_text(TOML.format(form=task.input))
    services = build_services(Settings.load(), environment={}, registry=FakeRegistry())
    digests = {"7": services.packages.put(build_toy_package(tmp_path / "built", task=task))}
    services.ledger.append(expected=0, actor="t", action="promote", reason="r", state=crowned("7"), versions=digests)


@pytest.mark.parametrize(
    ("home", "words"),
    [
        ("text", ()),
        ("text+topic", ("invoice",)),
        ("text+topic", ("--topic", "invoice")),
        ("text+aspect", ("--aspect", "app")),
    ],
    indirect=["home"],
)
@pytest.mark.usefixtures("home")
def test_predict_answers_in_task_form(words: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    assert evergreen("predict", "a bug in the app", *words) == 0
    first, *others = capsys.readouterr().out.splitlines()
    assert first == "bug (billing, bug: 0.23, 0.77) by version 7"
    assert [each.split(":")[0] for each in others] == [
        "The most likely label, and the probability of each; nothing was logged", "Next",
    ]  # fmt: skip
    assert evergreen("predict", "a bug in the app", *words, "--json") == 0
    answer = json.loads(capsys.readouterr().out)
    assert (answer["name"], answer["model_version"]) == ("bug", "7")
    assert answer["scores"] == pytest.approx({"billing": 0.23, "bug": 0.77}, abs=0.01)


@pytest.mark.parametrize(
    ("home", "words", "sentence"),
    [
        ("text", ("app",), "task tickets labels whole texts: expected only a text, got also 'app'"),
        ("text", ("app", "--aspect", "app"), "task tickets labels whole texts: expected only a text"),
        ("text+topic", (), "labels a text by its topic: name one by --topic"),
        ("text+topic", ("a", "--topic", "b"), "expected one topic, after the text or as an option, got 2"),
    ],
    indirect=["home"],
)
@pytest.mark.usefixtures("home")
def test_predict_refuses_other_form_in_task_words(
    words: tuple[str, ...], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert evergreen("predict", "a bug in the app", *words) == 1
    said = capsys.readouterr().err
    assert sentence in said
    assert "aspect" not in said
