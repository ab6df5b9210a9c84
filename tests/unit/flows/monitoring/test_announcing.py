"""Tests of announcements: which settings turn them on, pauses after failures, and commands without a worker."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from absa.errors import PermanentError, UnavailableError
from absa.ledger.lifecycle import crowned
from absa.policies import AlertPolicy
from absa.records.schema import utc_now
from flows.monitoring.announcing import Announcer, announce_after_command, webhook_of
from flows.platform.services import Services, build_services
from flows.platform.settings import Settings
from tests.fake_lakes import CountingLake
from tests.webhook import Hook, webhook

ALL = AlertPolicy(events="all")
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


@pytest.fixture
def hook() -> Iterator[Hook]:
    with webhook() as made:
        yield made


def served(folder: Path, *, embedded: bool = False, **settings: Any) -> Services:
    """A home with one ledger record."""
    services = build_services(Settings(home=folder, **settings), environment={}, embedded=embedded)
    services.ledger.append(
        expected=0, actor="test", action="promote", reason="first", state=crowned("1"), versions={"1": "d"}
    )
    return services


def test_only_all_events_announce_records(tmp_path: Path, hook: Hook) -> None:
    assert Announcer(served(tmp_path / "a", alert_url=hook.url)).look(utc_now()) == []
    assert Announcer(served(tmp_path / "b", alerts=ALL)).look(utc_now()) == []
    assert hook.told == []
    assert Announcer(served(tmp_path / "c", alert_url=hook.url, alerts=ALL)).look(utc_now()) == []
    assert len(hook.told) == 1


def test_failed_look_pauses_longer_each_time(tmp_path: Path) -> None:
    services = served(tmp_path, alert_url="http://127.0.0.1:9/x", alerts=ALL)
    announcer, now = Announcer(services), utc_now()
    looks = [minute for minute in range(40) if announcer.look(now + timedelta(minutes=minute))]
    assert looks == [0, 1, 3, 7, 15, 31]


def test_command_without_worker_announces(tmp_path: Path, hook: Hook) -> None:
    announce_after_command(served(tmp_path / "a", alert_url=hook.url, alerts=ALL))
    assert hook.told == []
    announce_after_command(served(tmp_path / "b", embedded=True, alert_url=hook.url, alerts=ALL))
    assert len(hook.told) == 1


def test_command_ends_well_without_webhook_or_lake(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    services = served(tmp_path, embedded=True, alert_url="http://127.0.0.1:9/secret-path", alerts=ALL)
    announce_after_command(services)

    class Away(CountingLake):
        def read(self, key: str) -> bytes:
            raise UnavailableError("the lake is away")

    announce_after_command(replace(services, lake=Away(services.lake)))
    shown = capsys.readouterr()
    assert "the webhook is unavailable" in shown.err
    assert "the webhook was not notified: the lake is away" in shown.err
    assert "secret-path" not in shown.err
    assert shown.out == ""


def test_settings_make_the_webhook(tmp_path: Path) -> None:
    settings = Settings(
        home=tmp_path, alert_url="https://hooks.example/x", alert_secret=SECRET, alerts=AlertPolicy(format="slack")
    )
    made = webhook_of(settings)
    assert made is not None
    assert (made.url, made.secret, made.form) == ("https://hooks.example/x", SECRET, "slack")
    assert webhook_of(Settings(home=tmp_path)) is None


@pytest.mark.parametrize("secret", ["sesame", "whsec_c2VzYW1l", "whsec_***"])
def test_signing_key_of_other_form_is_refused(tmp_path: Path, secret: str) -> None:
    with pytest.raises(PermanentError, match="EVERGREEN_ALERT_SECRET: expected whsec_") as refused:
        Settings(home=tmp_path, alert_secret=secret)
    assert secret not in str(refused.value)
