"""Tests of the support of a window by the reference."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from absa.policies import StalenessPolicy
from monitoring.drift.detect import detect_drift
from monitoring.drift.sample import Sample, make_sample
from monitoring.drift.support import Support, support_of
from monitoring.performance import Estimate, loss_between
from monitoring.staleness import StalenessEvidence, judge_staleness

Make = Callable[..., Sample]


def seen(seed: int, rows: int = 300, *, strange: float = 0.0, embedded: int | None = None) -> Sample:
    """Rows of which a share is elsewhere in the model's view; only the first ones are embedded."""
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(rows, 32)).astype(np.float32)
    values[: round(rows * strange), :6] += 2.5
    order = rng.permutation(rows)
    values = values[order]
    values[rows if embedded is None else embedded :] = np.nan
    return replace(make_sample(np.zeros(rows), np.tile([0.8, 0.1, 0.1], (rows, 1))), embeddings=values)


@pytest.mark.parametrize(("strange", "low", "high"), [(0.0, 0.93, 1.0), (0.5, 0.45, 0.7), (1.0, 0.0, 0.1)])
def test_support_is_the_share_of_known_rows(strange: float, low: float, high: float) -> None:
    shares = []
    for seed in range(5):
        found = support_of(seen(seed), seen(100 + seed, strange=strange))
        assert found is not None
        shares.append(found.share)
    assert low <= np.mean(shares) <= high


def test_new_units_of_known_rows_are_supported() -> None:
    """A unit's rows look alike; the classifier must not learn the unit."""
    rng = np.random.default_rng(1)
    groups = np.repeat(np.arange(60), 5)
    centres = rng.normal(size=(120, 32)) * 2.0

    def units(first: int) -> Sample:
        views = (centres[groups + first] + rng.normal(size=(300, 32)) * 0.1).astype(np.float32)
        return replace(make_sample(np.zeros(300), np.full((300, 3), 1 / 3), groups=groups + first), embeddings=views)

    found = support_of(units(0), units(60))
    assert found is not None
    assert found.trusted


def test_few_embedded_rows_give_no_support(make: Make) -> None:
    assert support_of(seen(1, embedded=99), seen(2)) is None
    assert support_of(make(1, 300), seen(2)) is None
    assert detect_drift(make(1, 300), make(2, 300)).support is None


def test_estimate_of_strange_rows_makes_nothing_stale(make: Make) -> None:
    drift = detect_drift(make(1, 300), make(2, 300))
    before, now = (
        Estimate(f1=value, low=value - 0.02, high=value + 0.02, standard_error=0.01, rows=300) for value in (0.85, 0.70)
    )
    for share, verdict in ((0.95, "STALE"), (0.5, "WATCH")):
        evidence = StalenessEvidence(
            version="1",
            rows=300,
            labelled=0,
            reference_rows=300,
            drift=replace(drift, support=Support(share=share)),
            measured=None,
            estimated=loss_between(before, now, tolerated=0.03),
            back_test=None,
            new_labels=500,
        )
        found = judge_staleness(evidence, StalenessPolicy())
        assert found.verdict == verdict
        told = {reason.kind: reason.sentence for reason in found.reasons}
        assert "estimated_loss" in told
        assert ("trusted for 50% of the rows" in told.get("estimate_not_trusted", "")) == (verdict == "WATCH")
