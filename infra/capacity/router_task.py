"""Capacity of one router task, and the time until a new one is ready."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

LATENCY_CASE: Final = "open loop at 50 % of saturation"


class MissingFigureError(ValueError):
    """Missing measurement. The message names the case and the command that measures it."""


@dataclass(frozen=True, kw_only=True)
class TaskModel:
    """One task: several workers, each with a queue, that serve one request after the other.

    Args:
        name: name of the task in tables.
        workers: processes in the task, one per core; a request goes to any of them with equal probability.
        service_s: mean seconds of a worker per request under load.
        service_spread: standard deviation of the service time over its mean; 0: fixed, else a gamma distribution.
        overhead_s: seconds of the latency that occupy no worker (network, parsing, waiting for a batch to end).
        refuse_s: seconds of a worker per refusal.
        queue_s: seconds of work that may wait per worker; beyond it the answer is 429. The router's EVERGREEN_QUEUE_MS.
        measured: True if the figures come from a benchmark, False if they were declared.
    """

    name: str
    workers: int
    service_s: float
    service_spread: float = 0.0
    overhead_s: float = 0.0
    refuse_s: float = 0.0
    queue_s: float = 0.1
    measured: bool = False

    def __post_init__(self) -> None:
        least = min(self.queue_s, self.service_spread, self.overhead_s, self.refuse_s)
        if self.workers < 1 or self.service_s <= 0 or least < 0:
            raise ValueError(f"expected at least one worker, a service time above 0 and no negative time, got {self}")

    @property
    def capacity(self) -> float:
        """Requests per second that the task can serve."""
        return self.workers / self.service_s


@dataclass(frozen=True, kw_only=True)
class StartUp:
    """Seconds from the request for a task to its first request. The parts are added.

    The defaults are assumptions for Fargate, not measurements: 30 s until the container runs, 3 s until the router is
    ready (the target of `make benchmark-serving`), and two passed health checks of 5 s.
    """

    provision_s: float = 30.0
    ready_s: float = 3.0
    health_s: float = 10.0

    @property
    def total_s(self) -> float:
        """Sum of the parts."""
        return self.provision_s + self.ready_s + self.health_s


def own_figures(result: Mapping[str, Any] | None) -> dict[tuple[str, str], float]:
    """Return the figures of a result by case and metric, without rows of peers; empty without a result."""
    rows = () if result is None else result["rows"]
    return {(row["case"], row["metric"]): float(row["value"]) for row in rows if not row.get("peer")}


def measured_task(serving: Mapping[str, Any] | None, model: str, *, queue_s: float = 0.1) -> TaskModel:
    """Return the task that `benchmarks/results/serving.json` describes.

    The throughput is in the row `<model>, saturation`. If the latency at half load was measured too, the overhead is
    the median latency minus service and waiting of a half-loaded worker.

    Args:
        serving: content of the result; None without a file.
        model: name in the rows, such as "MiniLM-L6 int8".
        queue_s: limit of the queue.

    Raises:
        MissingFigureError: the result lacks the row.
    """
    figures = own_figures(serving)
    rate = figures.get((f"{model}, saturation", "requests_per_s"))
    if serving is None or rate is None:
        known = sorted({case.removesuffix(", saturation") for case, metric in figures if metric == "requests_per_s"})
        raise MissingFigureError(
            f"the throughput of {model!r} was not measured (run `make benchmark-serving`, or declare a task with "
            f"--rate): benchmarks/results/serving.json has {', '.join(known) or 'no such rows'}"
        )
    workers = int(serving["machine"]["cores"])
    service_s = workers / rate
    median_ms = figures.get((f"{model}, {LATENCY_CASE}", "p50"))
    # M/D/1 at half load: the mean wait is 0.5 service times, the median about 0.2.
    overhead_s = 0.0 if median_ms is None else max(0.0, median_ms / 1000 - 1.2 * service_s)
    return TaskModel(
        name=model, workers=workers, service_s=service_s, overhead_s=overhead_s, queue_s=queue_s, measured=True
    )
