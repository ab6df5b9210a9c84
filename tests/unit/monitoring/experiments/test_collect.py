"""Tests of gathering an experiment's evidence from the lake."""

from collections.abc import Callable
from dataclasses import replace

import pyarrow as pa
import pytest

from absa.ledger.routing import Arm, TrafficPlan
from absa.policies import ExperimentPolicy
from absa.records.lake import Lake
from absa.records.layout import outcome_prefix
from absa.records.rows import LATENCY_BOUNDS_MS
from absa.records.schema import Window
from absa.records.tables import OUTCOMES, write_parquet
from monitoring.experiments.ab_statistics import judge_experiment
from monitoring.experiments.collect import collect_experiment
from tests.unit.monitoring.conftest import Traffic

Windows = Callable[[int], Window]


def plan(share: float, *, experiment: str | None = "e") -> TrafficPlan:
    return TrafficPlan(
        mode="ab",
        experiment=experiment,
        salt="s",
        arms=(
            Arm(name="champion", version="1", share=1 - share),
            Arm(name="challenger", version="2", share=share),
        ),
    )


PLANS = {3: plan(0.25), 4: plan(0.5)}


def ramp(traffic: Traffic, window: Windows) -> None:
    for k, revision, mine, old in ((0, 3, 25, 75), (1, 4, 60, 60)):
        traffic.send(window(k), old, experiment="e", revision=revision, labelled=1.0)
        traffic.send(window(k), mine, experiment="e", revision=revision, version="2", arm="challenger", labelled=1.0)


def test_outcomes_are_answers_with_opinionated_truth(lake: Lake, traffic: Traffic, window: Windows) -> None:
    ramp(traffic, window)
    evidence = collect_experiment(lake, "e", plans=PLANS, since=window(0).start, until=window(9).end)
    champion, challenger = evidence.outcomes.exposure
    assert 80 < champion < 135  # a fifth of the truth is neutral
    assert 45 < challenger < 85
    assert set(evidence.outcomes.revision.tolist()) == {3, 4}
    assert (evidence.champion, evidence.challenger) == ("1", "2")


def test_units_count_under_first_seen_revision(lake: Lake, traffic: Traffic, window: Windows) -> None:
    ramp(traffic, window)
    evidence = collect_experiment(lake, "e", plans=PLANS, since=window(0).start, until=window(9).end)
    assert [(a.revision, a.share, a.champion_units, a.challenger_units) for a in evidence.allocation] == [
        (3, 0.25, 75, 25),
        (4, 0.5, 60, 60),
    ]


def test_returning_units_do_not_tip_sample_ratio(lake: Lake, traffic: Traffic, window: Windows) -> None:
    third = Arm(name="third", version="3", share=1 / 3)
    arms = (Arm(name="champion", version="1", share=1 / 3), Arm(name="challenger", version="2", share=1 / 3))
    three = TrafficPlan(mode="ab", experiment="e", salt="s", arms=(*arms, third))
    two = TrafficPlan(mode="ab", experiment="e", salt="s", arms=(replace(arms[0], share=2 / 3), arms[1]))
    for arm in three.arms:
        traffic.send(window(0), 200, experiment="e", revision=3, version=arm.version, arm=arm.name, labelled=0.0)
    thirds = traffic.written
    for arm, units in ((arms[0], 60), (arms[1], 30)):
        traffic.send(window(1), units, experiment="e", revision=4, version=arm.version, arm=arm.name)
    traffic.send(window(2), 200, experiment="e", revision=4, units_of=thirds)  # back, to the champion
    plans = {3: three, 4: two}
    evidence = collect_experiment(
        lake, "e", plans=plans, since=window(0).start, until=window(9).end, challenger="challenger"
    )
    assert [(a.revision, a.champion_units, a.challenger_units) for a in evidence.allocation] == [
        (3, 200, 200),
        (4, 60, 30),
    ]
    assert evidence.champion_health.requests == 460
    assert judge_experiment(evidence, ExperimentPolicy()).guard is None


def test_other_experiments_shadows_and_untrusted_labels_stay_out(lake: Lake, traffic: Traffic, window: Windows) -> None:
    traffic.send(window(0), 50, experiment="other", labelled=1.0)
    traffic.send(window(0), 50, labelled=1.0)
    traffic.send(window(0), 50, experiment="e", shadow=True, version="2", arm="challenger", labelled=1.0)
    traffic.send(window(0), 50, experiment="e", revision=3, labelled=1.0, source="forum")
    evidence = collect_experiment(
        lake, "e", plans=PLANS, since=window(0).start, until=window(9).end, trusted_sources=["survey"]
    )
    assert evidence.outcomes.exposure == (0, 0)
    assert evidence.champion_health.requests == 50


def test_labels_that_were_asked_for_are_no_outcomes(lake: Lake, traffic: Traffic, window: Windows) -> None:
    ramp(traffic, window)
    unasked = collect_experiment(lake, "e", plans=PLANS, since=window(0).start, until=window(9).end).outcomes
    traffic.send(window(2), 60, experiment="e", revision=4, accuracy=0.4, labelled=1.0, probability=0.5)
    outcomes = collect_experiment(lake, "e", plans=PLANS, since=window(0).start, until=window(9).end).outcomes
    assert outcomes.exposure == unasked.exposure
    assert outcomes.right.sum() == unasked.right.sum()


def test_errors_come_from_the_outcome_counts(lake: Lake, traffic: Traffic, window: Windows) -> None:
    rows = [
        {
            "schema_version": 1,
            "minute": window(0).start,
            "version": version,
            "arm": arm,
            "ok": 1000,
            "error": errors,
            "shed": 0,
            "timeout": 1,
            "latency_histogram": [0] * (len(LATENCY_BOUNDS_MS) + 1),
            "replica": "r1",
        }
        for version, arm, errors in (("1", "champion", 3), ("2", "challenger", 30), ("9", "challenger", 500))
    ]
    write_parquet(
        lake, f"{outcome_prefix(window(0).start)}r1-1000.parquet", pa.Table.from_pylist(rows, schema=OUTCOMES)
    )
    evidence = collect_experiment(lake, "e", plans=PLANS, since=window(0).start, until=window(9).end)
    assert (evidence.champion_health.requests, evidence.champion_health.errors) == (1004, 4)
    assert evidence.challenger_health.errors == 31


def test_latency_comes_from_the_answers(lake: Lake, traffic: Traffic, window: Windows) -> None:
    for version, arm, slower in (("1", "champion", 1.0), ("2", "challenger", 100.0)):
        traffic.send(window(0), 600, experiment="e", revision=3, version=version, arm=arm, slower=slower)
    evidence = collect_experiment(lake, "e", plans=PLANS, since=window(0).start, until=window(9).end)
    champion, challenger = evidence.champion_health, evidence.challenger_health
    assert champion.p99_ms is not None
    assert challenger.p99_low_ms is not None
    assert challenger.p99_low_ms > 10 * champion.p99_ms


def test_experiment_without_plan_or_challenger_is_refused(lake: Lake, window: Windows) -> None:
    with pytest.raises(ValueError, match="no plan"):
        collect_experiment(lake, "f", plans=PLANS, since=window(0).start, until=window(1).end)
    with pytest.raises(ValueError, match="must be one of challenger"):
        collect_experiment(lake, "e", plans=PLANS, since=window(0).start, until=window(1).end, challenger="third")
