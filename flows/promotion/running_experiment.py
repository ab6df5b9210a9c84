"""Running experiment: its records in the ledger, and the judgement on each challenger."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final

from absa.errors import NotFoundError
from absa.ledger.lifecycle import live_arms
from absa.ledger.record import LedgerRecord
from absa.records.experiment import ExperimentRecord, Look
from absa.records.layout import experiment_key
from absa.records.schema import utc_now
from flows.platform.services import Services
from flows.promotion.version_checks import saving_of

if TYPE_CHECKING:
    from absa.policies import ExperimentPolicy
    from monitoring.experiments.ab_statistics import ExperimentDecision
    from monitoring.experiments.shadow import ShadowReport

_RATE_SPAN: Final = timedelta(days=28)
_KEPT_AGAIN: Final = 1.05  # growth of the outcomes since the last kept look, at which the next look is kept


@dataclass(frozen=True, kw_only=True)
class RunningExperiment:
    """Records of the running experiment, oldest first: from its first plan, shadow or A/B, to the head."""

    records: tuple[LedgerRecord, ...]

    @property
    def head(self) -> LedgerRecord:
        """The active record."""
        return self.records[-1]

    @property
    def name(self) -> str:
        """The experiment's name."""
        plan = self.head.state.plan
        assert plan is not None
        return str(plan.experiment)

    @property
    def comparisons(self) -> int:
        """Number of challengers at its start, which share the chance of a wrong decision."""
        return max(len(r.state.plan.challengers) for r in self.records if r.state.plan is not None)

    @property
    def ab(self) -> tuple[LedgerRecord, ...]:
        """Records in which challengers answer."""
        return tuple(r for r in self.records if r.state.plan is not None and r.state.plan.mode == "ab")


def running(records: Sequence[LedgerRecord]) -> RunningExperiment | None:
    """Return the experiment at the ledger's head, without an earlier one of the same name; None if none runs."""
    mine: list[LedgerRecord] = []
    for record in reversed(records):
        plan = record.state.plan
        if plan is None or plan.mode == "single":
            break
        if mine and plan.experiment != mine[-1].state.plan.experiment:  # type: ignore[union-attr]  # all have a plan
            break
        mine.append(record)
    return RunningExperiment(records=tuple(reversed(mine))) if mine else None


def labels_a_day(services: Services, now: datetime) -> float:
    """Return the labels per day from sources trusted to measure, over the last 28 days at most."""
    from monitoring.monitor import count_new_labels

    records = services.ledger.follow()
    start = max(now - _RATE_SPAN, records[0].at if records else now - _RATE_SPAN)
    days = max((now - start).total_seconds() / 86_400.0, 1.0)
    sources = services.settings.measuring_sources
    return count_new_labels(services.lake, start, sources, now, given_since=start) / days


def policy_of(services: Services, run: RunningExperiment) -> "ExperimentPolicy":
    """Return the experiment policy of the settings."""
    policy = services.settings.experiment
    return replace(
        policy,
        comparisons=run.comparisons,
        min_exposure_to_stop=min(policy.min_exposure_to_stop, policy.min_exposure),
    )


def shadow_report(services: Services, run: RunningExperiment, version: str) -> "ShadowReport":
    """Return the comparison of a challenger in shadow with the champion, with labels that came later."""
    from monitoring.experiments.shadow import compare_shadow

    plan = run.records[0].state.plan
    assert plan is not None
    return compare_shadow(
        services.lake,
        plan,
        version,
        since=run.records[0].at,
        until=run.ab[0].at if run.head in run.ab else None,
        labels_until=utc_now(),
        trusted_sources=services.settings.measuring_sources,
        task=services.settings.task,
    )


def judge_challengers(services: Services, run: RunningExperiment) -> dict[str, "ExperimentDecision"]:
    """Judge every challenger that is still in the experiment, by the evidence in the lake.

    A challenger that the gate promoted for its price is stopped if it is not cheaper. If the A/B test does not decide,
    late labels of the shadow time may decide. The limit on the chance of a wrong promotion holds for both together.
    """
    from monitoring.experiments.ab_statistics import judge_experiment, judge_saving
    from monitoring.experiments.collect import collect_experiment
    from monitoring.experiments.shadow import judge_shadow

    plan = run.head.state.plan
    assert plan is not None
    policy = policy_of(services, run)
    begun = services.ledger.evidence(run.records[0])
    found: dict[str, ExperimentDecision] = {}
    for arm in live_arms(plan):
        saving = saving_of(begun, arm.version)
        grounds = begun.get("grounds", {}).get(arm.version)
        if (stopped := judge_saving(arm.version, saving, policy, grounds=grounds)) is not None:
            found[arm.version] = stopped
            continue
        if plan.mode == "ab":
            evidence = collect_experiment(
                services.lake,
                str(plan.experiment),
                plans={record.number: record.state.plan for record in run.ab if record.state.plan is not None},
                since=run.ab[0].at,
                trusted_sources=services.settings.measuring_sources,
                challenger=arm.name,
                saving=saving,
                task=services.settings.task,
            )
            found[arm.version] = judge_experiment(evidence, policy)
            if found[arm.version].decision != "CONTINUE" or run.records[0] in run.ab:
                continue
        by_shadow = judge_shadow(shadow_report(services, run, arm.version), policy, saving=saving)
        if plan.mode == "shadow" or by_shadow.decision == "PROMOTE":
            found[arm.version] = by_shadow
    return found


def keep(services: Services, run: RunningExperiment, found: Mapping[str, "ExperimentDecision"], at: datetime) -> None:
    """Keep a look at the evidence in experiments/<name>/<revision>.json if it differs from the last one."""
    plan = run.head.state.plan
    assert plan is not None
    key = experiment_key(str(plan.experiment), run.head.number)
    look = Look(at=at, arms={version: asdict(each) for version, each in found.items()})
    try:
        looks = ExperimentRecord.from_json(json.loads(services.lake.read(key))).looks
    except (NotFoundError, ValueError, KeyError, TypeError):
        looks = ()
    if looks and _size(look) < _KEPT_AGAIN * _size(looks[-1]) and _decisions(look) == _decisions(looks[-1]):
        return
    record = ExperimentRecord(mode=plan.mode, looks=(*looks, look))
    services.lake.write(key, json.dumps(record.to_json(), indent=1).encode())


def _size(look: Look) -> int:
    return sum(arm["exposure_champion"] + arm["exposure_challenger"] for arm in look.arms.values())


def _decisions(look: Look) -> dict[str, str]:
    return {version: arm["decision"] for version, arm in look.arms.items()}
