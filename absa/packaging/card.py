"""The model card: what a version is, what it was trained on, how good it is, and where it should not be used."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from absa.sinks import markdown

CARD_FILE: Final = "model_card.md"


@dataclass(frozen=True, kw_only=True)
class CardFacts:
    """Content of the model card. Shares are 0 to 1; metrics are on the validation side unless named otherwise."""

    base_model: str
    layers: int
    snapshot: str | None
    training: dict[str, Any]
    settings: dict[str, Any]
    calibration: dict[str, Any]
    parity: dict[str, Any]


def render_card(facts: CardFacts) -> str:
    """Return the card as Markdown. No text of a customer is in it."""
    training, calibration, parity = facts.training, facts.calibration, facts.parity
    lines = [
        "# Sentiment towards an aspect",
        "",
        "Given a text and a phrase from it, the sentiment towards the phrase: negative, neutral or positive.",
        "",
        "## What it is",
        f"- Base model {facts.base_model}, {facts.layers} layers, served as int8 ONNX on CPU",
        "- Input: the pair `[CLS] text [SEP] aspect [SEP]`, "
        f"{facts.settings.get('max_tokens', 128)} tokens; a longer text is cut around the aspect",
        "- Output: calibrated scores in the order negative, neutral, positive",
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
        f"- pos/neg F1 {parity.get('pos_neg_f1_int8', 0.0):.3f} on {parity.get('rows', 0)} validation rows "
        "(macro F1 of negative and positive over all rows, neutral ones included)",
        f"- int8 beside fp32 on the same rows: labels equal {parity.get('labels_equal', 0.0):.1%}, "
        f"fp32 F1 {parity.get('pos_neg_f1_fp32', 0.0):.3f}",
        f"- Calibration: temperature {calibration.get('temperature', 1.0):.3f}, expected calibration error "
        f"{calibration.get('ece_before', 0.0):.3f} before and {calibration.get('ece_after', 0.0):.3f} after, "
        f"on {calibration.get('rows', 0)} rows",
        "",
        "## Where not to use it",
        "- Texts in other languages than the training data's; irony, quotations and references to earlier messages",
        "- Decisions about a single person: it is meant for counting opinions, and a single answer is often wrong",
        "- Aspects that do not stand in the text",
        "",
    ]
    return "\n".join(lines)


def write_card(folder: Path, facts: CardFacts) -> Path:
    """Write model_card.md into a package folder; gives its path."""
    path = folder / CARD_FILE
    path.write_text(render_card(facts), encoding="utf-8")
    return path
