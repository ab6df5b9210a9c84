"""Tests of false alarms on equal rows whose units return.

Permutations of a unit's rows per side alarmed in every case with returning units here.
"""

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from monitoring.drift.detect import SLOW_COLUMNS, detect_drift
from monitoring.drift.sample import Sample, make_sample

FEEDBACK = Path(__file__).parents[4] / "absa" / "data" / "sample" / "feedback.csv"


@pytest.fixture(scope="module")
def rows() -> list[tuple[str, str]]:
    """Text and aspect of each bundled row."""
    with FEEDBACK.open(encoding="utf-8") as file:
        named = [{name.lower(): value for name, value in row.items()} for row in csv.DictReader(file)]
    return [(row["text"], row["aspect"]) for row in named]


def drawn(rng: np.random.Generator, rows: list[tuple[str, str]], count: int, units: int) -> Sample:
    """Return independent rows, each of a random unit; of a unit of its own where there are 0 units."""
    chosen = rng.integers(len(rows), size=count)
    labels = rng.choice(3, count, p=[0.35, 0.25, 0.4])
    confidence = np.clip(rng.normal(0.83, 0.1, count), 0.4, 0.99)
    scores = np.repeat(((1 - confidence) / 2)[:, None], 3, axis=1)
    scores[np.arange(count), labels] = confidence
    return make_sample(
        labels,
        scores,
        texts=tuple(rows[k][0] for k in chosen),
        aspects=tuple(rows[k][1] for k in chosen),
        segments=tuple("ab"[k] for k in rng.integers(2, size=count)),
        groups=rng.integers(units, size=count) if units else None,
    )


@pytest.mark.parametrize("units", [0, 600, 1_500, 5_000])
def test_pooled_windows_of_equal_rows_raise_no_alarm(units: int, rows: list[tuple[str, str]]) -> None:
    """At 0.2 % one alarm in these eight tests has a chance of 1.6 %."""
    rng = np.random.default_rng(5)
    for _ in range(2):
        reference, pooled = drawn(rng, rows, 1_000, units), drawn(rng, rows, 4_000, units)
        assert not detect_drift(reference, pooled, false_alarm_rate=0.002, columns=SLOW_COLUMNS).drifted


def test_large_window_of_returning_units_raises_no_alarm(rows: list[tuple[str, str]]) -> None:
    rng = np.random.default_rng(6)
    reports = [detect_drift(drawn(rng, rows, 1_000, 800), drawn(rng, rows, 2_000, 800)) for _ in range(3)]
    assert sum(bool(report.drifted) for report in reports) <= 1


def test_one_joining_unit_is_no_drift(rows: list[tuple[str, str]]) -> None:
    """A third of the window comes from one new unit that writes one text."""
    rng = np.random.default_rng(7)
    reference, window = drawn(rng, rows, 1_000, 400), drawn(rng, rows, 900, 400)
    joined = np.arange(900) < 300
    texts = ("tulips and compost arrived late",) * 300 + (window.texts or ())[300:]
    window = replace(
        window,
        texts=texts,
        labels=np.where(joined, 0, window.labels),
        groups=np.where(joined, 400, window.groups),
    )
    assert not detect_drift(reference, window).drifted
    alone = replace(window, groups=np.where(joined, 400 + np.arange(900), window.groups))
    assert detect_drift(reference, alone).drifted
