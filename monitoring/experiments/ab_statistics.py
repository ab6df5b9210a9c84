"""A/B statistics that are valid at every look, guardrails, and the decision about a challenger. Pure.

The outcome of a request is a right or a wrong answer. Only requests count whose true label (feedback of a trusted
source) is evaluated. The difference of the arms' shares of right answers is stratified by plan revision, because a ramp
changes the mix over time. Its variance is taken over units, because a unit's answers depend on each other. Its interval
is an asymptotic confidence sequence (Waudby-Smith, Arbour, Sinha, Kennedy and Ramdas 2021, with Robbins' normal
mixture): it holds at all times together, so an experiment may be judged at any time. The sample-ratio test is Lindon
and Malek's (2022) e-value.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import exp, inf, log, log1p, sqrt
from typing import Final, Literal

import numpy as np
import numpy.typing as npt

from absa.evaluation.significance import may_lose, rules_out
from absa.policies import ExperimentPolicy
from absa.records.experiment import Grounds
from absa.task import ABSA, listed

ExperimentAction = Literal["PROMOTE", "ROLL_BACK", "CONTINUE", "STOP_FOR_FUTILITY"]
_DAY_S: Final = 86_400.0
_SRM_CONCENTRATION: Final = 1_000.0


@dataclass(frozen=True, kw_only=True)
class Outcomes:
    """Labelled answers (n): arm, plan revision and unit of each, and 1 if it was right, else 0."""

    challenger: npt.NDArray[np.bool_]
    revision: npt.NDArray[np.int64]
    unit: npt.NDArray[np.int64]
    right: npt.NDArray[np.float64]

    @property
    def exposure(self) -> tuple[int, int]:
        """Outcomes of champion and challenger."""
        mine = int(self.challenger.sum())
        return len(self.challenger) - mine, mine


NO_OUTCOMES: Final = Outcomes(
    challenger=np.zeros(0, dtype=bool),
    revision=np.zeros(0, dtype=np.int64),
    unit=np.zeros(0, dtype=np.int64),
    right=np.zeros(0),
)


@dataclass(frozen=True, kw_only=True)
class Allocation:
    """Units that were first seen under one plan revision, by arm.

    `share` is the challenger's among the two arms compared (0 to 1).
    """

    revision: int
    share: float
    champion_units: int
    challenger_units: int


@dataclass(frozen=True, kw_only=True)
class ArmHealth:
    """Health of one arm, apart from its quality.

    `p99_ms` is measured over the times at which both arms answered. `p99_low_ms` is a latency that the challenger's p99
    surely reaches, and that more of the challenger's answers surely reach than of the champion's. `top_class` is the
    share of the class that the arm answers most.
    """

    requests: int = 0
    errors: int = 0
    p99_ms: float | None = None
    p99_low_ms: float | None = None
    mean_confidence: float | None = None
    top_class: float | None = None


@dataclass(frozen=True, kw_only=True)
class ExperimentEvidence:
    """Evidence on one challenger against the champion so far; `counted` names the evaluated labels.

    `slices` has the outcomes of each segment and of each evaluated label by name. `saving` is the share of the
    champion's price per prediction that the challenger saves; None: not measured. `elapsed_s` counts from the start of
    the A/B test.
    """

    experiment: str
    champion: str
    challenger: str
    outcomes: Outcomes = NO_OUTCOMES
    slices: Mapping[str, Outcomes] = field(default_factory=dict)
    saving: float | None = None
    allocation: Sequence[Allocation] = ()
    champion_health: ArmHealth = field(default_factory=ArmHealth)
    challenger_health: ArmHealth = field(default_factory=ArmHealth)
    elapsed_s: float = 0.0
    counted: str = listed(ABSA.evaluated)


@dataclass(frozen=True, kw_only=True)
class Difference:
    """Challenger minus champion in the share of right answers, with an interval that holds at all looks together."""

    estimate: float
    low: float
    high: float
    standard_error: float


UNKNOWN_DIFFERENCE: Final = Difference(estimate=0.0, low=-1.0, high=1.0, standard_error=inf)


@dataclass(frozen=True, kw_only=True)
class ExperimentDecision:
    """Decision about the challenger, in one sentence, with its figures.

    `guard` names the guardrail that rolled back (errors, p99, sample_ratio, confidence, labels, check), else None.
    `grounds` is the reason of a PROMOTE. `saving` is copied from the evidence.
    """

    decision: ExperimentAction
    sentence: str
    estimate: float
    low: float
    high: float
    exposure_champion: int
    exposure_challenger: int
    srm_p_value: float
    guard: str | None = None
    grounds: Grounds | None = None
    saving: float | None = None


def judge_experiment(evidence: ExperimentEvidence, policy: ExperimentPolicy) -> ExperimentDecision:
    """Decide PROMOTE, ROLL_BACK, CONTINUE or STOP_FOR_FUTILITY. Pure, and valid at every look."""
    exposure = evidence.outcomes.exposure
    gain = difference(evidence.outcomes, alpha=policy.alpha / policy.comparisons, effect_scale=policy.effect_scale)
    srm = sample_ratio_p_value(evidence.allocation)

    def decide(
        decision: ExperimentAction, sentence: str, guard: str | None = None, grounds: Grounds | None = None
    ) -> ExperimentDecision:
        return ExperimentDecision(
            decision=decision,
            sentence=sentence,
            estimate=gain.estimate,
            low=gain.low,
            high=gain.high,
            exposure_champion=exposure[0],
            exposure_challenger=exposure[1],
            srm_p_value=srm,
            guard=guard,
            grounds=grounds,
            saving=evidence.saving,
        )

    broken = _guardrail(evidence, policy, srm)
    if broken is not None:
        guard, why = broken
        return decide("ROLL_BACK", f"Version {evidence.challenger} is rolled back: {why}", guard)
    points = (
        f"{100 * gain.estimate:+.1f} points of right answers on {evidence.counted} "
        f"(always-valid {100 * (1 - policy.alpha):.0f} % interval {100 * gain.low:+.1f} to {100 * gain.high:+.1f}; "
        f"{exposure[0]} and {exposure[1]} outcomes)"
    )
    decision, why, grounds = _from_labels(evidence, policy, gain)
    return decide(decision, f"{why}: {points}.", "labels" if decision == "ROLL_BACK" else None, grounds)


def _from_labels(
    evidence: ExperimentEvidence, policy: ExperimentPolicy, gain: Difference
) -> tuple[ExperimentAction, str, Grounds | None]:
    """Return the action that the labels support so far, with the reason, and the grounds of a promotion."""
    least = min(evidence.outcomes.exposure)
    arms = evidence.outcomes
    fewest = min(len(np.unique(arms.unit[mine])) for mine in (arms.challenger, ~arms.challenger))
    enough_units = fewest >= policy.min_units
    cheap, margin = is_cheaper(evidence.saving, policy), policy.non_inferiority_margin
    named = f"Version {evidence.challenger}"
    if least >= policy.min_exposure_to_stop and enough_units and gain.high < (-margin if cheap else 0.0):
        return "ROLL_BACK", f"{named} is worse than {evidence.champion}", None
    if least >= policy.min_exposure and enough_units:
        if gain.low > 0.0:
            return "PROMOTE", f"{named} is better than {evidence.champion}", "better"
        if cheap and rules_out(margin, gain.low) and not _losing_slices(evidence, policy):
            return "PROMOTE", _cheaper_sentence(evidence, margin), "not worse and cheaper"
        if not cheap and gain.high < policy.worthwhile_gain:
            wanted = f"{100 * policy.worthwhile_gain:.1f} points"
            return "STOP_FOR_FUTILITY", f"{named} cannot gain {wanted} any more", None
    longest_s = policy.longest_s(shadow=False)
    if evidence.elapsed_s >= longest_s:
        longest = f"{longest_s / 3600:.1f} h, the longest time of this A/B test"
        return "STOP_FOR_FUTILITY", f"No difference was shown within {longest}", None
    missing = policy.min_exposure - least
    why = f"{missing} more outcomes are needed before a decision" if missing > 0 else "No difference is shown yet"
    return "CONTINUE", why, None


def is_cheaper(saving: float | None, policy: ExperimentPolicy) -> bool:
    """Return True if a challenger saves enough to be promoted without a gain."""
    return saving is not None and saving >= policy.min_saving


def judge_saving(
    challenger: str, saving: float | None, policy: ExperimentPolicy, *, grounds: Grounds | None
) -> ExperimentDecision | None:
    """Return the decision to stop a challenger that was promoted for its price but saves too little; else None. Pure.

    The gate promoted the challenger for its price because it found no gain. Without the saving there is no reason left.

    Args:
        challenger: version of the challenger.
        saving: share of the champion's price per prediction that the challenger saves; None: not measured.
        policy: has the required saving.
        grounds: reason of the gate's PROMOTE; None: not known, or an operator chose the version.
    """
    if grounds != "not worse and cheaper" or saving is None or is_cheaper(saving, policy):
        return None
    return ExperimentDecision(
        decision="STOP_FOR_FUTILITY",
        sentence=(
            f"Version {challenger} is tried for its price, but saves {saving:.0%} per prediction on this machine: "
            f"at least {policy.min_saving:.0%} is required; `evergreen promote {challenger} --again` measures it again."
        ),
        estimate=0.0,
        low=UNKNOWN_DIFFERENCE.low,
        high=UNKNOWN_DIFFERENCE.high,
        exposure_champion=0,
        exposure_challenger=0,
        srm_p_value=1.0,
        saving=saving,
    )


def _cheaper_sentence(evidence: ExperimentEvidence, margin: float) -> str:
    return (
        f"Version {evidence.challenger} is not worse than {evidence.champion} by {100 * margin:g} points or more, and "
        f"{evidence.saving:.0%} cheaper per prediction"
    )


def _losing_slices(evidence: ExperimentEvidence, policy: ExperimentPolicy) -> list[str]:
    """Return the slices in which a loss above the margin is not ruled out."""
    alpha, scale = policy.alpha / policy.comparisons, policy.effect_scale
    found = {name: difference(each, alpha=alpha, effect_scale=scale) for name, each in evidence.slices.items()}
    return [
        name
        for name, each in found.items()
        if may_lose(policy.non_inferiority_margin, value=each.estimate, low=each.low, high=each.high)
    ]


def difference(outcomes: Outcomes, *, alpha: float = 0.05, effect_scale: float = 0.03) -> Difference:
    """Return the stratified difference of right shares and its confidence sequence.

    Args:
        outcomes: labelled answers of both arms.
        alpha: probability that the interval ever misses the truth, at most (asymptotically).
        effect_scale: standard deviation of the normal mixture; the interval is tightest for effects of this size.
    """
    both = _stratified(outcomes)
    if both is None:
        return UNKNOWN_DIFFERENCE
    return with_interval(*both, alpha=alpha, effect_scale=effect_scale)


def with_interval(estimate: float, variance: float, *, alpha: float, effect_scale: float) -> Difference:
    """Return an estimated difference of shares with its confidence sequence, limited to -1 to 1."""
    radius = mixture_radius(variance, alpha=alpha, effect_scale=effect_scale)
    return Difference(
        estimate=estimate,
        low=max(-1.0, estimate - radius),
        high=min(1.0, estimate + radius),
        standard_error=sqrt(variance),
    )


def mixture_radius(variance: float, *, alpha: float, effect_scale: float) -> float:
    """Return half the width of Robbins' normal-mixture confidence sequence at this variance of the estimate."""
    information = effect_scale**2 / variance
    return sqrt(variance * (1.0 + 1.0 / information) * (log1p(information) - 2.0 * log(alpha)))


