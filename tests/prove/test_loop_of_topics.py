"""The whole loop for texts with a topic, on rows of one's own: drift, retraining, A/B test, promotion.

`make test` proves the parts: test_train_any_task.py trains, test_topics.py serves, test_other_tasks.py monitors.
"""

import csv
import os
import random
from pathlib import Path

import pytest

from absa.data.bundled import BUNDLED, TICKETS
from absa.task import TaskSpec
from tests.homes import run_loop

LIMIT_S = 1_200  # of a hang
TOPICS = TaskSpec(name="ticket-topics", input="text+topic", labels=("no", "yes"))
TASK_SECTION = '[task]\nname = "ticket-topics"\ninput = "text+topic"\nlabels = ["no", "yes"]\n'


def write_topics(source: Path, target: Path, seed: int) -> Path:
    """Ask each ticket about its own intent and about another one."""
    dice = random.Random(seed)
    with source.open(newline="") as read, target.open("w", newline="") as written:
        rows = csv.writer(written)
        rows.writerow(("text", "topic", "label"))
        for row in csv.DictReader(read):
            other = dice.choice([label for label in TICKETS.labels if label != row["label"]])
            rows.writerows([(row["text"], row["label"], "yes"), (row["text"], other, "no")])
    return target


@pytest.mark.skipif("EVERGREEN_PROVE_KILLS" not in os.environ, reason="minutes: `make prove`")
@pytest.mark.timeout(LIMIT_S + 60)
def test_loop_of_topics_promotes_version_2(tmp_path: Path) -> None:
    home, tickets = tmp_path / "home", BUNDLED["tickets"]
    home.mkdir()
    (home / "evergreen.toml").write_text(TASK_SECTION)
    rows = write_topics(tickets.ingested, tmp_path / "topics.csv", 1)
    drifted = write_topics(tickets.new_area, tmp_path / "new_area.csv", 2)
    run_loop(home, TOPICS, "--data", str(rows), "--drift", str(drifted), timeout_s=LIMIT_S)
