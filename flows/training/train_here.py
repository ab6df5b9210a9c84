"""`python -m flows.training.train_here`: one continuous training on this machine, as a job on a GPU machine runs it."""

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any

from absa.errors import DeadlineMissedError, EvergreenError, PermanentError
from absa.job import EXIT_DEADLINE_MISSED, NO_WINDOW
from flows.platform.terminal import say


def _run_flow(**parameters: Any) -> None:
    """Run the flow with the settings of this machine, without a request for another machine."""
    from flows.platform.settings import Settings, apply_environment

    os.environ.pop("EVERGREEN_TRAINING_QUEUES", None)
    apply_environment(Settings.load())
    from flows.training.training_flow import continuous_training

    continuous_training(**parameters)


def main(arguments: Sequence[str] | None = None, *, run: Callable[..., object] = _run_flow) -> int:
    """Run the flow; return 0, 1 for an error, 3 for a missed deadline."""
    from absa.policies import LONGEST_S
    from flows.platform.arguments import window_of

    parser = argparse.ArgumentParser(prog="python -m flows.training.train_here", description=__doc__)
    parser.add_argument("--budget-s", type=float, required=True, help="Wall-clock budget of the run, in seconds.")
    parser.add_argument("--reason", default="manual", help="Origin of the request.")
    parser.add_argument("--window", default=NO_WINDOW, help="Key of the window whose verdict requested it, or none.")
    chosen = parser.parse_args(arguments)
    window = None if chosen.window == NO_WINDOW else chosen.window
    try:
        if not 0 < chosen.budget_s <= LONGEST_S:
            raise PermanentError(f"--budget-s: expected seconds above 0, got {chosen.budget_s:g}")
        if window is not None:
            window_of("--window", window)
        run(window=window, budget_s=chosen.budget_s, reason=chosen.reason)
    except EvergreenError as error:
        say(str(error), err=True)
        return EXIT_DEADLINE_MISSED if isinstance(error, DeadlineMissedError) else 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
