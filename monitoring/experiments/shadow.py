"""Champion and challenger on the same requests: agreement, flips, latency and errors pairwise, and McNemar's test.

A shadow answers the requests that the champion has answered, so both versions are compared on pairs of answers. Only
disagreements show which version is better, and only a label shows which answer is right. Labels are therefore requested
for disagreements, not for all traffic. Requested labels count, because every disagreement is drawn with the same
probability, independent of the scores. The difference on them has the right sign, but is larger than in the traffic.
Times the share of disagreements it is the difference in the traffic, which shows that a cheaper version is not worse.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from math import ceil, sqrt
from statistics import NormalDist
from typing import Final

import numpy as np
import numpy.typing as npt
import polars as pl

from absa.evaluation.counts import confusion_counts
from absa.evaluation.significance import binomial_tail, may_lose, rules_out
from absa.ledger.routing import TrafficPlan
from absa.policies import ExperimentPolicy
from absa.records.lake import Lake
from absa.records.schema import Window, utc_now
from absa.records.tables import PREDICTIONS
from absa.records.windows import MAX_ROWS, UNIT, empty_frame, load_window, read_predictions
from absa.task import ABSA, TaskSpec
from monitoring.experiments.ab_statistics import (
    UNKNOWN_DIFFERENCE,
    ArmHealth,
    Difference,
    ExperimentDecision,
    broken_guardrail,
    is_cheaper,
    with_interval,
)
from monitoring.experiments.collect import failures, health_of, outcome_counts

SHADOW_ALPHA: Final = 0.01  # probability of a wrong decision about an equal challenger on labels of its shadow time


@dataclass(frozen=True, kw_only=True)
class ShadowReport:
    """Result of the comparison of pairs. Shares are 0 to 1.

    `confusion[i][j]` counts pairs that the champion answered with i and the challenger with j. `flips` counts pairs of
    two different evaluated labels. `gains` has one number per pair with a trusted label that is evaluated: 1 if only
    the challenger was right, -1 if only the champion was right, else 0; `units` has the units of these pairs. `asked`
    has the requested labels of disagreements, which give the difference in the traffic and per segment. Latencies are
    medians in milliseconds. They are not compared, because a shadow runs in the time that live requests leave.
    """

    experiment: str
    champion: str
    challenger: str
    pairs: int
    agreement: float
    flips: int
    confusion: tuple[tuple[int, ...], ...]
    gains: npt.NDArray[np.float64]
    units: npt.NDArray[np.int64]
    asked: "AskedDisagreements"
    champion_health: ArmHealth
    challenger_health: ArmHealth
    champion_ms: float | None
    challenger_ms: float | None

    @property
    def disagreements(self) -> int:
        """Number of pairs with different answers."""
        return self.pairs - round(self.agreement * self.pairs)

    @property
    def labelled(self) -> int:
        """Number of pairs with a trusted label that is evaluated."""
        return len(self.gains)

    @property
    def only_champion(self) -> int:
        """Number of labelled pairs in which only the champion was right."""
        return int((self.gains < 0).sum())

    @property
    def only_challenger(self) -> int:
        """Number of labelled pairs in which only the challenger was right."""
        return int((self.gains > 0).sum())

    @property
    def p_value(self) -> float:
        """McNemar's exact p-value of all labelled pairs, two-sided, for one look."""
        return mcnemar(self.only_champion, self.only_challenger)

    def on_labels(self, policy: ExperimentPolicy) -> Difference:
        """Return the difference of the shares of right answers on all labelled pairs, at the level of a rollback."""
        alpha = SHADOW_ALPHA / policy.comparisons
        return paired_difference(self.gains, self.units, alpha=alpha, effect_scale=policy.effect_scale)


