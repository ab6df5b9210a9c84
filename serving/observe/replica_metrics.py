"""What a replica says about itself: every process keeps a small status file, any worker answers for all of them."""

import json
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from absa.sinks import metric_label
from serving.observe.outcomes import LATENCY_BOUNDS_MS, OUTCOMES
from serving.replica_state import write_whole

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
        """What processes said last, those that ended included (as one, named retired)."""
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
        """Add what a process that is gone counted to what others that are gone counted."""
        path = self._folder / f"{incarnation}.json"
        try:
            gone = Status(**json.loads(path.read_bytes()))
        except (OSError, ValueError, TypeError):
            return
        total = Status(worker=_RETIRED)
        with suppress(OSError, ValueError, TypeError):
            total = Status(**json.loads((self._folder / f"{_RETIRED}.json").read_bytes()))
        for name, count in gone.counters.items():
            total.counters[name] = total.counters.get(name, 0) + count
        for code, refused in gone.refused.items():
            total.refused[code] = total.refused.get(code, 0) + refused
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


def prometheus_text(statuses: list[Status]) -> bytes:
    """The metrics of a replica in Prometheus' text form."""
    return "".join(f"{line}\n" for line in _lines(statuses)).encode()


def _lines(statuses: list[Status]) -> Iterator[str]:
    yield from _outcome_lines(summed_outcomes(statuses))
    refused: dict[str, int] = {}
    for status in statuses:
        for code, count in status.refused.items():
            refused[code] = refused.get(code, 0) + count
    yield from _head("evergreen_refused_total", "counter", "Requests that were answered with an error, by HTTP status")
    for code, count in sorted(refused.items()):
        yield f'evergreen_refused_total{{status="{code}"}} {count}'
    for name in sorted({name for status in statuses for name in status.counters}):
        yield from _head(f"evergreen_{name}_total", "counter", _HELP.get(name, name))
        yield f"evergreen_{name}_total {sum(status.counters.get(name, 0) for status in statuses):g}"
    for name in sorted({name for status in statuses for name in status.gauges}):
        yield from _head(f"evergreen_{name}", "gauge", _HELP.get(name, name))
        for status in statuses:
            if name in status.gauges:
                yield f'evergreen_{name}{{worker="{metric_label(status.worker)}"}} {status.gauges[name]:g}'


def _outcome_lines(rows: list[list[Any]]) -> Iterator[str]:
    yield from _head("evergreen_requests_total", "counter", "Items by version, arm and what became of them")
    for version, arm, *counts, _sum, _histogram in rows:
        for outcome, count in zip(OUTCOMES, counts, strict=True):
            labels = f'version="{metric_label(version)}",arm="{metric_label(arm)}",outcome="{outcome}"'
            yield f"evergreen_requests_total{{{labels}}} {count}"
    yield from _head("evergreen_latency_seconds", "histogram", "Time from a request's arrival to its answer")
    for version, arm, *_counts, latency_sum_ms, histogram in rows:
        labels = f'version="{metric_label(version)}",arm="{metric_label(arm)}"'
        total = 0
        for bound_ms, count in zip(LATENCY_BOUNDS_MS, histogram, strict=False):
            total += count
            yield f'evergreen_latency_seconds_bucket{{{labels},le="{bound_ms / 1000:g}"}} {total}'
        total += histogram[-1]
        yield f'evergreen_latency_seconds_bucket{{{labels},le="+Inf"}} {total}'
        yield f"evergreen_latency_seconds_sum{{{labels}}} {latency_sum_ms / 1000:.6f}"
        yield f"evergreen_latency_seconds_count{{{labels}}} {total}"


def _head(name: str, kind: str, text: str) -> Iterator[str]:
    yield f"# HELP {name} {text}"
    yield f"# TYPE {name} {kind}"