def _stratified(outcomes: Outcomes) -> tuple[float, float] | None:
    """Return the estimate and its variance over units; None if no plan revision has outcomes of both arms.

    Strata are weighted by n1 n0 / (n1 + n0). The variance sums each unit's influence over all strata. It is never below
    the variance of independent answers with shares moved a little towards 0.5: an arm that was always right so far is
    still uncertain.
    """
    if len(outcomes.right) == 0:
        return None
    _, stratum = np.unique(outcomes.revision, return_inverse=True)
    k = int(stratum.max()) + 1
    arm = outcomes.challenger.astype(np.int64)
    cell = stratum * 2 + arm
    counts = np.bincount(cell, minlength=2 * k).reshape(k, 2).astype(np.float64)
    hits = np.bincount(cell, weights=outcomes.right, minlength=2 * k).reshape(k, 2)
    usable = counts.min(axis=1) > 0
    if not usable.any():
        return None
    weight = np.where(usable, counts.prod(axis=1) / np.maximum(counts.sum(axis=1), 1.0), 0.0)
    weight /= weight.sum()
    shares = hits / np.maximum(counts, 1.0)
    estimate = float((weight * (shares[:, 1] - shares[:, 0])).sum())
    scale = weight[stratum] / counts[stratum, arm]
    influence = np.where(arm == 1, 1.0, -1.0) * scale * (outcomes.right - shares[stratum, arm])
    _, unit = np.unique(outcomes.unit, return_inverse=True)
    per_unit = np.bincount(unit, weights=influence)
    clustered = float((per_unit**2).sum()) * len(per_unit) / max(len(per_unit) - 1, 1)
    pulled = (hits.sum(axis=0) + 1.0) / (counts.sum(axis=0) + 2.0)
    floor = (weight[:, None] ** 2 * pulled * (1.0 - pulled) / np.maximum(counts, 1.0))[usable].sum()
    return estimate, max(clustered, float(floor))


