"""Tests of watching windows from the log to the verdict record."""

from collections.abc import Callable
from datetime import timedelta
from functools import partial
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from absa.policies import StalenessPolicy
from absa.records.lake import Lake
from absa.records.schema import Window, iso
from absa.records.verdict import ReferenceUse, Verdict
from absa.records.windows import WindowData, load_window
from monitoring.drift.detect import SLOW_SHARE, DriftFinding, DriftReport
from monitoring.labels.label_import import import_labels
from monitoring.labels.label_queue import ask_labels, write_queue
from monitoring.losses import one_family
from monitoring.monitor import Observation, WatchedVersion, WatchSettings, count_new_labels, report, watch
from monitoring.performance import FrozenTest
from monitoring.reference_rows import load_recent, load_reference
from monitoring.verdicts import VerdictStore
from tests.unit.monitoring.conftest import START, Traffic

Windows = Callable[[int], Window]
CHAMPION = WatchedVersion(
    version="1",
    frozen_test=FrozenTest.from_f1(0.85, 400),
    snapshot_at=START - timedelta(hours=1),
    champion_since=START,
)
SETTINGS = WatchSettings(policy=StalenessPolicy(cooldown_s=60.0, reference_rows=600, min_new_labels=200))


def judge(lake: Lake, window: Window, **options: object) -> Verdict:
    now = window.end + timedelta(seconds=5)
    return watch(lake, window, **{"champion": CHAMPION, "settings": SETTINGS, "now": now, **options}).verdict  # type: ignore[arg-type]


def test_calm_traffic_is_fresh_and_drift_stale(lake: Lake, traffic: Traffic, window: Windows) -> None:
    verdicts = []
    for k in range(6):
        traffic.send(window(k), 400, labelled=0.6)
        verdicts.append(judge(lake, window(k)))
    assert [v.verdict for v in verdicts] == ["FRESH"] * 6
    traffic.send(window(6), 200)
    traffic.send(window(6), 200, topic="garden", accuracy=0.5)
    verdict = judge(lake, window(6))
    assert (verdict.verdict, verdict.action) == ("STALE", "retrain")
    assert verdict.by_version["1"].rows == 400


def test_reference_grows_to_its_size(lake: Lake, traffic: Traffic, window: Windows) -> None:
    heights = []
    for k in range(4):
        traffic.send(window(k), 300)
        judge(lake, window(k))
        reference = load_reference(lake, "1")
        assert reference is not None
        heights.append(reference.height)
    assert heights == [300, 600, 600, 600]


def test_rows_before_champion_are_no_reference(lake: Lake, traffic: Traffic, window: Windows) -> None:
    traffic.send(window(0), 300)
    champion = WatchedVersion(version="1", champion_since=window(1).start)
    watch(lake, window(0), champion=champion, settings=SETTINGS, now=window(0).end)
    assert load_reference(lake, "1") is None


def test_stale_rows_do_not_join_the_reference(lake: Lake, traffic: Traffic, window: Windows) -> None:
    traffic.send(window(0), 300, accuracy=0.5, labelled=1.0)
    assert judge(lake, window(0)).verdict == "STALE"
    assert load_reference(lake, "1") is None


def test_window_found_stale_later_leaves_the_reference(lake: Lake, traffic: Traffic, window: Windows) -> None:
    for k in range(2):
        late = window(k).end + timedelta(hours=2)
        traffic.send(window(k), 250, feedback_at=late, labelled=1.0, accuracy=0.85 if k == 0 else 0.5, confidence=0.85)
        assert judge(lake, window(k)).verdict != "STALE"
    verdict = judge(lake, window(1), now=window(1).end + timedelta(hours=3))
    assert verdict.verdict == "STALE"
    assert verdict.reference is not None
    assert not verdict.reference.joined
    reference = load_reference(lake, "1")
    assert reference is not None
    assert reference["window_start"].unique().to_list() == [window(0).start]


