"""Tests of a verdict's numbers as Prometheus metrics."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from absa.records.lake import Lake
from absa.records.schema import Window
from monitoring.monitor import WatchedVersion, WatchSettings, watch
from monitoring.verdict_metrics import exposition
from tests.unit.monitoring.conftest import START, Traffic

parser = pytest.importorskip("prometheus_client.parser")
Windows = Callable[[int], Window]


def values(text: str) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in parser.text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_record_and_metrics_hold_same_numbers(lake: Lake, traffic: Traffic, window: Windows) -> None:
    traffic.send(window(0), 300, segment="eu")
    verdict = watch(
        lake,
        window(0),
        champion=WatchedVersion(version="1", champion_since=START),
        settings=WatchSettings(),
        now=window(0).end,
    ).verdict
    found = values(exposition([verdict]))
    figures = verdict.by_version["1"]
    assert found["evergreen_window_predictions", (("version", "1"),)] == 300
    assert found["evergreen_window_labels", (("version", "1"),)] == figures.labelled
    assert found["evergreen_pos_neg_f1", (("version", "1"),)] == pytest.approx(figures.pos_neg_f1)
    assert found["evergreen_verdict_level", (("version", "1"),)] == ["FRESH", "WATCH", "STALE"].index(verdict.verdict)
    part = (("part", "segment:eu"), ("version", "1"))
    assert found["evergreen_part_f1_estimated", part] == pytest.approx(figures.parts["segment:eu"].estimated_f1)
    skipped = replace(verdict, action="skipped")
    assert values(exposition([verdict, skipped]))["evergreen_window_actions", (("action", "skipped"),)] == 1


def test_segment_with_quotes_and_breaks_is_escaped(lake: Lake, traffic: Traffic, window: Windows) -> None:
    odd = 'a "b"\\\nc'
    traffic.send(window(0), 200, segment=odd)
    champion = WatchedVersion(version="1")
    verdict = watch(lake, window(0), champion=champion, settings=WatchSettings(), now=window(0).end).verdict
    found = values(exposition([verdict]))
    assert ("evergreen_part_f1", (("part", f"segment:{odd}"), ("version", "1"))) in found


def test_without_a_verdict_there_are_counts_of_nothing() -> None:
    assert set(values(exposition([])).values()) == {0.0}
