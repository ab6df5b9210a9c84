"""Monitoring of a plain-text task with five labels and of one with topics."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest
from sklearn.metrics import f1_score

from absa.records.schema import Window
from absa.records.verdict import Verdict
from absa.records.windows import WindowData
from absa.task import TaskSpec
from monitoring.drift.detect import detect_drift
from monitoring.drift.sample import Sample, make_sample, sample_of
from monitoring.evidently_reports import verdict_text
from monitoring.monitor import WatchedVersion, WatchSettings, evidence_of, to_verdict
from monitoring.parts import parts_of
from monitoring.performance import FrozenTest, estimate, frozen_test, measure
from monitoring.staleness import judge_staleness
from monitoring.verdict_metrics import exposition
from tests.homes import words_of_default_task

TASK = TaskSpec(
    name="t", input="text", labels=("billing", "bug", "praise", "access", "other"), evaluated=("bug", "other")
)
TOPICS = TaskSpec(name="topics", input="text+topic", labels=("no", "yes"))
START = datetime(2026, 11, 2, tzinfo=UTC)


def answers(rng: np.random.Generator, rows: int, task: TaskSpec, *, first: float = 0.2) -> Sample:
    """Rows whose scores are calibrated: the predicted label is right with its score."""
    k = task.n_labels
    shares = np.full(k, (1.0 - first) / (k - 1))
    shares[0] = first
    labels, sure = rng.choice(k, rows, p=shares), rng.uniform(0.6, 0.95, rows)
    scores = np.repeat(((1.0 - sure) / (k - 1))[:, None], k, axis=1)
    scores[np.arange(rows), labels] = sure
    truth = np.where(rng.random(rows) < sure, labels, (labels + rng.integers(1, k, rows)) % k)
    texts = tuple(f"text {n}" for n in range(rows))
    return make_sample(labels, scores, truth=truth, texts=texts, aspects=("",) * rows, task=task)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(3)


@pytest.mark.parametrize("task", [TASK, TOPICS])
def test_measured_f1_counts_evaluated_labels(rng: np.random.Generator, task: TaskSpec) -> None:
    sample = answers(rng, 600, task)
    found, promised = measure(sample), estimate(sample)
    assert found is not None
    assert promised is not None
    evaluated = list(task.evaluated_numbers)
    assert found.f1 == pytest.approx(f1_score(sample.truth, sample.labels, labels=evaluated, average="macro"))
    assert promised.low - 0.05 < found.f1 < promised.high + 0.05


def test_parts_are_named_by_evaluated_labels(rng: np.random.Generator) -> None:
    assert set(parts_of(answers(rng, 200, TASK))) == {"class:bug", "class:other"}


def test_moved_label_is_named_without_aspects(rng: np.random.Generator) -> None:
    report = detect_drift(answers(rng, 1_500, TASK), answers(rng, 1_500, TASK, first=0.4))
    sentences = {finding.kind: finding.sentence for finding in report.drifted}
    assert "answers that are billing rose" in sentences["class_shares"]
    assert "aspect_mix" not in {finding.kind for finding in report.findings}


def frame(sample: Sample) -> pl.DataFrame:
    rows = sample.rows
    return pl.DataFrame(
        {
            "request_id": [f"r{n}" for n in range(rows)],
            "at": [START + timedelta(seconds=n) for n in range(rows)],
            "unit_hash": [f"{n:016x}" for n in range(rows)],
            "unit_given": [True] * rows,
            "segment": pl.Series([None] * rows, dtype=pl.String),
            "text": list(sample.texts or ()),
            "aspect": pl.Series([None] * rows, dtype=pl.String),
            "label": pl.Series(sample.labels, dtype=pl.Int8),
            "scores": sample.scores.tolist(),
            "model_version": ["1"] * rows,
            "arm": ["champion"] * rows,
            "shadow": [False] * rows,
            "feedback_label": pl.Series(sample.truth, dtype=pl.Int8),
            "feedback_at": pl.Series([START + timedelta(hours=1)] * rows),
            "feedback_source": ["customer"] * rows,
            "sampling_probability": pl.Series([None] * rows, dtype=pl.Float64),
        },
        schema_overrides={"at": pl.Datetime("us", "UTC"), "feedback_at": pl.Datetime("us", "UTC")},
    )


def test_row_without_answer_is_left_out(rng: np.random.Generator) -> None:
    rows = frame(answers(rng, 60, TASK))
    first = pl.int_range(pl.len()) == 0
    rows = rows.with_columns(pl.when(first).then(None).otherwise("label").cast(pl.Int8).alias("label"))
    assert sample_of(rows, TASK).rows == 59


def test_version_with_fewer_labels_scores_others_zero(rng: np.random.Generator) -> None:
    older = TaskSpec(name="t", input="text", labels=TASK.labels[:4])
    sample = sample_of(frame(answers(rng, 60, older)), TASK)
    assert sample.scores.shape == (60, 5)
    assert not sample.scores[:, 4].any()
    assert frozen_test({"confusion": np.eye(4).tolist()}, TASK).rows == 4


def test_verdict_of_task_writes_f1_alone(rng: np.random.Generator) -> None:
    rows = frame(answers(rng, 600, TASK))
    window = Window(start=START, end=START + timedelta(hours=1))
    champion = WatchedVersion(version="1", champion_since=START, frozen_test=FrozenTest.from_f1(0.99, 2_000, TASK))
    settings = replace(WatchSettings(), task=TASK)
    data = WindowData(window=window, rows=rows, total=600, by_version={"1": 600})
    seen = evidence_of(data, None, champion=champion, settings=settings, now=window.end, new_labels=600)
    verdict = to_verdict(seen, judge_staleness(seen.evidence, settings.policy), at=window.end)
    written = json.loads(json.dumps(verdict.to_json()))
    assert written["by_version"]["1"].keys() >= {"f1", "estimated_f1"}
    assert "pos_neg_f1" not in written["by_version"]["1"]
    assert verdict.verdict == "STALE"
    said = next(reason.sentence for reason in verdict.reasons if reason.kind == "measured_loss")
    assert said.startswith("F1 fell by")
    assert Verdict.from_json(written).by_version == verdict.by_version
    said = "\n".join((json.dumps(written), exposition([verdict]), verdict_text(verdict, data, TASK)))
    assert words_of_default_task(said) == []
