"""Commands about the active state: the ledger, its projection to aliases, and a running shadow."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from absa.errors import PermanentError
from absa.ledger.history import champion_since, record_at
from absa.ledger.record import LedgerRecord
from absa.records.schema import Window, iso, parse_iso, utc_now
from flows.cli.output.command_result import CommandResult
from flows.cli.output.facts import LedgerFacts
from flows.platform.services import Services
from flows.promotion.consistency import inconsistencies

if TYPE_CHECKING:
    from monitoring.experiments.shadow import ShadowReport

_ACTIONS: Final = ("show", "verify", "project", "packages")
_ALL_PACKAGES: Final = "the lake has the package of every version"


def show_ledger(services: Services, action: str, at: str | None) -> CommandResult[LedgerFacts]:
    """Return the result of `evergreen ledger`.

    Raises:
        PermanentError: the action is unknown, or the time cannot be read.
    """
    if action not in _ACTIONS:
        raise PermanentError(f"evergreen ledger: expected {', '.join(_ACTIONS)}, got {action!r}")
    if action == "verify":
        problems = inconsistencies(services)
        lines = problems or ["all records, hashes and links are valid, and MLflow's aliases do not differ from them"]
        return CommandResult(
            facts={"action": action, "sentences": lines, "problems": problems, "records": []},
            lines=tuple(lines),
            meaning="The last record decides which versions answer: routers read only the ledger",
            following="evergreen ledger project sets the aliases; docs/runbook.md has the other repairs"
            if problems
            else "nothing to do",
            code=1 if problems else 0,
        )
    if action in {"project", "packages"}:
        done = services.project() if action == "project" else services.copy_packages()
        well = "MLflow's aliases are equal to the ledger" if action == "project" else _ALL_PACKAGES
        lines = done or [well]
        return CommandResult(
            facts={"action": action, "sentences": lines, "problems": [], "records": []},
            lines=tuple(lines),
            meaning="The same versions answer as before: routers read only the ledger",
            following="evergreen ledger verify" if done else "nothing to do",
        )
    records = services.ledger.follow()
    lines = [line_of(record) for record in records] or ["no record yet"] if at is None else _state_at(records, at)
    return CommandResult(
        facts={"action": action, "sentences": lines, "problems": [], "records": [each.to_json() for each in records]},
        lines=tuple(lines),
        meaning="The last record decides which versions answer; no record is ever changed",
        following="evergreen ledger verify checks every hash and link" if records else "evergreen train FILE",
    )


def _state_at(records: Sequence[LedgerRecord], at: str) -> list[str]:
    try:
        time = parse_iso(at)
    except ValueError:
        raise PermanentError(f"--at: expected an ISO 8601 time with a zone, got {at!r}") from None
    found = record_at(records, time)
    if found is None or found.state.champion is None:
        return ["there was no champion at this time"]
    made = champion_since(records[: records.index(found) + 1]) or found
    said = [f"champion {found.state.champion} since {iso(made.at)}, because: {made.reason}", line_of(found)]
    if found.state.challenger is not None:
        said.insert(1, f"challenger {found.state.challenger}")
    return said


def line_of(record: LedgerRecord) -> str:
    """Return a record as one line."""
    champion = record.state.champion or "-"
    return f"{record.number:>4}  {iso(record.at)}  {record.action:<9} champion {champion:<4} {record.reason}"


def show_shadow(services: Services, gain: float, export: Path | None, count: int) -> list[str]:
    """Return lines: the comparison of challenger and champion in shadow, and the number of labels for a decision.

    Args:
        services: ports.
        gain: smallest difference in the share of right answers to find, 0 to 1.
        export: file for the rows whose labels help most.
        count: approximate number of these rows.

    Raises:
        PermanentError: no challenger is in shadow.
    """
    from flows.promotion.running_experiment import policy_of, running, shadow_report
    from monitoring.labels.label_queue import ask_labels, write_queue

    run = running(services.ledger.follow())
    plan = run.head.state.plan if run is not None else None
    if run is None or plan is None or plan.mode != "shadow":
        raise PermanentError("no challenger is in shadow: `evergreen promote` starts a shadow")
    lines = []
    for arm in plan.challengers:
        report = shadow_report(services, run, arm.version)
        difference = report.on_labels(policy_of(services, run))
        lines += [
            f"version {arm.version} compared with {report.champion}: {report.pairs} requests scored by both, "
            f"{report.agreement:.1%} with equal answers, {report.flips} with opposite ones",
            f"  median latency: champion {_ms(report.champion_ms)}, {report.champion_health.errors} errors; challenger "
            f"{_ms(report.challenger_ms)}, {report.challenger_health.errors} errors",
            f"  {report.labelled} labelled requests: only the champion was right on {report.only_champion}, only the "
            f"challenger on {report.only_challenger} (McNemar p = {report.p_value:.2g}); "
            f"difference {100 * difference.estimate:+.1f} points "
            f"({100 * difference.low:+.1f} to {100 * difference.high:+.1f}, valid at every look)",
        ]
        if report.pairs:
            lines.append(f"  {_labels_needed(report, gain)}")
    if export is not None:
        window = Window(start=run.records[0].at, end=utc_now())
        settings = services.settings
        rows = ask_labels(
            services.lake, window, count=count, trusted_sources=settings.measuring_sources, task=settings.task
        )
        write_queue(rows, export)
        disagreements = rows["why"].to_list().count("disagreement")
        lines.append(f"{rows.height} rows to label, {disagreements} of them disagreements, are in {export}")
    return lines


def _labels_needed(report: "ShadowReport", gain: float) -> str:
    from monitoring.experiments.shadow import labels_to_decide

    shadow, both = labels_to_decide(1.0 - report.agreement, gain)
    return (
        f"a gain of {100 * gain:.1f} points is found with about {shadow} labels of disagreements; an A/B test needs "
        f"about {both}, so shadow saves {1 - shadow / both:.0%}"
    )


def labels_saved(services: Services, *, gain: float = 0.03) -> list[str]:
    """Return one line per challenger in shadow: the number of labels that decide about it.

    A line compares the number of labels of disagreements in shadow with that of an A/B test. Without a challenger in
    shadow there is no line.

    Args:
        services: ports.
        gain: smallest difference in the share of right answers to find, 0 to 1.
    """
    from flows.promotion.running_experiment import running, shadow_report

    run = running(services.ledger.follow())
    plan = run.head.state.plan if run is not None else None
    if run is None or plan is None or plan.mode != "shadow":
        return []
    reports = [shadow_report(services, run, arm.version) for arm in plan.challengers]
    return [f"version {each.challenger} in shadow: {_labels_needed(each, gain)}" for each in reports if each.pairs]


def _ms(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.1f} ms"
