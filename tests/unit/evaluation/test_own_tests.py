"""The user's own tests: read from a CSV file, scored at once, reported by name."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from absa.errors import InvalidDataError
from absa.evaluation.own_tests import OwnTest, read_own_tests, run_own_tests
from absa.inference.tokenization import ModelInput
from absa.task import TaskSpec

TICKETS = TaskSpec(name="tickets", input="text", labels=("billing", "bug", "praise"))
TOPICS = TaskSpec(name="topics", input="text+topic", labels=("no", "yes"))


def file(folder: Path, content: str) -> Path:
    path = folder / "own.csv"
    path.write_text(content, encoding="utf-8-sig")
    return path


def test_tests_are_read_in_any_order_and_case(tmp_path: Path) -> None:
    path = file(tmp_path, 'Label,NAME,Text,note\nBug,crashes,"it broke, again",x\n0,,my invoice,\n')
    assert read_own_tests(path, TICKETS) == (
        OwnTest(name="crashes", pair=("it broke, again", None), label=1),
        OwnTest(name="own tests", pair=("my invoice", None), label=0),
    )


def test_topics_are_read_where_the_task_has_them(tmp_path: Path) -> None:
    path = file(tmp_path, "text,topic,label\nwhere is my parcel,shipping,yes\n")
    assert read_own_tests(path, TOPICS)[0].pair == ("where is my parcel", "shipping")
    with pytest.raises(InvalidDataError, match=r"expected the columns text, aspect, label .* aspect is missing"):
        read_own_tests(path, replace(TOPICS, input="text+aspect"))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("text\na\n", "label is missing"),
        ("text,label\na,refund\n", "line 2: expected a label of billing, bug, praise, got 'refund'"),
        ("text,label\na,bug\n ,bug\n", "line 3: expected a text, got nothing"),
        ("text,label\n", "expected 1 to 10,000 rows, got 0"),
        ("", "text is missing"),
    ],
)
def test_bad_file_is_refused_with_its_line(tmp_path: Path, content: str, message: str) -> None:
    with pytest.raises(InvalidDataError, match=message):
        read_own_tests(file(tmp_path, content), TICKETS)


def test_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidDataError, match="cannot be read"):
        read_own_tests(tmp_path / "none.csv", TICKETS)


def test_results_are_grouped_by_name() -> None:
    tests = [
        OwnTest(name="a", pair=("x", None), label=0),
        OwnTest(name="b", pair=("y", None), label=1),
        OwnTest(name="a", pair=("z", None), label=1),
    ]
    calls: list[Sequence[ModelInput]] = []

    def score(pairs: Sequence[ModelInput]) -> np.ndarray:
        calls.append(pairs)
        return np.eye(3, dtype=np.float32)[[0, 1, 2]]

    first, second = run_own_tests(score, tests)
    assert (first.name, first.failed, second.failed) == ("a", (False, True), (False,))
    assert len(calls) == 1
    assert run_own_tests(score, ()) == ()
