"""Metrics of a replica for CloudWatch, in log lines: requests, refusals, restarts, log lag, age of the ledger."""

from collections.abc import Iterable
from typing import Final

from serving.observe.outcomes import OUTCOME_NAMES
from serving.observe.replica_metrics import Status

_GAUGES: Final = {"log_lag_seconds": "LogLag", "lake_age_seconds": "LakeAge"}
_FIRST_COUNT: Final = 2  # rows of Status.outcomes begin with version and arm


class Published:
    """Turns counters into increments since the last line."""

    def __init__(self) -> None:
        self._before: dict[str, float] = {}

    def values(self, statuses: Iterable[Status]) -> dict[str, float]:
        """Return the items, refusals for overload and restarts since the last call, and the present gauges."""
        listed = list(statuses)
        shed = _FIRST_COUNT + OUTCOME_NAMES.index("shed")
        totals = {"Requests": 0.0, "Shed": 0.0, "Restarts": 0.0}
        for status in listed:
            for row in status.outcomes:
                totals["Requests"] += sum(row[_FIRST_COUNT : _FIRST_COUNT + len(OUTCOME_NAMES)])
                totals["Shed"] += row[shed]
            totals["Restarts"] += status.counters.get("worker_restarts", 0.0)
        since = {name: max(0.0, total - self._before.get(name, 0.0)) for name, total in totals.items()}
        self._before = totals
        gauges = {
            name: max((status.gauges[key] for status in listed if key in status.gauges), default=0.0)
            for key, name in _GAUGES.items()
        }
        return {**since, **gauges}
