"""Which failures a task is tried again for: those whose error says that it may help, and no others."""

from typing import Any, Final

from prefect.client.schemas.objects import State, TaskRun

from absa.errors import TransientError

RETRIES: Final = 3
DELAYS_S: Final = [1.0, 4.0, 10.0]


def trying_again_may_help(_task: Any, _run: TaskRun, state: "State[Any]") -> bool:
    """Whether a task failed with a TransientError: a server is away, or someone else was first."""
    return isinstance(state.result(raise_on_failure=False), TransientError)