@dataclass(frozen=True, kw_only=True)
class AskedDisagreements:
    """Requested labels of disagreements, as gains: 1 if only the challenger was right, -1 if only the champion was.

    The gain is 0 if the true label is not evaluated. `disagreeing` of `pairs` pairs differ. `evaluated` is the share of
    all requests with an evaluated label, estimated from both answers.
    """

    gains: npt.NDArray[np.float64]
    units: npt.NDArray[np.int64]
    disagreeing: int
    pairs: int
    evaluated: float
    segments: Mapping[str, "AskedDisagreements"] = field(default_factory=dict)

    def in_traffic(self, *, alpha: float, effect_scale: float) -> Difference:
        """Return the difference of the shares of right answers on evaluated labels, with its confidence sequence.

        The difference is the share of disagreements times their mean gain, divided by the share of evaluated labels.
        Its variance is the sum of the variances that both factors cause (delta method).
        """
        if not len(self.gains) or not self.evaluated:
            return UNKNOWN_DIFFERENCE
        mean, variance = _paired(self.gains, self.units)
        share = self.disagreeing / self.pairs
        smooth = (self.disagreeing + 1.0) / (self.pairs + 2.0)
        both = smooth**2 * variance + mean**2 * smooth * (1.0 - smooth) / self.pairs
        return with_interval(
            share * mean / self.evaluated, both / self.evaluated**2, alpha=alpha, effect_scale=effect_scale
        )


def compare_shadow(
    lake: Lake,
    plan: TrafficPlan,
    challenger: str,
    *,
    since: datetime,
    until: datetime | None = None,
    labels_until: datetime | None = None,
    trusted_sources: Collection[str] | None = None,
    max_rows: int = MAX_ROWS,
    task: TaskSpec = ABSA,
) -> ShadowReport:
    """Compare a challenger of a shadow plan with the champion.

    Args:
        lake: holds predictions, feedback and outcome counts.
        plan: the active plan.
        challenger: version of the challenger.
        since: time at which the plan became active.
        until: end of the shadow time; by default now.
        labels_until: time until which labels count, because they come late; by default `until`.
        trusted_sources: feedback sources that may measure; None: every source.
        max_rows: largest number of pairs; more are sampled.
        task: task whose evaluated labels count.

    Raises:
        ValueError: this version is not a challenger of the plan.
    """
    arm = next((each for each in plan.challengers if each.version == challenger), None)
    if arm is None:
        raise ValueError(f"the plan tries {', '.join(each.version for each in plan.challengers)}, not {challenger}")
    window = Window(start=since, end=until or utc_now())
    mine = pl.col("experiment") == plan.experiment
    served = load_window(
        lake,
        window,
        keep=mine & ~pl.col("shadow") & (pl.col("model_version") == plan.champion.version),
        trusted_sources=trusted_sources,
        feedback_until=labels_until or window.end,
        max_rows=max_rows,
    )
    shadow_of = mine & pl.col("shadow") & (pl.col("model_version") == challenger)
    shadow = pl.concat([empty_frame(PREDICTIONS), *read_predictions(lake, window, shadow_of)]).unique(
        "request_id", keep="first", maintain_order=True
    )
    pairs = served.rows.join(
        shadow.select("request_id", theirs="label", their_scores="scores", their_ms="latency_ms"),
        on="request_id",
        how="inner",
        maintain_order="left",
    )
    counts = outcome_counts(lake, window)
    old, new = pairs["label"].to_numpy(), pairs["theirs"].to_numpy()
    confusion = confusion_counts(old, new, n_labels=task.n_labels)
    evaluated = list(task.evaluated_numbers)
    among = confusion[np.ix_(evaluated, evaluated)]
    known = pairs.filter(pl.col("feedback_label").is_in(evaluated))
    right = [(known[side] == known["feedback_label"]).to_numpy() for side in ("label", "theirs")]
    named = pairs.select("request_id", label="theirs", scores="their_scores", latency_ms="their_ms")
    return ShadowReport(
        experiment=str(plan.experiment),
        champion=plan.champion.version,
        challenger=challenger,
        pairs=pairs.height,
        agreement=float((old == new).mean()) if pairs.height else 1.0,
        flips=int(among.sum() - np.trace(among)),
        confusion=tuple(tuple(int(count) for count in row) for row in confusion),
        gains=right[1].astype(np.float64) - right[0].astype(np.float64),
        units=_units(known),
        asked=_asked(pairs, task, by_segment=True),
        champion_health=_health(pairs, served.total, failures(counts, plan.champion)),
        challenger_health=_health(named, shadow.height, failures(counts, arm)),
        champion_ms=_median(pairs["latency_ms"]),
        challenger_ms=_median(pairs["their_ms"]),
    )


def _health(pairs: pl.DataFrame, answered: int, failed: int) -> ArmHealth:
    """Return confidence and classes from the pairs, failures from all requests: pairs may be a sample."""
    return replace(health_of(pairs, failed), requests=answered + failed)


