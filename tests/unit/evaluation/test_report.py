"""The report: JSON that a program reads back, and one page that stands alone and escapes what users named."""

import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from absa.evaluation import plots
from absa.evaluation.assess import assess
from absa.evaluation.behaviour import BehaviourResult
from absa.evaluation.gate import GateEvidence, judge
from absa.evaluation.gate_report import render_page, write_report
from absa.evaluation.metrics import evaluate, one_hot
from absa.records.rows import Example
from absa.records.schema import utc_now
from absa.task import TaskSpec

NAME = "<script>alert(1)</script>"


@pytest.fixture(scope="module")
def evidence() -> GateEvidence:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 300)
    examples = [
        Example(
            text=f"secret {index}", aspect="secret", label=int(label), observed_at=utc_now(), source="t", segment=NAME
        )
        for index, label in enumerate(labels)
    ]
    examples[0] = replace(examples[0], segment=None)
    guesses = [np.where(rng.random(300) < share, labels, 1) for share in (0.9, 0.6)]
    return assess(
        candidate=one_hot(guesses[0]),
        champion=one_hot(guesses[1]),
        examples=examples,
        recent=np.arange(300) > 150,
        behaviours=[BehaviourResult(name="negation", title="Negation & more", failed=(True, False))],
        champion_behaviours=[BehaviourResult(name="negation", title="Negation & more", failed=(False, False))],
        resamples=1000,
    )


class Tags(HTMLParser):
    """Checks that every element that is opened is closed, in order."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.add(tag)
        if tag != "meta":
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.add(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_json_holds_verdict_reasons_checks_and_evidence(evidence: GateEvidence, tmp_path: Path) -> None:
    decision = judge(evidence)
    write_report(tmp_path, evidence, decision)
    found = json.loads((tmp_path / "gate.json").read_text(encoding="utf-8"))
    assert found["schema_version"] == 1
    assert found["verdict"] == decision.verdict
    assert found["reasons"] == list(decision.reasons)
    assert found["evidence"]["recent"]["rows"] == 149
    assert found["policy"]["min_recent_rows"] == 100


def test_page_is_self_contained_and_escapes_names(evidence: GateEvidence) -> None:
    page = render_page(evidence, judge(evidence), candidate_name=NAME, champion_name="version 7")
    tags = Tags()
    tags.feed(page)
    assert tags.open == []
    assert "script" not in tags.seen
    assert "&lt;script&gt;" in page
    assert "Negation &amp; more" in page
    assert not re.search(r"(src|href)=|url\(|@import", page)


def test_the_report_quotes_no_text(evidence: GateEvidence, tmp_path: Path) -> None:
    write_report(tmp_path, evidence, judge(evidence))
    for name in ("gate.json", "gate.html"):
        assert "secret" not in (tmp_path / name).read_text(encoding="utf-8")


def test_page_of_a_first_version_names_baselines(evidence: GateEvidence) -> None:
    first = replace(evidence, baseline=True, slices=(), tf_idf=evidence.overall)
    page = render_page(first, judge(first))
    assert "first version" in page
    assert "Most frequent label" in page
    assert "TF-IDF with logistic regression" in page


def test_page_of_another_task_has_its_labels(evidence: GateEvidence) -> None:
    """Of a candidate with a new label, and with tests of the user."""
    task = TaskSpec(name="tickets", input="text", labels=("billing", NAME, "login"))
    labels = np.arange(300) % 3
    rows = [
        Example(text=f"secret {index}", aspect=None, label=int(label), observed_at=utc_now(), source="t")
        for index, label in enumerate(labels)
    ]
    own = [BehaviourResult(name=NAME, title=NAME, failed=(True, False))]
    found = assess(
        candidate=one_hot(labels), champion=one_hot(labels % 2, 2), examples=rows, recent=labels > 0, task=task,
        own_tests=own, champion_own_tests=own, resamples=1000,
    )  # fmt: skip
    page = render_page(found, judge(found))
    tags = Tags()
    tags.feed(page)
    assert (tags.open, "script" in tags.seen) == ([], False)
    for said in ("New labels", "Your own tests", "called login", "F1: macro F1 of billing and &lt;script&gt;"):
        assert said in page
    for foreign in ("opposite called", "pos/neg", "aspect", "neutral"):
        assert foreign not in page.casefold()


def test_page_below_tf_idf_warns(evidence: GateEvidence) -> None:
    worse = replace(evidence.overall, gain=replace(evidence.overall.gain, value=-0.1))
    first = replace(evidence, baseline=True, slices=(), tf_idf=worse)
    page = render_page(first, judge(first))
    assert "Warning: it is the first version" in page
    assert "Below the TF-IDF baseline" in page


def test_plots_are_pictures(evidence: GateEvidence, tmp_path: Path) -> None:
    history = [{"step": step, "loss": 1 / (step + 1), "validation_f1": None} for step in range(20)]
    history[10]["validation_f1"] = 0.5
    plots.save_confusion_matrix(evidence.overall.candidate, tmp_path / "confusion.png")
    many = TaskSpec(name="tickets", input="text", labels=tuple(f"label {index}" for index in range(15)))
    plots.save_confusion_matrix(evaluate([0, 1], one_hot([0, 14], 15), many), tmp_path / "many.png", many)
    plots.save_learning_curve(history, tmp_path / "curve.png")
    plots.save_learning_curve([], tmp_path / "no_steps.png")
    pictures = sorted(tmp_path.glob("*.png"))
    assert len(pictures) == 4
    for picture in pictures:
        assert picture.read_bytes().startswith(b"\x89PNG")
        assert picture.stat().st_size > 5_000
