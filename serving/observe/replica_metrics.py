"""Metrics of a replica: every process keeps a small status file, and any worker answers for all of them."""

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from itertools import accumulate
from pathlib import Path
from typing import Any, Final, TypeVar

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import generate_latest
from prometheus_client.registry import Collector

from absa.records.files import write_whole
from absa.records.tables import LATENCY_BOUNDS_MS
from absa.sinks import metric_label
from serving.observe.outcomes import OUTCOME_NAMES

Number = TypeVar("Number", int, float)

PARENT: Final = "parent"
_RETIRED: Final = "retired"
_HELP: Final = {
    "cache_hits": "Answers from the cache",
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


@dataclass(slots=True)
class Status:
    """One process. `counters` only grow, `gauges` are of now, `outcomes` are rows of OutcomeCounts.totals."""

    worker: str
    pid: int = 0
    ready: bool = False
    revision: int = 0
    models: list[dict[str, Any]] = field(default_factory=list)
    counters: dict[str, float] = field(default_factory=dict)
    gauges: dict[str, float] = field(default_factory=dict)
    outcomes: list[list[Any]] = field(default_factory=list)
    refused: dict[str, int] = field(default_factory=dict)


class StatusBoard:
    """The status files of a replica.

    Args:
        folder: holds one `<incarnation>.json` a process.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def put(self, incarnation: str, status: Status) -> None:
        """Say how a process is doing. A disk that is full only makes this stale."""
        with suppress(OSError):
            write_whole(self._folder / f"{incarnation}.json", json.dumps(asdict(status)).encode())

    def all(self, *, but: str | None = None) -> list[Status]:
        """Return the last status of each process; ended processes are one, named retired."""
        found = []
        for path in sorted(self._folder.glob("*.json")):
            if path.stem != but:
                with suppress(OSError, ValueError, TypeError):
                    found.append(Status(**json.loads(path.read_bytes())))
        return found

    def clear(self) -> None:
        """Forget everything: a new parent starts from zero."""
        for path in self._folder.iterdir():
            path.unlink(missing_ok=True)

    def retire(self, incarnation: str) -> None:
        """Add the counts of an ended process to those of earlier ones."""
        path = self._folder / f"{incarnation}.json"
        try:
            gone = Status(**json.loads(path.read_bytes()))
        except (OSError, ValueError, TypeError):
            return
        total = Status(worker=_RETIRED)
        with suppress(OSError, ValueError, TypeError):
            total = Status(**json.loads((self._folder / f"{_RETIRED}.json").read_bytes()))
        total.counters = _summed([total.counters, gone.counters])
        total.refused = _summed([total.refused, gone.refused])
        total.outcomes = summed_outcomes([total, gone])
        self.put(_RETIRED, total)
        path.unlink(missing_ok=True)


def summed_outcomes(statuses: Iterable[Status]) -> list[list[Any]]:
    """Outcome rows by version and arm, over several processes."""
    sums: dict[tuple[str, str], list[Any]] = {}
    for status in statuses:
        for version, arm, *numbers, histogram in status.outcomes:
            row = sums.get((version, arm))
            if row is None:
                sums[version, arm] = [version, arm, *numbers, list(histogram)]
                continue
            for index, number in enumerate(numbers, start=2):
                row[index] += number
            row[-1] = [a + b for a, b in zip(row[-1], histogram, strict=True)]
    return [sums[key] for key in sorted(sums)]


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
        for code, count in sorted(_summed(each.refused for each in self._statuses).items()):
            refused.add_metric([code], count)
        yield refused
        for name, total in sorted(_summed(each.counters for each in self._statuses).items()):
            yield CounterMetricFamily(f"evergreen_{name}", _HELP.get(name, name), value=total)
        for name in sorted({name for each in self._statuses for name in each.gauges}):
            gauge = GaugeMetricFamily(f"evergreen_{name}", _HELP.get(name, name), labels=["worker"])
            for each in self._statuses:
                if name in each.gauges:
                    gauge.add_metric([each.worker], each.gauges[name])
            yield gauge


def _summed(counts: Iterable[Mapping[str, Number]]) -> dict[str, Number]:
    total: defaultdict[str, Number] = defaultdict(int)
    for each in counts:
        for name, count in each.items():
            total[name] += count
    return dict(total)


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
