"""Commands that replay the log with other rhythms and policies. Nothing is recorded."""

import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from absa.config_file import read_table
from absa.configuration import read_section
from absa.errors import NotFoundError, PermanentError
from absa.policies import StalenessPolicy
from absa.records.schema import iso, parse_iso
from flows.cli.output.command_result import CommandResult
from flows.cli.output.facts import SentenceFacts
from flows.platform import arguments
from flows.platform.services import Services, open_home
from flows.platform.terminal import say

if TYPE_CHECKING:
    from monitoring.lab.contest import Contest
    from monitoring.monitor import WatchSettings
    from monitoring.replay import ReplayedSpan

lab = typer.Typer(
    help="Run the demo, simulate customers, compare rhythms of retraining, compute capacity and cost.",
    no_args_is_help=True,
)
_PROGRESS_S: Final = 5.0


@lab.command("policy", epilog="Example: evergreen lab policy --every 7")
def policy_command(
    start: Annotated[
        str | None, typer.Option("--from", help="Start: ISO 8601 time with a zone; unset: that of the log.")
    ] = None,
    end: Annotated[
        str | None, typer.Option("--to", help="End: ISO 8601 time with a zone; unset: that of the log.")
    ] = None,
    policy: Annotated[
        Path | None,
        typer.Option(
            callback=arguments.existing_file,
            help=r"TOML with section \[staleness], or its keys alone; unset: the active one.",
        ),
    ] = None,
    every: Annotated[
        list[float] | None,
        typer.Option(
            callback=arguments.DAYS,
            help="Days between trainings; repeat it for several rhythms; unset: those that fit.",
        ),
    ] = None,
    window_s: Annotated[
        float | None,
        typer.Option(
            callback=arguments.SECONDS, help="Window length in seconds; unset: the monitor's, at most 60 windows."
        ),
    ] = None,
    delay_s: Annotated[
        float,
        typer.Option(callback=arguments.SECONDS_OR_NONE, help="Seconds from the end of a window to its verdict."),
    ] = 0.0,
    minutes: Annotated[
        float,
        typer.Option(callback=arguments.MINUTES, help="Time limit in minutes; the result covers the windows so far."),
    ] = 10.0,
    version: Annotated[
        str | None, typer.Option(help="Print the verdicts on this version's logged answers instead of comparing.")
    ] = None,
    logged: Annotated[
        bool,
        typer.Option("--logged/--rescore", help="With --version: judge its logged answers, or score all rows again."),
    ] = True,
) -> CommandResult[SentenceFacts]:
    """Compare rhythms of retraining on the home's log (never, every n days, on verdicts), and recommend one.

    The lab trains a simple model (TF-IDF with logistic regression) instead of a transformer. Nothing is recorded.
    """
    begins, ends = _time("--from", start), _time("--to", end)
    if begins is not None and ends is not None and ends <= begins:
        raise PermanentError(f"--to: expected a time after --from ({start}), got {end!r}")
    services = open_home()
    from flows.monitoring.watched import staleness_policy
    from monitoring.monitor import WatchSettings

    settings = WatchSettings(
        policy=staleness_policy(services, None if policy is None else read_policy(policy)),
        measuring_sources=services.settings.measuring_sources,
        training_sources=services.settings.training_sources,
        task=services.settings.task,
    )
    span = _span(services, begins, ends, window_s)
    if version is not None:
        verdicts = list(_verdict_lines(services, span, settings, version, delay_s=delay_s, logged=logged))
        return CommandResult(
            facts={"sentences": verdicts},
            lines=tuple(verdicts),
            meaning="The monitor would give these verdicts with these settings; nothing was recorded",
            following="change [staleness] in evergreen.toml, or in a copy for --policy, and compare",
        )
    *lines, recommendation = _comparison(services, span, settings, every or (), delay_s=delay_s, limit_s=minutes * 60.0)
    return CommandResult(
        facts={"sentences": [*lines, recommendation]},
        lines=tuple(lines),
        meaning=recommendation,
        following="set schedule or [staleness] in evergreen.toml as recommended; nothing was changed",
    )


def _span(services: Services, start: datetime | None, end: datetime | None, window_s: float | None) -> "ReplayedSpan":
    from monitoring.lab.contest import fitting_span, logged_span
    from monitoring.replay import ReplayedSpan

    length_s = services.settings.window_s if window_s is None else window_s
    if start is None or end is None:
        whole = logged_span(services.lake, length_s)
        start, end = start or whole.start, end or whole.end
    return (
        fitting_span(start, end, length_s)
        if window_s is None
        else ReplayedSpan(start=start, end=end, window_s=length_s)
    )


