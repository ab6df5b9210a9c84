"""Silence of the monitor: what status and the webhook say, and when they do not."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from absa.errors import UnavailableError
from absa.ledger.lifecycle import crowned
from absa.records.schema import Window, utc_now
from flows import deployments
from flows.cli.status import status_lines
from flows.monitoring.monitor_silence import SilenceWatch, last_monitor_run, span
from flows.platform.services import Services, build_services
from flows.platform.settings import Settings
from monitoring.verdicts import VerdictStore
from tests.stand_ins import stale
from tests.webhook import Hook, webhook

HOUR = timedelta(hours=1)


def served(folder: Path, **settings: Any) -> tuple[Services, datetime]:
    """A home with a champion, and the time since which it serves."""
    services = build_services(Settings(home=folder, **settings), environment={})
    record = services.ledger.append(
        expected=0, actor="test", action="promote", reason="first", state=crowned("1"), versions={"1": "d"}
    )
    return services, record.at


def judged(services: Services, at: datetime, length: timedelta = HOUR) -> None:
    window = Window(start=at - length, end=at)
    VerdictStore(services.lake).record(replace(stale(window), at=at))


def test_monitor_that_never_ran_becomes_overdue(tmp_path: Path) -> None:
    services, since = served(tmp_path)
    ran = last_monitor_run(services)
    assert ran is not None
    assert not ran.is_overdue(since + 2 * HOUR, 3600)
    assert "has no scheduled run yet; its first window of 60 minutes" in ran.sentence(since + HOUR, 3600)
    assert ran.is_overdue(since + 2 * HOUR + timedelta(seconds=1), 3600)
    said = ran.sentence(since + 3 * HOUR, 3600)
    assert said.startswith("has never run on its schedule, though a version has served for 3 hours; it should run")


def test_monitor_run_counts_from_its_first_judgement(tmp_path: Path) -> None:
    """Attempts and reports revise a verdict later; that is not a run."""
    services, since = served(tmp_path)
    judged(services, since)
    store, window = VerdictStore(services.lake), Window(start=since - HOUR, end=since)
    store.attach_report(window, "somewhere")
    latest = store.latest(window)
    assert latest is not None
    store.begin_attempt(latest, at=since + 5 * HOUR)
    ran = last_monitor_run(services)
    assert ran is not None
    assert (ran.at, ran.ever) == (since, True)
    assert ran.sentence(since + HOUR, 3600) == "ran 60 minutes ago"
    assert "has not run for 3 hours" in ran.sentence(since + 3 * HOUR, 3600)


def test_window_judged_by_hand_is_no_scheduled_run(tmp_path: Path) -> None:
    services, since = served(tmp_path)
    for minute in range(3):
        judged(services, since + 3 * HOUR + timedelta(minutes=minute), timedelta(seconds=60))
    ran = last_monitor_run(services)
    assert ran is not None
    assert not ran.ever
    now = since + 4 * HOUR
    assert "has never run on its schedule (by hand 58 minutes ago), though" in ran.sentence(now, 3600)
    assert "has no scheduled run yet (by hand 58 minutes ago); its first window" in ran.sentence(now, 4 * 3600)
    judged(services, since + HOUR)
    ran = last_monitor_run(services)
    assert ran is not None
    assert ran.at == since + HOUR
    assert ran.sentence(now, 4 * 3600) == "ran 3 hours ago (by hand 58 minutes ago)"


def test_nothing_is_overdue_without_schedule_or_champion(tmp_path: Path) -> None:
    assert last_monitor_run(served(tmp_path / "a", schedule_monitor=False)[0]) is None
    assert last_monitor_run(build_services(Settings(home=tmp_path / "b"), environment={})) is None


def test_status_reports_the_monitor(tmp_path: Path) -> None:
    services, _ = served(tmp_path, window_s=60)
    judged(services, utc_now() - timedelta(seconds=200), timedelta(seconds=60))
    (line,) = [line for line in status_lines(services) if line.startswith("monitor ")]
    assert "has not run for 3 minutes; it should run every 60 seconds" in line


@pytest.fixture
def hook() -> Iterator[Hook]:
    with webhook() as made:
        yield made


def looks(services: Services, start: datetime, end: datetime) -> list[str]:
    """Return the reports of a worker between two times, with a look every ten minutes."""
    silence, said = SilenceWatch(services, every_s=600), []
    while start <= end:
        said += silence.look(start)
        start += timedelta(minutes=10)
    return said


def test_webhook_is_told_once_per_silence(tmp_path: Path, hook: Hook) -> None:
    services, since = served(tmp_path, alert_url=hook.url)
    assert looks(services, since, since + 2 * HOUR) == []
    assert hook.told == []
    (said,) = looks(services, since, since + 5 * HOUR)
    assert said.startswith("Evergreen's monitor has never run")
    assert looks(services, since, since + 9 * HOUR) == []
    assert [message["text"] for message in hook.told] == [said]
    judged(services, since + 10 * HOUR)
    assert "has not run for" in looks(services, since + 10 * HOUR, since + 13 * HOUR)[0]
    assert len(hook.told) == 2


def test_silence_without_webhook_is_not_reported(tmp_path: Path) -> None:
    services, since = served(tmp_path)
    assert looks(services, since, since + 5 * HOUR) == []


def test_restarted_worker_waits_for_late_runs(tmp_path: Path, hook: Hook) -> None:
    """The machine was off for three days: the monitor is overdue at the first look, and its late run is on its way."""
    services, since = served(tmp_path, alert_url=hook.url)
    judged(services, since)
    back = since + timedelta(days=3)
    assert looks(services, back, back + 2 * HOUR) == []
    assert len(looks(services, back, back + 3 * HOUR)) == 1


def test_sleep_of_the_machine_is_no_silence(tmp_path: Path, hook: Hook) -> None:
    services, since = served(tmp_path, alert_url=hook.url)
    silence = SilenceWatch(services, every_s=60)
    for minute in range(60):
        assert silence.look(since + timedelta(minutes=minute)) == []
    awake = since + 12 * HOUR
    assert silence.look(awake) == []
    judged(services, awake + timedelta(seconds=30))
    for minute in range(1, 150):
        assert silence.look(awake + timedelta(minutes=minute)) == []
        if minute == 60:
            judged(services, awake + HOUR)
    assert hook.told == []


def test_daily_monitor_is_reported_between_sleeps(tmp_path: Path, hook: Hook) -> None:
    services, since = served(tmp_path, alert_url=hook.url, window_s=86400)
    day = since + timedelta(days=5)
    assert looks(services, day, day + 12 * HOUR) == []
    assert len(looks(services, day, day + 13 * HOUR)) == 1


def test_new_window_length_counts_from_old_schedule(tmp_path: Path) -> None:
    services, since = served(tmp_path)
    on_the_hour = since.replace(minute=0, second=0, microsecond=0) + 48 * HOUR
    judged(services, on_the_hour)
    daily = replace(services, settings=Settings(home=tmp_path, window_s=86400))
    ran = last_monitor_run(daily)
    assert ran is not None
    assert (ran.at, ran.ever) == (on_the_hour, True)
    assert not ran.is_overdue(on_the_hour + 47 * HOUR, 86400)


def test_a_failed_look_stops_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def away(*_: object) -> list[str]:
        raise UnavailableError("Prefect is unavailable")

    class Dead:
        look = away

    monkeypatch.setattr(deployments, "take_over", lambda *_: ["an experiment goes on"])
    services, _ = served(tmp_path)
    said = deployments.look_around(services, Dead(), Dead(), Dead())  # type: ignore[arg-type]
    assert said == [
        "dead runs could not be checked: Prefect is unavailable",
        "an experiment goes on",
        "the monitor could not be checked: Prefect is unavailable",
        "the webhook could not be checked: Prefect is unavailable",
    ]


def test_unexpected_error_of_look_is_logged(tmp_path: Path) -> None:
    class Broken:
        def look(self, *_: object) -> list[str]:
            raise KeyError("row")

    services, _ = served(tmp_path)
    said = deployments.look_around(services, Broken(), Broken(), Broken())  # type: ignore[arg-type]
    assert [line for line in said if "could not be checked" in line] == [
        f"{name} could not be checked: KeyError" for name in ("dead runs", "the monitor", "the webhook")
    ]
    assert sum('raise KeyError("row")' in line for line in said) == 3


@pytest.mark.parametrize(("seconds", "said"), [(7200, "2 hours"), (7199, "120 minutes"), (90, "90 seconds")])
def test_span_takes_its_largest_unit(seconds: float, said: str) -> None:
    assert span(seconds) == said
