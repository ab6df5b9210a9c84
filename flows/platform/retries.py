"""Steps of a use case: one that fails with a TransientError is repeated after 1, 4 and 10 s."""

import time
from collections.abc import Callable, Sequence
from typing import Any, Final, TypeVar

from absa.errors import TransientError

T = TypeVar("T")
DELAYS_S: Final = (1.0, 4.0, 10.0)
RETRIES: Final = len(DELAYS_S)


def run_step(
    name: str,  # noqa: ARG001  shown by Prefect's variant
    action: Callable[[], T],
    *,
    again: bool = False,
    delays_s: Sequence[float] = DELAYS_S,
) -> T:
    """Run a step and return its result; see `flows.platform.ports.Steps`."""
    for delay_s in delays_s if again else ():
        try:
            return action()
        except TransientError:
            time.sleep(delay_s)
    return action()


def trying_again_may_help(_task: Any, _run: Any, state: Any) -> bool:
    """Return True if a Prefect task failed with a TransientError: a server is unavailable, or a race is lost."""
    return isinstance(state.result(raise_on_failure=False), TransientError)
