"""Model card: description of a version, its training data, its quality, and its limits."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from absa.sinks import markdown
from absa.task import ABSA, TaskSpec

CARD_FILE: Final = "model_card.md"


@dataclass(frozen=True, kw_only=True)
class CardFacts:
    """Content of the model card. Shares are 0 to 1; metrics are on the validation side unless named otherwise."""

    task: TaskSpec = ABSA
    base_model: str
    layers: int
    snapshot: str | None
    training: dict[str, Any]
    settings: dict[str, Any]
    calibration: dict[str, Any]
    parity: dict[str, Any]


def render_card(facts: CardFacts) -> str:
    """Return the card as Markdown. It contains no customer's text."""
    training, calibration, parity = facts.training, facts.calibration, facts.parity
    task, row, limit = facts.task, _row(facts.task), facts.settings.get("max_tokens", 128)
    where = "cut around the aspect" if task.phrase_in_text else "cut at its end"
    lines = [
        *_opening(task),
        "",
        "## What it is",
        f"- Base model {facts.base_model}, {facts.layers} layers, served as int8 ONNX on CPU; "
        "its licence applies to these weights",
        f"- Input: {row}, {limit} tokens; a longer text is {where}",
        f"- Output: calibrated scores in the order {_names(task)}",
        "",
        "## What it learned from",
        f"- Snapshot `{facts.snapshot or 'none'}`",
        f"- {training.get('rows', 0)} rows seen in {training.get('steps', 0)} steps, "
        f"{training.get('epochs', 0.0):.2f} passes, {training.get('train_s', 0.0):.1f} s on {training.get('device')} "
        f"in {training.get('precision')}",
        *([f"- It ended early: {markdown(training['ended_early'])}"] if training.get("ended_early") else ()),
        f"- Settings: {', '.join(f'{key} {value}' for key, value in sorted(facts.settings.items()))}",
        "",
        "## How good it is",
        f"- {task.metric_name} {parity.get('f1_int8', 0.0):.3f} on {parity.get('rows', 0)} validation rows "
        f"({markdown(task.metric)}); the training looks at them, so expect the gate's figure, of the test split",
        *([f"- F1 by label: {_by_label(task, parity['f1_by_label'])}"] if parity.get("f1_by_label") else ()),
        f"- int8 beside fp32 on the same rows: labels equal {parity.get('labels_equal', 0.0):.1%}, "
        f"fp32 F1 {parity.get('f1_fp32', 0.0):.3f}",
        f"- Calibration: temperature {calibration.get('temperature', 1.0):.3f}, expected calibration error "
        f"{calibration.get('ece_before', 0.0):.3f} before and {calibration.get('ece_after', 0.0):.3f} after, "
        f"on {calibration.get('rows', 0)} rows",
        "",
        "## Where not to use it",
        "- Texts in other languages than the training data's; irony, quotations and references to earlier messages",
        *_limits(task),
        "",
    ]
    return "\n".join(lines)


def _opening(task: TaskSpec) -> tuple[str, ...]:
    if task.is_default:
        return (
            "# Sentiment towards an aspect",
            "",
            "Given a text and a phrase from it, the sentiment towards the phrase: negative, neutral or positive.",
        )
    given = {"text": "a text", "text+aspect": "a text and a phrase from it", "text+topic": "a text and a topic"}
    return f"# {task.name}", "", f"Given {given[task.input]}, one of {task.n_labels} labels: {_names(task)}."


def _row(task: TaskSpec) -> str:
    return "`[CLS] text [SEP]`" if task.phrase is None else f"the pair `[CLS] text [SEP] {task.phrase} [SEP]`"


def _limits(task: TaskSpec) -> list[str]:
    counted = "opinions" if task.is_default else "texts"
    limits = [
        f"- Decisions about a single person: it is meant for counting {counted}, and a single answer is often wrong"
    ]
    if task.phrase_in_text:
        limits.append("- Aspects that do not stand in the text")
    if task.phrase == "topic":
        limits.append("- Topics that are unlike all of the training data's")
    return limits


def _by_label(task: TaskSpec, f1: Sequence[float]) -> str:
    return ", ".join(f"{markdown(label)} {value:.3f}" for label, value in zip(task.labels, f1, strict=True))


def _names(task: TaskSpec) -> str:
    return ", ".join(markdown(label) for label in task.labels)


def write_card(folder: Path, facts: CardFacts) -> Path:
    """Write model_card.md into a package folder; return its path."""
    path = folder / CARD_FILE
    path.write_text(render_card(facts), encoding="utf-8")
    return path
