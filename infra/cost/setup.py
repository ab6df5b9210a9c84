"""Set-up: a model on a host, and the price of a million predictions with its arithmetic."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from infra.capacity.router_task import StartUp, TaskModel
from infra.capacity.scaling_policy import ScalingPlan
from infra.capacity.simulate import simulate_trace
from infra.capacity.trace import Trace
from infra.cost.figures import Figures, ModelFigures
from infra.cost.prices import Prices, task_hour

FARGATE: Final = {  # name: (architecture, vCPU of a task)
    "fargate-arm-1": ("arm64", 1.0),
    "fargate-arm-4": ("arm64", 4.0),
    "fargate-x86-1": ("x86_64", 1.0),
    "fargate-x86-4": ("x86_64", 4.0),
}
GB_A_VCPU: Final = 2.0
SERVING_HOSTS: Final = (
    "c8g.xlarge", "c7g.xlarge", "c8a.xlarge", "c7a.xlarge", "c8i.xlarge", "c7i.xlarge", *FARGATE,
)  # fmt: skip
DEPLOYED: Final = "c8g.xlarge"  # prod's first fleet; a test compares it with the template
_PROBE_REQUESTS: Final = 40_000


@dataclass(frozen=True, kw_only=True)
class Host:
    """Machine that runs one task.

    `speed` is the speed of a vCPU relative to a core of the measured machine. Only one machine was measured, so `speed`
    is 1 for every family until another machine is measured.
    """

    name: str
    vcpus: float
    arch: str
    spot: bool
    usd_per_hour: float
    speed: float = 1.0

    @property
    def label(self) -> str:
        """Name and market."""
        return f"{self.name}{' spot' if self.spot else ''}"

    @property
    def usd_per_cpu_s(self) -> float:
        """US dollars for a CPU-second of the measured machine."""
        return self.usd_per_hour / 3_600 / self.vcpus / self.speed


def hosts(prices: Prices, *, speeds: dict[str, float] | None = None) -> Iterator[Host]:
    """Yield every host with a price in the table, on demand and on the spot market."""
    speeds = speeds or {}
    for name in SERVING_HOSTS:
        speed = speeds.get(name, speeds.get(name.split(".", maxsplit=1)[0], 1.0))
        if name in FARGATE:
            arch, vcpus = FARGATE[name]
            usd = task_hour(prices, vcpus=vcpus, memory_gb=vcpus * GB_A_VCPU, arch=arch)
            yield Host(name=name, vcpus=vcpus, arch=arch, spot=False, usd_per_hour=usd, speed=speed)
            continue
        price = prices.get(name)
        for spot in (False, True):
            if price is None or price.vcpus is None or (market := price.at(spot=spot)) is None:
                continue
            yield Host(name=name, vcpus=price.vcpus, arch=price.arch or "", spot=spot, usd_per_hour=market, speed=speed)


@dataclass(frozen=True, kw_only=True)
class Setup:
    """Model on a host, with a cache that answers a share of the requests.

    Args:
        model: figures of the model, with a measured CPU time.
        host: runs the model.
        hit_share: share of requests that the cache answers, 0 to 1.
        hit_cpu_s: CPU-seconds of an answer from the cache.
        load: share of a task's capacity that scaling keeps in use; 1 is full load.
    """

    model: ModelFigures
    host: Host
    hit_share: float = 0.0
    hit_cpu_s: float = 0.0
    load: float = 1.0

    @property
    def cpu_s(self) -> float:
        """CPU-seconds per request, the mean of hits and misses."""
        assert self.model.cpu_s is not None
        return (1 - self.hit_share) * self.model.cpu_s + self.hit_share * self.hit_cpu_s

    @property
    def capacity(self) -> float:
        """Requests per second of one task at full load."""
        return self.host.vcpus * self.host.speed / self.cpu_s

    @property
    def usd_per_million(self) -> float:
        """US dollars per million predictions at the load; machines only."""
        return self.cpu_s * 1e6 * self.host.usd_per_cpu_s / self.load

    @property
    def arithmetic(self) -> str:
        """Arithmetic of `usd_per_million`, as text."""
        host = self.host
        speed = "" if host.speed == 1 else f" / speed {host.speed:g}"
        load = "" if self.load == 1 else f" / load {self.load:g}"
        return (
            f"{self.cpu_s * 1e6:.1f} us of CPU x 1,000,000 / 3,600 s x "
            f"US$ {host.usd_per_hour:.5g} / {host.vcpus:g} vCPU{speed}{load} = US$ {self.usd_per_million:.4f}"
        )

    @property
    def p99_ms(self) -> float:
        """p99 at the load in ms: the larger of the measured p99 (at half load) and a simulated p99."""
        assert self.model.cpu_s is not None
        service_s = self.model.cpu_s / self.host.speed
        overhead_s = max(0.0, (self.model.p50_ms or 0.0) / 1e3 - 1.2 * self.model.cpu_s)
        simulated = _p99_ms(int(self.host.vcpus), service_s, overhead_s, min(self.load, 0.95))
        return max(simulated, self.model.p99_ms or 0.0)


@lru_cache(maxsize=256)
def _p99_ms(workers: int, service_s: float, overhead_s: float, load: float) -> float:
    task = TaskModel(name="probe", workers=workers, service_s=service_s, overhead_s=overhead_s, queue_s=math.inf)
    rate = load * task.capacity
    trace = Trace(name="steady", at_s=(0.0, _PROBE_REQUESTS / rate), rate_per_s=(rate, rate))
    return simulate_trace(trace, task, ScalingPlan(name="one task"), start_up=StartUp()).latency_ms(0.99)


def unmeasured(prices: Prices) -> Setup:
    """Return a set-up with any model on the deployed instance, for an idle month, which needs no model's figures.

    Raises:
        MissingPriceError: the table lacks the instance.
    """
    price = prices[DEPLOYED]
    host = next(each for each in hosts({DEPLOYED: price}) if not each.spot)
    return Setup(model=ModelFigures(name="any model"), host=host)


def batch_usd_per_million(model: ModelFigures, host: Host) -> float | None:
    """Return US dollars per million rows in batch with every core busy; None if batch was not measured."""
    rate = model.batch_rows_per_core_s
    return None if rate is None else 1e6 / rate * host.usd_per_cpu_s


def setups(
    figures: Figures, prices: Prices, *, hit_share: float = 0.0, load: float = 1.0,
    speeds: dict[str, float] | None = None,
) -> list[Setup]:  # fmt: skip
    """Return every measured model on every host, the cheapest per million predictions first."""
    found = [
        Setup(model=model, host=host, hit_share=hit_share, hit_cpu_s=figures.hit_cpu_s or 0.0, load=load)
        for model in figures.models
        if model.cpu_s is not None
        for host in hosts(prices, speeds=speeds)
    ]
    return sorted(found, key=lambda setup: (setup.usd_per_million, setup.model.name, setup.host.label))
