"""Tests of the comparison of the latency of two arms, on simulated traffic with stalls."""

from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest

from absa.policies import ExperimentPolicy
from monitoring.experiments.ab_statistics import ArmHealth, broken_guardrail
from monitoring.experiments.arm_latency import MIN_BLOCKS, ArmLatency, compare_latency

START = datetime(2026, 11, 23, 10, 0, tzinfo=UTC)


def traffic(
    seed: int,
    *,
    seconds: float,
    share: float = 0.5,
    stalls_per_s: float = 0.0,
    slower: float = 1.0,
    after_s: float = 0.0,
) -> pl.DataFrame:
    """Answers of 60 requests a second; a stall of 0.1 to 1.5 s delays all requests of that time to its end."""
    rng = np.random.default_rng(seed)
    at = rng.uniform(0.0, seconds, int(60 * seconds))
    challenger = rng.random(at.size) < share
    latency = rng.lognormal(np.log(15.0), 0.5, at.size) * np.where(challenger, slower, 1.0)
    for begin in rng.uniform(0.0, seconds, rng.poisson(stalls_per_s * seconds)):
        end = begin + rng.uniform(0.1, 1.5)
        inside = (at >= begin) & (at < end)
        latency[inside] += (end - at[inside]) * 1000.0
    times = [START + timedelta(seconds=float(after_s + t)) for t in at]
    return pl.DataFrame({"at": times, "latency_ms": latency.astype(np.float32), "challenger": challenger})


def rolls_back(found: ArmLatency) -> bool:
    old = ArmHealth(requests=1000, p99_ms=found.champion_ms)
    new = ArmHealth(requests=1000, p99_ms=found.challenger_ms, p99_low_ms=found.low_ms)
    return broken_guardrail(old, new, ExperimentPolicy()) is not None


@pytest.mark.parametrize(("seconds", "stalls_per_s"), [(12.0, 0.1), (30.0, 0.1), (60.0, 0.1), (60.0, 0.4)])
def test_stalls_roll_no_equal_version_back(seconds: float, stalls_per_s: float) -> None:
    alarms = 0
    for seed in range(40):
        calm = traffic(seed, seconds=45.0, share=0.0)
        stalled = traffic(1000 + seed, seconds=seconds, stalls_per_s=stalls_per_s, after_s=45.0)
        alarms += rolls_back(compare_latency(pl.concat([calm, stalled])))
    assert alarms == 0


@pytest.mark.parametrize(("seconds", "share"), [(60.0, 0.5), (300.0, 0.1)])
def test_slow_version_is_rolled_back(seconds: float, share: float) -> None:
    found = [compare_latency(traffic(seed, seconds=seconds, share=share, slower=4.0)) for seed in range(20)]
    assert sum(map(rolls_back, found)) >= 19


def test_equal_arms_have_the_p99_of_their_traffic() -> None:
    found = compare_latency(traffic(3, seconds=600.0))
    assert found.champion_ms == pytest.approx(15.0 * np.exp(0.5 * 2.326), rel=0.05)
    assert found.challenger_ms == pytest.approx(found.champion_ms, rel=0.1)
    assert found.low_ms is None


def test_few_blocks_give_no_lower_bound() -> None:
    short = traffic(4, seconds=5.0 * (MIN_BLOCKS - 1) - 0.1, slower=50.0)
    assert compare_latency(short).low_ms is None
    assert compare_latency(traffic(4, seconds=5.0 * MIN_BLOCKS + 5, slower=50.0)).low_ms is not None


def test_arms_that_never_answered_together_are_not_compared() -> None:
    alone = [traffic(k, seconds=30.0, share=k, after_s=60.0 * k) for k in (0, 1)]
    assert compare_latency(pl.concat(alone)) == ArmLatency()
    assert compare_latency(alone[0].with_columns(latency_ms=pl.lit(None, dtype=pl.Float32))) == ArmLatency()
