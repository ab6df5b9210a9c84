"""A router of a task with topics: answers about phrases that are not in the text, an A/B test, the log, a window."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import polars as pl
import pytest

from absa.inference.engine import Engine
from absa.ledger.routing import single
from absa.records.schema import Window
from absa.records.windows import load_window
from absa.task import TaskSpec
from tests.serving_replica import SURVEY, RunningReplica, ab, until

TOPICS = TaskSpec(name="topics", input="text+topic", labels=("no", "yes"))
ASKED = [(f"the parcel of customer {n} says yes", topic) for n in range(20) for topic in ("billing", "delivery")]


@pytest.fixture(scope="module")
def replica(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningReplica]:
    started = RunningReplica(tmp_path_factory.mktemp("topics"), workers=1)
    started.build("1", seed=0, task=TOPICS)
    started.build("2", seed=1, task=TOPICS)
    try:
        started.start()
        started.append(single("1", salt="s"))
        yield started
    finally:
        started.end()


def ask(replica: RunningReplica) -> list[dict[str, Any]]:
    body = {"instances": [{"text": text, "topic": topic, "unit_id": text} for text, topic in ASKED]}
    answered: list[dict[str, Any]] = replica.client.post("/v1/predict", json=body).json()["predictions"]
    return answered


def test_topic_need_not_be_in_the_text(replica: RunningReplica) -> None:
    expected = Engine.load(replica.root / "built" / "1").score(ASKED)
    answers = ask(replica)
    assert np.allclose([each["scores"] for each in answers], expected, atol=1e-3)
    assert [each["name"] for each in answers] == [TOPICS.labels[label] for label in expected.argmax(1)]


@pytest.mark.parametrize("item", [{"text": "yes"}, {"text": "yes", "topic": 5}, {"text": "yes", "topic": ""}])
def test_request_without_topic_is_refused(replica: RunningReplica, item: dict[str, str]) -> None:
    refused = replica.client.post("/v1/predict", json=item)
    assert refused.status_code == 422
    assert "topic" in refused.text


def test_window_joins_both_arms_with_named_feedback(replica: RunningReplica) -> None:
    began = datetime.now(UTC) - timedelta(seconds=1)
    replica.append(ab("1", "2", 0.5))
    answers = ask(replica)
    for each in answers:
        told = {"request_id": each["request_id"], "label": "yes"}
        assert replica.client.post("/v1/feedback", json=told, headers=SURVEY).status_code == 202
    asked = {each["request_id"] for each in answers}
    for stream in ("predictions", "feedback"):
        until(lambda stream=stream: asked <= {row["request_id"] for row in replica.rows(stream)}, what=stream)
    rows = load_window(replica.lake, Window(start=began, end=datetime.now(UTC) + timedelta(seconds=1))).rows
    rows = rows.filter(pl.col("request_id").is_in(asked))
    assert sorted(zip(rows["text"], rows["aspect"], strict=True)) == sorted(ASKED)
    assert set(rows["model_version"]) == {"1", "2"}
    assert set(rows["feedback_label"]) == {TOPICS.labels.index("yes")}
    assert rows.filter(pl.col("text").n_unique().over("unit_hash") > 1).is_empty()
