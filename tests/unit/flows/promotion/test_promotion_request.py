"""Requests for a promotion, when they are made and again when their turn comes."""

from datetime import UTC, datetime, timedelta

import pytest

from absa.ledger.history import reign_end
from absa.ledger.lifecycle import challenged, crowned, dropped, ramped, shadowed
from absa.ledger.record import Action, LedgerRecord
from absa.ledger.state import State
from flows.promotion.promotion_request import PromotionRequest, answer

START = datetime(2026, 11, 30, tzinfo=UTC)
VERSIONS = dict.fromkeys(("1", "2", "3", "10"), "d")
Step = tuple[Action, State]

FIRST: Step = ("promote", crowned("1"))
NAMED: Step = ("challenge", challenged(crowned("1"), "2"))
SHADOW: Step = ("traffic", shadowed(NAMED[1]))
AB: Step = ("traffic", ramped(SHADOW[1], 0.25))
BACK: Step = ("rollback", crowned("1"))
SECOND: Step = ("promote", crowned("2"))
THIRD: Step = ("promote", crowned("3"))
REGISTERED: Step = ("register", crowned("1"))


def told(*steps: Step) -> list[LedgerRecord]:
    return [
        LedgerRecord(
            number=n, at=START + timedelta(hours=n), actor="t", action=action, reason=f"reason {n}", state=state,
            versions=VERSIONS,
        )
        for n, (action, state) in enumerate(steps, start=1)
    ]  # fmt: skip


def ask(records: list[LedgerRecord], *versions: str, revision: int | None = -1, again: bool = False) -> tuple[str, str]:
    """Kind and sentence of the answer; by default to a request that is made now."""
    at = (records[-1].number if records else 0) if revision == -1 else revision
    found = answer(records, PromotionRequest(versions=versions, revision=at, again=again))
    return found.kind, found.sentence


@pytest.mark.parametrize(
    ("steps", "versions", "sentence"),
    [
        ((), ("1",), "there is no champion to challenge"),
        ((("register", State()),), ("2",), "there is no champion to challenge"),
        ((FIRST,), ("99",), "version 99 is not in the ledger; expected one of: 1, 2, 3, 10"),
        ((FIRST,), ("2", "99"), "version 99 is not in the ledger"),
        ((FIRST,), ("2", "2"), "version 2 is named twice"),
        ((FIRST,), ("1",), "version 1 is the champion already"),
        ((FIRST,), ("2", "1"), "version 1 is the champion already"),
        ((FIRST, NAMED, AB, SECOND), ("1",), "version 1 was champion until version 2 replaced it in ledger record 4"),
        ((FIRST, NAMED, AB, SECOND), ("3", "1"), "version 1 was champion until version 2 replaced it"),
        ((FIRST, SECOND, BACK), ("2",), "version 2 was champion until version 1 replaced it in ledger record 3"),
        ((FIRST, NAMED, AB, BACK), ("2",), r"version 2 was rolled back in ledger record 4 (reason 4): --again"),
        ((FIRST, NAMED, SHADOW), ("3",), "version 2 is being tried: wait until that experiment ends, or end it"),
        ((FIRST, NAMED, AB), ("3", "10"), "version 2 is being tried"),
    ],
)
def test_impossible_request_is_refused(steps: tuple[Step, ...], versions: tuple[str, ...], sentence: str) -> None:
    kind, said = ask(told(*steps), *versions)
    assert kind == "refused"
    assert sentence in said


@pytest.mark.parametrize(
    ("steps", "versions", "again"),
    [
        ((FIRST,), ("2",), False),
        ((FIRST,), ("2", "3"), False),
        ((FIRST, NAMED), ("2",), False),
        ((FIRST, NAMED), ("3",), False),  # no experiment of 2 runs: 3 is named in its place
        ((FIRST, NAMED, SHADOW), ("2",), False),  # goes on with its experiment
        ((FIRST, NAMED, AB, SECOND), ("1",), True),
        ((FIRST, NAMED, AB, BACK), ("2",), True),
    ],
)
def test_possible_request_runs(steps: tuple[Step, ...], versions: tuple[str, ...], again: bool) -> None:
    assert ask(told(*steps), *versions, again=again) == ("run", "")


@pytest.mark.parametrize("again", [False, True])
def test_request_is_outdated_by_a_new_champion(again: bool) -> None:
    """`promote 1`, queued while version 2 was tried: version 2 is champion when its turn comes."""
    records = told(FIRST, NAMED, AB, THIRD)
    kind, said = ask(records, "10", revision=3, again=again)
    assert kind == "refused"
    assert "outdated: it was requested at ledger record 3, and version 3 became champion in record 4" in said
    assert ask(records, "10", revision=4)[0] == "run"
    replaced = told(FIRST, NAMED, AB, SECOND)
    assert ask(replaced, "1", revision=3, again=again)[0] == "refused"
    assert ask(told(FIRST, SECOND, BACK), "3", revision=2)[0] == "refused", "a roll-back changes the champion too"


def test_request_survives_a_registration() -> None:
    assert ask(told(FIRST, REGISTERED, REGISTERED), "2", revision=1) == ("run", "")


@pytest.mark.parametrize(
    ("steps", "number"),
    [((FIRST, NAMED, AB, SECOND), 4), ((FIRST, NAMED, AB, BACK), 4), ((FIRST, NAMED, AB, THIRD), 4)],
)
@pytest.mark.parametrize("revision", [1, 2, None])
def test_request_that_ended_before_its_run_is_served(
    steps: tuple[Step, ...], number: int, revision: int | None
) -> None:
    """A run that was killed after the ledger's last step is started again, and only reports that step."""
    found = answer(told(*steps), PromotionRequest(versions=("2",), revision=revision))
    assert found.kind == "served"
    assert found.record is not None
    assert (found.record.number, found.sentence) == (number, f"reason {number}")


def test_restarted_request_goes_on_with_what_is_left() -> None:
    both = shadowed(NAMED[1], ("3",))
    records = told(FIRST, NAMED, ("traffic", both), ("traffic", dropped(both, "2")))
    assert ask(records, "2", "3", revision=1) == ("run", "")


def test_trial_again_ends_once() -> None:
    """A run with --again that died after its trial ended does not begin a third trial."""
    records = told(FIRST, NAMED, AB, BACK, NAMED, AB, BACK)
    assert ask(records, "2", revision=4, again=True) == ("served", "reason 7")
    assert ask(records, "2", revision=7, again=True) == ("run", "")


def test_champion_that_came_back_was_not_replaced() -> None:
    records = told(FIRST, SECOND, BACK)
    assert reign_end(records, "1") is None
    assert reign_end(records, "3") is None
    replaced = reign_end(records, "2")
    assert replaced is not None
    assert replaced.number == 3
