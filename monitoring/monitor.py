"""Monitoring of one window: load, compare with the reference, measure, judge, record the verdict, report."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import partial
from typing import Final, Protocol

import polars as pl

from absa.policies import StalenessPolicy
from absa.records.identifiers import uuid7
from absa.records.lake import Lake
from absa.records.schema import Window, utc_now
from absa.records.verdict import Verdict, VersionFigures
from absa.records.windows import WindowData, load_window, read_feedback, smallest
from absa.task import ABSA, TaskSpec
from monitoring.drift.detect import SLOW_COLUMNS, SLOW_SHARE, DriftReport, detect_drift
from monitoring.drift.embedding import Embedder, embed_sample
from monitoring.drift.sample import Sample, sample_of
from monitoring.drift.sequential import RightAnswers
from monitoring.kept_promise import kept_promise, recorded_answers
from monitoring.labels.habits import habits_of, with_late_labels
from monitoring.labels.unit_spread import unit_spread
from monitoring.losses import estimated_loss, measured_figure, measured_loss, one_family, slow_loss
from monitoring.parts import parts_of
from monitoring.performance import FrozenTest, back_test, estimate, flip_rate, measure
from monitoring.reference_rows import load_recent, load_reference, save_recent, save_reference
from monitoring.staleness import StalenessDecision, StalenessEvidence, judge_staleness
from monitoring.traffic.attribution import drift_by_mix
from monitoring.traffic.comparison import WindowComparison, compare_window
from monitoring.traffic.cycles import MOST_KEPT_ROWS
from monitoring.traffic.kept_rows import changed_recent, changed_reference, inside
from monitoring.verdicts import VerdictStore

_DAY_S: Final = 86_400.0
HISTORY_WINDOWS: Final = 200  # most verdicts that one run reads
_DRIFTS: Final = ("drift:", "slow_drift:")


@dataclass(frozen=True, kw_only=True)
class WatchedVersion:
    """Facts about the champion that the monitor needs.

    `snapshot_at` is the time of its training snapshot: later labels are new. `champion_since` is the time at which it
    became champion: its reference holds rows served since then.
    """

    version: str
    frozen_test: FrozenTest | None = None
    snapshot_at: datetime | None = None
    champion_since: datetime | None = None


@dataclass(frozen=True, kw_only=True)
class WatchSettings:
    """Settings of a deployment.

    `measuring_sources` and `training_sources` are feedback sources trusted to measure and to train; None: every source.
    `promise` is the promised share of right answers among certain ones; None: nothing is promised.
    """

    policy: StalenessPolicy = field(default_factory=StalenessPolicy)
    measuring_sources: Collection[str] | None = None
    training_sources: Collection[str] | None = None
    promise: float | None = None
    max_rows: int = 100_000
    seed: int = 0
    task: TaskSpec = ABSA


class WindowReporter(Protocol):
    """Writer of a window's report."""

    def report(
        self, data: WindowData, reference: pl.DataFrame | None, verdict: Verdict, *, replaces: str | None = None
    ) -> str | None:
        """Write a report; return its address, None if none was written. `replaces`: address of the earlier report."""


@dataclass(frozen=True, kw_only=True)
class Observation:
    """Findings about the watched version in a window, before the decision.

    `reference` is the version's whole reference; `comparison` has the rows of it that match the window.
    """

    data: WindowData
    evidence: StalenessEvidence
    reference: pl.DataFrame | None
    comparison: WindowComparison
    figures: Mapping[str, VersionFigures]


@dataclass(frozen=True, kw_only=True)
class Judged:
    """A window's recorded verdict and its findings; `replaces` is the address of an earlier revision's report."""

    verdict: Verdict
    seen: Observation
    replaces: str | None


