"""The user's own tests: texts with their required labels, from a CSV file. The gate judges the results."""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from absa.errors import InvalidDataError
from absa.evaluation.behaviour import BehaviourResult, Score
from absa.inference.tokenization import ModelInput
from absa.task import TaskSpec

_UNNAMED: Final = "own tests"
_MOST_TESTS: Final = 10_000  # each test is scored twice within the time of a training


@dataclass(frozen=True, kw_only=True)
class OwnTest:
    """One text, with its aspect or topic if the task has one, and the number of the required label."""

    name: str
    pair: ModelInput
    label: int


def read_own_tests(path: Path, task: TaskSpec) -> tuple[OwnTest, ...]:
    """Read a CSV file with the columns text, label, aspect or topic if the task has one, and optionally name.

    Tests of the same name are reported together. A label is a name or a number. Columns may be in any order and case.

    Raises:
        InvalidDataError: the file cannot be read, lacks a column, or a row is not a test of the task; the message
            names the line.
    """
    needed = ("text", *([task.phrase] if task.phrase else []), "label")
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, restval="")
            columns = {(name or "").strip().casefold(): name for name in reader.fieldnames or ()}
            if missing := [name for name in needed if name not in columns]:
                raise InvalidDataError(
                    f"own tests {path}: expected the columns {', '.join(needed)} and optionally name, "
                    f"{missing[0]} is missing"
                )
            known = {name: columns[name] for name in (*needed, "name") if name in columns}
            tests = []
            for row in reader:
                values = {name: (row[column] or "").strip() for name, column in known.items()}
                tests.append(_test(values, task, f"own tests {path} line {reader.line_num}"))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InvalidDataError(f"own tests {path} cannot be read: {error}") from error
    if not 0 < len(tests) <= _MOST_TESTS:
        raise InvalidDataError(f"own tests {path}: expected 1 to {_MOST_TESTS:,} rows, got {len(tests):,}")
    return tuple(tests)


def _test(values: dict[str, str], task: TaskSpec, place: str) -> OwnTest:
    label = task.number(values["label"])
    if label is None:
        raise InvalidDataError(f"{place}: expected a label of {', '.join(task.labels)}, got {values['label'][:60]!r}")
    phrase = values[task.phrase] if task.phrase else None
    if not values["text"] or phrase == "":
        raise InvalidDataError(f"{place}: expected a text{f' and a {task.phrase}' if task.phrase else ''}, got nothing")
    return OwnTest(name=values.get("name") or _UNNAMED, pair=(values["text"], phrase), label=label)


def run_own_tests(score: Score, tests: Sequence[OwnTest]) -> tuple[BehaviourResult, ...]:
    """Score all tests at once; return one result per name, in the order of the file."""
    if not tests:
        return ()
    answers = score([test.pair for test in tests]).argmax(axis=1)
    failed: dict[str, list[bool]] = {}
    for test, answer in zip(tests, answers, strict=True):
        failed.setdefault(test.name, []).append(int(answer) != test.label)
    return tuple(BehaviourResult(name=name, title=name, failed=tuple(each)) for name, each in failed.items())
