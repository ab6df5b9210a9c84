"""The behavioural suite finds the faults that it is made to find, and no others."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pytest

from absa.data.bundled import ASSIGNMENT_CSV, FEEDBACK_CSV, NEW_AREA_CSV, TRAFFIC_CSV
from absa.data.read import read_examples
from absa.evaluation.behaviour import (
    BEHAVIOURS,
    BehaviourResult,
    Case,
    compare_behaviours,
    draw_cases,
    run_suite,
)
from absa.task import Label

Scores = npt.NDArray[np.float32]


def scores_of(labels: Sequence[int]) -> Scores:
    return (np.eye(3, dtype=np.float32)[np.array(labels)] * 0.8 + 0.1).astype(np.float32)


def rates(results: Sequence[BehaviourResult]) -> dict[str, float]:
    return {each.name: each.failures / each.cases for each in results}


class Knows:
    """A model that knows the right answer of every case: the reference that must not fail."""

    def __init__(self, cases: int) -> None:
        self.answers: list[int] = []
        for name in BEHAVIOURS:
            for case in draw_cases(name, cases=cases):
                self.answers += self._answer(case)

    @staticmethod
    def _answer(case: Case) -> list[int]:
        if case.rule == "labels":
            return [int(min(allowed)) for allowed in case.expected]
        if case.rule == "same":
            return [1] * len(case.pairs)
        return [1, 2 if case.rule == "up" else 0]

    def __call__(self, pairs: Sequence[tuple[str, str]]) -> Scores:
        assert len(pairs) == len(self.answers)
        return scores_of(self.answers)


@pytest.mark.parametrize("name", BEHAVIOURS)
def test_behaviours_have_many_cases_with_aspect_in_text(name: str) -> None:
    cases = draw_cases(name, cases=100)
    assert len(set(cases)) == 100
    for case in cases:
        assert all(aspect.lower() in text.lower() for text, aspect in case.pairs)
        assert len(case.expected) == (len(case.pairs) if case.rule == "labels" else 0)
        assert case.rule == "labels" or len(case.pairs) == 2


def test_asked_aspects_are_not_in_bundled_rows() -> None:
    files = (ASSIGNMENT_CSV, FEEDBACK_CSV, NEW_AREA_CSV, TRAFFIC_CSV)
    bundled = {aspect.casefold() for path in files for aspect in read_examples(path)[0]["aspect"]}
    drawn = [case for name in BEHAVIOURS for case in draw_cases(name, cases=200)]
    asked = {aspect.casefold() for case in drawn for _, aspect in case.pairs}
    assert len(asked) > 70
    assert asked & bundled == set()


def test_equal_seeds_give_equal_cases() -> None:
    assert draw_cases("negation", cases=20) == draw_cases("negation", cases=20)
    assert draw_cases("negation", cases=20) != draw_cases("negation", cases=20, seed=1)


def test_a_model_that_is_always_right_fails_nowhere() -> None:
    assert set(rates(run_suite(Knows(40), cases=40)).values()) == {0.0}


def test_always_neutral_model_fails_opinion_cases() -> None:
    found = rates(run_suite(lambda pairs: scores_of([1] * len(pairs)), cases=40))
    assert {name for name, rate in found.items() if rate == 1} == {"contrast", "vocabulary", "temporal"}
    assert {rate for name, rate in found.items() if name not in {"contrast", "vocabulary", "temporal"}} == {0.0}


def test_aspect_blind_model_fails_every_contrast() -> None:
    def by_text(pairs: Sequence[tuple[str, str]]) -> Scores:
        return scores_of([sum(map(ord, text)) % 3 for text, _ in pairs])

    assert rates(run_suite(by_text, cases=40))["contrast"] == 1


def test_a_model_that_reads_capitals_is_found_out() -> None:
    def by_capitals(pairs: Sequence[tuple[str, str]]) -> Scores:
        return scores_of([0 if text.isupper() or text.istitle() else 2 for text, _ in pairs])

    found = rates(run_suite(by_capitals, cases=40))
    assert found["case"] == 1
    assert found["typo"] == 0


def test_direction_fails_only_for_wrong_move() -> None:
    pairs = (("a", "a"), ("b", "b"))
    up, down = Case(pairs=pairs, rule="up"), Case(pairs=pairs, rule="down")
    rising = np.array([[0.3, 0.4, 0.3], [0.1, 0.3, 0.6]], dtype=np.float32)
    assert (up.fails(rising), down.fails(rising)) == (False, True)
    assert (up.fails(rising[::-1]), down.fails(rising[::-1])) == (True, False)
    still = np.array([[0.3, 0.4, 0.3]] * 2, dtype=np.float32)
    assert (up.fails(still), down.fails(still)) == (False, False)


def test_two_models_are_compared_case_by_case() -> None:
    first = BehaviourResult(name="n", title="t", failed=(True, True, False, False))
    second = BehaviourResult(name="n", title="t", failed=(True, False, False, True))
    (found,) = compare_behaviours([first], [second])
    assert (found.failures, found.champion_failures, found.only_candidate, found.only_champion) == (2, 2, 1, 1)
    (alone,) = compare_behaviours([first], None)
    assert (alone.failures, alone.champion_failures) == (2, None)


def test_results_on_other_cases_are_not_compared() -> None:
    few = BehaviourResult(name="n", title="t", failed=(True,))
    many = BehaviourResult(name="n", title="t", failed=(True, False))
    with pytest.raises(ValueError, match="zip"):
        compare_behaviours([few], [many])


def test_labels_are_the_products() -> None:
    (case,) = draw_cases("question", cases=1)
    assert case.expected == (frozenset({Label.NEUTRAL}),)
