"""Identifiers: request ids and hashes of units. A request id is a UUIDv7, whose time gives the record's folder."""

import hmac
import os
import re
from datetime import UTC, datetime
from typing import Final

_ID: Final = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}\Z")
_VERSION_7: Final = 0x7 << 76
_VARIANT: Final = 0b10 << 62
_LOW_62: Final = (1 << 62) - 1
_RANDOM_BYTES: Final = 10
_POOL_BYTES: Final = _RANDOM_BYTES * 256
_HASH_HEX: Final = 16


def uuid7(milliseconds: int, random: bytes) -> str:
    """Return the UUIDv7 (RFC 9562) of a time in milliseconds since 1970 and 10 bytes, of which 74 bits are used."""
    bits = int.from_bytes(random, "big")
    text = f"{milliseconds << 80 | _VERSION_7 | (bits >> 68 << 64) | _VARIANT | (bits & _LOW_62):032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


class RequestIds:
    """Maker of request ids. Random bits are drawn from the system 256 ids at a time."""

    def __init__(self) -> None:
        self._pool = b""
        self._at = 0

    def new(self, at_us: int) -> str:
        """Return a new id for a time in microseconds since 1970."""
        start = self._at
        if start >= len(self._pool):
            self._pool, start = os.urandom(_POOL_BYTES), 0
        self._at = start + _RANDOM_BYTES
        return uuid7(at_us // 1000, self._pool[start : start + _RANDOM_BYTES])


def is_request_id(text: str) -> bool:
    """Return True if a text has the form of a router's request id."""
    return _ID.match(text) is not None


def request_time(text: str) -> datetime | None:
    """Return the time in a request id; None for an id in another form than a router's."""
    if not is_request_id(text):
        return None
    try:
        return datetime.fromtimestamp(int(text.replace("-", "")[:12], 16) / 1000, UTC)
    except (ValueError, OverflowError):
        return None


def unit_hash(unit: str, secret: bytes) -> str:
    """Return the first 16 hex digits of the HMAC-SHA-256 of a unit with the service's secret."""
    return hmac.digest(secret, unit.encode(), "sha256").hex()[:_HASH_HEX]
