"""Drift that the mix of units explains."""

import numpy as np

from monitoring.drift.detect import DriftReport, detect_drift
from monitoring.drift.sample import Sample, make_sample
from monitoring.traffic.attribution import drift_by_mix


def rows(seed: int, units: np.ndarray, negative: dict[int, float], *, moved: float = 0.0) -> Sample:
    """Rows of some units, each with its own share of negative answers, moved by so much."""
    rng = np.random.default_rng(seed)
    share = np.array([negative.get(int(unit), 0.2) for unit in units]) + moved
    label = np.where(rng.random(len(units)) < share, 0, 2)
    return make_sample(label, np.full((len(units), 3), 1 / 3), groups=units)


def explained(reference: Sample, current: Sample) -> tuple[set[str], frozenset[str]]:
    def test(before: Sample, now: Sample) -> DriftReport:
        return detect_drift(before, now, columns=("class_shares",))

    found = test(reference, current)
    return {finding.kind for finding in found.drifted}, drift_by_mix(found, reference, current, test)


REGULAR = np.repeat(np.arange(100), 10)
CUSTOMER = np.repeat(np.arange(200, 250), 10)
UPSET = dict.fromkeys(range(200, 250), 0.9)


def test_customer_that_joins_explains_its_change() -> None:
    found = explained(rows(1, REGULAR, UPSET), rows(2, np.concatenate([REGULAR, CUSTOMER]), UPSET))
    assert found == ({"class_shares"}, frozenset({"class_shares"}))


def test_customer_that_grows_explains_its_change() -> None:
    before = np.concatenate([REGULAR, CUSTOMER[::10]])
    found = explained(rows(1, before, UPSET), rows(2, np.concatenate([REGULAR, CUSTOMER]), UPSET))
    assert found == ({"class_shares"}, frozenset({"class_shares"}))


def test_change_of_known_units_is_no_mix() -> None:
    now = np.concatenate([REGULAR, CUSTOMER])
    found = explained(rows(1, REGULAR, UPSET), rows(2, now, UPSET, moved=0.1))
    assert found == ({"class_shares"}, frozenset())


def test_mostly_unknown_units_explain_nothing() -> None:
    unknown = np.repeat(np.arange(500, 800), 5)
    found = explained(
        rows(1, REGULAR, {}), rows(2, np.concatenate([REGULAR, unknown]), dict.fromkeys(range(500, 800), 0.5))
    )
    assert found == ({"class_shares"}, frozenset())
