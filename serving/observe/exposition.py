"""Metrics of a replica in Prometheus' text format. Imported at the first scrape, so that a start is faster."""

from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import Any, Final

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import generate_latest
from prometheus_client.registry import Collector

from absa.records.rows import LATENCY_BOUNDS_MS
from absa.sinks import metric_label
from serving.observe.outcomes import OUTCOME_NAMES
from serving.observe.replica_metrics import Status, summed, summed_outcomes

_HELP: Final = {
    "cache_hits": "Answers from the cache",
    "answers_certain": "Answers that are certain under the promise",
    "answers_deferred": "Answers that are not certain under the promise",
    "batches": "Forward passes",
    "batched_rows": "Rows in forward passes",
    "shadow_dropped": "Shadow rows that were dropped because too many waited",
    "log_bytes": "Bytes written to the log",
    "log_dropped": "Records dropped because the log or the disk was full",
    "model_load_failures": "Failed attempts to load a version",
    "slow_clients_closed": "Connections closed because a request did not arrive in time",
    "rows_shipped": "Records written to the lake",
    "ship_failures": "Failed attempts to write the log to the lake",
    "log_unreadable": "Log lines that could not be read",
    "log_kept_aside": "Log segments of a newer release that are kept on the local disk",
    "follow_failures": "Failed attempts to read the ledger or to fetch a package",
    "worker_restarts": "Restarts of workers that died",
    "queue_ms": "Estimated time to score all waiting rows, in milliseconds",
    "rows_waiting": "Rows that wait for their scores",
    "unfinished_body_bytes": "Bytes of request bodies that have not arrived completely",
    "cache_entries": "Answers in the cache",
    "plan_revision": "Ledger record of the active plan",
    "ready": "1 if the worker answers predictions, else 0",
    "log_lag_seconds": "Age of the oldest closed log segment that is not in the lake",
    "lake_age_seconds": "Time since the ledger was last read",
}


def prometheus_text(statuses: Sequence[Status]) -> bytes:
    """Return the metrics of a replica in Prometheus' text format."""
    return generate_latest(_Replica(statuses))


class _Replica(Collector):
    """Metrics of the processes with a status file. They are made at each scrape, not in the hot route."""

    def __init__(self, statuses: Sequence[Status]) -> None:
        self._statuses = statuses

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics: counters and histograms summed over processes, gauges per process."""
        yield from _outcome_families(summed_outcomes(self._statuses))
        refused = CounterMetricFamily(
            "evergreen_refused", "Requests answered with an error, by HTTP status", labels=["status"]
        )
        for code, count in sorted(summed(each.refused for each in self._statuses).items()):
            refused.add_metric([code], count)
        yield refused
        for name, total in sorted(summed(each.counters for each in self._statuses).items()):
            yield CounterMetricFamily(f"evergreen_{name}", _HELP.get(name, name), value=total)
        for name in sorted({name for each in self._statuses for name in each.gauges}):
            gauge = GaugeMetricFamily(f"evergreen_{name}", _HELP.get(name, name), labels=["worker"])
            for each in self._statuses:
                if name in each.gauges:
                    gauge.add_metric([each.worker], each.gauges[name])
            yield gauge


def _outcome_families(rows: list[list[Any]]) -> Iterator[Metric]:
    requests = CounterMetricFamily(
        "evergreen_requests", "Items by version, arm and outcome", labels=["version", "arm", "outcome"]
    )
    latency = HistogramMetricFamily(
        "evergreen_latency_seconds", "Time from a request's arrival to its answer", labels=["version", "arm"]
    )
    bounds = [f"{bound_ms / 1000:g}" for bound_ms in LATENCY_BOUNDS_MS] + ["+Inf"]
    for version, arm, *counts, latency_sum_ms, histogram in rows:
        labels = [metric_label(version), metric_label(arm)]
        for outcome, count in zip(OUTCOME_NAMES, counts, strict=True):
            requests.add_metric([*labels, outcome], count)
        buckets = zip(bounds, accumulate(histogram), strict=True)
        latency.add_metric(labels, buckets=list(buckets), sum_value=latency_sum_ms / 1000)
    yield requests
    yield latency
