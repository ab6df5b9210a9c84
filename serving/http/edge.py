"""Edge of a worker: rules for a request's head that hold on every route, and the bytes that unfinished bodies share.

They are checked before any app sees the request. The protocol applies them (`hot_protocol.py`).
"""

from collections.abc import Iterable, Sequence
from typing import Final

from serving.problems import Problem, bad_request, too_large, unsupported_encoding

MAX_HEAD_BYTES: Final = 16_384
MAX_HEADERS: Final = 100
_HELD_BODIES: Final = 64  # unfinished bodies of full size that fit into a worker's memory beside the model
_FIELD_BYTES: Final = 4  # colon, space, CR, LF
_VERSIONS: Final = ("1.0", "1.1")
_BLANKS: Final = b" \t"


class Edge:
    """Limits and counts that all connections of a worker share.

    Args:
        body_limit_bytes: largest body of one request.
        held_limit_bytes: most bytes that all unfinished bodies may hold; None: 64 bodies of full size.

    Attributes:
        held_bytes: bytes that unfinished bodies hold now.
        refused: requests that were answered here, by status.
    """

    def __init__(self, *, body_limit_bytes: int, held_limit_bytes: int | None = None) -> None:
        self.body_limit_bytes = body_limit_bytes
        self.held_limit_bytes = _HELD_BODIES * body_limit_bytes if held_limit_bytes is None else held_limit_bytes
        self.held_bytes = 0
        self.refused: dict[int, int] = {}

    def count(self, problem: Problem) -> None:
        """Count a request that is refused before any app sees it."""
        self.refused[problem.status] = self.refused.get(problem.status, 0) + 1


def refusal(
    method: bytes, version: str, target: bytes, headers: Sequence[tuple[bytes, bytes]], body_limit_bytes: int
) -> Problem | None:
    """Return the problem with a request's head, or None.

    Args:
        method: in capitals.
        version: of HTTP, as `1.1`.
        target: as the request line has it.
        headers: names in lower case.
        body_limit_bytes: largest body; a declared length is checked here, what arrives in the protocol.
    """
    if method == b"CONNECT":
        return Problem(
            405, "method", "CONNECT is for proxies, and the router is not a proxy", headers=[(b"allow", b"GET")]
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
    """Return the problem with a header that says how the body comes."""
    if name == b"content-length" and int(value) > body_limit_bytes:  # digits of 64 bits at most: the parser checked
        return too_large(body_limit_bytes)
    if name == b"transfer-encoding" and version == "1.0":
        return bad_request("expected a Content-Length, got Transfer-Encoding in an HTTP/1.0 request")
    if name == b"transfer-encoding" and value.lower() != b"chunked":
        return unsupported_encoding("Transfer-Encoding", "chunked")
    if name == b"content-encoding" and value.lower() not in {b"", b"identity"}:
        return unsupported_encoding("Content-Encoding", "identity")
    return None


def declared_bytes(headers: Iterable[tuple[bytes, bytes]]) -> int:
    """Return the Content-Length of headers that the parser took; 0 without one."""
    return next((int(value) for name, value in headers if name == b"content-length"), 0)


def head_too_large() -> Problem:
    """Return 431 for a request line and headers beyond the bounds."""
    detail = f"expected at most {MAX_HEADERS} headers in {MAX_HEAD_BYTES} bytes; send fewer or shorter ones"
    return Problem(431, "head-too-large", detail)
