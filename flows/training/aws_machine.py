"""Machine for one training, from AWS Batch: spot first, then on demand if spot is unavailable or lost."""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

from absa.errors import DeadlineMissedError, PermanentError, UnavailableError
from absa.job import EXIT_DEADLINE_MISSED, NO_WINDOW
from flows.training.reserve import OVERRUN_SHARE

_AFTER_RUN_S: Final = 120  # the job keeps its own deadline; this limit ends a job that hangs
_POLL_S: Final = 5.0
_LEAST_BUDGET_S: Final = 60.0  # with less, a run that starts again has no time for a version
_TAKEN_AWAY: Final = "Host EC2"  # start of Batch's reason for a lost machine; see its page on job retries
_JOB_NAME: Final = "evergreen-training"


def job_limit_s(budget_s: float, teaching_s: float = 0.0) -> int:
    """Return the seconds after which AWS Batch ends a job.

    They are the teachers' time, the budget, a first training's overrun, and two minutes.
    """
    return math.ceil(teaching_s + (1.0 + OVERRUN_SHARE) * budget_s) + _AFTER_RUN_S


class BatchClient(Protocol):
    """Part of boto3's client of AWS Batch that is used."""

    def submit_job(self, **request: Any) -> Mapping[str, Any]:
        """Put a job into a queue."""

    def describe_jobs(self, **request: Any) -> Mapping[str, Any]:
        """Describe jobs."""

    def terminate_job(self, **request: Any) -> Mapping[str, Any]:
        """End a job in any state."""


@dataclass(frozen=True, kw_only=True)
class MachineRun:
    """Result of a training on a machine. `waited_s` is the time to get machines, which the budget does not count."""

    job: str
    queue: str
    waited_s: float
    ran_s: float
    tries: int


class TrainingMachine:
    """Runner of one training in the first queue that has a machine for it.

    Args:
        batch: client of AWS Batch.
        queues: queues, tried in order: spot first, then on demand. The wait in the last queue has no limit.
        definition: job definition; it takes the parameters budget_s, reason and window.
        wait_s: longest wait for the start of the job in a queue, in seconds; the last queue has no limit.
        teaching_s: seconds that teachers may take before the budget.
        clock, sleep: clock and sleep function of this process.
    """

    def __init__(
        self,
        batch: BatchClient,
        *,
        queues: Sequence[str],
        definition: str,
        wait_s: float,
        teaching_s: float = 0.0,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        if not queues or not definition:
            raise PermanentError("EVERGREEN_TRAINING_QUEUES and EVERGREEN_TRAINING_DEFINITION are needed together")
        self._batch, self._queues, self._definition = batch, tuple(queues), definition
        self._wait_s, self._teaching_s, self._clock, self._sleep = wait_s, teaching_s, clock, sleep

    def train(self, *, budget_s: float, reason: str, window: str | None) -> MachineRun:
        """Run the job to its end. The time on a lost machine is deducted from the budget; waiting is not.

        Raises:
            DeadlineMissedError: the budget was missed, or the rest after a lost machine is too short.
            PermanentError: the training failed on its machine.
            UnavailableError: AWS Batch is unavailable, or the last queue's machine was lost.
        """
        used_s = waited_s = 0.0
        for number, queue in enumerate(self._queues, start=1):
            left_s = budget_s - used_s
            if left_s < min(_LEAST_BUDGET_S, budget_s):
                raise DeadlineMissedError(
                    "the machine was taken away and too little of the budget is left; run the training again"
                )
            submitted = self._clock()
            job = self._submit(queue, left_s, reason=reason, window=window)
            done, started, ended = self._follow(job, submitted, patient=number == len(self._queues))
            used_s += ended - started
            waited_s += started - submitted
            if done:
                return MachineRun(job=job, queue=queue, waited_s=waited_s, ran_s=ended - started, tries=number)
        raise UnavailableError("every training machine was taken away before the training ended; run it again")

    def _submit(self, queue: str, budget_s: float, *, reason: str, window: str | None) -> str:
        answer = self._call(
            self._batch.submit_job,
            jobName=_JOB_NAME,
            jobQueue=queue,
            jobDefinition=self._definition,
            parameters={"budget_s": f"{budget_s:.0f}", "reason": reason, "window": window or NO_WINDOW},
            timeout={"attemptDurationSeconds": job_limit_s(budget_s, self._teaching_s)},
        )
        return str(answer["jobId"])

    def _follow(self, job: str, submitted: float, *, patient: bool) -> tuple[bool, float, float]:
        """Return (True if a job is complete, its start, its end); both times are now if it got no machine."""
        started: float | None = None
        while True:
            found = self._call(self._batch.describe_jobs, jobs=[job])["jobs"]
            state = str(found[0]["status"]) if found else "SUBMITTED"
            now = self._clock()
            if started is None and state in {"RUNNING", "SUCCEEDED", "FAILED"}:
                started = now
            if started is not None and state in {"SUCCEEDED", "FAILED"}:
                if state == "FAILED":
                    _raise_if_its_own_fault(found[0])
                return state == "SUCCEEDED", started, now
            if started is None and not patient and now - submitted > self._wait_s:
                self._call(self._batch.terminate_job, jobId=job, reason="no machine in time: the next queue is tried")
                return False, now, now
            self._sleep(_POLL_S)

    @staticmethod
    def _call(action: Callable[..., Mapping[str, Any]], **request: Any) -> Mapping[str, Any]:
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            return action(**request)
        except ClientError as error:
            code = error.response.get("Error", {}).get("Code", "an error")
            raise UnavailableError(f"AWS Batch answered {code}") from error
        except BotoCoreError as error:
            raise UnavailableError(f"AWS Batch is unavailable: {type(error).__name__}") from error


def _raise_if_its_own_fault(job: Mapping[str, Any]) -> None:
    """Raise the error of a failed job, unless its machine was taken away."""
    if str(job.get("statusReason", "")).startswith(_TAKEN_AWAY):
        return
    code = job.get("container", {}).get("exitCode")
    if code == EXIT_DEADLINE_MISSED:
        raise DeadlineMissedError("the training ran out of its budget; nothing was registered")
    raise PermanentError(f"the training failed on its machine (exit {code}); its log is in /evergreen/<name>/training")
