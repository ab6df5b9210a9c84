"""Exchange of the hot route: one request and its answer, which is sent in one write."""

import asyncio
import time
from functools import lru_cache
from typing import Final, Protocol

from uvicorn.protocols.http.httptools_impl import STATUS_LINE
from uvicorn.server import ServerState

from serving.http.cors import Cors, origin_of
from serving.http.messages import JSON_TYPE, SECURITY_HEADERS, Headers
from serving.problems import PROBLEM_TYPE, Problem

CLOSE: Final = b"connection: close\r\n"


class Connection(Protocol):
    """Part of a connection that an exchange uses."""

    transport: asyncio.Transport
    server_state: ServerState
    cors: Cors | None

    def on_exchange_complete(self) -> None:
        """Start the next request of the connection."""


class _NoEvent:
    """Replacement of the event that wakes a request's task in uvicorn: an exchange has no task."""

    def set(self) -> None:
        """Do nothing."""


class Exchange:
    """One request and its answer. It replaces uvicorn's cycle, so its attributes have the names used there."""

    __slots__ = (
        "chunks",
        "disconnected",
        "headers",
        "keep_alive",
        "more_body",
        "protocol",
        "response_complete",
        "size",
        "started",
        "waiting_for_100_continue",
    )

    message_event: Final = _NoEvent()

    def __init__(self, protocol: Connection, headers: Headers, *, keep_alive: bool) -> None:
        self.protocol, self.headers, self.keep_alive = protocol, headers, keep_alive
        self.started = time.perf_counter()
        self.chunks: list[bytes] = []
        self.size = 0
        self.more_body = True
        self.response_complete = False
        self.disconnected = False

    def answer(self, result: bytes | Problem) -> None:
        """Send the answer, unless the client has disconnected."""
        protocol = self.protocol
        if self.disconnected or self.response_complete or protocol.transport.is_closing():
            return
        self.response_complete = True
        defaults = tuple(protocol.server_state.default_headers)
        more = b"" if self.keep_alive else CLOSE
        if protocol.cors is not None:
            more = head_lines(protocol.cors.headers(origin_of(self.headers))) + more
        if isinstance(result, Problem):
            protocol.transport.write(problem_answer(result, defaults, more))
        else:
            head = _head(200, defaults, JSON_TYPE)
            protocol.transport.write(b"%b%d\r\n%b%b\r\n%b" % (head, len(result), _SECURITY, more, result))
        if not self.keep_alive:
            protocol.transport.close()
        protocol.on_exchange_complete()


def head_lines(headers: Headers) -> bytes:
    """Return headers as lines of an HTTP message."""
    return b"".join(b"%b: %b\r\n" % header for header in headers)


_SECURITY: Final = head_lines(SECURITY_HEADERS)


def problem_answer(problem: Problem, defaults: tuple[tuple[bytes, bytes], ...], more: bytes) -> bytes:
    """Return a problem as a complete HTTP answer.

    Args:
        problem: gives body, status and headers.
        defaults: headers of every answer of this server.
        more: further header lines.
    """
    content = problem.body()
    head = _head(problem.status, defaults, PROBLEM_TYPE)
    return b"%b%d\r\n%b%b%b\r\n%b" % (head, len(content), _SECURITY, head_lines(problem.headers), more, content)


@lru_cache(maxsize=64)
def _head(status: int, defaults: tuple[tuple[bytes, bytes], ...], content_type: bytes) -> bytes:
    """Return status line and first headers. Cached, because they stay equal for a second (the `Date` header)."""
    return STATUS_LINE[status] + head_lines((*defaults, (b"content-type", content_type))) + b"content-length: "
