"""Evidence of an experiment from the lake: predictions by arm and plan revision, joined with trusted feedback."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Final

import numpy as np
import polars as pl

from absa.ledger.routing import Arm, TrafficPlan
from absa.records.lake import Lake
from absa.records.layout import outcome_prefix
from absa.records.schema import Window, utc_now
from absa.records.tables import OUTCOMES, hours
from absa.records.windows import SERVED, UNIT, empty_frame, load_window, read_keys
from absa.task import ABSA, TaskSpec, listed
from monitoring.experiments.ab_statistics import NO_OUTCOMES, Allocation, ArmHealth, ExperimentEvidence, Outcomes
from monitoring.experiments.arm_latency import compare_latency

MAX_SERVED_ROWS: Final = 2_000_000
_NAMED_LABELS: Final = 3


def collect_experiment(
    lake: Lake,
    experiment: str,
    *,
    plans: Mapping[int, TrafficPlan],
    since: datetime,
    until: datetime | None = None,
    trusted_sources: Collection[str] | None = None,
    challenger: str | None = None,
    saving: float | None = None,
    task: TaskSpec = ABSA,
) -> ExperimentEvidence:
    """Return the evidence on one challenger so far.

    Args:
        lake: holds predictions, feedback and outcome counts.
        experiment: its name, as predictions carry it.
        plans: the experiment's plans by revision (the ledger record's number), active since `since`.
        since: when its first plan became active.
        until: time of the look; by default now.
        trusted_sources: feedback sources that may measure; None: every source.
        challenger: the arm's name; by default the plans' only challenger.
        saving: share of the champion's price per prediction that the challenger saves; None: not measured.
        task: task whose evaluated labels count.

    Raises:
        ValueError: no plan names the experiment, or the challenger is not in its plans.
    """
    until = until or utc_now()
    mine = {number: plan for number, plan in plans.items() if plan.experiment == experiment}
    if not mine:
        raise ValueError(f"no plan belongs to experiment {experiment!r}")
    newest = mine[max(mine)]
    arm = _challenger(newest, challenger)
    data = load_window(
        lake,
        Window(start=since, end=until),
        keep=(pl.col("experiment") == experiment) & SERVED,
        trusted_sources=trusted_sources,
        feedback_until=until,
        max_rows=MAX_SERVED_ROWS,
    )
    every = data.rows.with_columns(
        (pl.col("arm") == arm.name).alias("challenger"),
        UNIT.alias("unit"),
        pl.col("revision").fill_null(0),
    )
    compared = pl.col("arm").is_in([newest.champion.name, arm.name]) & pl.col("model_version").is_in(
        [newest.champion.version, arm.version]
    )
    rows = every.filter(compared)
    counts = outcome_counts(lake, Window(start=since, end=until))
    latency = compare_latency(rows)
    return ExperimentEvidence(
        experiment=experiment,
        champion=newest.champion.version,
        challenger=arm.version,
        outcomes=_outcomes(rows, task.evaluated_numbers),
        slices={} if saving is None else _slices(rows, task),
        saving=saving,
        allocation=_allocation(_first_seen(every).filter(compared), mine, arm.name),
        champion_health=_health(
            rows.filter(~pl.col("challenger")), counts, newest.champion, p99_ms=latency.champion_ms
        ),
        challenger_health=_health(
            rows.filter(pl.col("challenger")), counts, arm, p99_ms=latency.challenger_ms, p99_low_ms=latency.low_ms
        ),
        elapsed_s=(until - since).total_seconds(),
        counted=listed(task.evaluated) if len(task.evaluated) <= _NAMED_LABELS else f"{len(task.evaluated)} labels",
    )


def _challenger(plan: TrafficPlan, name: str | None) -> Arm:
    known = {arm.name: arm for arm in plan.challengers}
    if name is None and len(known) == 1:
        return plan.challengers[0]
    if name not in known:
        raise ValueError(f"the challenger must be one of {', '.join(known) or 'none'}, got {name!r}")
    return known[name]


def _outcomes(rows: pl.DataFrame, evaluated: Sequence[int]) -> Outcomes:
    """Return answers with an unsolicited true label that is evaluated.

    Requested labels are left out: each arm's hard rows, by its own scores, are requested more often.
    """
    known = rows.filter(pl.col("feedback_label").is_in(list(evaluated)) & pl.col("sampling_probability").is_null())
    if known.height == 0:
        return NO_OUTCOMES
    return Outcomes(
        challenger=known["challenger"].to_numpy(),
        revision=known["revision"].to_numpy().astype(np.int64),
        unit=known["unit"].rank("dense").cast(pl.Int64).to_numpy(),
        right=(known["label"] == known["feedback_label"]).cast(pl.Float64).to_numpy(),
    )


def _slices(rows: pl.DataFrame, task: TaskSpec) -> dict[str, Outcomes]:
    """Return the outcomes of each segment and of each evaluated label, by name."""
    segments = sorted(rows["segment"].drop_nulls().unique())
    named = {
        f"segment {name}": _outcomes(rows.filter(pl.col("segment") == name), task.evaluated_numbers)
        for name in segments
    }
    return named | {f"label {task.labels[label]}": _outcomes(rows, (label,)) for label in task.evaluated_numbers}


def _first_seen(rows: pl.DataFrame) -> pl.DataFrame:
    """Return each unit's first row in any arm: a unit that returns from a dropped arm is not new."""
    return rows.sort("at").unique("unit", keep="first", maintain_order=True)


