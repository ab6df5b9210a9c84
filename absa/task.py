"""Task: input form and labels of a classification. Only this module defines them."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, Final, Literal, get_args

InputForm = Literal["text", "text+aspect", "text+topic"]
"""Input forms: text alone; text with an aspect, which is a span of the text; text with a topic, which is any phrase."""

_NAME: Final = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")
MAX_LABELS: Final = 127  # records keep a label in a signed byte
MAX_LABEL_LENGTH: Final = 60
_FEW_LABELS: Final = 4  # up to so many labels are named one by one


class Label(IntEnum):
    """Sentiment towards an aspect, in the order of the default task's labels."""

    NEGATIVE = 0
    NEUTRAL = 1
    POSITIVE = 2

    @property
    def sentiment(self) -> str:
        """Lower-case name: negative, neutral or positive."""
        return self.name.lower()


@dataclass(frozen=True, kw_only=True)
class TaskSpec:
    """Description of a classification task. One task per home; it is in manifests, packages and the ledger.

    Args:
        name: name of the registered model: lower-case letters, digits, `-` and `_`, at most 63 characters.
        input: form of the model's input.
        labels: names in the order of the scores, 2 to 127; labels can later only be appended.
        evaluated: labels in the primary metric `f1`; empty: all of them.

    Raises:
        ValueError: a value is out of range, or two labels differ in case alone.
    """

    name: str = "absa"
    input: InputForm = "text+aspect"
    labels: tuple[str, ...] = ("negative", "neutral", "positive")
    evaluated: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise ValueError(f"name: expected lower-case letters, digits, - and _, at most 63, got {self.name!r}")
        if self.input not in get_args(InputForm):
            raise ValueError(f"input: expected one of {', '.join(get_args(InputForm))}, got {self.input!r}")
        if not 2 <= len(self.labels) <= MAX_LABELS:
            raise ValueError(f"labels: expected 2 to {MAX_LABELS}, got {len(self.labels)}")
        for label in self.labels:
            if not label.strip() or label != label.strip() or len(label) > MAX_LABEL_LENGTH or not label.isprintable():
                raise ValueError(
                    f"labels: expected names of 1 to {MAX_LABEL_LENGTH} printable characters without spaces around "
                    f"them, got {label!r}"
                )
        folded = [label.casefold() for label in self.labels]
        if len(set(folded)) < len(folded):
            twice = next(label for label in self.labels if folded.count(label.casefold()) > 1)
            raise ValueError(f"labels: {twice!r} occurs twice (case is ignored); give each label a name of its own")
        if not self.evaluated:
            object.__setattr__(self, "evaluated", self.labels)
        if unknown := [label for label in self.evaluated if label not in self.labels]:
            raise ValueError(f"evaluated: expected labels of the task ({', '.join(self.labels)}), got {unknown[0]!r}")
        in_order = tuple(label for label in self.labels if label in self.evaluated)
        object.__setattr__(self, "evaluated", in_order)

    @property
    def n_labels(self) -> int:
        """Number of labels, the length of a row's scores."""
        return len(self.labels)

    @property
    def evaluated_numbers(self) -> tuple[int, ...]:
        """Numbers of the labels in the primary metric, ascending."""
        return tuple(self.labels.index(label) for label in self.evaluated)

    @property
    def phrase(self) -> str | None:
        """Name of the second input: aspect or topic; None for plain text."""
        return None if self.input == "text" else self.input.removeprefix("text+")

    @property
    def phrase_in_text(self) -> bool:
        """Return True if the phrase is an aspect: a span of the text, which the model marks."""
        return self.input == "text+aspect"

    def shown_columns(self, columns: Iterable[str]) -> dict[str, str]:
        """Return the names of records' columns for users.

        The column `aspect` is named aspect or topic, as the task has it; it is left out for plain text.
        """
        named = {column: self.phrase if column == "aspect" else column for column in columns}
        return {column: name for column, name in named.items() if name is not None}

    @property
    def is_default(self) -> bool:
        """Return True for aspect-based sentiment, the default task."""
        return self == ABSA

    @property
    def metric_name(self) -> str:
        """Short name of the primary metric, for places that show `metric` too."""
        return "pos/neg F1" if self.is_default else "F1"

    @property
    def metric(self) -> str:
        """Definition of the primary metric in words."""
        if len(self.evaluated) == self.n_labels > _FEW_LABELS:
            return f"macro F1 of all {self.n_labels} labels over all rows"
        return f"macro F1 of {listed(self.evaluated)} over all rows"

    def number(self, written: object) -> int | None:
        """Return the number of a label written as its name, in any case, or as its number; None for anything else.

        A name wins over a number, so labels may be named "1" to "5". Whole floats count as numbers, booleans do not.
        """
        if isinstance(written, str):
            wanted = written.strip().casefold()
            for number, label in enumerate(self.labels):
                if label.casefold() == wanted:
                    return number
            return int(wanted) if wanted.isascii() and wanted.isdigit() and self._has(int(wanted)) else None
        if isinstance(written, bool) or not isinstance(written, int | float) or not float(written).is_integer():
            return None
        return int(written) if self._has(int(written)) else None

    def _has(self, number: int) -> bool:
        return 0 <= number < self.n_labels

    def extends(self, older: "TaskSpec") -> bool:
        """Return True if this task is the older one, with labels appended or other evaluated labels."""
        same = (self.name, self.input) == (older.name, older.input)
        return same and self.labels[: older.n_labels] == older.labels

    def misfit(self, found: "TaskSpec") -> str | None:
        """Return a clause that names both tasks if this task does not extend the task of a home; otherwise None."""
        if self.extends(found):
            return None
        return (
            f"expected {found.describe()}, got {self.describe()}; labels can only be appended, and another task needs "
            "another home (EVERGREEN_HOME)"
        )

    def describe(self) -> str:
        """Return the task in words, for messages that name two tasks."""
        return f"{self.name} ({self.input}; {', '.join(self.labels)})"

    def to_json(self) -> dict[str, Any]:
        """Return the JSON object of manifests, packages and ledger records."""
        return {
            "name": self.name,
            "input": self.input,
            "labels": list(self.labels),
            "evaluated": list(self.evaluated),
        }

    @classmethod
    def from_json(cls, content: Mapping[str, Any] | None) -> "TaskSpec":
        """Read the object that `to_json` wrote; None, as in records of earlier releases, is the default task.

        Raises:
            ValueError: the object is not a task.
        """
        if content is None:
            return ABSA
        if unknown := sorted(set(content) - {"name", "input", "labels", "evaluated"}):
            raise ValueError(f"expected name, input, labels and evaluated, got {unknown[0]!r}")
        return cls(
            name=_text(content, "name"),
            input=_text(content, "input"),  # type: ignore[arg-type]  # checked by the class
            labels=_texts(content, "labels"),
            evaluated=_texts(content, "evaluated") if content.get("evaluated") else (),
        )


def _text(content: Mapping[str, Any], key: str) -> str:
    value = content.get(key)
    if not isinstance(value, str):
        raise ValueError(f"{key}: expected a text, got {value!r}")
    return value


def _texts(content: Mapping[str, Any], key: str) -> tuple[str, ...]:
    value = content.get(key)
    if isinstance(value, str) or not isinstance(value, Sequence) or not all(isinstance(each, str) for each in value):
        raise ValueError(f"{key}: expected a list of texts, got {value!r}")
    return tuple(value)


def listed(names: Sequence[str], last: str = "and") -> str:
    """Return names as part of a sentence; the word `last` comes before the last name."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} {last} {names[-1]}"


ABSA: Final = TaskSpec(evaluated=("negative", "positive"))
"""Aspect-based sentiment, the task of a home that names no other."""

SENTIMENTS: Final = ABSA.labels
N_LABELS: Final = ABSA.n_labels
EVALUATED: Final = ABSA.evaluated_numbers


def sentiment(label: int) -> str:
    """Return the name of a sentiment.

    Raises:
        ValueError: the label is not 0, 1 or 2.
    """
    return Label(label).sentiment
