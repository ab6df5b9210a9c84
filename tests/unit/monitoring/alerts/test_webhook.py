"""Tests of the webhook's request: signature, form, and the addresses that it refuses."""

import hmac
import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from absa.errors import PermanentError
from absa.records.schema import utc_now
from monitoring.alerts.webhook import RefusedMessageError, UndeliveredError, Webhook, signature
from tests.webhook import Hook, webhook

AT = datetime(2026, 11, 30, 12, tzinfo=UTC)
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


@pytest.fixture
def hook() -> Iterator[Hook]:
    with webhook() as made:
        yield made


def test_signature_equals_vector_of_standard_webhooks() -> None:
    """The vector is the one of the specification's libraries."""
    made = signature(SECRET, "msg_p5jXN8AQM9LWM0D4loKWxJek", "1614265330", b'{"test": 2432232314}')
    assert made == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_message_is_signed_over_id_time_and_body(hook: Hook) -> None:
    Webhook(url=hook.url, secret=SECRET).send("ledger-1", {"text": "é", "n": 1}, at=AT)
    (sent,), (body,) = hook.headers, hook.bodies
    assert (sent["webhook-id"], sent["webhook-timestamp"]) == ("ledger-1", str(int(AT.timestamp())))
    assert hmac.compare_digest(
        sent["webhook-signature"], signature(SECRET, "ledger-1", sent["webhook-timestamp"], body)
    )
    other = sha256(body).hexdigest()
    assert sent["webhook-signature"] != signature(SECRET, "ledger-1", sent["webhook-timestamp"], other.encode())
    assert json.loads(body) == {"text": "é", "n": 1}


def test_message_without_secret_is_not_signed(hook: Hook) -> None:
    Webhook(url=hook.url).send("a", {"text": "x"}, at=AT)
    assert "webhook-signature" not in hook.headers[0]


def test_slack_gets_text_alone(hook: Hook) -> None:
    Webhook(url=hook.url, form="slack").send("a", {"text": "x", "record": {"number": 1}}, at=AT)
    assert hook.told == [{"text": "x"}]


def test_redirect_is_not_followed(hook: Hook) -> None:
    with pytest.raises(RefusedMessageError, match=r"status 307$"):
        Webhook(url=hook.url.replace("/hook", "/moved")).send("a", {"text": "x"}, at=AT)
    assert hook.told == []


def test_unreachable_webhook_is_undelivered_and_unnamed() -> None:
    with pytest.raises(UndeliveredError) as failed:
        Webhook(url="http://127.0.0.1:9/secret-path").send("a", {"text": "x"}, at=AT)
    assert "secret-path" not in str(failed.value)


@pytest.mark.parametrize("url", ["http://169.254.169.254/latest/meta-data", "http://[fe80::1]/", "ftp://host/x"])
def test_address_of_credentials_is_refused(url: str) -> None:
    with pytest.raises(PermanentError, match="https://HOST/PATH"):
        Webhook(url=url).check()


def test_webhook_in_log_shows_no_secret() -> None:
    shown = repr(Webhook(url="https://hooks.example/secret-path", secret=SECRET))
    assert "secret-path" not in shown
    assert SECRET not in shown


def test_receiver_of_document_accepts_genuine_messages_alone(hook: Hook) -> None:
    page = (Path(__file__).parents[4] / "docs/integrations/webhook.md").read_text(encoding="utf-8")
    (receiver,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    made: dict[str, Any] = {}
    exec(receiver, made)
    is_genuine = made["is_genuine"]
    for at in (utc_now(), utc_now() - timedelta(minutes=6)):
        Webhook(url=hook.url, secret=SECRET).send("ledger-1", {"text": "x"}, at=at)
    (now, late), body = hook.headers, hook.bodies[0]
    assert is_genuine(now, body, SECRET)
    assert not is_genuine(late, body, SECRET)
    assert not is_genuine(now, body + b" ", SECRET)
    assert not is_genuine({**now, "webhook-id": "ledger-2"}, body, SECRET)
