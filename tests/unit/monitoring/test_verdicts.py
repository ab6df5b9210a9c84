"""Tests of verdict records: create-only, in revisions, and the durable trigger."""

import json
from collections.abc import Callable
from dataclasses import replace

import pytest

from absa.errors import ConflictError, IntegrityError
from absa.records.lake import Lake
from absa.records.schema import Window
from absa.records.verdict import Reason, Verdict, VersionFigures
from monitoring.drift.sequential import RightAnswers
from monitoring.verdicts import VerdictStore

Windows = Callable[[int], Window]


def stale(window: Window) -> Verdict:
    return Verdict(
        window=window,
        verdict="STALE",
        version="7",
        by_version={"7": VersionFigures(rows=500, labelled=300, f1=0.6, estimated_f1=0.8)},
        reasons=(Reason(kind="measured_loss", sentence="F1 fell.", statistic=0.2, threshold=0.03, p_value=0.001),),
        action="retrain",
        action_reason="300 new labels.",
        at=window.end,
    )


def test_a_record_reads_back_as_it_was_written(lake: Lake, window: Windows) -> None:
    store = VerdictStore(lake)
    written = store.record(stale(window(0)))
    assert store.latest(window(0)) == written


def test_the_record_has_the_contracts_fields(lake: Lake, window: Windows) -> None:
    written = VerdictStore(lake).record(stale(window(0)))
    data = json.loads(lake.read(f"verdicts/{window(0).key}.r1.json"))
    assert set(data) >= {
        "schema_version",
        "window_start",
        "window_end",
        "verdict",
        "by_version",
        "reasons",
        "action",
        "action_reason",
        "attempts",
        "report_uri",
    }
    assert set(data["reasons"][0]) >= {"kind", "sentence", "statistic", "threshold", "p_value", "estimated_f1_loss"}
    assert written.key == f"verdicts/{window(0).key}.r1.json"


def test_late_labels_make_second_revision(lake: Lake, window: Windows) -> None:
    store = VerdictStore(lake)
    store.record(stale(window(0)))
    store.record(replace(stale(window(0)), verdict="WATCH", action="none"))
    assert [(v.revision, v.verdict) for v in store.revisions(window(0))] == [(1, "STALE"), (2, "WATCH")]


def test_revision_ten_comes_after_revision_nine(lake: Lake, window: Windows) -> None:
    store = VerdictStore(lake)
    for _ in range(11):
        store.record(stale(window(0)))
    latest = store.latest(window(0))
    assert latest is not None
    assert latest.revision == 11


def test_history_has_last_revision_of_each_window(lake: Lake, window: Windows) -> None:
    store = VerdictStore(lake)
    for k in (2, 0, 1, 0):
        store.record(stale(window(k)))
    assert [(v.window, v.revision) for v in store.history()] == [(window(0), 2), (window(1), 1), (window(2), 1)]
    assert [v.window for v in store.history(limit=1)] == [window(2)]
    latest = store.latest()
    assert latest is not None
    assert latest.window == window(2)


def test_an_attempt_makes_the_retraining_no_longer_due(lake: Lake, window: Windows) -> None:
    store = VerdictStore(lake)
    verdict = store.record(stale(window(0)))
    assert verdict.retraining_is_due
    begun = store.begin_attempt(verdict)
    assert begun.attempts[0].key == f"{window(0).key}-1"
    assert not begun.retraining_is_due
    with pytest.raises(ConflictError):
        store.begin_attempt(verdict)


def test_failed_attempt_frees_next_up_to_three(lake: Lake, window: Windows) -> None:
    store = VerdictStore(lake)
    verdict = store.record(stale(window(0)))
    keys = []
    for number in (1, 2, 3):
        begun = store.begin_attempt(verdict)
        keys.append(begun.attempts[-1].key)
        verdict = store.end_attempt(window(0), number, "failed", detail="killed")
    assert keys == [f"{window(0).key}-{n}" for n in (1, 2, 3)]
    assert not verdict.retraining_is_due


