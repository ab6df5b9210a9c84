"""`python -m flows.training.train_here`: one continuous training on this machine, as a job on a GPU machine runs it."""

import argparse
import os
import sys

from absa.errors import DeadlineMissedError, EvergreenError, PermanentError
from absa.job import EXIT_DEADLINE_MISSED, NO_WINDOW
from flows.platform.terminal import say


def main(arguments: list[str] | None = None) -> int:
    """Run the flow; gives 0, 1 for an error, 3 for a missed deadline."""
    parser = argparse.ArgumentParser(prog="python -m flows.training.train_here", description=__doc__)
    parser.add_argument("--budget-s", type=float, required=True, help="Wall-clock budget of the run, in seconds.")
    parser.add_argument("--reason", default="manual", help="Who asks.")
    parser.add_argument("--window", default=NO_WINDOW, help="Key of the window whose verdict asked for it, or none.")
    chosen = parser.parse_args(arguments)
    os.environ.pop("EVERGREEN_TRAINING_QUEUES", None)  # this is the machine: it asks for no other
    from flows.platform.arguments import window_of
    from flows.platform.settings import LONGEST_S, Settings, apply_environment

    try:
        if not 0 < chosen.budget_s <= LONGEST_S:
            raise PermanentError(f"--budget-s: expected seconds above 0, got {chosen.budget_s:g}")
        if chosen.window != NO_WINDOW:
            window_of("--window", chosen.window)
        apply_environment(Settings.load())
        from flows.training.training_flow import continuous_training

        window = None if chosen.window == NO_WINDOW else chosen.window
        continuous_training(window=window, budget_s=chosen.budget_s, reason=chosen.reason)
    except DeadlineMissedError as error:
        say(str(error), err=True)
        return EXIT_DEADLINE_MISSED
    except EvergreenError as error:
        say(str(error), err=True)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