def test_verdict_says_what_it_was_compared_with(lake: Lake, traffic: Traffic, window: Windows) -> None:
    for k in range(3):
        traffic.send(window(k), 300)
        judge(lake, window(k))
    found = VerdictStore(lake).latest(window(2))
    assert found is not None
    assert found.reference == ReferenceUse(
        rows=600,
        held=600,
        windows=2,
        first=iso(window(0).start),
        last=iso(window(1).start),
        matching="Mondays at 10:02 UTC",
        joined=False,
    )


def test_flood_is_named_and_left_out(lake: Lake, traffic: Traffic, window: Windows) -> None:
    for k in range(2):
        traffic.send(window(k), 250)
        judge(lake, window(k))
    traffic.send(window(2), 250)
    bot = "buy our new watches today and win a trip to the moon for two people with order"
    traffic.send(window(2), 200, text=bot, accuracy=0.2, units=1)
    verdict = judge(lake, window(2))
    assert [reason.kind for reason in verdict.reasons] == ["fresh", "flood"]
    assert "200 of 450 predictions (44%)" in verdict.reasons[1].sentence
    assert "from 1 unit;" in verdict.reasons[1].sentence
    assert verdict.by_version["1"].rows == 450
    reference, recent = load_reference(lake, "1"), load_recent(lake, "1")
    assert reference is not None
    assert recent is not None
    assert not any(text.startswith("buy our") for text in [*reference["text"], *recent["text"]])
    judged_whole = WatchSettings(policy=StalenessPolicy(reference_rows=600, exclude_floods=False))
    assert judge(lake, window(2), settings=judged_whole).verdict == "STALE"


def test_other_hours_of_first_day_make_no_alarm(lake: Lake, traffic: Traffic) -> None:
    by_day = Window(start=START, end=START + timedelta(hours=1))
    night = Window(start=START + timedelta(hours=12), end=START + timedelta(hours=13))
    traffic.send(by_day, 300)
    judge(lake, by_day)
    traffic.send(night, 300, topic="garden")
    verdict = judge(lake, night)
    assert verdict.verdict == "FRESH"
    kinds = [reason.kind for reason in verdict.reasons]
    assert kinds[:2] == ["fresh", "no_history"]
    assert any(kind.startswith("no_history:") for kind in kinds)
    assert verdict.reference is not None
    assert (verdict.reference.matching, verdict.reference.joined) == ("none", True)
    without_cycle = WatchSettings(policy=StalenessPolicy(reference_rows=600, cycle="none"))
    assert judge(lake, night, settings=without_cycle).verdict == "STALE"


def test_late_labels_make_revision_with_them(lake: Lake, traffic: Traffic, window: Windows) -> None:
    traffic.send(window(0), 300, feedback_at=window(0).end + timedelta(hours=2), labelled=0.9)
    first = judge(lake, window(0))
    second = judge(lake, window(0), now=window(0).end + timedelta(hours=3))
    assert (first.revision, first.by_version["1"].labelled) == (1, 0)
    assert second.revision == 2
    assert second.by_version["1"].labelled > 250


def test_empty_and_tiny_windows_are_recorded(lake: Lake, traffic: Traffic, window: Windows) -> None:
    assert judge(lake, window(0)).verdict == "WATCH"
    traffic.send(window(1), 7)
    verdict = judge(lake, window(1))
    assert verdict.verdict == "WATCH"
    assert "7 predictions" in verdict.reasons[0].sentence
    assert len(VerdictStore(lake).history()) == 2


def test_another_versions_answers_are_told_apart(lake: Lake, traffic: Traffic, window: Windows) -> None:
    traffic.send(window(0), 300)
    traffic.send(window(0), 200, version="2", accuracy=0.4, arm="challenger", experiment="e")
    verdict = judge(lake, window(0))
    assert verdict.verdict != "STALE"
    assert verdict.by_version["1"].rows == 300
    assert verdict.by_version["2"].rows == 200
    first, second = verdict.by_version["1"].pos_neg_f1, verdict.by_version["2"].pos_neg_f1
    assert first is not None
    assert second is not None
    assert first > second + 0.2


