"""Ledger store: appending is the commit, following reads what is new, and a changed record is found."""

import json
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from absa.adapters.lake_stores import FolderLake
from absa.errors import ConflictError, NotFoundError, PermanentError
from absa.ledger.history import former_champion, record_at, steps_of
from absa.ledger.lifecycle import challenged, crowned, ramped
from absa.ledger.record import record_hash
from absa.ledger.state import State
from absa.ledger.store import Ledger
from absa.task import ABSA, TaskSpec
from tests.fake_lakes import CountingLake

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


def edit(lake: FolderLake, number: int, *, seal: bool = False, **fields: object) -> None:
    key = f"ledger/{number:010d}.json"
    raw = {**json.loads(lake.read(key)), **fields}
    if seal:
        raw["hash"] = record_hash(raw)
    lake.write(key, json.dumps(raw).encode())


def test_empty_ledger_has_no_head_and_no_problem(ledger: Ledger) -> None:
    assert ledger.head() is None
    assert ledger.follow() == ()
    assert ledger.verify() == []


def test_head_carries_all_known_digests(ledger: Ledger) -> None:
    crown(ledger, "1")
    crown(ledger, "2")
    head = ledger.head()
    assert head is not None
    assert (head.number, head.state.champion, sorted(head.versions)) == (2, "2", ["1", "2"])
    assert ledger.head(after=1) == head == ledger.follow()[-1]


def test_record_has_the_shape_of_the_contracts(ledger: Ledger, lake: FolderLake) -> None:
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


def test_concurrent_appends_have_one_winner(ledger: Ledger, lake: FolderLake) -> None:
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
    assert len(ledger.follow()) == 2


def test_append_refuses_a_version_without_digest(ledger: Ledger) -> None:
    with pytest.raises(PermanentError, match="no digest for version 9"):
        ledger.append(expected=0, actor="t", action="promote", reason="r", state=crowned("9"))


def test_append_refuses_an_action_of_earlier_releases(ledger: Ledger) -> None:
    with pytest.raises(PermanentError, match=r"unknown ledger action: .*, got 'retire'"):
        ledger.append(expected=0, actor="t", action="retire", reason="r", state=State())  # type: ignore[arg-type]


def test_record_with_an_earlier_action_is_read(ledger: Ledger, lake: FolderLake) -> None:
    crown(ledger)
    edit(lake, 1, seal=True, action="retire", a_later_field=1)
    assert [record.action for record in ledger.follow()] == ["retire"]
    assert ledger.verify() == []
    crown(ledger, "2")
    assert ledger.verify() == []


@pytest.mark.parametrize(
    ("field", "value"),
    [("reason", "x"), ("actor", "x"), ("at", "2026-12-24T00:00:00.000000Z"), ("action", "rollback")],
)
def test_changed_field_is_found(ledger: Ledger, lake: FolderLake, field: str, value: str) -> None:
    crown(ledger)
    crown(ledger, "2")
    edit(lake, 1, **{field: value})
    assert ledger.verify() == ["record 1 was changed after it was written"]


def test_rewritten_record_with_good_hash_breaks_chain(ledger: Ledger, lake: FolderLake) -> None:
    crown(ledger)
    crown(ledger, "2")
    edit(lake, 1, seal=True, reason="forged")
    assert ledger.verify() == ["record 2 does not follow record 1"]


def test_unreadable_record_is_named(ledger: Ledger, lake: FolderLake) -> None:
    crown(ledger)
    lake.write("ledger/0000000001.json", b"[]")
    assert ledger.verify() == ["ledger record 1 is not a JSON object"]
    lake.write("ledger/0000000001.json", b"{")
    assert ledger.verify() == ["ledger record 1 is not JSON"]


def test_gap_and_cut_tail_are_found(ledger: Ledger, lake: FolderLake) -> None:
    for version in "123":
        crown(ledger, version)
    head = ledger.head()
    assert head is not None
    lake.delete("ledger/0000000003.json")
    assert ledger.verify() == []
    assert "the tail was cut" in ledger.verify(anchor=(head.number, head.hash))[0]
    lake.delete("ledger/0000000001.json")
    assert "the ledger's numbers have a gap" in ledger.verify()


