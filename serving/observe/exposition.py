"""Metrics of a replica in Prometheus' text format. Loaded at the first scrape: a router that starts needs it not."""

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
    "answers_certain": "Answers within the promise",
    "answers_deferred": "Answers that are not certain under the promise",
    "batches": "Forward passes",
    "batched_rows": "Rows in forward passes",
    "shadow_dropped": "Shadow scores that were not made, for want of time",
    "log_bytes": "Bytes handed to the prediction log",
    "log_dropped": "Records that the log could not take",
    "model_load_failures": "Versions that could not be loaded",
    "slow_clients_closed": "Connections closed because a request did not arrive in time",
    "rows_shipped": "Records written to the lake",
    "ship_failures": "Times that the lake did not take the log",
    "log_unreadable": "Log lines that could not be read",
    "log_kept_aside": "Log segments of a newer release, kept on the local disk",
    "follow_failures": "Times that the ledger or a model could not be had",
    "worker_restarts": "Workers that died and were started again",
    "queue_ms": "Work that waits, in milliseconds",
    "rows_waiting": "Rows that wait",
    "unfinished_body_bytes": "Bytes of request bodies whose end has not come",
    "cache_entries": "Answers in the cache",
    "plan_revision": "Ledger record whose plan is in force",
    "ready": "1 where predictions are answered",
    "log_lag_seconds": "Age of the oldest closed log segment that is not in the lake",
    "lake_age_seconds": "Time since the ledger was last read",
}


def prometheus_text(statuses: Sequence[Status]) -> bytes:
    """Return the metrics of a replica in Prometheus' text format."""
    return generate_latest(_Replica(statuses))


class _Replica(Collector):
    """Metrics of the processes whose status files exist, made per scrape: counting costs the hot route nothing."""

    def __init__(self, statuses: Sequence[Status]) -> None:
        self._statuses = statuses

    def collect(self) -> Iterator[Metric]:
        """Counters and histograms are summed over processes, gauges are per process."""
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
