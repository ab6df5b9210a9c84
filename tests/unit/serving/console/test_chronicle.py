"""Facts of the lake in the console."""

import asyncio
import json
import os
from datetime import timedelta
from pathlib import Path
from typing import Any, cast

import httpx
import pytest
from fastapi import FastAPI

from absa.adapters.lake_stores import FolderLake
from absa.errors import UnavailableError
from absa.ledger.routing import Arm, TrafficPlan, single
from absa.ledger.state import State
from absa.ledger.store import Ledger
from absa.records.schema import iso, utc_now
from absa.records.trainings import begin_training, write_training
from serving.console.chronicle import ASKED, Chronicle, ask_for_chronicle, read_chronicle, reign_start
from serving.console.console_routes import add_console, live
from serving.observe.replica_metrics import Status
from serving.replica_state import RouterState

DIGESTS = {"1": "a" * 64, "2": "b" * 64}
AB = TrafficPlan(
    mode="ab",
    experiment="v1-vs-v2",
    salt="s",
    arms=(Arm(name="champion", version="1", share=0.9), Arm(name="challenger", version="2", share=0.1)),
)


class Clock:
    def __init__(self) -> None:
        self.now = 1_000_000_000.0

    def __call__(self) -> float:
        return self.now


class LakeThatMayBeAway(FolderLake):
    away = False
    reads = 0

    def read(self, key: str) -> bytes:
        self.reads += 1
        if self.away:
            raise UnavailableError("the lake does not answer")
        return super().read(key)

    def list(self, prefix: str) -> list[str]:
        if self.away:
            raise UnavailableError("the lake does not answer")
        return super().list(prefix)


@pytest.fixture
def lake(tmp_path: Path) -> LakeThatMayBeAway:
    return LakeThatMayBeAway(tmp_path / "lake")


@pytest.fixture
def replica(tmp_path: Path) -> Path:
    folder = tmp_path / "replica"
    folder.mkdir()
    return folder


def tell(lake: FolderLake) -> None:
    """A first version that becomes champion, a second one in an experiment, two windows, a cost."""
    ledger = Ledger(lake)
    evidence = {"verdict": "PROMOTE", "reasons": ["Better: by far."], "training": {"budget_s": 60.0, "used_s": 51.5}}
    state = State()
    ledger.append(
        expected=0, actor="first", action="register", reason="the gate says PROMOTE.", state=state,
        versions={"1": DIGESTS["1"]}, evidence=evidence,
    )  # fmt: skip
    one = State(champion="1", plan=single("1", salt="s"))
    ledger.append(expected=1, actor="first", action="promote", reason="first", state=one)
    two = State(champion="1", challenger="2", plan=AB)
    ledger.append(expected=2, actor="promote", action="traffic", reason="10 %", state=two, versions=DIGESTS)
    look: dict[str, Any] = {"at": "2026-11-01T10:00:00Z", "arms": {"2": {"decision": "CONTINUE", "estimate": 0.1}}}
    lake.write("experiments/v1-vs-v2/3.json", json.dumps({"mode": "ab", **look, "looks": [look]}).encode())
    for start, verdicts in (("20261101T100000Z", ("FRESH",)), ("20261101T110000Z", ("WATCH", "STALE"))):
        for revision, verdict in enumerate(verdicts, 1):
            record = {
                "window_start": start, "window_end": start, "verdict": verdict, "version": "1", "action": "none",
                "by_version": {"1": {"rows": 10, "labelled": 5, "pos_neg_f1": 0.7, "estimated_pos_neg_f1": 0.6}},
                "reasons": [{"sentence": "F1 fell."}, {"sentence": "Words changed."}], "action_reason": "",
                "attempts": [], "report_uri": None,
            }  # fmt: skip
            lake.write(f"verdicts/{start}_{start}.r{revision}.json", json.dumps(record).encode())
    lake.write("cost/current.json", json.dumps({"usd_per_million_live": 0.02}).encode())


