"""Tests of telling a webhook, once an incident."""

import socket
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest

from absa.errors import PermanentError, UnavailableError
from absa.records.lake import Lake
from absa.records.schema import Window
from absa.records.verdict import Reason, Verdict
from monitoring.alerts.incidents import alert, alert_silence
from monitoring.alerts.webhook import Webhook
from monitoring.verdicts import VerdictStore
from tests.fake_lakes import CountingLake
from tests.webhook import Hook, webhook

Windows = Callable[[int], Window]


@pytest.fixture
def hook() -> Iterator[Hook]:
    with webhook() as made:
        yield made


def verdict(window: Window, level: str) -> Verdict:
    return Verdict(
        window=window,
        verdict=level,  # type: ignore[arg-type]
        version="7",
        by_version={},
        reasons=(Reason(kind="measured_loss", sentence="pos/neg F1 fell by 12 points."),),
        action="retrain",
        action_reason="300 new labels are there to learn from.",
        at=window.end,
    )


def run(lake: Lake, window: Windows, levels: list[str], url: str) -> list[bool]:
    store = VerdictStore(lake)
    return [alert(lake, store.record(verdict(window(k), level)), Webhook(url=url)) for k, level in enumerate(levels)]


def test_one_message_per_incident_and_new_after_fresh(lake: Lake, window: Windows, hook: Hook) -> None:
    sent = run(lake, window, ["FRESH", "STALE", "STALE", "WATCH", "STALE", "FRESH", "STALE"], hook.url)
    assert sent == [False, True, False, False, False, False, True]
    assert len(hook.told) == 2
    assert "fell by 12 points" in str(hook.told[0]["text"])
    assert hook.told[0]["version"] == "7"


def test_quiet_window_does_not_end_an_incident(lake: Lake, window: Windows, hook: Hook) -> None:
    run(lake, window, ["STALE"], hook.url)
    quiet = Reason(kind="too_few_rows", sentence="The window has 60 predictions.")
    VerdictStore(lake).record(replace(verdict(window(1), "FRESH"), reasons=(quiet,)))
    assert not alert(lake, VerdictStore(lake).record(verdict(window(2), "STALE")), Webhook(url=hook.url))


def test_new_stale_version_is_new_incident(lake: Lake, window: Windows, hook: Hook) -> None:
    run(lake, window, ["STALE"], hook.url)
    newer = VerdictStore(lake).record(replace(verdict(window(1), "STALE"), version="8"))
    assert alert(lake, newer, Webhook(url=hook.url))


def test_webhook_that_was_down_is_notified_later(lake: Lake, window: Windows, hook: Hook) -> None:
    stale = VerdictStore(lake).record(verdict(window(0), "STALE"))
    with pytest.raises(UnavailableError, match="webhook"):
        alert(lake, stale, Webhook(url="http://127.0.0.1:9/hook"))
    assert alert(lake, stale, Webhook(url=hook.url))


def test_webhook_that_hangs_is_not_notified_twice(lake: Lake, window: Windows, hook: Hook) -> None:
    stale = VerdictStore(lake).record(verdict(window(0), "STALE"))
    with socket.socket() as silent:  # takes the message and never answers
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        with pytest.raises(UnavailableError, match="webhook"):
            alert(lake, stale, Webhook(url=f"http://127.0.0.1:{silent.getsockname()[1]}/hook", timeout_s=0.2))
    assert not alert(lake, stale, Webhook(url=hook.url))
    assert hook.told == []


@pytest.mark.parametrize("url", ["file:///etc/passwd", "http://", "http://hooks:x", "hooks.example/x"])
def test_address_without_scheme_or_host_is_refused(lake: Lake, window: Windows, url: str) -> None:
    with pytest.raises(PermanentError, match="https://HOST/PATH"):
        alert(lake, verdict(window(0), "STALE"), Webhook(url=url))


def test_webhook_that_refuses_is_notified_later(lake: Lake, window: Windows, hook: Hook) -> None:
    """The error names the status and not the address, which gives whoever reads it the right to post."""
    stale = VerdictStore(lake).record(verdict(window(0), "STALE"))
    with pytest.raises(UnavailableError, match=r"status 501$") as refused:
        alert(lake, stale, Webhook(url=hook.url.replace("/hook", "/refuses")))
    assert "127.0.0.1" not in str(refused.value)
    assert alert(lake, stale, Webhook(url=hook.url))


def test_silence_is_told_once_per_last_run(lake: Lake, window: Windows, hook: Hook) -> None:
    ran, later = window(0).end, window(1).end
    assert alert_silence(lake, "The monitor has not run for 3 hours.", since=ran, webhook=Webhook(url=hook.url))
    assert not alert_silence(lake, "The monitor has not run for 4 hours.", since=ran, webhook=Webhook(url=hook.url))
    assert alert_silence(lake, "The monitor has not run for 3 hours.", since=later, webhook=Webhook(url=hook.url))
    assert [told["text"] for told in hook.told] == ["The monitor has not run for 3 hours."] * 2
    assert hook.told[0]["schema_version"] == 1


def test_silence_is_told_again_after_a_refusal(lake: Lake, window: Windows, hook: Hook) -> None:
    with pytest.raises(UnavailableError, match="webhook"):
        alert_silence(lake, "It does not run.", since=window(0).end, webhook=Webhook(url="http://127.0.0.1:9/hook"))
    assert alert_silence(lake, "It does not run.", since=window(0).end, webhook=Webhook(url=hook.url))
    with pytest.raises(PermanentError, match="http"):
        alert_silence(lake, "It does not run.", since=window(0).end, webhook=Webhook(url="file:///etc/passwd"))


def test_webhook_behind_an_unusable_proxy_is_named(
    lake: Lake, window: Windows, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EVERGREEN_UNUSABLE_PROXIES", "HTTPS_PROXY=socks5://proxy:1")
    monkeypatch.delenv("HTTPS_PROXY", raising=False)
    with pytest.raises(UnavailableError, match="HTTPS_PROXY=socks5://proxy:1"):
        run(lake, window, ["STALE"], "https://hooks.example/x")


def test_alert_reads_only_its_incident(lake: Lake, window: Windows, hook: Hook) -> None:
    run(lake, window, ["STALE"] * 5 + ["FRESH", "STALE"], hook.url)
    counting = CountingLake(lake)
    stale = VerdictStore(lake).record(verdict(window(7), "STALE"))
    assert not alert(counting, stale, Webhook(url=hook.url))
    assert counting.taken() == {"list": 1, "read": 3, "create": 1}
