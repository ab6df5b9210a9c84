"""Use case: label one text with the champion's package, without a router. Neither logged nor counted."""

from dataclasses import dataclass

from absa.errors import PermanentError
from absa.inference.aspect_span import has_aspect
from absa.inference.engine import Engine
from absa.task import TaskSpec
from flows.batch.score_batch import find_version
from flows.platform.services import Services


@dataclass(frozen=True, kw_only=True)
class TextAnswer:
    """Answer of a version: name of the label, and score of each label of its task (0 to 1)."""

    name: str
    scores: dict[str, float]
    version: str


def predict_text(services: Services, text: str, phrase: str | None) -> TextAnswer:
    """Label a text with the champion.

    Args:
        services: ledger and packages.
        text: text to label.
        phrase: aspect or topic; None if the task has none.

    Raises:
        PermanentError: there is no champion yet, or text and phrase do not fit the task.
        IntegrityError: the package is broken.
    """
    package, version = find_version(services, None)
    task = package.config.task
    check_question(task, text, phrase)
    (scores,) = Engine.load(package).score([(text, phrase)]).tolist()
    by_label = dict(zip(task.labels, scores, strict=True))
    return TextAnswer(name=max(by_label, key=lambda label: by_label[label]), scores=by_label, version=version)


def check_question(task: TaskSpec, text: str, phrase: str | None) -> None:
    """Check a text and a phrase against the input form of a task.

    Raises:
        PermanentError: the text is empty, or the phrase is missing, not allowed, or an aspect that is not in the text.
    """
    if not text.strip():
        raise PermanentError("expected a text to label, got an empty one")
    if task.phrase is None:
        if phrase is not None:
            raise PermanentError(f"task {task.name} labels the text alone; expected nothing beside it")
        return
    if phrase is None or not phrase.strip():
        raise PermanentError(f"task {task.name} labels a text by its {task.phrase}: name one by --{task.phrase}")
    if task.phrase == "aspect" and not has_aspect(text, phrase):
        raise PermanentError(
            "expected a phrase of the text as aspect (upper and lower case are equal), got another one"
        )
