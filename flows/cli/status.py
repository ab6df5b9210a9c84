"""Status on one screen: champion, traffic, verdicts, and the address of each page."""

from collections.abc import Iterator

from absa.ledger.history import champion_since
from absa.records.schema import utc_now
from flows.monitoring.monitor_silence import last_monitor_run, span
from flows.platform.processes import Supervisor, pages
from flows.platform.services import Services
from flows.promotion.consistency import inconsistencies


def status_lines(services: Services) -> Iterator[str]:
    """Yield the screen, line by line. Reads the ledger and the verdicts; aliases are checked where MLflow answers."""
    from monitoring.verdicts import VerdictStore

    settings = services.settings
    yield f"home        {settings.root}"
    yield f"settings    profile {settings.profile}, {settings.config or 'no evergreen.toml'}"
    records = services.ledger.follow()
    head = records[-1] if records else None
    since = champion_since(records)
    if head is None or since is None:
        yield "champion    none yet: `evergreen train FILE` makes the first version"
    else:
        age_s = (utc_now() - since.at).total_seconds()
        yield f"champion    version {head.state.champion} since {since.at:%Y-%m-%d %H:%M:%S} UTC ({span(age_s)} ago)"
        yield f"            because: {since.reason}"
    if head is not None and head.state.plan is not None:
        arms = ", ".join(f"{arm.name} v{arm.version} {arm.share:.0%}" for arm in head.state.plan.arms)
        yield f"traffic     {head.state.plan.mode}: {arms} (ledger record {head.number})"
    if head is not None and head.state.challenger is not None:
        yield f"challenger  version {head.state.challenger}"
    problems = inconsistencies(services)
    said = "verified" if not problems else "INCONSISTENT: " + "; ".join(problems)
    yield f"ledger      {len(records)} records, {said}"
    verdicts = VerdictStore(services.lake).history(limit=5)
    for position, verdict in enumerate(verdicts):
        reason = verdict.reasons[0].sentence if verdict.reasons else verdict.action_reason
        name = "verdicts    " if position == 0 else " " * 12
        yield f"{name}{verdict.window.start:%H:%M:%S}-{verdict.window.end:%H:%M:%S} {verdict.verdict:<6}{reason}"
    if not verdicts:
        yield "verdicts    none yet"
    if (ran := last_monitor_run(services)) is not None:
        yield f"monitor     {ran.sentence(utc_now(), services.settings.window_s)}"
    supervisor = Supervisor(services.settings)
    for name, page in pages(services.home).items():
        running = "up  " if supervisor.running(name) else "down"
        yield f"{name:<12}{running} {page or ''}".rstrip()
