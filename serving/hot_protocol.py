"""The hot route without ASGI: a whole POST /v1/predict goes from parser to predictor, its answer out in one write.

uvicorn's protocol does everything else. So does it with a request that is not plain: another path, a query, one that
came before the last was answered, Expect, HTTP/1.0, an upgrade, a client that does not read its answers.
"""

import asyncio
import time
from functools import lru_cache
from typing import Any, Final

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from serving.predict import JSON_TYPE, PREDICT_PATH, SECURITY_HEADERS, Predictor, too_large
from serving.problems import PROBLEM_TYPE, Problem

_URL: Final = PREDICT_PATH.encode()
_CLOSE: Final = b"connection: close\r\n"
_SECURITY: Final = b"".join(b"%b: %b\r\n" % header for header in SECURITY_HEADERS)


class _NobodyWaits:
    """Stands where uvicorn wakes the task of a request: here there is none."""

    def set(self) -> None:
        """Wake nobody."""


class Exchange:
    """One request and its answer, in the place of uvicorn's cycle, whose names for its state it has."""

    __slots__ = (
        "chunks",
        "disconnected",
        "keep_alive",
        "more_body",
        "protocol",
        "response_complete",
        "size",
        "started",
    )

    message_event: Final = _NobodyWaits()

    def __init__(self, protocol: "HotProtocol", *, keep_alive: bool) -> None:
        self.protocol, self.keep_alive = protocol, keep_alive
        self.started = time.perf_counter()
        self.chunks: list[bytes] = []
        self.size = 0
        self.more_body = True
        self.response_complete = False
        self.disconnected = False

    def answer(self, result: bytes | Problem) -> None:
        """Send the answer, unless the client has gone."""
        protocol = self.protocol
        if self.disconnected or self.response_complete or protocol.transport.is_closing():
            return
        self.response_complete = True
        defaults = tuple(protocol.server_state.default_headers)
        more = b"" if self.keep_alive else _CLOSE
        if isinstance(result, Problem):
            content = result.body()
            head = _head(result.status, defaults, PROBLEM_TYPE)
            more = b"".join(b"%b: %b\r\n" % header for header in result.headers) + more
        else:
            content = result
            head = _head(200, defaults, JSON_TYPE)
        protocol.transport.write(b"%b%d\r\n%b%b\r\n%b" % (head, len(content), _SECURITY, more, content))
        if not self.keep_alive:
            protocol.transport.close()
        protocol.on_exchange_complete()


@lru_cache(maxsize=64)
def _head(status: int, defaults: tuple[tuple[bytes, bytes], ...], content_type: bytes) -> bytes:
    """Status line and first headers, alike for a second, up to the content's length."""
    headers = (*defaults, (b"content-type", content_type))
    return STATUS_LINE[status] + b"".join(b"%b: %b\r\n" % header for header in headers) + b"content-length: "


class HotProtocol(HttpToolsProtocol):
    """uvicorn's HTTP/1.1, with the hot route taken out. Its app must be a `serving.api.Router`."""

    _predictor: Predictor | None = None  # None on the admin port

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """See uvicorn."""
        super().connection_made(transport)
        router: Any = self.app
        self._predictor = router.predictor_on(self.server[1] if self.server else None)

    def on_headers_complete(self) -> None:
        """See uvicorn."""
        if not self._is_plain():
            super().on_headers_complete()
            return
        self.cycle = Exchange(self, keep_alive=self.parser.should_keep_alive())  # type: ignore[assignment]

    def _is_plain(self) -> bool:
        return (
            self.url == _URL
            and self._predictor is not None
            and self.parser.get_method() == b"POST"
            and (self.cycle is None or self.cycle.response_complete)
            and not self.pipeline
            and not self.expect_100_continue
            and not self.flow.write_paused
            and self.parser.get_http_version() == "1.1"
            and not self.parser.should_upgrade()
        )

    def on_body(self, body: bytes) -> None:
        """See uvicorn."""
        exchange: Any = self.cycle
        if type(exchange) is not Exchange:
            super().on_body(body)
            return
        if exchange.response_complete:
            return
        assert self._predictor is not None
        exchange.chunks.append(body)
        exchange.size += len(body)
        if exchange.size > self._predictor.body_limit_bytes:
            exchange.keep_alive = False  # what is left of the body is not read
            exchange.answer(self._predictor.refuse(too_large(self._predictor.body_limit_bytes)))

    def on_message_complete(self) -> None:
        """See uvicorn."""
        exchange: Any = self.cycle
        if type(exchange) is not Exchange:
            super().on_message_complete()
            return
        exchange.more_body = False
        if exchange.response_complete or self.transport.is_closing():
            return
        assert self._predictor is not None
        chunks = exchange.chunks
        body = chunks[0] if len(chunks) == 1 else b"".join(chunks)
        self._predictor.ask(self.headers, body, exchange.answer, exchange.started)

    def on_exchange_complete(self) -> None:
        """Go on with what came meanwhile. An idle connection is closed by `SlowClients`, without a timer of its own."""
        if self.pipeline:
            self.on_response_complete()
        else:
            self.server_state.total_requests += 1
