"""One text labelled by the champion's package, with neither router nor servers."""

from pathlib import Path

import pytest

from absa.errors import PermanentError
from absa.ledger.lifecycle import crowned
from absa.task import ABSA, TaskSpec
from flows.batch.predict_text import check_question, predict_text
from flows.platform.services import Services, build_services
from flows.platform.settings import Settings
from tests.stand_ins import FakeRegistry
from tests.toy_package import build_toy_package

TICKETS = TaskSpec(name="tickets", input="text", labels=("billing", "bug", "praise"))
TOPICS = TaskSpec(name="topics", input="text+topic", labels=("no", "yes"))


def home_of(task: TaskSpec, root: Path) -> Services:
    services = build_services(Settings(home=root / "home"), environment={}, registry=FakeRegistry())
    digest = services.packages.put(build_toy_package(root / "built", task=task))
    services.ledger.append(
        expected=0, actor="t", action="promote", reason="r", state=crowned("7"), versions={"7": digest}
    )
    return services


@pytest.mark.parametrize(
    ("task", "text", "phrase", "name"),
    [
        (TICKETS, "a bug in the app", None, "bug"),
        (TOPICS, "yes it is late", "delivery", "yes"),
        (ABSA, "the app is great", "app", "positive"),
    ],
    ids=lambda value: value.input if isinstance(value, TaskSpec) else None,
)
def test_champion_labels_one_text(task: TaskSpec, text: str, phrase: str | None, name: str, tmp_path: Path) -> None:
    answer = predict_text(home_of(task, tmp_path), text, phrase)
    assert (answer.name, answer.version, tuple(answer.scores)) == (name, "7", task.labels)
    assert max(answer.scores, key=lambda label: answer.scores[label]) == name


@pytest.mark.parametrize(
    ("task", "text", "phrase", "sentence"),
    [
        (TICKETS, " ", None, "expected a text to label"),
        (TICKETS, "a bug", "app", "labels the text alone"),
        (TOPICS, "a bug", None, "name one by --topic"),
        (ABSA, "a bug", "app", "expected a phrase of the text as aspect"),
    ],
)
def test_question_that_does_not_fit_is_refused(task: TaskSpec, text: str, phrase: str | None, sentence: str) -> None:
    with pytest.raises(PermanentError, match=sentence):
        check_question(task, text, phrase)


def test_home_without_champion_names_the_command(tmp_path: Path) -> None:
    services = build_services(Settings(home=tmp_path / "home"), environment={}, registry=FakeRegistry())
    with pytest.raises(PermanentError, match="run `evergreen train` first"):
        predict_text(services, "a bug", None)
