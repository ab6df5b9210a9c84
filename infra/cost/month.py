"""Bill of a month, line by line: an idle month, and the additions of a load profile and trainings."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from infra.capacity.trace import Trace
from infra.cost.prices import UNVERIFIED, Prices, task_hour
from infra.cost.setup import Setup

HOURS: Final = 730.0
DAYS_PER_MONTH: Final = HOURS / 24
_DAY_S: Final = 86_400.0


@dataclass(frozen=True, kw_only=True)
class Quantities:
    """Quantities of an account, per month. A test compares sizes and counts with prod's template.

    Args:
        floor: tasks of the router that always run, one per zone.
        services_vcpus: vCPUs of Prefect, MLflow, Evidently and worker on Fargate x86; `services_gb` is their memory.
        load_balancers: number of load balancers: the router's and the internal one.
        firewalls: web ACLs in front of the routers, each with `firewall_rules`; each inspects every request.
        database_copies: paid instances; two if a standby is in another zone.
        endpoint_zones: interface endpoints times zones (no NAT gateway).
        request_bytes: bytes of a request and its answer through the load balancer, headers included.
        bytes_per_prediction: bytes of a prediction's log, as Parquet in the lake.
        ship_interval_s: seconds between writes of a replica under load to the lake; an idle replica writes nothing.
        training_s: budget of a training; `machine_wait_s` is paid for too.
        gpu: instance of the training; `gpu_spot` is True for the spot market.
        gpu_always_on: True if the GPU runs all month instead of scaling to zero.
        follow_load: True if tasks follow the load; otherwise there are always enough for the peak.
    """

    floor: int = 2
    services_vcpus: float = 4.0
    services_gb: float = 16.0
    load_balancers: int = 2
    firewalls: int = 1
    firewall_rules: int = 1
    endpoint_zones: int = 16
    database_gb: float = 50.0
    database_copies: int = 2
    lake_gb: float = 50.0
    images_gb: float = 6.0
    secrets: int = 5
    metrics: int = 20
    alarms: int = 16
    dashboards: int = 1
    logs_gb: float = 5.0
    request_bytes: float = 1_000.0
    bytes_per_prediction: float = 200.0
    ship_interval_s: float = 5.0
    trainings: float = 4.0
    training_s: float = 900.0
    machine_wait_s: float = 240.0
    gpu: str = "g6.xlarge"
    gpu_spot: bool = True
    gpu_always_on: bool = False
    follow_load: bool = True


@dataclass(frozen=True, kw_only=True)
class Line:
    """One line of a bill."""

    what: str
    quantity: float
    unit: str
    usd_each: float
    unverified: bool = False

    @property
    def usd(self) -> float:
        """US dollars per month."""
        return self.quantity * self.usd_each


@dataclass(frozen=True, kw_only=True)
class Month:
    """Lines of a month, and its number of requests."""

    lines: tuple[Line, ...]
    requests: float

    @property
    def usd(self) -> float:
        """US dollars of all lines together."""
        return sum(line.usd for line in self.lines)


def task_hours(profile: Trace | None, setup: Setup, quantities: Quantities) -> float:
    """Return the task-hours of a month: the profile once per day, minute by minute, never below the floor."""
    if profile is None:
        return quantities.floor * HOURS
    minutes = np.arange(0.0, _DAY_S, 60.0)
    needed = np.ceil(profile.rate(minutes) / (setup.load * setup.capacity) - 1e-9)
    tasks = np.maximum(needed, quantities.floor)
    return float(tasks.mean() if quantities.follow_load else tasks.max()) * HOURS


def gpu_hour(prices: Prices, quantities: Quantities) -> float:
    """Return the US dollars per hour of the training's instance.

    Raises:
        MissingPriceError: the table lacks the instance.
        ValueError: the instance has no spot price.
    """
    usd = prices[quantities.gpu].at(spot=quantities.gpu_spot)
    if usd is None:
        raise ValueError(f"the price table has no spot price of {quantities.gpu}; add one")
    return usd


def training_usd(prices: Prices, quantities: Quantities) -> float:
    """Return the US dollars of one training that uses its whole budget, on a machine that is started for it."""
    return gpu_hour(prices, quantities) * (quantities.training_s + quantities.machine_wait_s) / 3_600


def month(setup: Setup, prices: Prices, quantities: Quantities, profile: Trace | None = None) -> Month:
    """Return the bill of a month with a load profile, a trace that repeats every day; None: an idle month."""
    if profile is not None and profile.seconds > _DAY_S:
        raise ValueError(f"expected a profile of at most 24 hours, got {profile.seconds / 3_600:.0f} in {profile.name}")
    requests = 0.0 if profile is None else profile.requests * DAYS_PER_MONTH
    busy_s = (
        0.0 if profile is None else float((profile.rate(np.arange(0.0, _DAY_S, 60.0)) > 0).sum()) * 60 * DAYS_PER_MONTH
    )
    hours = task_hours(profile, setup, quantities)
    q = quantities

    def line(what: str, quantity: float, item: str) -> Line:
        price = prices[item]
        return Line(
            what=what, quantity=quantity, unit=price.unit, usd_each=price.usd, unverified=price.status == UNVERIFIED
        )

    router = f"router: {setup.model.name} on {setup.host.label}"
    gpu = f"{q.gpu}{' spot' if q.gpu_spot else ''}"
    services = task_hour(prices, vcpus=q.services_vcpus, memory_gb=q.services_gb, arch="x86_64")
    # One LCU is 1 GB per hour, 25 new connections or 1,000 rules per second. With kept connections, bytes decide:
    # https://handbook.vantage.sh/aws/services/elb-pricing
    lcu_hours = requests * q.request_bytes / 1e9
    puts = math.ceil(busy_s / q.ship_interval_s) * q.floor
    lines: Sequence[Line] = (
        Line(what=router, quantity=hours, unit="task-hour", usd_each=setup.host.usd_per_hour),
        Line(what="Prefect, MLflow, Evidently, worker on Fargate x86", quantity=HOURS, unit="hour", usd_each=services),
        line("load balancers", q.load_balancers * HOURS, "alb-hour"),
        line("load balancer capacity", lcu_hours, "alb-lcu-hour"),
        line("firewall", q.firewalls, "waf-web-acl"),
        line("firewall rules", q.firewalls * q.firewall_rules, "waf-rule"),
        line("firewall requests", q.firewalls * requests / 1e6, "waf-requests"),
        line("interface endpoints", q.endpoint_zones * HOURS, "vpc-interface-endpoint-hour"),
        line("PostgreSQL", q.database_copies * HOURS, "rds-postgresql-db.t4g.medium-single-az"),
        line("PostgreSQL storage", q.database_copies * q.database_gb, "rds-postgresql-gp3"),
        line("lake", q.lake_gb + requests * q.bytes_per_prediction / 1e9, "s3-standard"),
        line("lake writes", puts / 1_000, "s3-standard-put"),
        line("container images", q.images_gb, "ecr-private-storage"),
        line("secrets", q.secrets, "secrets-manager-secret"),
        line("metrics", q.metrics, "cloudwatch-custom-metric"),
        line("alarms", q.alarms, "cloudwatch-alarm"),
        line("dashboard", q.dashboards, "cloudwatch-dashboard"),
        line("service logs", q.logs_gb, "cloudwatch-logs-gb"),
        Line(what=f"{gpu}, always on", quantity=HOURS, unit="hour", usd_each=gpu_hour(prices, q)) if q.gpu_always_on
        else Line(what=f"trainings on {gpu}", quantity=q.trainings, unit="training", usd_each=training_usd(prices, q)),
    )  # fmt: skip
    return Month(lines=tuple(lines), requests=requests)