def watch(
    lake: Lake,
    window: Window,
    *,
    champion: WatchedVersion,
    settings: WatchSettings,
    since_retraining_s: float | None = None,
    retraining_runs: bool = False,
    new_labels: int | None = None,
    now: datetime | None = None,
    embedder: Embedder | None = None,
    verdicts: VerdictStore | None = None,
) -> Judged:
    """Judge a window and record the verdict; a later call adds a revision with the labels known then.

    Args:
        lake: holds predictions, feedback, references and verdicts.
        window: event time.
        champion: the version that is judged; the record has figures of other versions too.
        settings: policy and sizes.
        since_retraining_s: seconds since the last retraining started; None: there was none.
        retraining_runs: True if a retraining is running.
        new_labels: number of labels that a retraining would have in addition to the champion's; None: the feedback
            since its snapshot is counted.
        now: time of judging; feedback received later is ignored.
        embedder: the champion's embedder; None: the column `embedding` is left out.
        verdicts: store of this lake, with the records that it has read; None: they are read again.

    Raises:
        UnavailableError: the lake is unavailable.
        ConflictError: other writers kept recording this window concurrently.
    """
    at = now or utc_now()
    store = verdicts or VerdictStore(lake)
    before = store.latest(window)
    if new_labels is None:
        since = champion.snapshot_at or window.start
        new_labels = count_new_labels(lake, since, settings.training_sources, at, given_since=since)
    kept = [load_reference(lake, champion.version), load_recent(lake, champion.version)]
    reference, recent = with_late_labels(lake, kept, until=at, sources=settings.measuring_sources)
    data = load_window(
        lake,
        window,
        trusted_sources=settings.measuring_sources,
        feedback_until=at,
        max_rows=settings.max_rows,
    )
    seen = evidence_of(
        data,
        reference,
        champion=champion,
        settings=settings,
        now=at,
        new_labels=new_labels,
        earlier=_earlier(store, champion, window, RightAnswers.recorded),
        earlier_certain=_earlier(store, champion, window, partial(recorded_answers, promise=settings.promise)),
        recent=recent,
        embedder=embedder,
    )
    attempts = () if before is None else before.attempts
    evidence = replace(
        seen.evidence,
        since_retraining_s=since_retraining_s,
        retraining_runs=retraining_runs,
        attempts=sum(attempt.state == "failed" for attempt in attempts),
        completed=any(attempt.state == "completed" for attempt in attempts),
    )
    verdict = to_verdict(seen, judge_staleness(evidence, settings.policy), at=at)
    previous = None if before is None else before.report_uri
    changed = extended_reference(seen, champion=champion, settings=settings, verdict=verdict)
    if changed is not None:
        save_reference(lake, champion.version, changed)
    verdict = replace(verdict, reference=seen.comparison.use(joined=_in_reference(seen, changed)))
    save_recent(lake, champion.version, recent_rows(recent, seen, champion, settings))
    return Judged(verdict=store.record(replace(verdict, report_uri=previous)), seen=seen, replaces=previous)


def report(lake: Lake, judged: Judged, reporter: WindowReporter, *, verdicts: VerdictStore | None = None) -> Verdict:
    """Write the report of a judged window and record its address.

    Raises:
        UnavailableError: the report cannot be written now; the verdict stays recorded.
        ConflictError: other writers kept recording this window concurrently.
    """
    seen = judged.seen
    uri = reporter.report(seen.data, seen.comparison.reference, judged.verdict, replaces=judged.replaces)
    return (verdicts or VerdictStore(lake)).attach_report(judged.verdict.window, uri)


