"""Simulated customers of tasks other than the default one."""

from itertools import islice

import pytest

from absa.data.bundled import BUNDLED, TICKETS, bundled_traffic
from absa.data.traffic.feedback_habits import FeedbackHabits
from absa.data.traffic.known_drift import Drift, drift_of
from absa.data.traffic.pool_traffic import PoolTraffic
from absa.data.traffic.row_pool import LabelledRow
from absa.task import TaskSpec

TOPICS = TaskSpec(name="topics", input="text+topic", labels=("no", "yes"))
ROWS = [LabelledRow(f"note {n} on the {word} of today", topic, n % 2, "a")
        for n, (word, topic) in enumerate([("bill", "payment"), ("crash", "defect")] * 20)]  # fmt: skip


def test_ticket_customers_send_plain_text() -> None:
    requests = list(islice(bundled_traffic(BUNDLED["tickets"], feedback=FeedbackHabits(answer_rate_right=1.0)), 400))
    assert {request.aspect for request in requests} == {None}
    assert {request.true_label for request in requests} == set(range(TICKETS.n_labels))
    wrong = {request.feedback_label for request in requests if request.feedback_label != request.true_label}
    assert wrong <= set(range(TICKETS.n_labels))


def test_topic_need_not_be_in_text() -> None:
    requests = list(islice(PoolTraffic(ROWS, seed=1, task=TOPICS), 100))
    assert {request.aspect for request in requests} == {"payment", "defect"}


def test_concept_change_renames_labels_of_plain_text() -> None:
    stream = bundled_traffic(BUNDLED["tickets"], drift=Drift(concept_share=1.0))
    rows = {row for row in islice(stream, 50) if "concept" in row.drifted}
    assert len(rows) == 50


def test_class_shares_of_other_labels_are_refused() -> None:
    with pytest.raises(ValueError, match="expected 6 shares, got 3"):
        bundled_traffic(BUNDLED["tickets"], drift=drift_of("class-shift"))
    assert next(bundled_traffic(BUNDLED["tickets"], drift=drift_of("class-shift", n_labels=6)))
