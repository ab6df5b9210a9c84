"""A run with a ladder on real parts: three layers become champion, as they are as right as six and cheaper.

The command trains two depths of a narrow MiniLM on rows whose label is in one word, a router serves them, customers
report what was right, and the promotion runs in this process. Nothing is measured for it: speeds and answers are those
of the run.
"""

import csv
import json
import os
import random
import subprocess
import sys
import threading
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any, Final

import pytest

from absa.data.traffic.pool_traffic import SimulatedRequest
from absa.ledger.lifecycle import crowned
from flows.demo.customers import send_traffic
from flows.platform.processes import take_down
from flows.platform.services import Services, build_services
from flows.platform.settings import Settings
from flows.promotion.promotion_look import Trial, promote_versions
from flows.promotion.promotion_request import PromotionRequest
from tests.homes import choose_ports, configure, end_family, outer_environment

WORDS: Final = {
    "terrible": 0,
    "broken": 0,
    "awful": 0,
    "a page": 1,
    "a part": 1,
    "great": 2,
    "lovely": 2,
    "excellent": 2,
}
NOUNS: Final = ("app", "search", "editor", "calendar", "board", "inbox", "export", "sync", "menu", "login", "report")
ENDS: Final = ("today", "for us", "in this version", "on my phone", "at work", "since May", "as I see it", "here")
LIMIT_S: Final = 300.0  # of a training on a busy machine


def easy_rows() -> list[tuple[str, str, int]]:
    """Texts with their aspect and label."""
    return [(f"The {noun} is {word} {end}.", noun, WORDS[word]) for noun, word, end in product(NOUNS, WORDS, ENDS)]


def customers(seed: int) -> Iterator[SimulatedRequest]:
    """Ask about easy rows, and report what was right."""
    chance, rows, number = random.Random(seed), easy_rows(), 0
    while True:
        text, aspect, label = chance.choice(rows)
        yield SimulatedRequest(
            number=number, text=f"{text} {chance.randrange(10**6)}", aspect=aspect, true_label=label,
            unit_id=f"u{chance.randrange(3000)}", segment=None, feedback_label=label, feedback_delay_s=0.05,
        )  # fmt: skip
        number += 1


@pytest.fixture
def services(tmp_path: Path) -> Iterator[Services]:
    """A home without servers, whose runs train two sizes."""
    home, kept = tmp_path / "home", dict(os.environ)
    configure(
        home,
        training={"ladder": [6, 3], "hidden": 128, "learning_rate": 1e-3},  # a third of the width trains in seconds
        gate={"behaviour_cases": 10, "behaviour_margin": 1.0},  # the rows teach no behaviour, as in the demo
        experiment={"ramp": [0.5], "step_s": 1, "shadow_s": 1},
        router={"ship_interval_s": 0.3, "workers": 1},
    )
    choose_ports(home)
    os.environ.clear()
    os.environ |= outer_environment() | {"EVERGREEN_HOME": str(home)}
    made = build_services(Settings.load(), embedded=True)
    try:
        yield made
    finally:
        take_down(made.settings)
        end_family(home)
        os.environ.clear()
        os.environ |= kept


def evergreen(*words: str) -> str:
    """Run the command, and return what it printed."""
    done = subprocess.run(
        [sys.executable, "-m", "flows.cli", *words],
        env=outer_environment() | {"EVERGREEN_HOME": os.environ["EVERGREEN_HOME"]},
        capture_output=True, text=True, check=False, timeout=3 * LIMIT_S,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.slow
@pytest.mark.timeout(4 * LIMIT_S)
def test_three_layers_win_by_their_price(services: Services, tmp_path: Path) -> None:
    with (tmp_path / "easy.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("text", "aspect", "label"), *easy_rows()])
    outcome = json.loads(evergreen("train", str(tmp_path / "easy.csv"), "--budget", str(LIMIT_S), "--json"))
    six, three = outcome["ladder"]
    assert [(each["layers"], each["action"]) for each in (six, three)] == [(6, "crowned"), (3, "challenged")]
    assert three["reasons"][0].startswith("Not worse and cheaper: ")
    assert 0 < three["usd_per_million"] < six["usd_per_million"]
    tags = [services.registry.tags(version) for version in ("1", "2")]
    assert [each["student"] for each in tags] == ["L6-128", "L3-128"]
    assert tags[0]["ladder"] == tags[1]["ladder"]

    evergreen("serve", "--detach")
    over = threading.Event()
    traffic = threading.Thread(
        target=lambda: send_traffic(
            customers(1), url=services.home.url("router"), feedback_key=services.home.secrets()["feedback_key"],
            rate=200, duration_s=LIMIT_S, stop=over.is_set,
        )
    )  # fmt: skip
    traffic.start()
    try:
        request = PromotionRequest(versions=("2",), revision=services.head().number)
        ended = promote_versions(Trial(services=services, request=request))
    finally:
        over.set()
        traffic.join()
    assert ended is not None
    assert (ended.action, ended.state) == ("promote", crowned("2"))
    assert "not worse than 1 by 1 points or more" in ended.reason
    evidence: dict[str, Any] = services.ledger.evidence(ended)
    assert evidence["grounds"] == "not worse and cheaper"
    assert evidence["saving"] > 0.2
    assert evidence["low"] > -0.01