def _asked(pairs: pl.DataFrame, task: TaskSpec, *, by_segment: bool = False) -> AskedDisagreements:
    """Return the requested labels of the disagreements among some pairs.

    Unsolicited labels are left out: customers saw the champion's answers, and report wrong ones.
    """
    evaluated = list(task.evaluated_numbers)
    differing = pairs.filter(pl.col("label") != pl.col("theirs"))
    asked = differing.filter(pl.col("feedback_label").is_not_null() & pl.col("sampling_probability").is_not_null())
    right = [(asked[side] == asked["feedback_label"]).to_numpy().astype(np.float64) for side in ("label", "theirs")]
    counts = asked["feedback_label"].is_in(evaluated).to_numpy()
    shares = [float(pairs[side].is_in(evaluated).mean() or 0.0) for side in ("label", "theirs")]  # type: ignore[arg-type]
    segments = sorted(pairs["segment"].drop_nulls().unique()) if by_segment else []
    return AskedDisagreements(
        gains=np.where(counts, right[1] - right[0], 0.0),
        units=_units(asked),
        disagreeing=differing.height,
        pairs=pairs.height,
        evaluated=min(shares),
        segments={name: _asked(pairs.filter(pl.col("segment") == name), task) for name in segments},
    )


def _units(rows: pl.DataFrame) -> npt.NDArray[np.int64]:
    return rows.select(UNIT.alias("unit"))["unit"].rank("dense").cast(pl.Int64).to_numpy()


def _median(values: pl.Series) -> float | None:
    known = values.drop_nulls()
    return float(np.median(known.to_numpy())) if len(known) else None


def paired_difference(
    gains: npt.NDArray[np.float64],
    units: npt.NDArray[np.int64],
    *,
    alpha: float = SHADOW_ALPHA,
    effect_scale: float = 0.03,
) -> Difference:
    """Return the mean of 1 (only the challenger right), -1 (only the champion right) and 0, with its interval.

    It is `ab_statistics.difference` for pairs. The variance is taken over units. It is never below the variance of
    independent pairs with one more pair of each kind.
    """
    if not len(gains):
        return UNKNOWN_DIFFERENCE
    return with_interval(*_paired(gains, units), alpha=alpha, effect_scale=effect_scale)


def _paired(gains: npt.NDArray[np.float64], units: npt.NDArray[np.int64]) -> tuple[float, float]:
    """Return the mean gain of pairs and its variance over units."""
    n = len(gains)
    estimate = float(gains.mean())
    _, unit = np.unique(units, return_inverse=True)
    influence = np.bincount(unit, weights=gains - estimate) / n
    clustered = float((influence**2).sum()) * len(influence) / max(len(influence) - 1, 1)
    up, down = (((gains == sign).sum() + 1.0) / (n + 2.0) for sign in (1.0, -1.0))
    floor = float(up + down - (up - down) ** 2) / n
    return estimate, max(clustered, floor)


def mcnemar(only_champion: int, only_challenger: int) -> float:
    """Return McNemar's exact two-sided p-value for the pairs that only one version got right."""
    most = max(only_champion, only_challenger)
    return min(1.0, 2.0 * binomial_tail(most, only_champion + only_challenger, 0.5))


def labels_to_decide(
    disagreement: float, gain: float, *, accuracy: float = 0.8, alpha: float = 0.05, power: float = 0.8
) -> tuple[int, int]:
    """Return the numbers of labels that show a gain: labels of disagreements, and of both arms of an A/B test.

    Args:
        disagreement: share of pairs with different answers; in each of them one version is assumed to be right.
        gain: difference of the shares of right answers to find (0.03 is three points).
        accuracy: the champion's share of right answers.
        alpha: two-sided error probability.
        power: probability to find the gain.

    Both are fixed-horizon sizes: Connor (1987) for McNemar's test, two proportions for the A/B test.

    Raises:
        ValueError: the gain is 0.
    """
    if gain == 0:
        raise ValueError("gain: expected a number other than 0, got 0")
    normal = NormalDist()
    z_alpha, z_power = normal.inv_cdf(1 - alpha / 2), normal.inv_cdf(power)
    gain = abs(gain)
    apart = max(disagreement, gain)
    pairs = (z_alpha * sqrt(apart) + z_power * sqrt(max(apart - gain**2, 0.0))) ** 2 / gain**2
    other = min(accuracy + gain, 1.0)
    spread = accuracy * (1 - accuracy) + other * (1 - other)
    middle = (accuracy + other) / 2
    arm = (z_alpha * sqrt(2 * middle * (1 - middle)) + z_power * sqrt(spread)) ** 2 / gain**2
    return ceil(pairs * apart), 2 * ceil(arm)


