"""Counts are right for the whole replica, those of workers that are gone included."""

from pathlib import Path

from absa.records.log_lines import read_log
from absa.records.rows import LATENCY_BOUNDS_MS, OutcomeCount
from serving.observe import outcomes
from serving.observe.exposition import prometheus_text
from serving.observe.outcomes import OutcomeCounts
from serving.observe.replica_metrics import Status, StatusBoard

MINUTE = 1_795_470_000_000_000


def counted(*latencies: float) -> OutcomeCounts:
    counts = OutcomeCounts()
    for latency in latencies:
        counts.add(MINUTE + 5, "7", "champion", "ok", latency)
    return counts


def test_the_bounds_are_those_of_the_lakes_table() -> None:
    assert outcomes.LATENCY_BOUNDS_MS == LATENCY_BOUNDS_MS


def test_counts_are_taken_once_by_minute() -> None:
    counts = counted(0.5, 3000.0)
    counts.add(MINUTE + 60_000_000, "7", "champion", "shed")
    taken = counts.take()
    assert [minute for minute, _, _ in taken] == [MINUTE, MINUTE + 60_000_000]
    first, second = (read_log(lines, OutcomeCount).rows for _, lines, _ in taken)
    assert first == [(MINUTE, "7", "champion", 2, 0, 0, 0, [1, *[0] * 10, 1], "")]
    assert [row.shed for row in second] == [1]
    assert counts.take() == []


def test_metrics_add_up_living_and_gone_workers(tmp_path: Path) -> None:
    board = StatusBoard(tmp_path)
    for name, latencies in (("w0_1", (1.0, 30.0)), ("w1_2", (700.0,)), ("w0_3", (2.0,))):
        status = Status(worker=name[1], counters={"batches": 2}, gauges={"ready": 1})
        status.outcomes = counted(*latencies).totals()
        status.refused = {"422": 1}
        board.put(name, status)
    board.retire("w0_1")
    board.retire("w1_2")
    text = prometheus_text(board.all()).decode()
    assert 'evergreen_requests_total{arm="champion",outcome="ok",version="7"} 4' in text
    assert 'evergreen_latency_seconds_bucket{arm="champion",le="0.025",version="7"} 2' in text
    assert 'evergreen_latency_seconds_bucket{arm="champion",le="+Inf",version="7"} 4' in text
    assert "evergreen_batches_total 6" in text
    assert 'evergreen_refused_total{status="422"} 3' in text
    assert text.count("evergreen_ready{") == 1  # the gauge of a worker that is gone goes with it


def test_metrics_are_what_prometheus_reads() -> None:
    from prometheus_client.parser import text_string_to_metric_families

    status = Status(worker="0", counters={"batches": 2}, gauges={"ready": 1}, outcomes=counted(1.0).totals())
    families = {family.name: family for family in text_string_to_metric_families(prometheus_text([status]).decode())}
    assert families["evergreen_latency_seconds"].type == "histogram"
    assert families["evergreen_requests"].samples[0].labels == {"version": "7", "arm": "champion", "outcome": "ok"}
