"""Challengers through live traffic: a better one is promoted, a worse one goes back, a person can go back at once."""

import json
import random
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace

import pytest

from absa.adapters.ledger import LedgerRecord
from absa.data.simulate import SimulatedRequest
from absa.errors import ConflictError, IntegrityError
from absa.inference.package import package_digest
from absa.lifecycle import challenged, crowned
from flows.consistency import contradictions
from flows.customers import send_traffic
from flows.decisions import roll_back
from flows.promote import see_through
from flows.settings import Settings
from flows.wiring import Services
from tests.serving_replica import RunningReplica
from tests.toy_package import WORDS, build_toy_package

GOOD = ("love", "great", "good", "fast", "easy")
BAD = ("terrible", "slow", "bad", "broken", "cannot")


def customers(seed: int) -> Iterator[SimulatedRequest]:
    """Every text has one word with a sentiment; three in four say later what was right."""
    chance = random.Random(seed)
    number = 0
    while True:
        word = chance.choice((*GOOD, *BAD))
        label = WORDS[word]
        text = f"the app is {word} and a service to it {chance.randrange(10**9)}"
        told = label if chance.random() < 0.75 else None
        yield SimulatedRequest(
            number=number, text=text, aspect="app", true_label=label, unit_id=f"u{chance.randrange(3000)}",
            segment=None, feedback_label=told, feedback_delay_s=0.05,
        )  # fmt: skip
        number += 1


@dataclass
class FolderReader:
    """The registry's reader over a folder of packages."""

    folder: Path

    def version(self, version: str) -> SimpleNamespace:
        return SimpleNamespace(version=version, tags={"gate": "PROMOTE"})

    def fetch(self, version: str, folder: Path) -> None:
        shutil.copytree(self.folder / version, folder, dirs_exist_ok=True)


@dataclass
class Aliases:
    """A registry that only remembers what it was told to show."""

    shown: dict[str, str] = field(default_factory=dict)

    def project(self, head: LedgerRecord) -> list[str]:
        wanted = {"champion": head.state.champion, "challenger": head.state.challenger}
        self.shown = {alias: version for alias, version in wanted.items() if version is not None}
        return []


@dataclass
class Stage:
    """A router under traffic, and what the flow works with."""

    replica: RunningReplica
    services: Services
    aliases: Aliases

    def challenge(self, version: str) -> None:
        head = self.services.head()
        self.services.ledger.append(
            expected=head.number,
            actor="test",
            action="challenge",
            reason=f"version {version}",
            state=challenged(head.state, version),
            versions={version: package_digest(self.replica.root / "registry" / version)},
        )

    def under_traffic(self, work: Callable[[], LedgerRecord], seed: int) -> LedgerRecord:
        """Do something while customers write."""
        over = threading.Event()
        traffic = threading.Thread(
            target=lambda: send_traffic(
                customers(seed), url=self.replica.url, feedback_key="survey-key", rate=200, duration_s=60,
                stop=over.is_set,
            )
        )  # fmt: skip
        traffic.start()
        try:
            return work()
        finally:
            over.set()
            traffic.join()


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    registry = tmp_path / "registry"
    build_toy_package(registry / "1", forgets=("great", "fast", "slow", "broken"))
    build_toy_package(registry / "2")
    build_toy_package(registry / "3", forgets=("love", "good", "easy", "bad", "cannot", "terrible"))
    settings = Settings(home=tmp_path, ramp="0.25,0.5", step_s=1.0, shadow_s=1.5, min_exposure=120, trust="survey")
    aliases = Aliases()
    services = Services(settings=settings, environment={})
    services.__dict__.update(reader=FolderReader(registry), registry=aliases)  # what the cached properties would make
    services.ledger.append(
        expected=0,
        actor="test",
        action="promote",
        reason="first",
        state=crowned("1"),
        versions={"1": package_digest(registry / "1")},
    )
    replica = RunningReplica(tmp_path, environment={"EVERGREEN_SHIP_INTERVAL_S": "0.2"})
    try:
        replica.start()
        replica.wait_for(1)
        yield Stage(replica, services, aliases)
    finally:
        replica.end()


@pytest.mark.slow
def test_a_better_challenger_is_promoted_a_worse_one_goes_back_and_a_person_goes_back_at_once(stage: Stage) -> None:
    services, replica = stage.services, stage.replica

    stage.challenge("2")
    ended = stage.under_traffic(lambda: see_through(services, ["2"]), seed=1)
    assert (ended.action, ended.state) == ("promote", crowned("2"))
    assert stage.aliases.shown == {"champion": "2"}
    steps = [r.state.plan for r in services.ledger.records() if r.state.plan is not None]
    assert [(p.mode, p.challengers[0].share) for p in steps if p.challengers][:2] == [("shadow", 0.0), ("ab", 0.25)]
    evidence = json.loads(services.lake.read(f"evidence/{ended.evidence_digest}.json"))
    assert evidence["low"] > 0
    assert evidence["infra"]["rows"] == 3

    stage.challenge("3")
    ended = stage.under_traffic(lambda: see_through(services, ["3"]), seed=2)
    assert (ended.action, ended.state) == ("rollback", crowned("2"))
    assert "Version 3" in ended.reason
    assert see_through(services, ["3"]) == ended  # a run that was killed at its end reports, and tries nothing again

    began = time.monotonic()
    back = roll_back(services, reason="complaints")
    replica.wait_for(back.number)
    assert time.monotonic() - began < 5.0
    assert (
        replica.client.post("/v1/predict", json={"text": "it is great", "aspect": "it"}).json()["model_version"] == "1"
    )

    records = services.ledger.records()
    assert services.ledger.verify() == []
    assert contradictions(records, stage.aliases.shown) == []
    served = [row for row in replica.rows() if not row["shadow"] and row["experiment"] == "v2-vs-v3"]
    assert {row["model_version"] for row in served} <= {"2", "3"}


@pytest.mark.slow
def test_a_version_that_does_not_serve_is_not_promoted(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its warm-up answers are not those of the evaluation."""
    warmup = stage.replica.root / "registry" / "2" / "warmup.jsonl"
    rows = [json.loads(line) for line in warmup.read_text().splitlines()]
    rows[0]["scores"] = rows[0]["scores"][::-1]
    warmup.write_text("\n".join(json.dumps(row) for row in rows) + "\n")
    head = stage.services.head()
    stage.services.ledger.append(
        expected=head.number,
        actor="test",
        action="register",
        reason="version 2",
        state=head.state,
        versions={"2": package_digest(warmup.parent)},
    )
    with pytest.raises(IntegrityError, match=r"warmup\.jsonl row 1"):
        see_through(stage.services, ["2"])
    assert stage.services.head().state == crowned("1")


def test_a_flow_that_lost_a_race_looks_again(monkeypatch: pytest.MonkeyPatch) -> None:
    import flows.promote

    calls = iter([ConflictError("look again"), "ended"])

    def advance(*_: object, **__: object) -> object:
        said = next(calls)
        if isinstance(said, Exception):
            raise said
        return said

    monkeypatch.setattr(flows.promote, "begin", lambda *_, **__: None)
    monkeypatch.setattr(flows.promote, "advance", advance)
    assert see_through(SimpleNamespace(), ["2"]) == "ended"  # type: ignore[arg-type]