def evidence_of(
    data: WindowData,
    reference: pl.DataFrame | None,
    *,
    champion: WatchedVersion,
    settings: WatchSettings,
    now: datetime,
    new_labels: int,
    earlier: Sequence[RightAnswers] = (),
    earlier_certain: Sequence[RightAnswers] = (),
    recent: pl.DataFrame | None = None,
    embedder: Embedder | None = None,
) -> Observation:
    """Compare a loaded window with a reference. Pure. The caller adds the facts about retrainings.

    `earlier` are the labelled answers of the windows before, `earlier_certain` the certain ones among them, `recent`
    rows of these windows.
    """
    window, policy, seed = data.window, settings.policy, settings.seed
    mine = data.version(champion.version)
    found = compare_window(mine.rows, window, reference, recent, policy, total=mine.total)
    rows = round(mine.total * found.rows.height / max(mine.rows.height, 1))
    task = settings.task
    current = sample_of(found.rows, task)
    compared = None if found.reference is None else sample_of(found.reference, task)
    first_labels = None if found.first_labels is None else sample_of(found.first_labels, task)
    drift, slow, by_mix = _drifts(current, compared, found, settings, embedder)
    frozen = champion.frozen_test
    kept = None if reference is None else smallest(reference, MOST_KEPT_ROWS)
    habits = habits_of([kept, recent, found.rows], now, task)
    measured = measured_loss(current, frozen, compared, policy, seed, habits)
    estimated = estimated_loss(current, frozen, compared, policy, seed)
    drift, slow, measured, estimated = one_family(drift, slow, measured, estimated, policy.false_alarm_rate)
    ratio = min(policy.max_report_ratio, habits.possible_ratio) if habits.ratio is None else max(1.0, habits.ratio)
    kept_now = kept_promise(found.rows, settings.promise, policy, task, earlier=earlier_certain, report_ratio=ratio)
    evidence = StalenessEvidence(
        version=champion.version,
        rows=rows,
        labelled=current.labelled,
        reference_rows=0 if compared is None else compared.rows,
        drift=drift,
        measured=measured,
        estimated=estimated,
        back_test=back_test(current, seed=seed),
        slow_loss=slow_loss(
            current, frozen, first_labels, policy, earlier, habits, unit_spread(found.first_labels, found.last, task)
        ),
        slow_drift=slow,
        promise=kept_now,
        by_mix=by_mix,
        task=task,
        matching=found.matching,
        comparing_from=found.comparing_from,
        usual_rows=found.usual_rows,
        notes=found.notes,
        new_labels=new_labels,
        rows_per_day=rows * _DAY_S / (window.end - window.start).total_seconds(),
        age_s=None if champion.snapshot_at is None else (now - champion.snapshot_at).total_seconds(),
    )
    figures = {
        version: _figures(
            current if version == champion.version else sample_of(data.version(version).rows, task), count, seed
        )
        for version, count in sorted(data.by_version.items())
    }
    if champion.version in figures:
        mine_now = replace(figures[champion.version], parts=parts_of(current, seed=seed))
        figure = measured_figure(current, habits, max_report_ratio=policy.max_report_ratio, seed=seed)
        if figure is not None and figure.best is None:  # corrected by audits: record and reason show the same F1
            mine_now = replace(mine_now, f1=figure.now.f1)
        if kept_now is not None:
            mine_now = replace(
                mine_now,
                promise=kept_now.promise,
                coverage=kept_now.coverage,
                certain_right=kept_now.right,
                certain_labelled=kept_now.labelled,
            )
        figures[champion.version] = mine_now
    return Observation(data=data, evidence=evidence, reference=reference, comparison=found, figures=figures)


def count_new_labels(
    lake: Lake, asked_since: datetime, sources: Collection[str] | None, until: datetime, *, given_since: datetime
) -> int:
    """Count the requests since `asked_since` with a label given since `given_since`.

    Labels of `sources` count; None: of every source. A late label of an earlier request is left out: it trains, but
    its row is not recent to the gate.
    """
    first = uuid7(int(asked_since.timestamp() * 1000), bytes(10))  # ids are ordered by time
    new = (pl.col("at") >= given_since) & (pl.col("request_id") >= first)
    requests = [pl.Series(dtype=pl.UInt64)]  # a hash of eight bytes per label bounds the memory
    for part in read_feedback(lake, given_since, until, sources):
        requests.append(part.filter(new)["request_id"].hash(seed=0).unique())
    return int(pl.concat(requests).n_unique())


def to_verdict(seen: Observation, decision: StalenessDecision, *, at: datetime) -> Verdict:
    """Return the record of a decision."""
    return Verdict(
        window=seen.data.window,
        verdict=decision.verdict,
        version=seen.evidence.version,
        by_version=dict(seen.figures),
        reasons=decision.reasons,
        action=decision.action,
        action_reason=decision.action_reason,
        at=at,
    )


