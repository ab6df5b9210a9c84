"""Reasons why a row of a file is set aside, and the sentence of each for the user."""

from datetime import UTC, datetime
from typing import Final

from absa.data.files import MAX_TEXT_CHARACTERS
from absa.data.files.delimited import AMBIGUOUS_QUOTE, MALFORMED, STRAY_QUOTE
from absa.data.files.json_lines import NOT_AN_OBJECT, NOT_TEXT
from absa.data.files.quoting import INVALID_UTF8
from absa.data.mapping import DEFAULT_MAPPING, DataMapping
from absa.task import ABSA, listed

NOT_A_SENTIMENT: Final = "label_outside_0_2"
NOT_A_LABEL: Final = "label_unknown"
_NAMED_LABELS: Final = 10
_EXAMPLE_TIME: Final = datetime(2026, 11, 30, 12, tzinfo=UTC)
UNREADABLE: Final = (MALFORMED, STRAY_QUOTE, AMBIGUOUS_QUOTE, NOT_AN_OBJECT, NOT_TEXT, INVALID_UTF8)
"""Reasons of unreadable rows, which are quarantined as their whole line."""
_SENTENCES: Final = {
    "malformed_row": "it has more or fewer fields than the header; put texts that hold commas between double quotes",
    "stray_quote": "a double quote opens a field on line {row} and does not close it; double it or remove it",
    "ambiguous_quote": "a double quote around line {row} encloses what looks like other rows; double it or remove it",
    "not_an_object": "line {row} is not a JSON object; expected {columns} in each",
    "not_text": "its {inputs} is a list or an object; expected text",
    "invalid_utf8": "it holds half of a character (a lone surrogate) or bytes that are not UTF-8; write it as UTF-8",
    "text_empty": "its text is empty",
    "aspect_empty": "its {phrase} is empty",
    "text_too_long": f"its text is longer than {MAX_TEXT_CHARACTERS} characters",
    "label_missing": "its label is empty; write {labels}",
    NOT_A_SENTIMENT: "its label is not 0 (negative), 1 (neutral) or 2 (positive)",
    NOT_A_LABEL: "its label is not {labels}; name the value in [data.labels] of evergreen.toml, or append "
    "it to labels of [task]",
    "aspect_not_in_text": "its aspect is not in its text",
    "observed_at_invalid": "its {observed_at} is not a time such as {time}",
}


def reason_sentence(reason: str, row: int, mapping: DataMapping = DEFAULT_MAPPING) -> str:
    """Return the sentence for the user that states why a row cannot be used.

    Args:
        reason: reason in the quarantine.
        row: line of the row in the file.
        mapping: task, and the form of the file.
    """
    task = mapping.task
    if task.labels == ABSA.labels:
        labels = ", ".join(f"{number} for {name}" for number, name in enumerate(task.labels))
    else:
        more = [f"{task.n_labels - _NAMED_LABELS} more"] if task.n_labels > _NAMED_LABELS else []
        labels = listed([*task.labels[:_NAMED_LABELS], *more], "or")
    return _SENTENCES[reason].format(
        row=row,
        columns=listed([mapping.shown(column) for column in mapping.required(label=True)], "and"),
        inputs=listed([mapping.shown(column) for column in mapping.inputs], "or"),
        phrase=task.phrase,
        labels=labels,
        observed_at=mapping.shown("observed_at"),
        time=_EXAMPLE_TIME.strftime(mapping.time_format or "%Y-%m-%dT%H:%M:%SZ"),
    )
