"""Outlook of an experiment: time until its labels decide, and the difference that they show. Pure."""

from dataclasses import dataclass
from math import ceil, inf, sqrt
from statistics import NormalDist
from typing import Final

from absa.policies import ExperimentPolicy
from monitoring.experiments.ab_statistics import mixture_radius
from monitoring.experiments.shadow import SHADOW_ALPHA

_DAY_S: Final = 86_400.0
_Z_POWER: Final = NormalDist().inv_cdf(0.8)
_RIGHT: Final = 0.8  # share of right answers
_APART: Final = 0.12  # share of requests that champion and challenger answer differently
_SOUGHT_GAIN: Final = 0.03  # in the share of right answers
_MOST_LABELS: Final = 1_000_000


@dataclass(frozen=True, kw_only=True)
class Outlook:
    """Outlook of a promotion that starts now.

    Attributes:
        decides_s: seconds until the earliest decision of the A/B test on labels that customers give; inf without any.
        in_time: True if `decides_s` is within the longest time that the experiment may run.
        sees_gain: difference in the share of right answers (0.03 is three points) that the experiment finds within its
            longest time with 80 % power.
        asked_labels: number of requested labels of disagreements that show a gain of three points, without customers'
            labels.
    """

    decides_s: float
    in_time: bool
    sees_gain: float
    asked_labels: int


def outlook(policy: ExperimentPolicy, labels_a_day: float, *, challengers: int = 1) -> Outlook:
    """Return the outlook of an experiment.

    Args:
        policy: its steps and limits.
        labels_a_day: labels of evaluated classes that customers give, over all traffic.
        challengers: number of versions that are tried.
    """
    share = min(policy.ramp[-1], 1.0 / (challengers + 1))
    least_s = policy.shadow_s + policy.step_s * max(0, len(policy.ramp) - 1)
    per_s = labels_a_day / _DAY_S * share  # labels of the challenger's arm; the champion's arm gets at least as many
    decides_s = least_s + policy.min_exposure / per_s if per_s else inf
    alpha = policy.alpha / challengers
    longest_s = policy.longest_s(shadow=True)
    arm = per_s * max(0.0, longest_s - least_s)
    return Outlook(
        decides_s=decides_s,
        in_time=decides_s <= longest_s,
        sees_gain=min(1.0, _found(2 * _RIGHT * (1 - _RIGHT) / arm, alpha, policy)) if arm >= 1 else 1.0,
        asked_labels=_asked_labels(policy, SHADOW_ALPHA / challengers),
    )


def _found(variance: float, alpha: float, policy: ExperimentPolicy) -> float:
    """Return the difference that an estimate of this variance shows with 80 % power."""
    return mixture_radius(variance, alpha=alpha, effect_scale=policy.effect_scale) + _Z_POWER * sqrt(variance)


def _asked_labels(policy: ExperimentPolicy, alpha: float) -> int:
    """Return the number of labels of disagreements that proves a gain, at the assumed rates."""
    mean = _SOUGHT_GAIN / _APART
    low, high = 1, _MOST_LABELS
    while low < high:
        labels = (low + high) // 2
        if _found(_APART**2 * (1 - mean**2) / labels, alpha, policy) <= _SOUGHT_GAIN:
            high = labels
        else:
            low = labels + 1
    return max(low, ceil(policy.min_exposure_to_stop))