def _allocation(first: pl.DataFrame, plans: Mapping[int, TrafficPlan], name: str) -> tuple[Allocation, ...]:
    """Return the units by plan revision; each counts once, under the revision of its first row."""
    counted = first.group_by("revision").agg(pl.len().alias("units"), pl.col("challenger").sum().alias("mine"))
    parts = []
    for revision, units, mine in counted.sort("revision").iter_rows():
        plan = plans.get(revision)
        if plan is None or plan.mode != "ab":
            continue
        share = next((arm.share for arm in plan.challengers if arm.name == name), 0.0)
        compared = share + plan.champion.share
        parts.append(
            Allocation(
                revision=revision,
                share=share / compared if compared > 0 else 0.0,
                champion_units=units - mine,
                challenger_units=mine,
            )
        )
    return tuple(parts)


def outcome_counts(lake: Lake, window: Window) -> pl.DataFrame:
    """Return the counts of the minutes that a window touches, in the shape of `OUTCOMES`."""
    prefixes = dict.fromkeys(outcome_prefix(hour) for hour in hours(window))
    counts = pl.concat([empty_frame(OUTCOMES), *read_keys(lake, prefixes, OUTCOMES)])
    start = window.start.replace(second=0, microsecond=0)
    return counts.filter((pl.col("minute") >= start) & (pl.col("minute") < window.end))


def _of(counts: pl.DataFrame, arm: Arm) -> pl.DataFrame:
    return counts.filter((pl.col("arm") == arm.name) & (pl.col("version") == arm.version))


def failures(counts: pl.DataFrame, arm: Arm) -> int:
    """Return the number of an arm's requests that ended in an error or a timeout."""
    mine = _of(counts, arm)
    return int(mine["error"].sum()) + int(mine["timeout"].sum())


def health_of(rows: pl.DataFrame, failed: int) -> ArmHealth:
    """Return an arm's confidence and classes from its answers (label, scores), without latency."""
    confidence = top = None
    if rows.height:
        confidence = float(np.array(rows["scores"].to_list(), dtype=np.float64).max(axis=1).mean())
        top = float(np.bincount(rows["label"].to_numpy()).max() / rows.height)
    return ArmHealth(requests=rows.height + failed, errors=failed, mean_confidence=confidence, top_class=top)


def _health(
    rows: pl.DataFrame, counts: pl.DataFrame, arm: Arm, *, p99_ms: float | None, p99_low_ms: float | None = None
) -> ArmHealth:
    """Return the arm's errors from the outcome counts, its confidence from its answers, and the latency given."""
    mine = _of(counts, arm)
    failed = failures(counts, arm)
    answered = int(mine["ok"].sum()) if mine.height else rows.height
    return replace(health_of(rows, failed), requests=answered + failed, p99_ms=p99_ms, p99_low_ms=p99_low_ms)
