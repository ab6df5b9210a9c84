"""Limits on requests of every route: size of heads and unfinished bodies, time to arrive.

The protocol (`hot_protocol.py`) applies them before any app gets the request.
"""

import asyncio
from collections.abc import Iterable, Sequence
from typing import Any, Final

from serving.problems import Problem, bad_request, too_large, unsupported_encoding

MAX_HEAD_BYTES: Final = 16_384
MAX_HEADERS: Final = 100
_HELD_BODIES: Final = 64  # unfinished bodies of full size that a worker may hold
_FIELD_BYTES: Final = 4  # colon, space, CR, LF
_VERSIONS: Final = ("1.0", "1.1")
_BLANKS: Final = b" \t"


class Edge:
    """Limits and counts that all connections of a worker share.

    Args:
        body_limit_bytes: largest body of one request.
        held_limit_bytes: most bytes of all unfinished bodies together; None: 64 bodies of full size.

    Attributes:
        held_bytes: bytes of all unfinished bodies now.
        refused: counts of requests refused by the protocol, by status.
    """

    def __init__(self, *, body_limit_bytes: int, held_limit_bytes: int | None = None) -> None:
        self.body_limit_bytes = body_limit_bytes
        self.held_limit_bytes = _HELD_BODIES * body_limit_bytes if held_limit_bytes is None else held_limit_bytes
        self.held_bytes = 0
        self.refused: dict[int, int] = {}

    def count(self, problem: Problem) -> None:
        """Count a request that is refused before any app gets it."""
        self.refused[problem.status] = self.refused.get(problem.status, 0) + 1


def refusal(
    method: bytes, version: str, target: bytes, headers: Sequence[tuple[bytes, bytes]], body_limit_bytes: int
) -> Problem | None:
    """Return the problem of a request's head; None if the head is accepted.

    Args:
        method: HTTP method in capitals.
        version: version of HTTP, such as `1.1`.
        target: target of the request line.
        headers: headers, with names in lower case.
        body_limit_bytes: largest body. The declared length is checked here, received bytes in the protocol.
    """
    if method == b"CONNECT":
        return Problem(
            405, "method", "expected another method than CONNECT: this is not a proxy", headers=[(b"allow", b"GET")]
        )
    if version not in _VERSIONS:
        return bad_request(f"expected HTTP/1.1 or HTTP/1.0, got HTTP/{version}")
    size = len(target) + sum(len(name) + len(value) + _FIELD_BYTES for name, value in headers)
    if len(headers) > MAX_HEADERS or size > MAX_HEAD_BYTES:
        return head_too_large()
    hosts = sum(name == b"host" for name, _ in headers)
    if hosts > 1 or (not hosts and version == "1.1"):
        return bad_request(f"expected one Host header, got {hosts}")
    found = (_refusal_of_field(name, value.strip(_BLANKS), version, body_limit_bytes) for name, value in headers)
    return next((problem for problem in found if problem is not None), None)


def _refusal_of_field(name: bytes, value: bytes, version: str, body_limit_bytes: int) -> Problem | None:
    """Return the problem of a header that describes the body; None if it is accepted."""
    if name == b"content-length" and int(value) > body_limit_bytes:  # the parser allows 64 bits
        return too_large(body_limit_bytes)
    if name == b"transfer-encoding" and version == "1.0":
        return bad_request("expected a Content-Length, got Transfer-Encoding in an HTTP/1.0 request")
    if name == b"transfer-encoding" and value.lower() != b"chunked":
        return unsupported_encoding("Transfer-Encoding", "chunked")
    if name == b"content-encoding" and value.lower() not in {b"", b"identity"}:
        return unsupported_encoding("Content-Encoding", "identity")
    return None


def declared_bytes(headers: Iterable[tuple[bytes, bytes]]) -> int:
    """Return the Content-Length of parsed headers; 0 without one."""
    return next((int(value) for name, value in headers if name == b"content-length"), 0)


def head_too_large() -> Problem:
    """Return 431 for a request line and headers beyond the limits."""
    detail = f"expected at most {MAX_HEADERS} headers in {MAX_HEAD_BYTES} bytes; send fewer or shorter ones"
    return Problem(431, "head-too-large", detail)


class SlowClients:
    """Closes connections whose request does not arrive in time.

    All connections are checked once per second, so that a single request needs no timer.

    Args:
        connections: uvicorn's set of protocols, each a `HotProtocol`.
        timeout_s: longest time for a whole request to arrive, headers and body.
        idle_s: longest time between requests of one connection.
    """

    def __init__(self, connections: set[Any], *, timeout_s: float, idle_s: float) -> None:
        self._connections, self._timeout_s, self._idle_s = connections, timeout_s, idle_s
        self._since: dict[Any, tuple[object, bool, float]] = {}
        self.closed = 0

    def look(self, now: float) -> None:
        """Close connections that have waited too long. Call it about once per second."""
        seen: dict[Any, tuple[object, bool, float]] = {}
        for protocol in list(self._connections):
            stage = protocol.waits_for_client()
            if stage is None:
                continue  # being answered: the request's own deadline applies
            mark, arriving = stage
            kept, was_arriving, since = self._since.get(protocol, (None, arriving, now))
            if kept is not mark or was_arriving != arriving:
                since = now
            if now - since > (self._timeout_s if arriving else self._idle_s + self._timeout_s):
                self.closed += 1
                protocol.transport.abort()
                continue
            seen[protocol] = (mark, arriving, since)
        self._since = seen

    async def run(self) -> None:
        """Check once per second until cancelled."""
        while True:
            await asyncio.sleep(1.0)
            self.look(asyncio.get_running_loop().time())
