"""Capacity of one router task and the time to get one."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

LATENCY_CASE: Final = "open loop at 50 % of saturation"


class MissingFigureError(ValueError):
    """A figure that was not measured yet; the message names the case and the command that measures it."""


@dataclass(frozen=True, kw_only=True)
class TaskModel:
    """One task: workers that each serve one request after the other from a queue of their own.

    Args:
        name: what it is, for tables.
        workers: processes in the task, one a core; a request goes to any of them with equal chance.
        service_s: seconds of a worker that a request takes under load, mean.
        service_spread: standard deviation of it over its mean; 0 is a fixed time, otherwise a gamma distribution.
        overhead_s: seconds in the answer's time that occupy no worker (network, parsing, waiting for a batch to end).
        refuse_s: seconds of a worker that a refusal takes.
        queue_s: work a worker lets wait; a request beyond it is answered 429 at once. The router's EVERGREEN_QUEUE_MS.
        measured: whether the figures come from a benchmark, or were declared.
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
            raise ValueError(f"a task needs at least one worker and times above 0, got {self}")

    @property
    def capacity(self) -> float:
        """Requests a second that the task serves at most."""
        return self.workers / self.service_s


@dataclass(frozen=True, kw_only=True)
class StartUp:
    """Seconds from the wish for a task to its first request. The parts add up.

    The defaults are assumptions for Fargate, not measurements: 30 s until the container runs, a router that is ready
    in 3 s (the target of `make benchmark-serving`), and two passed health checks of 5 s.
    """

    provision_s: float = 30.0
    ready_s: float = 3.0
    health_s: float = 10.0

    @property
    def total_s(self) -> float:
        """All of it."""
        return self.provision_s + self.ready_s + self.health_s


def own_figures(result: Mapping[str, Any] | None) -> dict[tuple[str, str], float]:
    """Return a result's figures by case and metric, without the rows of peers; none where there is no result."""
    rows = () if result is None else result["rows"]
    return {(row["case"], row["metric"]): float(row["value"]) for row in rows if not row.get("peer")}


def measured_task(serving: Mapping[str, Any] | None, model: str, *, queue_s: float = 0.1) -> TaskModel:
    """Return the task that `benchmarks/results/serving.json` describes.

    Throughput is the row `<model>, saturation`. Where the latency at half load was measured too, the overhead is what
    a half-loaded worker's own waiting leaves of the median.

    Args:
        serving: the result as read, None where there is no file.
        model: name as the rows carry it, "MiniLM-L6 int8" for one.
        queue_s: bound of the queue.

    Raises:
        MissingFigureError: there is no such row.
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
    # M/D/1 at half load waits 0.5 service times in the mean; the median request waits about 0.2 of one.
    overhead_s = 0.0 if median_ms is None else max(0.0, median_ms / 1000 - 1.2 * service_s)
    return TaskModel(
        name=model, workers=workers, service_s=service_s, overhead_s=overhead_s, queue_s=queue_s, measured=True
    )