def chronicle(lake: FolderLake, replica: Path, clock: Clock) -> Chronicle:
    made = Chronicle(lake, replica, clock=clock)
    ask_for_chronicle(replica)
    os.utime(replica / ASKED, (clock.now, clock.now))
    return made


def test_chronicle_shows_newest_revisions_alone(lake: LakeThatMayBeAway, replica: Path) -> None:
    tell(lake)
    chronicle(lake, replica, Clock()).step()
    told = read_chronicle(replica)
    assert [each["number"] for each in told["ledger"]] == [3, 2, 1]
    assert reign_start(told, "1") == told["ledger"][1]["at"]
    assert told["trainings"] == [
        {
            "at": told["ledger"][2]["at"], "version": "1", "gate": "PROMOTE", "sentence": "Better: by far.",
            "budget_s": 60.0, "used_s": 51.5,
        }
    ]  # fmt: skip
    assert [each["verdict"] for each in told["verdicts"]] == ["FRESH", "STALE"]
    assert told["verdicts"][1]["reasons"] == ["F1 fell.", "Words changed."]
    assert (told["verdicts"][1]["f1"], told["verdicts"][1]["estimated_f1"]) == (0.7, 0.6)  # of an earlier release
    assert (told["experiment"]["name"], told["experiment"]["running"]) == ("v1-vs-v2", True)
    assert told["experiment"]["looks"][0]["arms"]["2"]["estimate"] == 0.1
    assert told["cost"] == {"usd_per_million_live": 0.02}
    assert (told["insights"], told["error"]) == (None, None)


def console(replica: Path, champion: str) -> dict[str, Any]:
    """Return the data of the console of a router whose plan has this champion."""
    app = FastAPI()
    add_console(
        app, folder=replica, statuses=list, state=lambda: RouterState(lake="l", champion=champion), task=lambda: None,
        compare=cast(Any, None), links={}, body_limit_bytes=1,
    )  # fmt: skip

    async def ask() -> dict[str, Any]:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://router") as client:
            return (await client.get("/v1/console")).json()

    return asyncio.run(ask())


def test_new_champion_has_no_time_of_the_former(lake: LakeThatMayBeAway, replica: Path) -> None:
    """A router follows a promotion within a second, its chronicle within three."""
    tell(lake)
    clock = Clock()
    made = chronicle(lake, replica, clock)
    made.step()
    (first,) = read_chronicle(replica)["champions"]
    assert console(replica, "1")["champion_since"] == first["at"]
    two = State(champion="2", plan=single("2"))
    record = Ledger(lake).append(expected=3, actor="promote", action="promote", reason="better", state=two)
    assert console(replica, "2")["champion_since"] is None
    clock.now += 10
    os.utime(replica / ASKED, (clock.now, clock.now))
    made.step()
    assert console(replica, "2")["champion_since"] == iso(record.at) != first["at"]


def test_chronicle_shows_running_failed_and_lost_trainings(lake: LakeThatMayBeAway, replica: Path) -> None:
    now, clock = utc_now(), Clock()
    asked = {"allowed_s": 60.0, "budget_s": 60.0}
    failed = begin_training(now - timedelta(hours=3), reason="drift", **asked).failed(now, "the lake is away")
    killed = begin_training(now - timedelta(hours=2), reason="night", **asked)
    done = begin_training(now - timedelta(hours=1), reason="night", **asked)
    running = begin_training(now, reason="manual", **asked)
    for each in (failed, killed, done.completed(now, version="7", verdict="HOLD", sentence=""), running):
        write_training(lake, each)
    lake.write("trainings/later.json", b'{"of": "a later release"}')
    made = chronicle(lake, replica, clock)
    made.step()
    shown = read_chronicle(replica)["unfinished"]
    assert [(each["state"], each["reason"]) for each in shown] == [
        ("running", "manual"), ("lost", "night"), ("failed", "drift"),
    ]  # fmt: skip
    assert shown[2]["sentence"] == "the lake is away"
    before = lake.reads
    clock.now += 10
    os.utime(replica / ASKED, (clock.now, clock.now))
    write_training(lake, running.failed(now, "stopped"))
    made.step()
    assert [each["state"] for each in read_chronicle(replica)["unfinished"]] == ["failed", "lost", "failed"]
    assert lake.reads - before < 8