def test_stale_without_labels_asks_for_them(lake: Lake, traffic: Traffic, window: Windows) -> None:
    for k in range(2):
        traffic.send(window(k), 400, labelled=0.0)
        judge(lake, window(k))
    traffic.send(window(2), 400, labelled=0.0, accuracy=0.6, topic="garden")
    verdict = judge(lake, window(2))
    assert (verdict.verdict, verdict.action) == ("STALE", "ask_labels")
    assert "Label 200 more rows" in verdict.action_reason


def test_report_gets_verdict_and_replaced_address(lake: Lake, traffic: Traffic, window: Windows) -> None:
    class Notes:
        def __init__(self) -> None:
            self.replaced: list[str | None] = []

        def report(
            self, data: WindowData, reference: pl.DataFrame | None, verdict: Verdict, *, replaces: str | None = None
        ) -> str:
            self.replaced.append(replaces)
            return f"notes/{verdict.window.key}/{len(self.replaced)}"

    traffic.send(window(0), 300)
    notes = Notes()
    first = report(lake, watch(lake, window(0), champion=CHAMPION, settings=SETTINGS, now=window(0).end), notes)
    report(lake, watch(lake, window(0), champion=CHAMPION, settings=SETTINGS, now=window(0).end), notes)
    assert first.report_uri == f"notes/{window(0).key}/1"
    assert notes.replaced == [None, first.report_uri]


def test_small_loss_is_found_over_several_windows(lake: Lake, traffic: Traffic, window: Windows) -> None:
    patient = WatchSettings(policy=StalenessPolicy(false_alarm_rate=0.01, reference_rows=300))
    for k in range(2):
        traffic.send(window(k), 300, accuracy=0.9, labelled=1.0)
        judge(lake, window(k), settings=patient)
    kinds: list[set[str]] = []
    for k in range(2, 12):
        traffic.send(window(k), 200, accuracy=0.74, confidence=0.85, labelled=1.0)
        verdict = judge(lake, window(k), settings=patient)
        kinds.append({reason.kind for reason in verdict.reasons})
    assert "slow_loss" not in kinds[0]
    assert "slow_loss" in kinds[-1]


def slow_evidence(seen: list[Observation]) -> list[float]:
    return [0.0 if each.evidence.slow_loss is None else each.evidence.slow_loss.evidence for each in seen]


def watched(lake: Lake, window: Window, settings: WatchSettings = SETTINGS, **options: object) -> Observation:
    now = window.end + timedelta(hours=2)
    return watch(lake, window, champion=CHAMPION, settings=settings, now=now, **options).seen  # type: ignore[arg-type]


def test_requested_labels_of_hard_rows_are_no_loss(
    lake: Lake, traffic: Traffic, window: Windows, tmp_path: Path
) -> None:
    seen = []
    for k in range(4):
        traffic.send(window(k), 300, accuracy=0.85, labelled=0.4)
        before = watched(lake, window(k))
        asked = ask_labels(lake, window(k), count=60, audit_share=0.1)
        hard = asked.with_columns(pl.Series("label", [(int(said) + 1) % 3 for said in asked["predicted"]]))
        write_queue(hard, tmp_path / "queue.csv")
        import_labels(lake, tmp_path / "queue.csv", at=window(k).end + timedelta(hours=1))
        after = watched(lake, window(k))
        assert after.evidence.labelled > before.evidence.labelled + 30
        seen += [before, after]
    found = slow_evidence(seen)
    assert found[0::2] == found[1::2]
    assert max(found) < 1.0 / SETTINGS.policy.false_alarm_rate


def test_windows_that_overlap_count_their_labels_once(lake: Lake, traffic: Traffic, window: Windows) -> None:
    for k in range(3):
        traffic.send(window(k), 300, accuracy=0.7, confidence=0.85, labelled=1.0)
        judge(lake, window(k))
    alone = watched(lake, window(3))
    for shift in (10, 20, 30):
        start = START + timedelta(seconds=shift)
        judge(lake, Window(start=start, end=start + timedelta(minutes=2)))
    again = watched(lake, window(3))
    assert slow_evidence([alone])[0] > 1.0
    assert slow_evidence([again]) == slow_evidence([alone])


