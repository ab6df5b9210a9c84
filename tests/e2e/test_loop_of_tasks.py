"""The whole loop for plain text with six labels and for topics: drift, retraining, A/B test, promotion."""

import csv
import random
from pathlib import Path

import pytest

from absa.adapters.lake_stores import FolderLake
from absa.data.bundled import BUNDLED, TICKETS
from absa.ledger.store import Ledger
from absa.task import TaskSpec
from monitoring.verdicts import VerdictStore
from tests.homes import end_family, outer_environment, tell, words_of_default_task

LIMIT_S = 1_200  # of a hang
TOPICS = TaskSpec(name="ticket-topics", input="text+topic", labels=("no", "yes"))
TASK_SECTION = '[task]\nname = "ticket-topics"\ninput = "text+topic"\nlabels = ["no", "yes"]\n'

pytestmark = [pytest.mark.slow, pytest.mark.timeout(LIMIT_S + 60)]


def loop(home: Path, *words: str) -> str:
    try:
        return tell(outer_environment() | {"EVERGREEN_HOME": str(home)}, *words, timeout_s=LIMIT_S)
    finally:
        end_family(home)


def assert_promoted(home: Path, task: TaskSpec) -> None:
    ledger = Ledger(FolderLake(home / "lake"))
    assert ledger.verify() == []
    assert ledger.task() == task
    records = ledger.follow()
    assert (records[-1].action, records[-1].state.champion) == ("promote", "2")
    verdicts = VerdictStore(FolderLake(home / "lake")).history()
    assert (verdicts[0].verdict == "STALE", verdicts[-1].verdict == "STALE") == (False, True)
    assert [attempt.state for verdict in verdicts for attempt in verdict.attempts] == ["completed"]


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


def test_loop_of_plain_text_mentions_no_aspect(tmp_path: Path) -> None:
    story = loop(tmp_path / "home", "--task", "tickets")
    assert_promoted(tmp_path / "home", TICKETS)
    assert words_of_default_task(story) == []
    written = [file for kind in ("*.prom", "*.md", "*.html") for file in (tmp_path / "home").rglob(kind)]
    assert written
    for file in written:
        assert (file.name, words_of_default_task(file.read_text(encoding="utf-8"))) == (file.name, [])


def test_loop_of_topics_promotes_version_2(tmp_path: Path) -> None:
    home, tickets = tmp_path / "home", BUNDLED["tickets"]
    home.mkdir()
    (home / "evergreen.toml").write_text(TASK_SECTION)
    rows = write_topics(tickets.ingested, tmp_path / "topics.csv", 1)
    drifted = write_topics(tickets.new_area, tmp_path / "new_area.csv", 2)
    loop(home, "--data", str(rows), "--drift", str(drifted))
    assert_promoted(home, TOPICS)
