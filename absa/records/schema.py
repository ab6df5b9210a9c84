"""Times and windows of records: aware UTC, in microseconds."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

SCHEMA_VERSION: Final = 1
SIDES: Final = ("train", "validation", "test")
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, kw_only=True, slots=True)
class Window:
    """Half-open interval of event time [start, end)."""

    start: datetime
    end: datetime

    def __post_init__(self) -> None:
        if self.start.tzinfo is None or self.end.tzinfo is None:
            raise ValueError("expected a window with bounds in UTC, got bounds without a zone")
        if self.end <= self.start:
            raise ValueError(f"expected a window that ends after it starts, got {self.key}")

    @property
    def key(self) -> str:
        """Name of the window in lake keys and Prefect idempotency keys: `<start>_<end>`, compact UTC."""
        return f"{compact(self.start)}_{compact(self.end)}"

    @classmethod
    def parse(cls, key: str) -> "Window":
        """Read a window back from its key.

        Raises:
            ValueError: the key is not `<start>_<end>`.
        """
        start, separator, end = key.partition("_")
        if not separator:
            raise ValueError(f"expected a window <start>_<end>, got {key!r}")
        return cls(start=parse_compact(start), end=parse_compact(end))


def utc_now() -> datetime:
    """Return the current time, aware UTC."""
    return datetime.now(UTC)


def iso(at: datetime) -> str:
    """Return a time as ISO 8601 with microseconds and Z, the form in JSON records."""
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def parse_iso(text: str) -> datetime:
    """Read a time that `iso` wrote.

    Raises:
        ValueError: the text is not ISO 8601, or has no zone.
    """
    at = datetime.fromisoformat(text)
    if at.tzinfo is None:
        raise ValueError(f"expected a time with a zone, got {text!r}")
    return at.astimezone(UTC)


def microseconds(at: datetime) -> int:
    """Return microseconds since 1970, the form of times in log lines."""
    return (at - _EPOCH) // timedelta(microseconds=1)


def from_microseconds(at_us: int) -> datetime:
    """Return the time for microseconds since 1970."""
    return _EPOCH + timedelta(microseconds=at_us)


def compact(at: datetime) -> str:
    """Return a time in UTC with microseconds, safe in file names: 20261130T120000.000000Z."""
    return at.astimezone(UTC).strftime("%Y%m%dT%H%M%S.%fZ")


def parse_compact(text: str) -> datetime:
    """Read a time that `compact` wrote.

    Raises:
        ValueError: the text has another form.
    """
    return datetime.strptime(text, "%Y%m%dT%H%M%S.%fZ").replace(tzinfo=UTC)
