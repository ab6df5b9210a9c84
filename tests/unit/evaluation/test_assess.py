"""Evidence: the same rows for both models, recent and established apart, slices by what is known of a row."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from sklearn.metrics import f1_score

from absa.evaluation.assess import assess, assess_engines, measure_footprint
from absa.evaluation.metrics import one_hot
from absa.inference.engine import Engine
from absa.records.rows import Example
from absa.records.schema import utc_now
from absa.task import TaskSpec
from tests.toy_package import build_toy_package

NOW = utc_now()


def rows(count: int) -> list[Example]:
    return [
        Example(
            text=f"text {index // 2} {'word ' * (index % 30)}",
            aspect="the app" if index % 2 else "app",
            label=index % 3,
            observed_at=NOW,
            source="test",
            segment="mobile" if index % 4 == 0 else None,
        )
        for index in range(count)
    ]


def frame(examples: list[Example]) -> pl.DataFrame:
    names = ("text", "aspect", "label", "observed_at", "source", "segment")
    return pl.DataFrame([{name: getattr(each, name) for name in names} for each in examples], infer_schema_length=None)


@pytest.fixture
def scores() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    labels = np.arange(240) % 3
    right = rng.random(240) < 0.8
    return one_hot(np.where(right, labels, 1)), one_hot(rng.integers(0, 3, 240))


def test_a_frame_and_its_examples_give_equal_evidence(scores: tuple[np.ndarray, np.ndarray]) -> None:
    examples, recent = rows(240), np.arange(240) > 100
    first = assess(candidate=scores[0], champion=scores[1], examples=examples, recent=recent, resamples=1000)
    second = assess(candidate=scores[0], champion=scores[1], examples=frame(examples), recent=recent, resamples=1000)
    assert first == second


def test_recent_and_established_rows_are_told_apart(scores: tuple[np.ndarray, np.ndarray]) -> None:
    recent = np.arange(240) >= 150
    found = assess(candidate=scores[0], champion=scores[1], examples=rows(240), recent=recent, resamples=1000)
    assert found.recent is not None
    assert found.established is not None
    assert (found.recent.rows, found.established.rows, found.overall.rows) == (90, 150, 240)
    assert not found.baseline
    none_recent = assess(
        candidate=scores[0], champion=scores[1], examples=rows(240), recent=[False] * 240, resamples=1000
    )
    assert none_recent.recent is None
    assert none_recent.established == none_recent.overall


def test_slices_are_segments_lengths_and_labels(scores: tuple[np.ndarray, np.ndarray]) -> None:
    found = assess(candidate=scores[0], champion=scores[1], examples=rows(240), recent=[True] * 240, resamples=1000)
    names = {each.name: each for each in found.slices}
    assert set(names) == {
        "segment: mobile",
        "text: under 8 words",
        "text: 8 to 20 words",
        "text: over 20 words",
        "aspect: one word",
        "aspect: several words",
        "label: negative",
        "label: neutral",
        "label: positive",
    }
    assert names["segment: mobile"].rows == 60
    assert names["label: negative"].rows == 80
    assert names["label: negative"].candidate == pytest.approx(found.overall.candidate.f1_by_label[0])


def test_opponent_without_champion_is_frequent_label() -> None:
    examples = rows(90)
    labels = np.array([0] * 60 + [2] * 30)
    examples = [
        Example(text=each.text, aspect=each.aspect, label=int(label), observed_at=NOW, source="test")
        for each, label in zip(examples, labels, strict=True)
    ]
    found = assess(candidate=one_hot(labels), champion=None, examples=examples, recent=[True] * 90, resamples=1000)
    assert found.baseline
    assert found.overall.champion.accuracy == pytest.approx(60 / 90)
    assert found.overall.champion.ece == pytest.approx(0, abs=1e-6)
    assert found.slices == ()


TICKETS = TaskSpec(name="tickets", input="text", labels=("billing", "bug", "praise", "login"))


def tickets(labels: np.ndarray) -> list[Example]:
    texts = [f"text {index} {'word ' * (index % 30)}" for index in range(len(labels))]
    return [
        Example(text=text, aspect=None, label=int(label), observed_at=NOW, source="test")
        for text, label in zip(texts, labels, strict=True)
    ]


def test_plain_text_is_compared_without_aspects() -> None:
    rng = np.random.default_rng(0)
    labels = np.arange(240) % 4
    better, worse = (one_hot(np.where(rng.random(240) < share, labels, 1), 4) for share in (0.9, 0.6))
    found = assess(
        candidate=better, champion=worse, examples=tickets(labels), recent=[True] * 240, task=TICKETS, resamples=1000
    )
    names = {each.name for each in found.slices}
    assert {"label: billing", "label: login", "text: over 20 words"} <= names
    assert not any("aspect" in name or "topic" in name for name in names)
    assert {each.metric for each in found.slices} == {"F1"}
    assert found.overall.candidate.pos_neg_f1 is None
    assert (found.metric, found.new_labels) == (TICKETS.metric, ())


def test_new_label_is_measured_apart_from_common_ones() -> None:
    rng = np.random.default_rng(0)
    labels = np.arange(240) % 4
    candidate = one_hot(np.where(rng.random(240) < 0.9, labels, 0), 4)
    champion = one_hot(np.where(rng.random(240) < 0.8, np.minimum(labels, 2), 0), 3)
    found = assess(
        candidate=candidate,
        champion=champion,
        examples=tickets(labels),
        recent=np.arange(240) > 120,
        task=TICKETS,
        resamples=1000,
    )
    assert found.overall.rows == 180
    assert found.overall.champion.f1_by_label[3] == 0.0
    assert found.metric == "macro F1 of billing, bug and praise over all rows"
    common = labels < 3
    assert found.overall.candidate.f1 == pytest.approx(
        f1_score(labels[common], candidate[common].argmax(1), labels=[0, 1, 2], average="macro")
    )
    (new,) = found.new_labels
    assert (new.name, new.rows) == ("login", 60)
    assert new.f1 == pytest.approx(f1_score(labels, candidate.argmax(1), labels=[3], average="macro"))
    assert found.candidate.rows == 240
    assert {each.name for each in found.slices} >= {"label: billing", "label: bug", "label: praise"}
    assert "label: login" not in {each.name for each in found.slices}


def test_rows_of_new_labels_alone_show_no_gain() -> None:
    labels = np.full(40, 3)
    found = assess(
        candidate=one_hot(labels, 4),
        champion=one_hot(labels % 3, 3),
        examples=tickets(labels),
        recent=[True] * 40,
        task=TICKETS,
        resamples=1000,
    )
    assert (found.overall.rows, found.overall.gain.value, found.new_labels[0].f1) == (40, 0.0, 1.0)


def test_lengths_that_differ_and_missing_labels_are_refused(scores: tuple[np.ndarray, np.ndarray]) -> None:
    with pytest.raises(ValueError, match="lengths differ"):
        assess(candidate=scores[0], champion=scores[1][:5], examples=rows(240), recent=[True] * 240)
    with pytest.raises(ValueError, match="no test rows"):
        assess(candidate=scores[0][:0], champion=None, examples=[], recent=[])
    unlabelled = [Example(text="t app", aspect="app", observed_at=NOW, source="test")]
    with pytest.raises(ValueError, match="needs a label"):
        assess(candidate=scores[0][:1], champion=None, examples=unlabelled, recent=[True])


def test_two_engines_are_assessed_from_their_packages(tmp_path: Path) -> None:
    candidate = Engine.load(build_toy_package(tmp_path / "candidate"))
    champion = Engine.load(build_toy_package(tmp_path / "champion", seed=40))
    footprint = measure_footprint(candidate, [("the app is great", "app")])
    found = assess_engines(
        candidate=candidate, champion=champion, examples=rows(60), recent=np.arange(60) > 30, behaviour_cases=10,
        footprint=footprint,
    )  # fmt: skip
    assert found.footprint == footprint
    assert 0 < footprint.size_mb < 1
    assert footprint.latency_ms_p50 is not None
    assert 0 < footprint.latency_ms_p50 < 1000
    assert all(each.champion_failures is not None for each in found.behaviours)
    assert len(found.behaviours) > 10
