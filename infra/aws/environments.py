"""Settings of dev and prod. Everything else is the same code for both."""

from dataclasses import dataclass
from typing import Final, Literal

Launch = Literal["fargate-arm64", "fargate-amd64", "ec2-arm64", "ec2-amd64"]
CPU_OF: Final = {"arm64": "ARM64", "amd64": "X86_64"}


@dataclass(frozen=True, kw_only=True)
class ScheduledSize:
    """Bounds of a fleet from a scheduled time on: for a sale, a morning, a night without callers.

    Attributes:
        name: name of the scheduled action.
        cron: minute, hour and days of the week, UTC, in the form of `cron(...)`.
        floor: smallest number of tasks from then on.
        ceiling: largest number of tasks from then on.
    """

    name: str
    cron: tuple[str, str, str]
    floor: int
    ceiling: int


@dataclass(frozen=True, kw_only=True)
class RouterFleet:
    """One ECS service of routers. All fleets are behind the same load balancer.

    Attributes:
        launch: Fargate or EC2, and the processor.
        floor: tasks that always run, so that a burst finds warm ones.
        ceiling: largest number of tasks.
        vcpu: processor cores of a task; one worker process runs on each.
        memory_mb: memory of a task.
        instance_type: EC2 type, for the ec2 launches.
        schedule: other bounds from scheduled times on.
    """

    launch: Launch
    floor: int
    ceiling: int
    vcpu: int
    memory_mb: int
    instance_type: str | None = None
    schedule: tuple[ScheduledSize, ...] = ()

    @property
    def processor(self) -> str:
        """arm64 or amd64."""
        return self.launch.partition("-")[2]

    @property
    def on_ec2(self) -> bool:
        """True if the fleet runs on our own EC2 machines."""
        return self.launch.startswith("ec2")


@dataclass(frozen=True, kw_only=True)
class Environment:
    """Complete installation.

    Attributes:
        fleets: fleets of routers.
        requests_per_task: target of target tracking, in requests per minute and task: three fifths of the measured
            rate of MiniLM-L6 on as many cores without int8 dot products (benchmarks/results/serving.json).
        firewall: True for a WAF in front of the routers, with a limit per address; it costs US$ 0.60 per million
            requests.
        p99_alarm_ms: latency above which there is an alarm.
        shed_alarm_share: share of answers with 429 above which there is an alarm.
        budget_usd: US dollars per month; AWS sends a message at 80 % spent and at 100 % forecast.
        training_budget_s: wall-clock budget of a training.
        machine_wait_s: longest wait for a spot machine, in seconds, before a training uses an on-demand machine.
    """

    name: Literal["dev", "prod"]
    fleets: tuple[RouterFleet, ...]
    https: bool
    firewall: bool
    requests_per_task: int
    p99_alarm_ms: int
    shed_alarm_share: float
    budget_usd: int
    log_days: int
    database_type: str
    database_gb: int
    backup_days: int
    several_zones: bool
    keep_data: bool
    training_types: tuple[str, ...]
    training_budget_s: int = 900
    machine_wait_s: int = 240
    window_s: int = 3600


DEV: Final = Environment(
    name="dev",
    fleets=(
        RouterFleet(
            launch="fargate-arm64",
            floor=1,
            ceiling=2,
            vcpu=1,
            memory_mb=2048,
            schedule=(
                ScheduledSize(name="Morning", cron=("0", "6", "MON-FRI"), floor=1, ceiling=2),
                ScheduledSize(name="Night", cron=("0", "20", "*"), floor=0, ceiling=0),
            ),
        ),
    ),
    https=False,
    firewall=False,  # its two tasks refuse a flood long before one address reaches the limit
    requests_per_task=6_800,
    p99_alarm_ms=500,
    shed_alarm_share=0.05,
    budget_usd=300,
    log_days=7,
    database_type="t4g.micro",
    database_gb=20,
    backup_days=1,
    several_zones=False,
    keep_data=False,
    training_types=("g6.xlarge", "g5.xlarge", "g4dn.xlarge"),
)

PROD: Final = Environment(
    name="prod",
    fleets=(
        RouterFleet(launch="ec2-arm64", floor=2, ceiling=20, vcpu=4, memory_mb=7168, instance_type="c8g.xlarge"),
        RouterFleet(launch="ec2-amd64", floor=0, ceiling=20, vcpu=4, memory_mb=7168, instance_type="c7a.xlarge"),
        RouterFleet(launch="fargate-arm64", floor=0, ceiling=40, vcpu=4, memory_mb=8192),
    ),
    https=True,
    firewall=True,
    requests_per_task=27_000,
    p99_alarm_ms=250,
    shed_alarm_share=0.01,
    budget_usd=3_000,
    log_days=90,
    database_type="t4g.medium",
    database_gb=50,
    backup_days=14,
    several_zones=True,
    keep_data=True,
    training_types=("g6.xlarge", "g5.xlarge", "g6.2xlarge", "g5.2xlarge", "g4dn.xlarge"),
)

ENVIRONMENTS: Final = (DEV, PROD)