def sample_ratio_p_value(allocation: Sequence[Allocation]) -> float:
    """Return the anytime-valid p-value that units were split by the plan; 1 without units.

    The p-value is 1 / e-value. The e-value of a plan revision is a Beta mixture around the planned share; those of all
    revisions are multiplied.
    """
    log_e = sum(_log_e_value(part) for part in allocation)
    return min(1.0, exp(-log_e)) if log_e > 0 else 1.0


def _log_e_value(part: Allocation) -> float:
    from scipy.special import betaln  # slow to import

    if not 0.0 < part.share < 1.0:
        return 0.0
    a, b = _SRM_CONCENTRATION * part.share, _SRM_CONCENTRATION * (1.0 - part.share)
    hits, misses = part.challenger_units, part.champion_units
    mixed = betaln(a + hits, b + misses) - betaln(a, b)
    return float(mixed) - hits * log(part.share) - misses * log(1.0 - part.share)


def _guardrail(evidence: ExperimentEvidence, policy: ExperimentPolicy, srm: float) -> tuple[str, str] | None:
    """Return the first broken guardrail and the reason; None if all hold."""
    if srm <= policy.srm_alpha:
        sent = sum(part.challenger_units for part in evidence.allocation)
        expected = sum(part.share * (part.challenger_units + part.champion_units) for part in evidence.allocation)
        return "sample_ratio", (
            f"it got {sent} units, the plan gives {expected:.0f} (p = {srm:.1g}); figures of a wrong split cannot be "
            "trusted."
        )
    return broken_guardrail(evidence.champion_health, evidence.challenger_health, policy)


