"""Status of a home: champion, traffic, trainings, promotions, verdicts and pages, as facts and on one screen."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import timedelta
from functools import partial
from typing import Any, Final, TypeVar

from absa.errors import IntegrityError
from absa.ledger.history import champion_since, last_drop
from absa.ledger.record import LedgerRecord
from absa.records.layout import LEDGER_FOLDER
from absa.records.schema import iso, utc_now
from absa.records.trainings import read_trainings
from absa.records.verdict import Verdict
from flows.cli.home.gate_advice import holding_checks
from flows.cli.output.facts import StatusFacts
from flows.monitoring.monitor_silence import last_monitor_run, span
from flows.platform.processes import Supervisor, pages
from flows.platform.services import Services
from flows.promotion.consistency import inconsistencies
from flows.promotion.promotion_plan import running_step
from flows.promotion.running_experiment import running
from flows.training.run_progress import LATEST_FILE, read_progress
from flows.training.training_snapshot import labels_since_champion

_ATTEMPTS: Final = 5
_FAILURES_SHOWN: Final = timedelta(days=7)
_VERDICTS: Final = 5
_SILENT_S: Final = 120.0  # a training writes its progress more often
_INDENT: Final = " " * 12
_T = TypeVar("_T")


class _Readable:
    """Reader of the parts of a status. A damaged record leaves out only its part, and adds a sentence."""

    def __init__(self) -> None:
        self.unreadable: list[str] = []

    def __call__(self, read: Callable[[], _T], otherwise: _T) -> _T:
        """Return what `read` returns; the other value if a record is damaged."""
        try:
            return read()
        except IntegrityError as error:
            if str(error) not in self.unreadable:
                self.unreadable.append(str(error))
            return otherwise


def status_facts(services: Services) -> StatusFacts:
    """Return the facts of the status, from lake, ledger and home. Aliases are checked if MLflow is available."""
    settings, readable = services.settings, _Readable()
    followed = readable(lambda: _records(services), None)
    records = followed or ()
    head = records[-1] if records else None
    since = champion_since(records)
    plan = head.state.plan if head is not None else None
    ran = None if head is None else readable(lambda: last_monitor_run(services), None)
    supervisor = Supervisor(settings)
    return {
        "home": str(settings.root),
        "profile": settings.profile,
        "config": None if settings.config is None else str(settings.config),
        "champion": None
        if head is None or since is None
        else {
            "version": head.state.champion,
            "since": iso(since.at),
            "age": span((utc_now() - since.at).total_seconds()),
            "reason": since.reason,
        },
        "challenger": None if head is None else head.state.challenger,
        "traffic": None
        if head is None or plan is None
        else {
            "mode": plan.mode,
            "record": head.number,
            "arms": [{"name": arm.name, "version": arm.version, "share": arm.share} for arm in plan.arms],
        },
        "promotion": _promotion(services, records),
        "dropped": _dropped(records),
        "training": _training(services),
        "retraining": readable(lambda: _retraining(services), None),
        "attempts": _attempts(services, records, readable),
        "ledger": {"records": None if followed is None else len(records), "problems": inconsistencies(services)},
        "verdicts": [
            {
                "start": iso(each.window.start),
                "end": iso(each.window.end),
                "verdict": each.verdict,
                "reasons": [reason.sentence for reason in each.reasons] or [each.action_reason],
            }
            for each in _verdicts(services, readable)
        ],
        "monitor": None if ran is None else ran.sentence(utc_now(), settings.window_s),
        "servers": [
            {"name": name, "running": supervisor.running(name) is not None, "page": page}
            for name, page in pages(services.home).items()
        ],
        "unreadable": readable.unreadable,
    }


def _records(services: Services) -> tuple[LedgerRecord, ...]:
    try:
        return services.ledger.follow()
    except IntegrityError as error:
        folder = services.lake.url(LEDGER_FOLDER)
        raise IntegrityError(f"{error}: restore {folder} by docs/runbook.md, section Ledger") from error


def _verdicts(services: Services, readable: _Readable) -> Iterator[Verdict]:
    """Yield the last verdicts that can be read, the newest last."""
    from monitoring.verdicts import VerdictStore

    store = VerdictStore(services.lake)
    for window in store.windows()[-_VERDICTS:]:
        if (found := readable(partial(store.latest, window), None)) is not None:
            yield found


def _promotion(services: Services, records: Sequence[LedgerRecord]) -> dict[str, Any] | None:
    run = running(records)
    if run is None:
        return None
    step = running_step(run, services.settings.experiment)
    return {
        "experiment": run.name,
        "step": step.step,
        "next": step.following,
        "next_at": None if step.next_at is None else iso(step.next_at),
        "ends_at": iso(step.ends_at),
    }


def _dropped(records: Sequence[LedgerRecord]) -> dict[str, Any] | None:
    found = last_drop(records)
    if found is None:
        return None
    versions, record = found
    return {"versions": versions, "at": iso(record.at), "reason": record.reason, "record": record.number}


def _training(services: Services) -> dict[str, Any] | None:
    """Return the training that runs in this home: its progress file is recent and has no end."""
    folder = services.settings.root / "jobs"
    found = read_progress(folder, since=0.0)
    if found is None or found.phase == "finishing":
        return None
    now = time.time()
    if now - (folder / LATEST_FILE).stat().st_mtime > _SILENT_S:
        return None
    return {"phase": found.phase, "detail": found.detail, "left_s": round(found.ends_at - now), "line": found.line(now)}


def _retraining(services: Services) -> dict[str, Any] | None:
    """Return the labels that a retraining has and needs, and the gain that its gate finds; None without a champion."""
    from absa.data.recent_split import expected_test_rows, labels_needed, smallest_gain

    labels = labels_since_champion(services)
    if labels is None:
        return None
    needed = labels_needed(services.settings.staleness, services.settings.gate)
    tested = expected_test_rows(max(labels, needed), services.settings.gate.min_recent_rows)
    return {"labels": labels, "needed": needed, "missing": max(0, needed - labels), "sees_gain": smallest_gain(tested)}


def _attempts(services: Services, records: Sequence[LedgerRecord], readable: _Readable) -> list[dict[str, Any]]:
    """Return the last trainings, the newest first: with a version, and of the last days without one."""
    found = [*_registered(services, records), *_failed(services, readable)]
    return sorted(found, key=lambda each: str(each["at"]), reverse=True)[:_ATTEMPTS]


def _failed(services: Services, readable: _Readable) -> Iterator[dict[str, Any]]:
    """Yield trainings without a version: failed, or lost with their process."""
    now = utc_now()
    trainings, unreadable = read_trainings(services.lake, since=now - _FAILURES_SHOWN)
    readable.unreadable += unreadable
    for each in trainings:
        lost = each.is_lost(now)
        if lost or each.outcome == "failed":
            reason = "its process was killed before it ended" if lost else each.sentence
            yield {
                "version": None,
                "at": iso(each.ended_at or each.started_at),
                "decision": None,
                "outcome": "lost" if lost else "failed",
                "reason": reason,
                "holds": [],
            }


def _registered(services: Services, records: Sequence[LedgerRecord]) -> list[dict[str, Any]]:
    """Return the last trainings with a version: decision of the gate, and the missing conditions of a HOLD."""
    found = []
    for record in [each for each in records if each.action == "register"][-_ATTEMPTS:]:
        evidence = services.ledger.evidence(record)
        version = str(evidence.get("training", {}).get("version", "")) or list(record.versions)[-1]
        found.append(
            {
                "version": version,
                "at": iso(record.at),
                "decision": evidence.get("verdict"),
                "outcome": "registered",
                "reason": record.reason,
                "holds": holding_checks(evidence),
            }
        )
    return found


def status_lines(services: Services) -> Iterator[str]:
    """Yield the lines of the status screen."""
    yield from screen(status_facts(services))


def screen(facts: StatusFacts) -> Iterator[str]:
    """Yield the facts as lines, and the advice for the newest HOLD. Pure."""
    yield f"home        {facts['home']}"
    yield f"settings    profile {facts['profile']}, {facts['config'] or 'no evergreen.toml'}"
    yield from _champion_lines(facts)
    if (traffic := facts["traffic"]) is not None:
        arms = ", ".join(f"{arm['name']} v{arm['version']} {arm['share']:.0%}" for arm in traffic["arms"])
        yield f"traffic     {traffic['mode']}: {arms} (ledger record {traffic['record']})"
    if facts["challenger"] is not None:
        yield f"challenger  version {facts['challenger']}"
    if (promotion := facts["promotion"]) is not None:
        when = (
            f"from {_time(promotion['next_at'])} UTC" if promotion["next_at"] else "as soon as there are enough labels"
        )
        yield f"promotion   {promotion['experiment']}: {promotion['step']}; next {promotion['next']}, {when}"
        yield f"{_INDENT}ends by {_time(promotion['ends_at'])} UTC at the latest"
    if (dropped := facts["dropped"]) is not None:
        yield f"dropped     version {', '.join(dropped['versions'])} at {_time(dropped['at'])} UTC: {dropped['reason']}"
    training = facts["training"]
    yield f"training    {'none runs' if training is None else 'runs: ' + training['line']}"
    if (retraining := facts["retraining"]) is not None:
        yield f"retraining  {_labels_line(retraining)}"
    for position, attempt in enumerate(facts["attempts"]):
        failed = "" if attempt["outcome"] == "registered" else f"training {attempt['outcome']}: "
        yield f"{'attempts    ' if position == 0 else _INDENT}{_time(attempt['at'])} {failed}{attempt['reason']}"
    problems = facts["ledger"]["problems"]
    said = "verified" if not problems else "INCONSISTENT: " + "; ".join(problems)
    number = "unreadable" if facts["ledger"]["records"] is None else f"{facts['ledger']['records']} records"
    yield f"ledger      {number}, {said}"
    for position, verdict in enumerate(facts["verdicts"]):
        times = f"{verdict['start'][11:19]}-{verdict['end'][11:19]}"
        first, *others = verdict["reasons"]
        yield f"{'verdicts    ' if position == 0 else _INDENT}{times} {verdict['verdict']:<6}{first}"
        yield from (f"{_INDENT}{'':24}{reason}" for reason in others)
    if not facts["verdicts"]:
        yield "verdicts    none yet"
    if facts["monitor"] is not None:
        yield f"monitor     {facts['monitor']}"
    for server in facts["servers"]:
        yield f"{server['name']:<12}{'up  ' if server['running'] else 'down'} {server['page'] or ''}".rstrip()
    for position, sentence in enumerate(facts["unreadable"]):
        yield f"{'unreadable  ' if position == 0 else _INDENT}{sentence}"
    yield from _held(facts)


def _champion_lines(facts: StatusFacts) -> Iterator[str]:
    champion = facts["champion"]
    if facts["ledger"]["records"] is None:
        yield "champion    unknown: the ledger cannot be read"
    elif champion is None:
        yield "champion    none yet: `evergreen train FILE` makes the first version"
    else:
        yield f"champion    version {champion['version']} since {_time(champion['since'])} UTC ({champion['age']} ago)"
        yield f"{_INDENT}because: {champion['reason']}"


def _newest_version(facts: StatusFacts) -> Mapping[str, Any] | None:
    """Return the newest training with a version."""
    return next((each for each in facts["attempts"] if each["outcome"] == "registered"), None)


def _held(facts: StatusFacts) -> Iterator[str]:
    newest = _newest_version(facts)
    if newest is not None and newest["decision"] == "HOLD":
        yield f"version {newest['version']} is on HOLD. For a PROMOTE:"
        for check in newest["holds"]:
            yield f"  - {check['sentence']} To do: {check['advice']}"


def following_step(facts: StatusFacts) -> tuple[str, str]:
    """Return the meaning of the state, and the next step. Pure."""
    champion, newest = facts["champion"], _newest_version(facts)
    failed = bool(facts["attempts"]) and facts["attempts"][0]["outcome"] != "registered"
    version = None if champion is None else champion["version"]
    held = None if newest is None or newest["decision"] != "HOLD" or newest["version"] == version else newest["version"]
    stale = bool(facts["verdicts"]) and facts["verdicts"][-1]["verdict"] == "STALE"
    serves = any(server["running"] for server in facts["servers"])
    cases = (
        (
            facts["ledger"]["problems"],
            "The ledger is damaged, or MLflow or the router differ from it",
            "evergreen ledger verify",
        ),
        (
            facts["training"] is not None,
            "A training runs; the champion stays until it ends",
            "wait, or stop the training with Ctrl-C in its terminal",
        ),
        (
            failed and facts["promotion"] is None and facts["challenger"] is None,
            "The last training gave no version; the champion is unchanged",
            "remove the cause that `attempts` names, then evergreen train",
        ),
        (
            champion is None,
            "There is no champion yet: no version was trained",
            "evergreen init FILE, then evergreen train",
        ),
        (
            facts["promotion"] is not None,
            f"Version {version} answers; an experiment decides about its challenger",
            "wait, or end the experiment with `evergreen rollback`",
        ),
        (
            facts["challenger"] is not None,
            f"Version {version} answers; version {facts['challenger']} waits for its experiment",
            f"evergreen promote (tries version {facts['challenger']})",
        ),
        (
            held is not None,
            f"Version {version} answers; version {held} is not proven better",
            f"follow the advice above, or decide yourself: evergreen promote {held} --now --reason '...'",
        ),
        (
            stale,
            f"Version {version} answers, but no longer fits its traffic",
            "evergreen retrain, unless a training was started since",
        ),
        (not serves, f"Version {version} is champion, but no server runs", "evergreen serve, or evergreen up"),
    )
    found = ((meaning, following) for holds, meaning, following in cases if holds)
    return next(found, (f"Version {version} answers, and no action is needed", "evergreen monitor judges its traffic"))


def _labels_line(retraining: Mapping[str, Any]) -> str:
    """Return the number of labels that a retraining lacks, or the gain that its gate would find."""
    sees = f"gain of {100 * retraining['sees_gain']:.1f} points or more"
    if retraining["missing"]:
        return (
            f"{retraining['missing']} labels are missing: {retraining['labels']} of {retraining['needed']} came since "
            f"the champion's snapshot (`evergreen labels export`); its gate can then find a {sees}"
        )
    return f"can start: {retraining['labels']} labels since the champion's snapshot; the gate can find a {sees}"


def _time(text: str) -> str:
    return text[:19].replace("T", " ")
