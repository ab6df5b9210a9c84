"""Plan of a promotion: its steps with their times, and the step of a running one. Pure."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from absa.policies import ExperimentPolicy
from flows.promotion.running_experiment import RunningExperiment
from monitoring.experiments.outlook import outlook

_UNITS_S: Final = (("day", 86_400.0), ("hour", 3_600.0), ("minute", 60.0), ("second", 1.0))


@dataclass(frozen=True, kw_only=True)
class RunningStep:
    """Step of a running promotion.

    Attributes:
        step: `shadow`, or `A/B at SHARE`.
        following: step that comes next.
        next_at: earliest time of that step; None if the evidence decides.
        ends_at: latest end of the experiment.
    """

    step: str
    following: str
    next_at: datetime | None
    ends_at: datetime


def plan_lines(
    policy: ExperimentPolicy, *, challengers: int, approval: bool, labels_a_day: float = 0.0
) -> Iterator[str]:
    """Yield the steps of a promotion that starts now, its duration, and the decision that its labels allow.

    Args:
        policy: policy of the experiment.
        challengers: number of versions that are tried.
        approval: True if an operator approves at the end.
        labels_a_day: number of labels that customers give per day.
    """
    shares = _shares(policy, challengers)
    yield f"  1. shadow: scores the champion's traffic unseen, {duration(policy.shadow_s)}"
    for number, share in enumerate(shares, start=2):
        last = number == len(shares) + 1
        until = "until the labels decide" if last else f"at least {duration(policy.step_s)}"
        yield f"  {number}. A/B: answers {share:g} % of the units, {until}"
    if approval:
        yield f"  {len(shares) + 2}. approval in Prefect, within {duration(policy.approval_s)}"
    least_s = policy.shadow_s + policy.step_s * max(0, len(shares) - 1)
    yield (
        f"  takes {duration(least_s)} to the last step, at most {duration(policy.longest_s(shadow=True))}; a decision "
        f"needs {policy.min_exposure} labelled outcomes per arm; a guardrail or `evergreen rollback` "
        "ends the experiment immediately"
    )
    found = outlook(policy, labels_a_day, challengers=challengers)
    rate = f"{labels_a_day:,.{0 if labels_a_day >= 10 else 1}f} labels a day"
    asked = (
        f"about {found.asked_labels} requested labels of the shadow's disagreements show three points "
        "(`evergreen labels export`)"
    )
    if found.in_time:
        gain = f"a difference of {100 * found.sees_gain:.1f} points or more"
        yield f"  with {rate} the A/B test can decide after {duration(found.decides_s)}, and sees {gain}; {asked}"
    else:
        yield f"  with {rate} the A/B test cannot decide in time; {asked}, or decide yourself: promote VERSION --now"


def running_step(run: RunningExperiment, policy: ExperimentPolicy) -> RunningStep:
    """Return the step of a running experiment."""
    head, plan = run.head, run.head.state.plan
    assert plan is not None
    shadow = plan.mode == "shadow"
    ends_at = (head if shadow else run.ab[0]).at + timedelta(seconds=policy.longest_s(shadow=shadow))
    shares = _shares(policy, len(plan.challengers))
    if shadow:
        return RunningStep(
            step="shadow", following=f"A/B at {shares[0]:g} %", next_at=head.at + timedelta(seconds=policy.shadow_s),
            ends_at=ends_at,
        )  # fmt: skip
    now = 100.0 * max(arm.share for arm in plan.challengers)
    higher = [share for share in shares if share > now + 1e-6]
    return RunningStep(
        step=f"A/B at {now:g} %",
        following=f"A/B at {higher[0]:g} %" if higher else "a decision by the labels",
        next_at=head.at + timedelta(seconds=policy.step_s) if higher else None,
        ends_at=ends_at,
    )


def duration(seconds: float) -> str:
    """Return a duration in its largest fitting unit: `30 minutes`, `2.5 hours`, `14 days`."""
    for name, unit_s in _UNITS_S:
        if seconds >= unit_s or name == "second":
            count = round(seconds / unit_s, 1)
            return f"{count:g} {name}{'' if count == 1 else 's'}"
    raise AssertionError


def _shares(policy: ExperimentPolicy, challengers: int) -> list[float]:
    """Return the shares of the ramp in percent; a challenger never has more than the champion."""
    most = 1.0 / (challengers + 1)
    return list(dict.fromkeys(round(100.0 * min(share, most), 2) for share in policy.ramp))
