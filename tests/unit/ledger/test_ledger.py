"""The ledger: appending is the commit, and no edit goes unseen."""

import json
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from absa.adapters.lake import FolderLake
from absa.errors import ConflictError, PermanentError
from absa.ledger.lifecycle import challenged, crowned, former_champion, promoted, ramped, shadowed, withdrawn
from absa.ledger.store import Ledger, State, record_hash

START = datetime(2026, 11, 1, tzinfo=UTC)


class Clock:
    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> datetime:
        self.now += timedelta(minutes=1)
        return self.now


@pytest.fixture
def lake(tmp_path: Path) -> FolderLake:
    return FolderLake(tmp_path)


@pytest.fixture
def ledger(lake: FolderLake) -> Ledger:
    return Ledger(lake, clock=Clock())


def crown(ledger: Ledger, version: str = "1") -> None:
    head = ledger.head()
    ledger.append(
        expected=head.number if head else 0,
        actor="test",
        action="promote",
        reason=f"version {version}",
        state=crowned(version),
        versions={version: "d" * 64},
    )


def test_an_empty_ledger_has_no_head_and_nothing_wrong(ledger: Ledger) -> None:
    assert ledger.head() is None
    assert ledger.verify() == []


def test_the_head_is_the_last_record_with_all_digests_known_so_far(ledger: Ledger) -> None:
    crown(ledger, "1")
    crown(ledger, "2")
    head = ledger.head()
    assert head is not None
    assert (head.number, head.state.champion, sorted(head.versions)) == (2, "2", ["1", "2"])
    assert ledger.head(after=1) == head


def test_a_record_has_the_contracts_shape(ledger: Ledger, lake: FolderLake) -> None:
    crown(ledger)
    raw = json.loads(lake.read("ledger/0000000001.json"))
    assert raw["state"]["plan"] == {
        "mode": "single",
        "experiment": None,
        "salt": "",
        "arms": [{"name": "champion", "version": "1", "share": 1.0}],
    }
    assert raw["schema_version"] == 1
    assert raw["hash"] == record_hash(raw)


def test_of_two_promoters_at_the_same_head_one_is_told_to_look_again(ledger: Ledger, lake: FolderLake) -> None:
    crown(ledger)

    def promote(name: int) -> bool:
        try:
            Ledger(lake).append(
                expected=1,
                actor=str(name),
                action="promote",
                reason="race",
                state=crowned("2"),
                versions={"2": "e" * 64},
            )
        except ConflictError:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        won = list(pool.map(promote, range(8)))
    assert won.count(True) == 1
    assert ledger.verify() == []
    assert len(ledger.records()) == 2


def test_a_state_must_not_name_a_version_without_a_digest(ledger: Ledger) -> None:
    with pytest.raises(PermanentError, match="no digest for version 9"):
        ledger.append(expected=0, actor="t", action="promote", reason="r", state=crowned("9"))


@pytest.mark.parametrize(
    ("field", "value"),
    [("reason", "x"), ("actor", "x"), ("at", "2026-12-24T00:00:00.000000Z"), ("action", "rollback")],
)
def test_an_edit_of_any_field_is_found(ledger: Ledger, lake: FolderLake, field: str, value: str) -> None:
    crown(ledger)
    crown(ledger, "2")
    raw = json.loads(lake.read("ledger/0000000001.json"))
    raw[field] = value
    lake.write("ledger/0000000001.json", json.dumps(raw).encode())
    assert any("record 1 was changed" in problem for problem in ledger.verify())


def test_a_rewritten_record_with_a_good_hash_breaks_the_chain(ledger: Ledger, lake: FolderLake) -> None:
    crown(ledger)
    crown(ledger, "2")
    raw = json.loads(lake.read("ledger/0000000001.json"))
    raw["reason"] = "forged"
    raw["hash"] = record_hash(raw)
    lake.write("ledger/0000000001.json", json.dumps(raw).encode())
    assert ledger.verify() == ["record 2 does not follow record 1"]


def test_a_gap_and_a_cut_tail_are_found(ledger: Ledger, lake: FolderLake) -> None:
    for version in "123":
        crown(ledger, version)
    head = ledger.head()
    assert head is not None
    lake.delete("ledger/0000000003.json")
    assert ledger.verify() == []
    assert "the tail was cut" in ledger.verify(anchor=(head.number, head.hash))[0]
    lake.delete("ledger/0000000001.json")
    assert "the ledger's numbers have a gap" in ledger.verify()


def test_what_was_champion_at_a_time_can_be_said(ledger: Ledger) -> None:
    crown(ledger, "1")
    crown(ledger, "2")
    assert ledger.at(START) is None
    past = ledger.at(START + timedelta(seconds=90))
    assert past is not None
    assert past.state.champion == "1"


def test_a_challenger_goes_through_shadow_and_ramp_with_one_salt() -> None:
    state = challenged(crowned("1"), "2")
    shadow = shadowed(state)
    first, second = ramped(shadow, 0.05), None
    second = ramped(first, 0.5)
    assert shadow.plan is not None
    assert first.plan is not None
    assert second.plan is not None
    assert shadow.plan.salt == first.plan.salt == second.plan.salt
    assert first.plan.experiment == "v1-vs-v2"
    assert second.plan.challengers[0].share == 0.5
    assert promoted(second) == crowned("2")
    assert withdrawn(second) == crowned("1")


def test_a_second_challenger_waits_for_the_first() -> None:
    with pytest.raises(PermanentError, match="end that experiment first"):
        challenged(shadowed(challenged(crowned("1"), "2")), "3")


def test_an_experiment_needs_two() -> None:
    with pytest.raises(PermanentError):
        ramped(State(champion="1"), 0.1)
    with pytest.raises(PermanentError):
        promoted(crowned("1"))


def test_the_former_champion_is_the_one_before_the_present(ledger: Ledger) -> None:
    crown(ledger, "1")
    assert former_champion(ledger.records()) is None
    crown(ledger, "2")
    assert former_champion(ledger.records()) == "1"
