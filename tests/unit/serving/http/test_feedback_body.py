"""Labels of POST /v1/feedback: numbers or names."""

from typing import Any

import pytest
from pydantic import ValidationError

from absa.task import ABSA, TaskSpec
from serving.http.bodies import TaskBodies

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
