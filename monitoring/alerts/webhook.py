"""Webhook of the operator: one POST per message, signed as Standard Webhooks defines it, or in Slack's form.

The address is a setting of the operator, never of a customer. Redirects are not followed. Only the status of the
response is read. No message, error or log contains the address, because the address alone allows posting.
"""

import base64
import hashlib
import hmac
import ipaddress
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, Literal

import httpx

from absa.errors import PermanentError, UnavailableError
from absa.proxies import require_route

TIMEOUT_S: Final = 5.0
_SECRET_PREFIX: Final = "whsec_"  # noqa: S105  of every secret of Standard Webhooks


class UndeliveredError(UnavailableError):
    """Message that cannot have arrived."""


class RefusedMessageError(UndeliveredError):
    """Message that the webhook answered with an error."""


@dataclass(frozen=True, kw_only=True)
class Webhook:
    """Address that receives messages.

    Attributes:
        url: http(s).
        secret: `whsec_` and 24 to 64 bytes in base64, which sign every message; None: messages are not signed.
        form: json: the whole message; slack: its text alone, which Slack and Mattermost show.
        timeout_s: limit for connecting, for sending and for the response, each.
    """

    url: str = field(repr=False)
    secret: str | None = field(default=None, repr=False)
    form: Literal["json", "slack"] = "json"
    timeout_s: float = TIMEOUT_S

    def check(self) -> None:
        """Check address and proxy without a request.

        Raises:
            PermanentError: the address is not http(s), or is link-local (169.254.0.0/16, fe80::/10), where clouds
                serve credentials.
            UnavailableError: the address needs a proxy that cannot be used.
        """
        try:
            parsed = httpx.URL(self.url)
        except httpx.InvalidURL:
            parsed = httpx.URL()
        if parsed.scheme not in {"http", "https"} or not parsed.host or _is_link_local(parsed.host):
            raise PermanentError("the webhook's address cannot be used: expected one such as https://HOST/PATH")
        require_route(self.url, os.environ)

    def send(self, name: str, message: Mapping[str, object], *, at: datetime) -> None:
        """Send a message once.

        Args:
            name: id of the message; a repetition has the same, so that the receiver can drop it.
            message: plain values, with the sentence for readers in `text`.
            at: time of the attempt; the signature covers it.

        Raises:
            RefusedMessageError: the webhook answered with an error; the message names the status.
            UndeliveredError: the webhook cannot be reached.
            UnavailableError: the webhook did not respond, and the message may have arrived; or see `check`.
            PermanentError: see `check`.
        """
        self.check()
        body = json.dumps({"text": message["text"]} if self.form == "slack" else message).encode()
        headers = {"Content-Type": "application/json", "webhook-id": name, "webhook-timestamp": f"{at.timestamp():.0f}"}
        if self.secret is not None:
            headers["webhook-signature"] = signature(self.secret, name, headers["webhook-timestamp"], body)
        try:
            with httpx.stream("POST", self.url, content=body, headers=headers, timeout=self.timeout_s) as answer:
                status = answer.status_code
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.ProxyError) as error:
            raise UndeliveredError(_unavailable(error)) from None
        except httpx.HTTPError as error:
            raise UnavailableError(_unavailable(error)) from None
        if not 200 <= status < 300:
            raise RefusedMessageError(f"the webhook refused the message with status {status}")


def signature(secret: str, name: str, timestamp: str, body: bytes) -> str:
    """Return the header `webhook-signature`: HMAC-SHA256 over id, seconds since 1970 and body, joined by dots.

    Source: https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
    """
    signed = b".".join((name.encode(), timestamp.encode(), body))
    return f"v1,{base64.b64encode(hmac.digest(_key(secret), signed, hashlib.sha256)).decode()}"


def _key(secret: str) -> bytes:
    return base64.b64decode(secret.removeprefix(_SECRET_PREFIX), validate=True)


def _unavailable(error: httpx.HTTPError) -> str:
    return f"the webhook is unavailable: {str(error) or type(error).__name__}"


def _is_link_local(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_link_local
    except ValueError:
        return False
