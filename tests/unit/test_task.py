"""TaskSpec: what it accepts, how labels are read, and its JSON form."""

import pytest

from absa.task import ABSA, TaskSpec

TICKETS = TaskSpec(name="tickets", input="text", labels=("billing", "Bug report", "praise"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": "My Task"}, "name: expected lower-case"),
        ({"input": "pair"}, "input: expected one of text, text"),
        ({"labels": ("only",)}, "labels: expected 2 to 127, got 1"),
        ({"labels": ("bug", "Bug")}, "'bug' occurs twice"),
        ({"labels": ("bug", " ")}, "printable characters"),
        ({"labels": ("bug", "a\nb")}, "printable characters"),
        ({"evaluated": ("refund",)}, "got 'refund'"),
    ],
)
def test_task_refuses_what_does_not_fit(change: dict[str, object], message: str) -> None:
    values: dict[str, object] = {"name": "tickets", "input": "text", "labels": ("billing", "bug")}
    with pytest.raises(ValueError, match=message):
        TaskSpec(**{**values, **change})  # type: ignore[arg-type]


def test_default_task_is_aspect_sentiment() -> None:
    assert ABSA.labels == ("negative", "neutral", "positive")
    assert (ABSA.evaluated_numbers, ABSA.phrase) == ((0, 2), "aspect")
    assert TaskSpec.from_json(None) == ABSA
    assert ABSA.metric == "macro F1 of negative and positive over all rows"


def test_metric_of_many_labels_counts_them() -> None:
    many = TaskSpec(name="t", input="text", labels=("a", "b", "c", "d", "e"))
    assert many.metric == "macro F1 of all 5 labels over all rows"
    assert TICKETS.metric == "macro F1 of billing, Bug report and praise over all rows"
    assert (ABSA.metric_name, many.metric_name) == ("pos/neg F1", "F1")


def test_evaluated_labels_default_to_all_in_order() -> None:
    assert TICKETS.evaluated_numbers == (0, 1, 2)
    some = TaskSpec(name="t", input="text", labels=("a", "b", "c"), evaluated=("c", "a"))
    assert some.evaluated == ("a", "c")


@pytest.mark.parametrize(
    ("written", "number"),
    [("BUG REPORT ", 1), ("0", 0), (2, 2), (1.0, 1), (3, None), (-1, None), (True, None), (0.5, None), ("x", None)],
)
def test_label_is_read_by_name_or_number(written: object, number: int | None) -> None:
    assert TICKETS.number(written) == number


@pytest.mark.parametrize("written", [float("nan"), float("inf")])
def test_label_that_is_no_number_is_unknown(written: float) -> None:
    assert TICKETS.number(written) is None


def test_label_name_wins_over_number() -> None:
    stars = TaskSpec(name="stars", input="text", labels=("1", "2", "3"))
    assert (stars.number("1"), stars.number(1)) == (0, 1)


def test_task_survives_its_json() -> None:
    assert TaskSpec.from_json(TICKETS.to_json()) == TICKETS
    with pytest.raises(ValueError, match="labels: expected a list of texts"):
        TaskSpec.from_json({**TICKETS.to_json(), "labels": "billing"})


def test_appended_labels_extend_a_task() -> None:
    wider = TaskSpec(name="tickets", input="text", labels=(*TICKETS.labels, "refund"))
    assert wider.extends(TICKETS)
    assert not TICKETS.extends(wider)
    assert not TaskSpec(name="tickets", input="text", labels=TICKETS.labels[::-1]).extends(TICKETS)