def broken_guardrail(old: ArmHealth, new: ArmHealth, policy: ExperimentPolicy) -> tuple[str, str] | None:
    """Return the first broken guardrail of errors, p99 and confidence, and the reason; None if all hold."""
    if min(old.requests, new.requests) < policy.min_guard_requests:
        return None
    checks = {
        "errors": _more_errors(old, new, policy),
        "p99": _slower(old, new, policy),
        "confidence": _less_sure(old, new, policy),
    }
    return next(((guard, why) for guard, why in checks.items() if why is not None), None)


def _more_errors(old: ArmHealth, new: ArmHealth, policy: ExperimentPolicy) -> str | None:
    if _error_increase(old, new, policy) <= policy.max_error_increase:
        return None
    return f"it fails on {new.errors} of {new.requests} requests, the champion on {old.errors} of {old.requests}."


def _slower(old: ArmHealth, new: ArmHealth, policy: ExperimentPolicy) -> str | None:
    if old.p99_ms is None or new.p99_low_ms is None:
        return None
    limit = max(old.p99_ms * policy.max_p99_ratio, old.p99_ms + policy.max_p99_increase_ms)
    if new.p99_low_ms <= limit:
        return None
    return f"its p99 latency is at least {new.p99_low_ms:.0f} ms, the champion's is {old.p99_ms:.0f} ms."


def _less_sure(old: ArmHealth, new: ArmHealth, policy: ExperimentPolicy) -> str | None:
    if old.mean_confidence is not None and new.mean_confidence is not None:
        drop = old.mean_confidence - new.mean_confidence
        if drop > policy.max_confidence_drop:
            return f"its mean confidence is {new.mean_confidence:.2f}, the champion's {old.mean_confidence:.2f}."
    if old.top_class is not None and new.top_class is not None:  # noqa: SIM102 - two guards of one kind, side by side
        if new.top_class >= policy.collapsed_class > old.top_class:
            return f"it gives one class to {new.top_class:.0%} of the requests, the champion to {old.top_class:.0%}."
    return None


def _error_increase(old: ArmHealth, new: ArmHealth, policy: ExperimentPolicy) -> float:
    """Return the lower end of the always-valid interval of the increase in the share of failed requests."""
    shares = [(health.errors + 1.0) / (health.requests + 2.0) for health in (old, new)]
    variance = sum(s * (1.0 - s) / h.requests for s, h in zip(shares, (old, new), strict=True))
    radius = mixture_radius(variance, alpha=policy.srm_alpha, effect_scale=0.02)
    return new.errors / new.requests - old.errors / old.requests - radius