def _comparison(
    services: Services,
    span: "ReplayedSpan",
    settings: "WatchSettings",
    every: Sequence[float],
    *,
    delay_s: float,
    limit_s: float,
) -> Iterator[str]:
    from monitoring.lab.contest import compare_rhythms
    from monitoring.lab.rhythms import NO_RETRAINING, ON_VERDICTS, fixed_rhythms, recommend

    length_s = (span.end - span.start).total_seconds()
    rhythms = [NO_RETRAINING, *fixed_rhythms(length_s, span.window_s, every), ON_VERDICTS]
    started = shown = time.monotonic()

    def on_window(done: int, of: int) -> bool:
        nonlocal shown
        now = time.monotonic()
        if now - shown >= _PROGRESS_S:
            shown = now
            left_s = min(limit_s, (now - started) * of / max(1, done)) - (now - started)
            say(f"window {done} of {of}, about {left_s:.0f} s left", err=True)
        return now - started < limit_s

    found = compare_rhythms(services.lake, span, rhythms, settings, feedback_delay_s=delay_s, on_window=on_window)
    yield from contest_lines(found, span, training_s=services.settings.budget_s)
    yield recommend(found.results).sentence


def contest_lines(found: "Contest", span: "ReplayedSpan", *, training_s: float) -> Iterator[str]:
    """Yield the lines of a comparison: its basis, and a row per rhythm. `training_s`: seconds of one training."""
    yield (
        f"{found.windows} windows of {span.window_s:g} s from {iso(span.start)[:16]} to {iso(span.end)[:16]}, "
        f"{found.labels:,} labels{'; stopped by --minutes' if found.cut else ''}"
    )
    yield (
        "The lab trained a simple model (TF-IDF with logistic regression) instead of a transformer; a training counts "
        f"with the full budget of {training_s / 60.0:g} minutes. Nothing was recorded."
    )
    yield f"{'rhythm':<18}{'F1':>7}{'trainings':>11}{'minutes':>9}{'windows with a loss':>21}"
    for each in found.results:
        minutes = each.trainings * training_s / 60.0
        yield f"{each.rhythm.name:<18}{each.f1:>7.3f}{each.trainings:>11}{minutes:>9.0f}{each.lossy_windows:>21}"


def _verdict_lines(
    services: Services,
    span: "ReplayedSpan",
    settings: "WatchSettings",
    version: str,
    *,
    delay_s: float,
    logged: bool,
) -> Iterator[str]:
    from flows.monitoring.watched import watched_version
    from monitoring.replay import PairScorer, replay

    scorer: PairScorer | None = None
    if logged and version not in (known := _digests(services)):
        raise NotFoundError(
            f"--version: version {version} is not in the ledger, so the log has no answers of it; "
            f"expected one of: {', '.join(sorted(known)) or 'none'}"
        )
    if not logged:
        from absa.inference.engine import Engine

        scorer = Engine.load(services.packages.get(version, _digest(services, version))).score
    watched = watched_version(services, version)
    counted = 0
    for verdict in replay(
        services.lake, span, version=watched, settings=settings, scorer=scorer, feedback_delay_s=delay_s
    ):
        counted += 1
        reason = verdict.reasons[0].sentence if verdict.reasons else ""
        yield f"{iso(verdict.window.start)[:19]}  {verdict.verdict:<6}{verdict.action:<11}{reason}"
    yield f"{counted} {'window' if counted == 1 else 'windows'} of {span.window_s:g} s replayed; nothing was recorded"


def _time(name: str, text: str | None) -> datetime | None:
    if text is None:
        return None
    try:
        return parse_iso(text)
    except ValueError:
        raise PermanentError(f"{name}: expected an ISO 8601 time with a zone, got {text!r}") from None


def _digests(services: Services) -> Mapping[str, str]:
    """Return the digest of each version in the ledger. The last record lists all versions."""
    head = services.ledger.head()
    return {} if head is None else head.versions


def _digest(services: Services, version: str) -> str:
    digest = _digests(services).get(version) or services.registry.tags(version).get("digest")
    if digest is None:
        raise NotFoundError(
            f"version {version} has no package: its digest is neither in the ledger nor in the registry"
        )
    return digest


def read_policy(file: Path) -> StalenessPolicy:
    """Return the policy of a TOML file: its section [staleness], or its keys alone.

    Raises:
        PermanentError: see `read_table` and `read_section`.
    """
    table = read_table(file)
    policy: StalenessPolicy = read_section("staleness", table.get("staleness", table), where=str(file))
    return policy