def test_chronicle_shows_trainings_with_their_versions(lake: LakeThatMayBeAway, replica: Path) -> None:
    for number, version in enumerate(("9", "10", "11")):
        Ledger(lake).append(
            expected=number, actor="drift", action="register", reason="better than version 7: by far.", state=State(),
            versions={version: "c" * 64},
        )  # fmt: skip
    chronicle(lake, replica, Clock()).step()
    assert [each["version"] for each in read_chronicle(replica)["trainings"]] == ["11", "10", "9"]


def test_an_empty_lake_is_told_as_such(lake: LakeThatMayBeAway, replica: Path) -> None:
    chronicle(lake, replica, Clock()).step()
    told = read_chronicle(replica)
    assert (told["ledger"], told["verdicts"], told["trainings"], told["experiment"]) == ([], [], [], None)
    assert reign_start(told, None) is None


def test_the_lake_is_read_only_while_somebody_looks(lake: LakeThatMayBeAway, replica: Path) -> None:
    tell(lake)
    clock, before = Clock(), lake.reads
    Chronicle(lake, replica, clock=clock).step()
    assert (lake.reads, read_chronicle(replica)) == (before, {})
    looked_at = chronicle(lake, replica, clock)
    looked_at.step()
    assert lake.reads > before
    clock.now += 3_600
    before = lake.reads
    looked_at.step()
    assert lake.reads == before


def test_what_never_changes_is_read_once(lake: LakeThatMayBeAway, replica: Path) -> None:
    tell(lake)
    clock = Clock()
    looked_at = chronicle(lake, replica, clock)
    looked_at.step()
    first = lake.reads
    clock.now += 10
    looked_at.step()
    assert lake.reads - first <= 4  # the ledger's head, the experiment, cost; neither verdicts nor evidence again


def test_revised_window_shows_newest_revision(lake: LakeThatMayBeAway, replica: Path) -> None:
    tell(lake)
    clock = Clock()
    looked_at = chronicle(lake, replica, clock)
    looked_at.step()
    (key,) = [key for key in lake.list("verdicts/") if key.endswith("r2.json")]
    lake.write(key.replace(".r2.", ".r3."), lake.read(key).replace(b"STALE", b"FRESH"))
    clock.now += 10
    looked_at.step()
    assert [each["verdict"] for each in read_chronicle(replica)["verdicts"]] == ["FRESH", "FRESH"]


def test_unavailable_lake_keeps_last_chronicle(lake: LakeThatMayBeAway, replica: Path) -> None:
    tell(lake)
    clock = Clock()
    looked_at = chronicle(lake, replica, clock)
    looked_at.step()
    lake.away = True
    clock.now += 10
    looked_at.step()
    told = read_chronicle(replica)
    assert told["error"] == "the lake cannot be read: the lake does not answer"
    assert [each["number"] for each in told["ledger"]] == [3, 2, 1]


def test_counts_are_added_up_over_processes() -> None:
    histogram = [1] + [0] * 11
    first, second = ([["1", "champion", *counts, 9.0, histogram]] for counts in ((3, 0, 1, 0), (4, 1, 0, 0)))
    statuses = [
        Status(worker="0", ready=True, gauges={"queue_ms": 2.0}, outcomes=first),
        Status(worker="1", ready=False, gauges={"queue_ms": 5.0}, outcomes=second),
        Status(worker="parent", gauges={"log_lag_seconds": 1.5}),
    ]
    told = live(statuses)
    (arm,) = told["arms"]
    assert (arm["ok"], arm["error"], arm["shed"], arm["timeout"], arm["histogram"][0]) == (7, 1, 1, 0, 2)
    assert (told["workers"], told["ready"], told["queue_ms"], told["log_lag_s"]) == (2, 1, 5.0, 1.5)
