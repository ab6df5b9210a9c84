"""Contrast sets: opposite labels side by side, and nothing that the behavioural tests hold."""

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace

import numpy as np

from absa.evaluation import behaviour
from absa.evaluation.behaviour import BEHAVIOURS, draw_cases
from absa.inference.aspect_span import has_aspect
from absa.inference.tokenization import Template
from absa.task import Label
from absa.training.rows import contrast
from absa.training.rows.compose import Composer, Connectors
from absa.training.rows.contrast import contrast_pairs
from absa.training.rows.tokens import join

NEGATIVE, _, POSITIVE = map(int, Label)
OWN = (*contrast.ASPECTS, *contrast.PRODUCTS, *contrast.GOOD, *contrast.BAD, *contrast.PLAIN)
TEMPLATES = (*contrast.CHANGE, *contrast.BETTER, *(sentence for pair in contrast.NEGATED for sentence in pair))
TESTED = [
    filler
    for values in vars(behaviour).values()
    if isinstance(values, tuple) and values and all(isinstance(value, str) for value in values)
    for filler in values
]


def slots(fillers: Iterable[str]) -> re.Pattern[str]:
    """Return a pattern of each filler as whole words, in any case."""
    known = sorted({each.strip() for each in fillers if each.strip()}, key=len, reverse=True)
    return re.compile(r"(?<!\w)(?:" + "|".join(map(re.escape, known)) + r")(?!\w)", re.I)


def skeleton(text: str, fillers: re.Pattern[str]) -> str:
    """Return a sentence with each filler as #, in lower case, without marks."""
    found = re.sub(r"(\W*#\W*)+", " # ", fillers.sub("#", text))
    return re.sub(r"[^\w# ']", "", found).casefold().strip(" #")


def test_no_filler_is_shared_with_behaviours() -> None:
    assert len(TESTED) > 150
    own = {each.strip().casefold() for each in (*OWN, *contrast.STARTS, *contrast.ENDS)} - {""}
    assert own & {each.strip().casefold() for each in TESTED} == set()


def test_no_template_is_shared_with_behaviours() -> None:
    own = {skeleton(template, re.compile(r"\{\w+\}")) for template in TEMPLATES}
    fillers = slots(TESTED)
    tested = {
        skeleton(text, fillers) for name in BEHAVIOURS for case in draw_cases(name, cases=60) for text, _ in case.pairs
    }
    assert "the # is not" in tested
    assert own & tested == set()


def test_rows_are_contrasts_with_aspect_in_text() -> None:
    rows = contrast_pairs(600)
    assert rows == contrast_pairs(600)
    assert len(set(rows)) == 600
    assert all(has_aspect(row.text, str(row.aspect)) for row in rows)
    counts = Counter(row.label for row in rows)
    assert counts.keys() == {NEGATIVE, POSITIVE}
    assert 0.4 < counts[POSITIVE] / len(rows) < 0.6


def test_composition_adds_contrasts_with_targets() -> None:
    texts = [np.arange(100 * row, 100 * row + 4, dtype=np.uint16) + 1000 for row in range(20)]
    rows = join(texts, [text[:1] for text in texts], [row % 3 for row in range(20)], Template.bert(1, 2))
    rows = replace(rows, targets=np.full((20, 3), 1 / 3, np.float32))
    bank = join([np.array([7, 8], np.uint16)], [np.array([7], np.uint16)], [POSITIVE], Template.bert(1, 2))
    connectors = Connectors((np.array([9], np.uint16),), frozenset())
    composed = Composer(connectors, 0.0, 64, 3, bank, 0.25)(rows, np.random.default_rng(0))
    assert len(composed) == 25
    assert composed.targets is not None
    assert composed.targets[20:].tolist() == [[0, 0, 1]] * 5
    assert composed.text(24).tolist() == [7, 8]