def _drifts(
    current: Sample,
    compared: Sample | None,
    found: WindowComparison,
    settings: WatchSettings,
    embedder: Embedder | None,
) -> tuple[DriftReport | None, DriftReport | None, frozenset[str]]:
    """Return the window's drift, the slow drift of the last windows together, and the columns that the mix explains."""
    if compared is None or compared.rows == 0:
        return None, None, frozenset()
    rate, seed = settings.policy.false_alarm_rate, settings.seed
    own_rate = rate if found.slow is None else rate * (1.0 - SLOW_SHARE)
    before, now = (
        embed_sample(s, embedder, max_rows=settings.policy.embed_rows, seed=seed) for s in (compared, current)
    )
    test = partial(detect_drift, false_alarm_rate=own_rate, seed=seed)
    drift = test(before, now)
    by_mix = _by_mix(drift, found.alike_hours(), now, test, settings)
    if found.slow is None:
        return drift, None, by_mix
    last, alike = (sample_of(rows, settings.task) for rows in found.slow)
    if drift.drifted:  # slow drift is tested only if no column of the window itself alarms
        return drift, DriftReport(findings=(), reference_rows=alike.rows, current_rows=last.rows), by_mix
    test = partial(detect_drift, false_alarm_rate=rate * SLOW_SHARE, seed=seed, columns=SLOW_COLUMNS)
    slow = test(alike, last)
    return drift, slow, _by_mix(slow, found.alike_hours(together=True), last, test, settings)


def _by_mix(
    drift: DriftReport,
    reference: pl.DataFrame | None,
    current: Sample,
    test: Callable[[Sample, Sample], DriftReport],
    settings: WatchSettings,
) -> frozenset[str]:
    if not drift.drifted or reference is None:
        return frozenset()
    before = sample_of(smallest(reference, MOST_KEPT_ROWS), settings.task)
    return drift_by_mix(drift, before, current, test, seed=settings.seed)


def _figures(sample: Sample, rows: int, seed: int) -> VersionFigures:
    measured, estimated = measure(sample, seed=seed), estimate(sample, seed=seed)
    unasked = RightAnswers.of(sample)
    return VersionFigures(
        rows=rows,
        labelled=sample.labelled,
        f1=None if measured is None else measured.f1,
        estimated_f1=None if estimated is None else estimated.f1,
        right=unasked.right,
        unasked=unasked.labelled,
        flip_rate=flip_rate(sample),
        default_task=sample.task.is_default,
    )


def _earlier(
    store: VerdictStore,
    champion: WatchedVersion,
    window: Window,
    recorded: Callable[[VersionFigures | None], RightAnswers | None],
) -> list[RightAnswers]:
    """Return the version's labelled answers in earlier windows since it became champion.

    Of overlapping windows only the first counts, so that no label counts twice.
    """
    found: list[RightAnswers] = []
    counted_to = champion.champion_since
    for verdict in store.history(limit=HISTORY_WINDOWS):
        figures = verdict.by_version.get(champion.version)
        answers = recorded(figures)
        apart = counted_to is None or verdict.window.start >= counted_to
        if apart and verdict.window.end <= window.start and answers is not None:
            found.append(answers)
            counted_to = verdict.window.end
    return found


def extended_reference(
    seen: Observation, *, champion: WatchedVersion, settings: WatchSettings, verdict: Verdict
) -> pl.DataFrame | None:
    """Return the reference after this verdict; None if the reference does not change."""
    drifted = any(reason.kind.startswith(_DRIFTS) for reason in verdict.reasons)
    sound = not drifted and verdict.verdict != "STALE"
    rows = _since_champion(seen, champion)
    return changed_reference(seen.reference, rows, seen.data.window, settings.policy, sound=sound)


def _in_reference(seen: Observation, changed: pl.DataFrame | None) -> bool:
    rows = seen.reference if changed is None else changed
    return rows is not None and inside(rows, seen.data.window).height > 0


def recent_rows(
    before: pl.DataFrame | None, seen: Observation, champion: WatchedVersion, settings: WatchSettings
) -> pl.DataFrame:
    """Return rows of each of the last windows, this one included, for the test of slow drift."""
    return changed_recent(before, _since_champion(seen, champion), seen.data.window, settings.policy)


def _since_champion(seen: Observation, champion: WatchedVersion) -> pl.DataFrame:
    rows = seen.comparison.rows
    return rows if champion.champion_since is None else rows.filter(pl.col("at") >= champion.champion_since)
