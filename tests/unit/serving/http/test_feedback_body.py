"""Labels of POST /v1/feedback: numbers or names, one or several."""

import json
import re
from typing import Any

import pytest
from pydantic import ValidationError

from absa.task import ABSA, TaskSpec
from serving.http.bodies import TaskBodies
from serving.http.parsing import parse_feedback
from serving.problems import Problem

STARS = TaskSpec(name="stars", input="text", labels=("1", "2", "3", "4", "Top"))
REQUEST = "019a8f0e-0000-7000-8000-000000000000"


def feedback(task: TaskSpec) -> Any:
    return TaskBodies(task, max_text_chars=50, max_instances=3).feedback


@pytest.mark.parametrize(("written", "label"), [(0, 0), (2, 2), ("negative", 0), ("Neutral", 1), (" POSITIVE ", 2)])
def test_labels_of_feedback_are_numbers_or_names(written, label):
    assert feedback(ABSA)(request_id=REQUEST, label=written).label == label


@pytest.mark.parametrize("written", [-1, 3, "3", "1", 1.0, True, None, "good", ["negative"]])
def test_other_labels_of_feedback_are_refused(written):
    with pytest.raises(ValidationError, match="label"):
        feedback(ABSA)(request_id=REQUEST, label=written)


def test_names_of_labels_are_in_the_schema():
    labels = feedback(ABSA).model_json_schema()["properties"]["label"]
    assert labels["enum"] == [0, 1, 2, "negative", "neutral", "positive"]


@pytest.mark.parametrize(("written", "label"), [(4, 4), ("1", 0), (" tOP", 4)])
def test_label_name_that_is_digit_wins(written: object, label: int) -> None:
    assert feedback(STARS)(request_id=REQUEST, label=written).label == label


@pytest.mark.parametrize("written", [5, "5", "0", "negative"])
def test_label_of_other_task_is_refused(written: object) -> None:
    with pytest.raises(ValidationError, match="label"):
        feedback(STARS)(request_id=REQUEST, label=written)


def batch_of(*labels: object) -> bytes:
    return json.dumps({"instances": [{"request_id": REQUEST, "label": label} for label in labels]}).encode()


def test_feedback_may_come_as_several() -> None:
    bodies = TaskBodies(ABSA, max_text_chars=50, max_instances=3)
    assert [each.label for each in parse_feedback(batch_of(0, "positive"), bodies)] == [0, 2]
    single = json.dumps({"request_id": REQUEST, "label": 1}).encode()
    assert [each.label for each in parse_feedback(single, bodies)] == [1]


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (batch_of(0, 7), r"instances\[1\]\.label"),
        (batch_of(), "at least 1 objects"),
        (batch_of(0, 0, 0, 0), "at most 3 objects"),
        (batch_of(0).replace(REQUEST[:8].encode(), b"x" * 8), r"instances\[0\]\.request_id is not the request_id"),
        (batch_of(0)[:-1] + b', "label": 1}', "is not allowed beside instances"),
    ],
)
def test_wrong_batch_of_feedback_is_refused_whole(body: bytes, said: str) -> None:
    with pytest.raises(Problem) as refused:
        parse_feedback(body, TaskBodies(ABSA, max_text_chars=50, max_instances=3))
    assert re.search(said, refused.value.detail)
