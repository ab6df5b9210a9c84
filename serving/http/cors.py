"""Cross-origin requests (CORS): web pages that may call the router from a browser."""

from collections.abc import Iterable
from typing import Final

from serving.problems import Problem

_ANY: Final = b"*"
_PREFLIGHT: Final = (
    (b"access-control-allow-methods", b"GET, HEAD, POST, PUT"),
    (b"access-control-allow-headers", b"Authorization, Content-Type, X-API-Key, X-Timeout-Ms, Traceparent, Tracestate"),
    (b"access-control-max-age", b"600"),
)
_VARY: Final = (b"vary", b"Origin")
_EXPOSED: Final = (b"access-control-expose-headers", b"Retry-After")


class Cors:
    """Origins whose pages may read answers. Keys are sent in headers, so no answer allows cookies.

    Args:
        origins: allowed origins in the form that a browser sends, such as `https://app.example`; `*` allows any.
    """

    def __init__(self, origins: Iterable[str]) -> None:
        self._origins = frozenset(origin.encode() for origin in origins)
        self._any = _ANY in self._origins

    def headers(self, origin: bytes | None) -> tuple[tuple[bytes, bytes], ...]:
        """Return the headers of an answer to this origin; only `Vary` if the origin is not allowed."""
        if origin is None or not self.allows(origin):
            return (_VARY,)
        return ((b"access-control-allow-origin", _ANY if self._any else origin), _VARY, _EXPOSED)

    def allows(self, origin: bytes) -> bool:
        """Return True if pages of this origin may read answers."""
        return self._any or origin in self._origins

    def preflight(self, headers: Iterable[tuple[bytes, bytes]]) -> tuple[tuple[bytes, bytes], ...] | None:
        """Return the headers that a preflight answer adds to `headers`; None if it is not a preflight.

        Raises:
            Problem: 403 if the origin is not allowed.
        """
        known = dict(headers)
        origin = known.get(b"origin")
        if origin is None or b"access-control-request-method" not in known:
            return None
        if not self.allows(origin):
            raise Problem(403, "cors-origin", "expected an origin of EVERGREEN_CORS_ORIGINS, got another one")
        return _PREFLIGHT


def origin_of(headers: Iterable[tuple[bytes, bytes]]) -> bytes | None:
    """Return the Origin header's value."""
    for name, value in headers:
        if name == b"origin":
            return value
    return None