def test_only_training_labels_since_snapshot_are_new(lake: Lake, traffic: Traffic, window: Windows) -> None:
    traffic.send(window(0), 50, labelled=1.0)
    traffic.send(window(1), 30, labelled=1.0)
    traffic.send(window(1), 20, labelled=1.0, source="forum")
    count = partial(count_new_labels, lake, until=window(2).end)
    since = window(1).start
    assert count(since, ("survey",), given_since=since) == 30
    assert count(since, None, given_since=since) == 50
    assert count(window(0).start, None, given_since=window(0).start) == 100


def test_late_labels_of_earlier_requests_are_not_new(lake: Lake, traffic: Traffic, window: Windows) -> None:
    since = window(1).start
    traffic.send(window(0), 50, labelled=1.0, feedback_at=window(1).end)
    traffic.send(window(1), 30, labelled=1.0)
    assert count_new_labels(lake, since, None, window(2).end, given_since=since) == 30


def test_slow_drift_is_found_over_several_windows(lake: Lake, traffic: Traffic, window: Windows) -> None:
    settings = WatchSettings(policy=StalenessPolicy(false_alarm_rate=0.02, reference_rows=600))
    for k in range(2):
        traffic.send(window(k), 300, labelled=0.0)
        judge(lake, window(k), settings=settings)
    kinds: set[str] = set()
    for k in range(2, 11):
        traffic.send(window(k), 295, labelled=0.0)
        traffic.send(window(k), 5, topic="garden", labelled=0.0)
        verdict = judge(lake, window(k), settings=settings)
        kinds |= {reason.kind.partition(":")[0] for reason in verdict.reasons}
    assert "slow_drift" in kinds
    recent = load_recent(lake, "1")
    assert recent is not None
    assert recent["at"].min() >= window(3).start
    assert recent["at"].max() < window(10).end


def test_slow_and_window_test_share_rate() -> None:
    assert 0.0 < SLOW_SHARE < 1.0
    finding = DriftFinding(
        kind="confidence", statistic=1.0, threshold=0.5, p_value=0.004, p_adjusted=0.004, effect=0.1, drifted=True,
        sentence="",
    )  # fmt: skip
    report = DriftReport(findings=(finding,), reference_rows=1_000, current_rows=1_000)
    alone, _, _, _ = one_family(report, None, None, None, 0.01)
    beside, slow, _, _ = one_family(report, report, None, None, 0.01)
    assert alone is not None
    assert beside is not None
    assert slow is not None
    assert alone.findings[0].p_adjusted == 0.004
    assert beside.findings[0].p_adjusted == pytest.approx(0.004 / (1 - SLOW_SHARE))
    assert slow.findings[0].p_adjusted == pytest.approx(0.004 / SLOW_SHARE)
    assert not slow.findings[0].drifted


def test_audit_of_an_earlier_window_corrects_the_record(lake: Lake, traffic: Traffic, window: Windows) -> None:
    """Wrong answers, one in five, are reported six times as often; the first window has an audit."""
    rng = np.random.default_rng(7)
    told = []
    for k in range(2):
        traffic.send(window(k), 600, labelled=0.0)
        rows = load_window(lake, window(k)).rows
        for request, answer in zip(rows["request_id"], rows["label"], strict=True):
            right = rng.random() > 0.2
            unsolicited = rng.random() < (0.1 if right else 0.6)
            if unsolicited or (k == 0 and rng.random() < 0.3):
                told.append(
                    {
                        "schema_version": 1, "request_id": request, "label": answer if right else (answer + 1) % 3,
                        "at": window(k).end, "source": "survey", "sampling_probability": None if unsolicited else 0.3,
                    }
                )  # fmt: skip
    traffic.tell(told)
    for seen in (watched(lake, window(0)), watched(lake, window(1))):
        shown = seen.figures["1"].f1
        assert shown is not None
        assert shown == pytest.approx(0.8, abs=0.1)  # as customers answered it is 0.4
        assert seen.evidence.measured is not None
        assert "requested" in seen.evidence.measured.how
