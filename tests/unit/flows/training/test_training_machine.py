"""A training gets a machine: spot first, on demand where that does not come or is taken away, and the budget holds."""

import math
from typing import Any

import pytest

from absa.errors import DeadlineMissedError, PermanentError, UnavailableError
from flows.training.aws_machine import TrainingMachine, job_limit_s


class World:
    """AWS Batch and a clock. `fates` maps a queue to (seconds until it starts or None, seconds it runs, its end)."""

    def __init__(self, **fates: tuple[float | None, float, dict[str, Any]]) -> None:
        self.fates, self.now = fates, 0.0
        self.jobs: list[dict[str, Any]] = []
        self.ended: list[str] = []

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def submit_job(self, **request: Any) -> dict[str, Any]:
        self.jobs.append({"at": self.now, **request})
        return {"jobId": str(len(self.jobs) - 1)}

    def describe_jobs(self, *, jobs: list[str]) -> dict[str, Any]:
        job = self.jobs[int(jobs[0])]
        starts_s, runs_s, end = self.fates[job["jobQueue"]]
        age_s = self.now - job["at"]
        if starts_s is None or age_s < starts_s:
            return {"jobs": [{"status": "RUNNABLE"}]}
        return {"jobs": [{"status": "RUNNING"} if age_s < starts_s + runs_s else end]}

    def terminate_job(self, **request: Any) -> dict[str, Any]:
        self.ended.append(request["jobId"])
        return {}

    def train(self, budget_s: float = 900.0) -> Any:
        machine = TrainingMachine(
            self, queues=("spot", "owned"), definition="d", wait_s=240, clock=lambda: self.now, sleep=self.sleep
        )
        return machine.train(budget_s=budget_s, reason="drift", window=None)


DONE = {"status": "SUCCEEDED"}
TAKEN = {"status": "FAILED", "statusReason": "Host EC2 (instance i-1) terminated."}


def test_a_spot_machine_that_comes_is_used() -> None:
    world = World(spot=(60, 300, DONE), owned=(0, 0, DONE))
    ran = world.train()
    assert (ran.queue, ran.tries, ran.waited_s, ran.ran_s) == ("spot", 1, 60, 300)


def test_late_spot_machine_is_replaced_on_demand() -> None:
    world = World(spot=(None, 0, DONE), owned=(30, 300, DONE))
    ran = world.train()
    assert (ran.queue, world.ended) == ("owned", ["0"])
    assert world.jobs[1]["parameters"]["budget_s"] == "900"


def test_lost_machine_leaves_the_rest_of_the_budget() -> None:
    world = World(spot=(10, 300, TAKEN), owned=(10, 100, DONE))
    assert world.train().queue == "owned"
    assert world.jobs[1]["parameters"]["budget_s"] == "600"


@pytest.mark.parametrize("budget_s", [120.0, 899.5, 3_600.0])
def test_job_limit_covers_overrun_and_two_minutes(budget_s: float) -> None:
    world = World(spot=(10, 30, TAKEN), owned=(10, 10, DONE))
    world.train(budget_s)
    ends_s = [job["timeout"]["attemptDurationSeconds"] for job in world.jobs]
    assert ends_s[0] == math.ceil(1.25 * budget_s) + 120
    assert ends_s[1] - 120 == pytest.approx(1.25 * (budget_s - 30), abs=2.0)


def test_machine_lost_near_the_end_misses_the_deadline() -> None:
    with pytest.raises(DeadlineMissedError):
        World(spot=(10, 870, TAKEN), owned=(10, 100, DONE)).train()


def test_missed_deadline_is_not_repeated() -> None:
    world = World(spot=(10, 100, {"status": "FAILED", "container": {"exitCode": 3}}), owned=(0, 0, DONE))
    with pytest.raises(DeadlineMissedError):
        world.train()
    assert len(world.jobs) == 1


def test_failed_training_is_not_repeated() -> None:
    world = World(spot=(10, 100, {"status": "FAILED", "container": {"exitCode": 1}}), owned=(0, 0, DONE))
    with pytest.raises(PermanentError, match="exit 1"):
        world.train()
    assert len(world.jobs) == 1


def test_last_lost_machine_asks_for_another_run() -> None:
    with pytest.raises(UnavailableError, match="taken away"):
        World(spot=(10, 10, TAKEN), owned=(10, 10, TAKEN)).train()


def test_job_limit_leaves_time_for_teachers() -> None:
    assert job_limit_s(100.0, 50.0) == job_limit_s(100.0) + 50
