"""Result of a training as the user reads it."""

import pytest

from flows.cli.output.facts import TrainFacts
from flows.cli.output.training_result import trained_result

DONE: TrainFacts = {
    "version": "2", "verdict": "PROMOTE", "action": "challenged", "reasons": ["It is better."], "snapshot": "d",
    "f1": 0.8123, "champion_f1": 0.79, "task": "absa", "metric": "mean F1 of negative and positive",
    "pos_neg_f1": 0.8123, "budget_s": 60.0, "used_s": 61.0, "ladder": [],
}  # fmt: skip


def test_figure_of_training_is_explained() -> None:
    result = trained_result(DONE)
    assert result.lines == (
        "version 2: PROMOTE, pos/neg F1 0.812 on the test split, the champion's 0.790 on the same rows",
        "  pos/neg F1 is mean F1 of negative and positive; no training learns from the test split, so expect this "
        "figure in use",
        "  It is better.",
        "  61 of 60 s used, 1 s more than the budget",
    )


@pytest.mark.parametrize(
    ("facts", "line", "following"),
    [
        (DONE, "version 2: PROMOTE", "evergreen promote starts the experiment; `evergreen promote 2 --now`"),
        ({**DONE, "action": "kept"}, "version 2: PROMOTE", "evergreen status lists what is missing"),
        ({**DONE, "action": "crowned", "champion_f1": None}, "version 2", "evergreen predict TEXT"),
        (
            {"action": "skipped", "reason": "52 labels are missing"},
            "nothing was trained: 52",
            "evergreen labels export",
        ),
        ({"job": "j", "queue": "q", "ran_s": 61.0}, "job j of queue q trained for 61 s", "evergreen status"),
    ],
)
def test_end_of_training_names_next_step(facts: TrainFacts, line: str, following: str) -> None:
    result = trained_result(facts)
    assert result.lines[0].startswith(line)
    assert result.following.startswith(following)
