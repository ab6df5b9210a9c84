"""`evergreen promote` and `evergreen rollback`: decisions of an operator, and experiments with or without Prefect."""

import time
from collections.abc import Callable, Sequence
from datetime import datetime

from absa.errors import PermanentError
from absa.ledger.history import former_champion
from absa.ledger.record import LedgerRecord
from absa.records.schema import iso
from flows.cli.output.command_result import CommandResult
from flows.cli.output.facts import PromoteFacts, RollbackFacts
from flows.cli.required_servers import start_in_prefect
from flows.monitoring.announcing import announce_after_command
from flows.platform.prefect_runs import PROMOTION
from flows.platform.processes import Supervisor
from flows.platform.services import Services
from flows.platform.terminal import ProgressLine, say
from flows.promotion.decisions import ended_by, promote_now, requested_promotion, roll_back, rollback_report
from flows.promotion.promotion_look import Trial, promote_versions
from flows.promotion.promotion_plan import RunningStep, plan_lines, running_step
from flows.promotion.promotion_request import PromotionRequest
from flows.promotion.running_experiment import labels_a_day, running

RunTrial = Callable[..., LedgerRecord]
"""Runner of an experiment: `promote_versions`, or a fake with its parameters."""


def promote_at_once(services: Services, version: str | None, *, reason: str) -> CommandResult[PromoteFacts]:
    """Make a version champion by an operator's decision."""
    record = promote_now(services, version, reason=reason)
    announce_after_command(services)
    ended = ended_by(services.ledger.follow())
    champion = str(record.state.champion)
    return CommandResult(
        facts=_facts([champion], record, ended=ended),
        lines=(*ended, f"version {champion} is champion (ledger record {record.number})"),
        meaning="It answers all traffic: routers follow within seconds",
        following="evergreen status; `evergreen rollback` reverts it",
    )


def start_promotion(
    services: Services,
    named: Sequence[str],
    *,
    again: bool,
    prefect_serves: Callable[[], bool],
    run: RunTrial = promote_versions,
) -> CommandResult[PromoteFacts]:
    """Start an experiment in Prefect, or run it here until it is decided.

    Args:
        services: ports.
        named: versions; none: the challenger.
        again: try versions again that were rolled back or replaced.
        prefect_serves: returns True if Prefect's server shall run it; called after the request was checked.
        run: runs the experiment without Prefect.

    Raises:
        PermanentError: the request is impossible, see `requested_promotion`; or it needs an approval, which only
            Prefect's pages can give.
    """
    parameters = requested_promotion(services, named, again=again)
    tried = [parameters["version"], *parameters["others"]]
    settings, head = services.settings, services.head()
    plan = (
        f"promotion of version {', '.join(tried)} against champion {head.state.champion}:",
        *plan_lines(
            settings.experiment,
            challengers=len(tried),
            approval=settings.approval,
            labels_a_day=labels_a_day(services, services.clock()),
        ),
    )
    if prefect_serves():
        run_id, url = start_in_prefect(services, PROMOTION, parameters)
        return CommandResult(
            facts=_facts(tried, head, flow_run=run_id, url=url),
            lines=(*plan, f"started: {url}"),
            meaning="Prefect takes the steps, even after this terminal closes; the champion answers until one wins",
            following="evergreen status shows the step; evergreen promote VERSION --now promotes at once",
        )
    if settings.approval:
        raise PermanentError(
            "approval is on, and an operator gives it on a page of Prefect, which does not run: run `evergreen up`, or "
            "promote with --now"
        )
    for line in (*plan, "Prefect does not run, so this command takes the steps: keep it running; Ctrl-C stops it"):
        say(line, err=True)
    if settings.router_url is None and Supervisor(settings).running("router") is None:
        say("no router runs in this home, and a decision needs traffic: `evergreen serve` starts one", err=True)
    request = PromotionRequest(versions=tuple(tried), revision=parameters["revision"], again=again)
    return _run_here(services, request, run)


def step_text(step: RunningStep, now: datetime) -> str:
    """Return the step of an experiment and the time of the next one, for a line of progress. Pure."""
    if step.next_at is None:
        soon = "as soon as there are enough labels"
        return f"{step.step}; next {step.following}, {soon}, by {_minute(step.ends_at)} at the latest"
    left_s = max(0.0, (step.next_at - now).total_seconds())
    return f"{step.step}; next {step.following} in {left_s / 60.0:.0f} min"


def roll_back_now(services: Services, *, reason: str) -> CommandResult[RollbackFacts]:
    """End the running experiment, or restore the former champion."""
    record = roll_back(services, reason=reason)
    announce_after_command(services)
    records = [each for each in services.ledger.follow() if each.number <= record.number]
    return CommandResult(
        facts={
            "champion": record.state.champion,
            "before": records[-2].state.champion,
            "record": record.number,
            "ended": ended_by(records),
            "former": former_champion(records),
        },
        lines=tuple(rollback_report(records)),
        meaning=f"Version {record.state.champion} answers all traffic; no data and no version is lost",
        following="evergreen status; label wrong answers by `evergreen labels export`, then evergreen train",
    )


def _run_here(services: Services, request: PromotionRequest, run: RunTrial) -> CommandResult[PromoteFacts]:
    """Run the steps of an experiment in this process until it is decided or stopped."""
    line = ProgressLine(every_s=60.0)

    def show_and_sleep(seconds: float) -> None:
        found, now = running(services.ledger.follow()), services.clock()
        if found is None:
            line.update(0.0, "naming the challenger")
        else:
            step, began = running_step(found, services.settings.experiment), found.records[0].at
            line.update((now - began) / (step.ends_at - began), step_text(step, now))
        time.sleep(seconds)

    versions = list(request.versions)
    try:
        record = run(Trial(services=services, request=request), sleep=show_and_sleep)
    except KeyboardInterrupt:
        head = services.head()
        return CommandResult(
            facts=_facts(versions, head),
            lines=("this command stopped; the experiment stays active and takes no further step",),
            meaning=f"Version {head.state.champion} stays champion; no guardrail ends the experiment meanwhile",
            following="evergreen promote, or evergreen up in the background, to continue; evergreen rollback to end it",
            code=130,
        )
    finally:
        line.close()
        announce_after_command(services)
    won = record.state.champion in request.versions
    champion = record.state.champion
    return CommandResult(
        facts=_facts(versions, record),
        lines=(f"the experiment ended (ledger record {record.number}): {record.reason}",),
        meaning=f"Version {champion} is champion and answers all traffic"
        if won
        else f"Version {champion} stays champion: no tried version replaces it",
        following="evergreen status; `evergreen rollback` reverts it" if won else "evergreen train, with more labels",
    )


def _facts(
    versions: list[str],
    record: LedgerRecord,
    *,
    ended: list[str] | None = None,
    flow_run: str | None = None,
    url: str | None = None,
) -> PromoteFacts:
    return {
        "versions": versions, "champion": record.state.champion, "record": record.number, "ended": ended or [],
        "reason": record.reason, "flow_run": flow_run, "url": url,
    }  # fmt: skip


def _minute(at: datetime) -> str:
    return iso(at)[:16].replace("T", " ") + " UTC"