def test_a_completed_attempt_is_the_windows_last(lake: Lake, window: Windows) -> None:
    store = VerdictStore(lake)
    store.begin_attempt(store.record(stale(window(0))))
    done = store.end_attempt(window(0), 1, "completed", flow_run_id="run-1")
    assert done.attempts[0].flow_run_id == "run-1"
    assert not done.retraining_is_due


def test_judging_again_keeps_the_attempts(lake: Lake, window: Windows) -> None:
    store = VerdictStore(lake)
    store.begin_attempt(store.record(stale(window(0))))
    again = store.record(stale(window(0)))
    assert [attempt.number for attempt in again.attempts] == [1]
    assert not again.retraining_is_due


def test_report_is_recorded_beside_concurrent_attempt(lake: Lake, window: Windows) -> None:
    store = VerdictStore(lake)
    begun = store.begin_attempt(store.record(stale(window(0))))
    reported = store.attach_report(window(0), "http://reports/1")
    assert (reported.report_uri, reported.attempts) == ("http://reports/1", begun.attempts)
    ended = store.end_attempt(window(0), 1, "completed")
    assert (ended.report_uri, ended.attempts[0].state) == ("http://reports/1", "completed")


def test_attached_report_keeps_concurrent_records(lake: Lake, window: Windows) -> None:
    class Late(VerdictStore):
        """Somebody ends the attempt just after this one has looked."""

        def latest(self, of: Window | None = None) -> Verdict | None:
            seen = super().latest(of)
            if seen is not None and seen.attempts[0].state == "started":
                VerdictStore(lake).end_attempt(window(0), 1, "completed")
            return seen

    store = VerdictStore(lake)
    store.begin_attempt(store.record(stale(window(0))))
    reported = Late(lake).attach_report(window(0), "http://reports/1")
    assert (reported.report_uri, reported.attempts[0].state) == ("http://reports/1", "completed")


class ATooLateStore(VerdictStore):
    """Somebody begins the attempt just after this one has looked."""

    def latest(self, window: Window | None = None) -> Verdict | None:
        seen = super().latest(window)
        if seen is not None and seen.retraining_is_due:
            VerdictStore(self._lake).begin_attempt(seen)
        return seen


def test_verdict_joins_attempt_begun_after_look(lake: Lake, window: Windows) -> None:
    VerdictStore(lake).record(stale(window(0)))
    judged = ATooLateStore(lake).record(replace(stale(window(0)), verdict="WATCH"))
    assert (judged.revision, judged.verdict, [attempt.number for attempt in judged.attempts]) == (3, "WATCH", [1])


def test_concurrent_attempts_one_must_look_again(lake: Lake, window: Windows) -> None:
    due = VerdictStore(lake).record(stale(window(0)))
    with pytest.raises(ConflictError):
        ATooLateStore(lake).begin_attempt(due)
    assert [verdict.revision for verdict in VerdictStore(lake).revisions(window(0))] == [1, 2]


def test_an_unknown_attempt_cannot_end(lake: Lake, window: Windows) -> None:
    store = VerdictStore(lake)
    store.record(stale(window(0)))
    with pytest.raises(ConflictError, match="no attempt 4"):
        store.end_attempt(window(0), 4, "failed")


def test_a_broken_record_is_named(lake: Lake, window: Windows) -> None:
    lake.write(f"verdicts/{window(0).key}.r1.json", b"{}")
    with pytest.raises(IntegrityError, match="is not a verdict record"):
        VerdictStore(lake).latest(window(0))


def test_fields_of_later_versions_are_ignored(lake: Lake, window: Windows) -> None:
    data = stale(window(0)).to_json() | {"added_later": 1}
    data["reasons"][0]["added_later"] = 2
    data["by_version"]["7"]["added_later"] = 3
    assert Verdict.from_json(data) == stale(window(0))


def test_record_without_unasked_count_counts_all_labels() -> None:
    known = {"rows": 9, "labelled": 6, "f1": None, "estimated_f1": None}
    assert RightAnswers.recorded(VersionFigures(**known)) is None
    assert RightAnswers.recorded(VersionFigures(**known, right=4)) == RightAnswers(right=4, labelled=6)
    assert RightAnswers.recorded(VersionFigures(**known, right=4, unasked=5)) == RightAnswers(right=4, labelled=5)
