"""Labels of POST /v1/feedback: numbers or names."""

import pytest
from pydantic import ValidationError

from serving.http.bodies import FeedbackBody

REQUEST = "019a8f0e-0000-7000-8000-000000000000"


@pytest.mark.parametrize(("written", "label"), [(0, 0), (2, 2), ("negative", 0), ("Neutral", 1), (" POSITIVE ", 2)])
def test_labels_of_feedback_are_numbers_or_names(written, label):
    assert FeedbackBody(request_id=REQUEST, label=written).label == label


@pytest.mark.parametrize("written", [-1, 3, "3", "1", 1.0, True, None, "good", ["negative"]])
def test_other_labels_of_feedback_are_refused(written):
    with pytest.raises(ValidationError, match="label"):
        FeedbackBody(request_id=REQUEST, label=written)


def test_names_of_labels_are_in_the_schema():
    labels = FeedbackBody.model_json_schema()["properties"]["label"]
    assert labels["enum"] == [0, 1, 2, "negative", "neutral", "positive"]
