"""Result of a training, which several commands print."""

from typing import Final

from flows.cli.output.command_result import CommandResult
from flows.cli.output.facts import TrainFacts

_ENDS: Final = {
    "crowned": ("It is champion: it answers from now on", "evergreen predict TEXT, or evergreen serve"),
    "challenged": (
        "It is challenger: the champion answers until this version wins an experiment",
        "evergreen promote starts the experiment; `evergreen promote {version} --now` does without one",
    ),
    "kept": ("The champion stays: this version is not proven better", "evergreen status lists what is missing"),
}


def trained_result(facts: TrainFacts) -> CommandResult[TrainFacts]:
    """Return the result of a training. Pure."""
    if "job" in facts:
        return CommandResult(
            facts=facts,
            lines=(f"job {facts['job']} of queue {facts['queue']} trained for {facts['ran_s']:.0f} s",),
            meaning="Its version is registered, and the gate has judged it",
            following="evergreen status shows the decision",
        )
    if facts["action"] == "skipped":
        return CommandResult(
            facts=facts,
            lines=(f"nothing was trained: {facts['reason']}",),
            meaning="The champion stays: with so few labels the gate can only give HOLD",
            following="evergreen labels export QUEUE.csv; evergreen train trains nevertheless",
        )
    from flows.training.train_version import size_line  # slow: the trainer's modules

    metric = "pos/neg F1" if "pos_neg_f1" in facts else "F1"
    over_s = facts["used_s"] - facts["budget_s"]
    overrun = f", {over_s:.0f} s more than the budget" if over_s > 0 else ""
    meaning, following = _ENDS[facts["action"]]
    champion = facts["champion_f1"]
    beside = "" if champion is None else f", the champion's {champion:.3f} on the same rows"
    return CommandResult(
        facts=facts,
        lines=(
            f"version {facts['version']}: {facts['verdict']}, {metric} {facts['f1']:.3f} on the test split{beside}",
            f"  {metric} is {facts['metric']}; no training learns from the test split, so expect this figure in use",
            *(f"  {sentence}" for sentence in facts["reasons"]),
            f"  {facts['used_s']:.0f} of {facts['budget_s']:.0f} s used{overrun}",
            *(f"  {size_line(each, metric)}" for each in facts["ladder"]),
        ),
        meaning=meaning,
        following=following.format(version=facts["version"]),
    )
