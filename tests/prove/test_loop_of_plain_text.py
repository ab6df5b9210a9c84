"""The whole loop for plain text with six labels: drift, retraining, A/B test, promotion.

`make test` proves the parts: test_installed_wheel.py trains, serves and monitors, test_plain_text_home.py reads every
message of the commands, test_train_any_task.py those of a training.
"""

import os
from pathlib import Path

import pytest

from absa.data.bundled import TICKETS
from tests.homes import run_loop, said_in, words_of_default_task

LIMIT_S = 1_200  # of a hang


@pytest.mark.skipif("EVERGREEN_PROVE_KILLS" not in os.environ, reason="minutes: `make prove`")
@pytest.mark.timeout(LIMIT_S + 60)
def test_loop_of_plain_text_mentions_no_aspect(tmp_path: Path) -> None:
    story = run_loop(tmp_path / "home", TICKETS, "--task", "tickets", timeout_s=LIMIT_S)
    assert words_of_default_task(story) == []
    assert story.count("/#/models/tickets") == 2
    said = list(said_in(tmp_path / "home"))
    kinds = {Path(place).suffix for place, _ in said}
    assert kinds >= {".prom", ".md", ".html", ".json", ".log", ".db"}
    assert {place: found for place, each in said if (found := words_of_default_task(each))} == {}