def judge_shadow(report: ShadowReport, policy: ExperimentPolicy, *, saving: float | None = None) -> ExperimentDecision:
    """Decide about a shadow: ROLL_BACK if it fails, collapses or is worse; PROMOTE if better, or not worse and cheaper.

    Pure. Requested labels of disagreements can show that the challenger is better; an A/B test needs far more outcomes
    to show it. Every interval holds at all looks together, at a level that is divided by the number of challengers.

    Args:
        report: result of the comparison.
        policy: has the limits.
        saving: share of the champion's price per prediction that the challenger saves; None: not measured.
    """
    old, new = report.champion_health, report.challenger_health
    if report.pairs < policy.min_guard_requests:
        new = replace(new, mean_confidence=None, top_class=None)
    broken = broken_guardrail(old, new, policy)
    cheap, margin = is_cheaper(saving, policy), policy.non_inferiority_margin
    strict = {"alpha": SHADOW_ALPHA / policy.comparisons, "effect_scale": policy.effect_scale}
    limits = strict | {"alpha": policy.alpha / policy.comparisons}
    asked = report.asked
    on_asked = f"{len(asked.gains)} labels of {report.disagreements} disagreements in {report.pairs} requests"
    if cheap:
        gain, labels = asked.in_traffic(**limits), len(asked.gains)
        lost = _enough(asked.gains, asked.units, policy) and gain.high < -margin
        points = _points(gain, policy.alpha, on_asked)
    else:
        gain, labels = report.on_labels(policy), report.labelled
        lost = _enough(report.gains, report.units, policy) and gain.high < 0.0
        points = _points(gain, SHADOW_ALPHA, f"{labels} labelled requests")
    if broken is None and lost:
        broken = "labels", f"it is worse than {report.champion}: {points}."
    enough = broken is None and report.pairs >= policy.min_exposure and _enough(asked.gains, asked.units, policy)
    proven = asked.in_traffic(**strict)
    better = enough and proven.low > 0.0
    not_worse = (
        cheap
        and enough
        and rules_out(margin, gain.low)
        and not any(
            may_lose(margin, value=each.estimate, low=each.low, high=each.high)
            for each in (part.in_traffic(**limits) for part in asked.segments.values())
        )
    )
    sentence = (
        f"In shadow: {report.pairs} requests answered by both, {report.agreement:.1%} alike, {report.flips} opposite."
    )
    if broken is not None:
        sentence = f"Version {report.challenger} is rolled back from shadow: {broken[1]}"
    elif better:
        gain, labels = proven, len(asked.gains)
        points = _points(gain, SHADOW_ALPHA, on_asked)
        sentence = f"Version {report.challenger} is better than {report.champion}: {points}."
    elif not_worse:
        sentence = (
            f"Version {report.challenger} is not worse than {report.champion} by {100 * margin:g} points or more, and "
            f"{saving:.0%} cheaper per prediction: {points}."
        )
    return ExperimentDecision(
        decision="ROLL_BACK" if broken is not None else "PROMOTE" if better or not_worse else "CONTINUE",
        sentence=sentence,
        estimate=gain.estimate,
        low=gain.low,
        high=gain.high,
        exposure_champion=labels,
        exposure_challenger=labels,
        srm_p_value=1.0,
        guard=None if broken is None else broken[0],
        grounds="better" if better else "not worse and cheaper" if not_worse else None,
        saving=saving,
    )


def _enough(gains: npt.NDArray[np.float64], units: npt.NDArray[np.int64], policy: ExperimentPolicy) -> bool:
    """Return True if there are labels of enough pairs and units for an asymptotic interval."""
    return len(gains) >= policy.min_exposure_to_stop and len(np.unique(units)) >= policy.min_units


def _points(gain: Difference, alpha: float, labels: str) -> str:
    return (
        f"{100 * gain.estimate:+.1f} points of right answers (always-valid {100 * (1 - alpha):.0f} % interval "
        f"{100 * gain.low:+.1f} to {100 * gain.high:+.1f}; {labels})"
    )