def test_history_names_champions_of_the_past(ledger: Ledger) -> None:
    crown(ledger, "1")
    assert former_champion(ledger.follow()) is None
    crown(ledger, "2")
    records = ledger.follow()
    assert former_champion(records) == "1"
    assert record_at(records, START) is None
    assert record_at(records, START + timedelta(seconds=90)) == records[0]


def test_steps_of_a_version_match_versions_not_shares(ledger: Ledger) -> None:
    for number, state in enumerate((crowned("1"), challenged(crowned("1"), "3"), crowned("1"))):
        ramp = ramped(state, 0.25) if state.challenger else state
        versions = dict.fromkeys("123", "d")
        ledger.append(expected=number, actor="t", action="traffic", reason="r", state=ramp, versions=versions)
    assert steps_of(ledger.follow(), "2") == []  # record 2 holds a share of 0.25
    assert [record.number for record in steps_of(ledger.follow(), "3")] == [2]


def test_follow_reads_each_record_once(ledger: Ledger, lake: FolderLake) -> None:
    for version in "123":
        crown(ledger, version)
    counting = CountingLake(lake)
    reader = Ledger(counting)
    first = reader.follow()
    assert counting.taken() == {"list": 1, "read": 3}
    assert reader.follow() is first
    assert counting.taken() == {"exists": 1}
    crown(ledger, "4")
    crown(ledger, "5")
    assert [record.number for record in reader.follow()] == [1, 2, 3, 4, 5]
    assert counting.taken() == {"exists": 3, "read": 2}


def test_follow_shares_equal_digests_in_memory(ledger: Ledger) -> None:
    for version in ("1", "1", "2"):
        crown(ledger, version)
    one, same, other = ledger.follow()
    assert one.versions is same.versions
    assert sorted(other.versions) == ["1", "2"]


def test_head_after_restored_backup_is_found(ledger: Ledger, lake: FolderLake) -> None:
    for version in "12":
        crown(ledger, version)
    assert len(ledger.follow()) == 2
    lake.delete("ledger/0000000002.json")
    with pytest.raises(NotFoundError):
        ledger.head(after=2)
    with pytest.raises(ConflictError, match="at record 1, expected 2"):
        ledger.append(expected=2, actor="t", action="promote", reason="r", state=crowned("1"))
    assert [record.number for record in ledger.follow()] == [1]
    crown(ledger, "3")
    assert ledger.verify() == []


def test_append_after_replaced_history_looks_again(ledger: Ledger, lake: FolderLake) -> None:
    for version in "12":
        crown(ledger, version)
    ledger.follow()
    edit(lake, 2, seal=True, reason="restored")
    with pytest.raises(ConflictError, match="another one than before"):
        crown(ledger, "3")
    assert ledger.follow()[-1].reason == "restored"


def test_first_record_names_the_task(lake: FolderLake) -> None:
    task = TaskSpec(name="tickets", input="text", labels=("billing", "bug"))
    ledger = Ledger(lake, clock=Clock(), task=task)
    assert ledger.task() is None
    crown(ledger)
    crown(ledger, "2")
    assert Ledger(lake).task() == task
    assert json.loads(lake.read("ledger/0000000001.json"))["task"] == task.to_json()
    assert "task" not in json.loads(lake.read("ledger/0000000002.json"))
    assert ledger.verify() == []


def test_ledger_without_task_is_of_the_default_one(lake: FolderLake, ledger: Ledger) -> None:
    crown(ledger)
    raw = json.loads(lake.read("ledger/0000000001.json"))
    del raw["task"]
    lake.write("ledger/0000000001.json", json.dumps({**raw, "hash": record_hash(raw)}).encode())
    assert (ledger.task(), ledger.verify()) == (ABSA, [])
