"""Behaviours of tasks other than the default one: changes of test rows that mean nothing."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from absa.evaluation.behaviour import BEHAVIOURS, run_behaviours
from absa.evaluation.invariance import behaviours_of
from absa.inference.aspect_span import has_aspect
from absa.inference.tokenization import ModelInput
from absa.task import ABSA, TaskSpec

TICKETS = TaskSpec(name="tickets", input="text", labels=("billing", "bug", "praise", "login"))
ROWS: list[ModelInput] = [(f"order {k} of the shop failed in step {k % 7}", None) for k in range(10, 60)]
WITH_ASPECT: list[ModelInput] = [(f"the Shop {k} says {k} errors", f"Shop {k}") for k in range(10, 60)]


def rates(suite: Sequence[object], judge: object) -> dict[str, float]:
    def score(pairs: Sequence[ModelInput]) -> np.ndarray:
        return np.eye(4, dtype=np.float32)[[judge(text) for text, _ in pairs]]  # type: ignore[operator]

    return {each.name: each.failures / each.cases for each in run_behaviours(score, suite)}  # type: ignore[arg-type]


def test_other_tasks_have_six_behaviours_of_their_rows() -> None:
    suite = behaviours_of(TICKETS, ROWS, cases=20)
    assert [each.name for each in suite] == ["case", "punctuation", "typo", "link", "name", "number"]
    for behaviour in suite:
        assert len(set(behaviour.cases)) == 20
        assert all(first != second for case in behaviour.cases for first, second in [case.pairs])
    assert suite == behaviours_of(TICKETS, ROWS, cases=20)
    assert suite != behaviours_of(TICKETS, ROWS, cases=20, seed=1)


def test_default_task_keeps_its_own_suite() -> None:
    mixed = replace(ABSA, labels=(*ABSA.labels, "mixed"), evaluated=())
    for task in (ABSA, mixed):
        assert [each.name for each in behaviours_of(task, ROWS, cases=2)] == list(BEHAVIOURS)


@pytest.mark.parametrize(
    ("name", "judge"),
    [
        ("case", lambda text: int(text.isupper() or text.islower())),
        ("link", lambda text: int("example.com" in text or "@" in text)),
        ("punctuation", lambda text: int(text[-1].isalnum() and text[0].isalnum())),
        ("typo", lambda text: int("order" in text and "failed" in text and "shop" in text and "step" in text)),
    ],
)
def test_model_that_reads_what_means_nothing_fails(name: str, judge: object) -> None:
    rows = [(text.replace("order", "Order"), None) for text, _ in ROWS] if name == "case" else ROWS
    assert rates(behaviours_of(TICKETS, rows, cases=20), judge)[name] == 1.0


def test_model_that_reads_the_words_fails_nowhere() -> None:
    assert set(rates(behaviours_of(TICKETS, ROWS, cases=20), lambda _: 2).values()) == {0.0}


def test_aspects_stay_in_changed_texts() -> None:
    suite = behaviours_of(replace(TICKETS, input="text+aspect"), WITH_ASPECT, cases=40)
    assert {each.name for each in suite} >= {"case", "typo", "number"}
    for behaviour in suite:
        for case in behaviour.cases:
            assert all(has_aspect(text, phrase or "") for text, phrase in case.pairs)


def test_change_without_rows_is_left_out() -> None:
    found = behaviours_of(TICKETS, [("数字なし", None)], cases=5)
    assert {each.name for each in found} == {"punctuation", "typo", "link", "name"}
    assert behaviours_of(TICKETS, [], cases=5) == ()
    assert run_behaviours(lambda _: np.zeros((0, 4), np.float32), ()) == ()
