"""Tests of messages about ledger records and trainings: each at least once, for a day."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import count

import pytest

from absa.ledger.lifecycle import crowned
from absa.ledger.record import LedgerRecord
from absa.ledger.store import Ledger
from absa.records.lake import Lake
from absa.records.trainings import begin_training, write_training
from monitoring.alerts.announcements import Announcement, announce, due, of_record, of_training
from monitoring.alerts.webhook import Webhook
from tests.webhook import Hook, webhook

NOW = datetime(2026, 11, 30, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)


@pytest.fixture
def hook() -> Iterator[Hook]:
    with webhook() as made:
        yield made


def ledger(lake: Lake, *ages: timedelta) -> tuple[LedgerRecord, ...]:
    times = iter([NOW - age for age in ages])
    made = Ledger(lake, clock=lambda: next(times))
    for number, _ in enumerate(ages):
        made.append(
            expected=number, actor="train", action="promote", reason="it won.", state=crowned("7"), versions={"7": "d"}
        )
    return made.follow()


def announced(lake: Lake, hook: Hook, records: tuple[LedgerRecord, ...], now: datetime = NOW) -> list[str]:
    return announce(lake, records, Webhook(url=hook.url), now=now)


def test_record_is_announced_once(lake: Lake, hook: Hook) -> None:
    records = ledger(lake, 2 * HOUR, HOUR)
    assert announced(lake, hook, records) == []
    assert announced(lake, hook, records, NOW + HOUR) == []
    assert [told["id"] for told in hook.told] == [f"ledger-{each.number}-{each.hash[:8]}" for each in records]
    assert hook.told[0]["type"] == "evergreen.record"
    assert hook.told[0]["text"] == "Ledger record 1, promote: it won. Champion: version 7."
    assert hook.told[0]["record"]["state"]["champion"] == "7"  # type: ignore[index]
    assert "versions" not in hook.told[0]["record"]  # type: ignore[operator]


def test_webhook_set_up_later_gets_one_day(lake: Lake, hook: Hook) -> None:
    announced(lake, hook, ledger(lake, 25 * HOUR, 23 * HOUR))
    assert [told["record"]["number"] for told in hook.told] == [2]  # type: ignore[index]


def test_failed_training_is_announced_with_its_reason(lake: Lake, hook: Hook) -> None:
    running = begin_training(NOW - HOUR, allowed_s=60, budget_s=60, reason="drift")
    write_training(lake, running)
    announced(lake, hook, ())
    assert hook.told == []
    write_training(lake, running.failed(NOW, "the lake is away"))
    announced(lake, hook, ())
    assert hook.told[0]["text"] == "Training failed, requested by drift: the lake is away"


def test_damaged_training_holds_up_no_message(lake: Lake, hook: Hook) -> None:
    for age in (2 * HOUR, HOUR):
        write_training(lake, begin_training(NOW - age, allowed_s=60, budget_s=60, reason="drift").failed(NOW, "why"))
    lake.write(lake.list("trainings/")[0], b"{")
    assert announced(lake, hook, ()) == []
    assert len(hook.told) == 1


def test_unavailable_webhook_gets_everything_later(lake: Lake, hook: Hook) -> None:
    records = ledger(lake, 2 * HOUR, HOUR)
    (said,) = announce(lake, records, Webhook(url="http://127.0.0.1:9/x"), now=NOW)
    assert said.startswith(f"ledger-1-{records[0].hash[:8]}: the webhook is unavailable")
    announced(lake, hook, records)
    assert len(hook.told) == 2


def test_refused_message_does_not_hold_up_others(lake: Lake, hook: Hook) -> None:
    refusing = Webhook(url=hook.url.replace("/hook", "/refuses"))
    assert len(announce(lake, ledger(lake, 2 * HOUR, HOUR), refusing, now=NOW)) == 2


def test_slow_webhook_ends_the_look(lake: Lake, hook: Hook) -> None:
    ticks = count(0, 8)
    announce(lake, ledger(lake, *[HOUR] * 5), Webhook(url=hook.url), now=NOW, clock=lambda: float(next(ticks)))
    assert len(hook.told) == 1


def test_due_messages_are_recent_unsent_and_sorted() -> None:
    ages = {"new": HOUR, "old": 2 * HOUR, "sent": HOUR, "late": 24 * HOUR}
    found = [Announcement(name=name, at=NOW - age, message={}) for name, age in ages.items()]
    assert [each.name for each in due(found, {"sent"}, NOW)] == ["old", "new"]


def test_message_texts_hold_no_mention(lake: Lake) -> None:
    (record,) = ledger(lake, HOUR)
    said = of_record(replace(record, reason="<https://evil|words> @channel"))
    assert "<https" not in str(said.message["text"])
    assert "@channel" not in str(said.message["text"])
    training = begin_training(NOW, allowed_s=1, budget_s=1, reason="@channel").failed(NOW, "x")
    found = of_training(training)
    assert found is not None
    assert "@channel" not in str(found.message["text"])
