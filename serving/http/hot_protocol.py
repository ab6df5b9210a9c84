"""HTTP/1.1 of a worker: uvicorn's protocol with limits on requests, and the hot route without ASGI.

The hot route passes a whole POST /v1/predict from the parser to the predictor and sends the answer in one write.
uvicorn handles all other requests, and unusual predict requests: with a query or Expect, over HTTP/1.0, pipelined
(sent before the last one was answered), or from a client that does not read its answers.
"""

import asyncio
import logging
from functools import partial
from typing import Any, Final

import httptools
from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from serving.http.cors import Cors, origin_of
from serving.http.edge import MAX_HEAD_BYTES, MAX_HEADERS, Edge, declared_bytes, head_too_large, refusal
from serving.http.exchange import CLOSE, Exchange, head_lines, problem_answer
from serving.http.messages import PREDICT_PATH, Headers
from serving.http.predict_route import Predictor
from serving.problems import Problem, bad_request, bodies_full, internal_error, too_large

_log = logging.getLogger("evergreen.http")
_URL: Final = PREDICT_PATH.encode()
_IDLE, _HEAD, _BODY = range(3)  # received part of the current request: nothing, part of its head, its whole head
_PIECE: Final = MAX_HEAD_BYTES  # most bytes that are parsed at once; the limits are checked in between
_BUSY_WAIT_S: Final = 0.05  # between reads of a large body, once unfinished bodies use half of their memory
_LAST_READ_S: Final = 1.0  # time, and
_LAST_READ_BYTES: Final = 4_194_304  # bytes, that a client may still send after a refusal


class _Trailers(dict[bytes, bytes]):
    """Mapping that drops headers after a body (trailers), because no key, length or host may follow a body."""

    def __contains__(self, _name: object) -> bool:
        """Return False: no header is kept, so none repeats."""
        return False

    def __setitem__(self, _name: bytes, _value: bytes) -> None:
        """Drop a header."""


_TRAILERS: Final = _Trailers()


class _Sink:
    """Replacement of the parser after a refusal: discards a bounded number of bytes, then aborts."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._left = _LAST_READ_BYTES

    def feed_data(self, data: bytes) -> None:
        """Discard data."""
        self._left -= len(data)
        if self._left < 0:
            self._transport.abort()


class HotProtocol(HttpToolsProtocol):
    """One connection. Its app must be a `serving.http.router.Router`, or have its `edge`, `cors` and `predictor_on`.

    A callback of the parser refuses a request by raising a Problem. The Problem is sent after the answers to earlier
    requests, nothing after the request is parsed, and the connection is closed.
    """

    cors: Cors | None
    _predictor: Predictor | None  # None on the admin port
    _edge: Edge
    _last_origin: bytes | None  # Origin of the request that `_last_word` answers

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """See uvicorn."""
        super().connection_made(transport)
        router: Any = self.app
        self._predictor = router.predictor_on(self.server[1] if self.server else None)
        self._edge, self.cors = router.edge, router.cors
        self._key_needed = self._predictor is not None and self._predictor.key_needed
        self._phase = _IDLE
        self._many_pieces = False  # a head arrived in several pieces, so its size must be counted
        self._mark: tuple[object, int] = (None, 0)  # progress of the request at the end of the last piece
        self._barren = 0  # bytes received since without progress
        self._size = 0  # bytes of the body, if uvicorn collects it
        self._held = 0  # bytes of this connection's unfinished body that `Edge` counts
        self._fields: dict[bytes, bytes] = {}  # arriving headers by name; repeated names are kept apart
        self._repeated: list[tuple[bytes, bytes]] = []
        self._offer = b""  # head of a request that offers an upgrade, without the offer
        self._deaf = False  # nothing more is parsed
        self._last_word: Problem | None = None  # sent after the answers to earlier requests
        self._last_origin = None

    def connection_lost(self, exc: Exception | None) -> None:
        """See uvicorn. Break the reference cycles that would keep protocol, request and body until a collection."""
        cycle: Any = self.cycle
        super().connection_lost(exc)
        self._unset_keepalive_if_required()  # uvicorn keeps the timer of a broken connection
        self._release()
        self._deaf = True
        self._last_word = None
        self._mark = (None, 0)
        if type(cycle) is Exchange:
            cycle.chunks = []
        self.pipeline.clear()
        self.cycle = None  # type: ignore[assignment]

    def data_received(self, data: bytes) -> None:
        """See uvicorn."""
        size = len(data)
        if size > _PIECE:
            for start in range(0, size, _PIECE):
                self.data_received(data[start : start + _PIECE])
            return
        if self.timeout_keep_alive_task is not None and not self._deaf:
            self._unset_keepalive_if_required()
        while True:
            try:
                self.parser.feed_data(data)
            except httptools.HttpParserUpgrade as stopped:
                # The parser cannot ignore an offered upgrade: it stops after the head and would read the body as the
                # next request. So the head is only collected, and parsed again without the offer.
                data, self._offer = self._offer + data[stopped.args[0] :], b""
            except httptools.HttpParserError as error:
                self._fail(_fault(error))
                return
            else:
                break
        if self._phase:
            self._look_at_unfinished(size)

    def on_message_begin(self) -> None:
        """See uvicorn. Its scope is made later, and only for ASGI."""
        self._phase = _HEAD
        self.url = b""
        self._fields = {}
        self._repeated = []

    def on_header(self, name: bytes, value: bytes) -> None:
        """See uvicorn."""
        name = name.lower()
        if name in self._fields:
            self._repeated.append((name, value))
        else:
            self._fields[name] = value

    def on_headers_complete(self) -> None:
        """See uvicorn."""
        parser, fields, cycle = self.parser, self._fields, self.cycle
        method, version = parser.get_method(), parser.get_http_version()
        if parser.should_upgrade() and method != b"CONNECT":
            kept = head_lines(header for header in self._headers() if header[0] != b"upgrade")
            self._offer = b"%b %b HTTP/%b\r\n%b\r\n" % (method, self.url, version.encode(), kept)
            return
        if (
            self.url == _URL
            and self._predictor is not None
            and method == b"POST"
            and (cycle is None or cycle.response_complete)
            and not self.pipeline
            and b"expect" not in fields
            and not self.flow.write_paused
            and version == "1.1"
        ):
            if (
                self._repeated
                or self._many_pieces
                or b"host" not in fields
                or b"transfer-encoding" in fields
                or b"content-encoding" in fields
                or len(fields) > MAX_HEADERS
            ):
                self._refuse_bad_head(method, version)
            headers: Headers = self._headers() if self._repeated else fields.items()
            if self._key_needed:
                self._predictor.admit(headers)
            exchange: Any = Exchange(self, headers, keep_alive=parser.should_keep_alive())
            self.cycle = exchange
        else:
            self._refuse_bad_head(method, version)
            self._begin_asgi()
        self._fields = _TRAILERS
        self._phase = _BODY

    def _headers(self) -> list[tuple[bytes, bytes]]:
        return [*self._fields.items(), *self._repeated]

    def _refuse_bad_head(self, method: bytes, version: str) -> None:
        problem = refusal(method, version, self.url, self._headers(), self._edge.body_limit_bytes)
        if problem is not None:
            raise problem

    def _begin_asgi(self) -> None:
        url = self.url
        super().on_message_begin()
        if not url.startswith(b"/"):  # GET http://host/path: only the path matters
            target = httptools.parse_url(url)
            if target.host is None:
                raise bad_request("expected a path as the target of the request")
            url = (target.path or b"/") + (b"?" + target.query if target.query else b"")
        self.url = url
        self.headers = self.scope["headers"] = self._headers()
        self.expect_100_continue = self._fields.get(b"expect", b"").lower() == b"100-continue"
        self._size = 0
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """See uvicorn."""
        exchange: Any = self.cycle
        if type(exchange) is not Exchange:
            self._size += len(body)
            if self._size > self._edge.body_limit_bytes:
                raise too_large(self._edge.body_limit_bytes)
            super().on_body(body)
            return
        exchange.chunks.append(body)
        exchange.size += len(body)
        if exchange.size > self._edge.body_limit_bytes:
            raise too_large(self._edge.body_limit_bytes)

    def on_message_complete(self) -> None:
        """See uvicorn."""
        if self._offer:  # this was only the head, which is parsed again
            return
        self._phase = _IDLE
        if self._held:
            self._release()
        exchange: Any = self.cycle
        if type(exchange) is not Exchange:
            super().on_message_complete()
            return
        exchange.more_body = False
        if self.transport.is_closing():
            return
        assert self._predictor is not None
        chunks, exchange.chunks = exchange.chunks, []  # an idle connection keeps no body
        body = chunks[0] if len(chunks) == 1 else b"".join(chunks)
        self._predictor.ask(exchange.headers, body, exchange.answer, exchange.started)

    def on_exchange_complete(self) -> None:
        """Start the next request of the connection. No timer is needed: `SlowClients` closes idle connections."""
        if self.pipeline or self._last_word is not None:
            self.on_response_complete()
        else:
            self.server_state.total_requests += 1

    def on_response_complete(self) -> None:
        """See uvicorn."""
        if self._last_word is None or self.pipeline:
            super().on_response_complete()
        else:
            self.server_state.total_requests += 1
            self._say_last(self._last_word)

    def waits_for_client(self) -> tuple[object, bool] | None:
        """Return the state of the connection for `SlowClients`.

        Returns:
            A mark that changes with each request, and True if one is arriving. None while the client waits for an
            answer.
        """
        cycle: Any = self.cycle
        answered = cycle is None or cycle.response_complete
        if self._deaf or self.pipeline or (self._phase == _IDLE and not answered):
            return None
        return self._repeated, self._phase != _IDLE or cycle is None

    def _look_at_unfinished(self, size: int) -> None:
        """Limit the memory of an arriving request, and give other connections their turn.

        Args:
            size: bytes of the last piece.
        """
        mark: object = self.cycle
        content = 0
        if self._phase == _HEAD:
            mark, self._many_pieces = self._fields, True
        elif self.transport.is_closing():
            return
        else:
            content = self._hold_body()
            if self._edge.held_bytes > self._edge.held_limit_bytes:
                self._fail(bodies_full())
                return
        same = mark is self._mark[0] and content == self._mark[1]
        self._mark = (mark, content)
        self._barren = self._barren + size if same else 0
        if self._barren > MAX_HEAD_BYTES or len(self._fields) + len(self._repeated) > MAX_HEADERS:
            self._fail(head_too_large())  # headers, trailers or chunk extensions
        elif not same and type(mark) is Exchange and declared_bytes(mark.headers) > self._edge.body_limit_bytes:
            self._fail(too_large(self._edge.body_limit_bytes))

    def _hold_body(self) -> int:
        """Count the unfinished body, and return the bytes received of it."""
        cycle: Any = self.cycle
        hot = type(cycle) is Exchange
        come: int = cycle.size if hot else self._size
        size = 0 if cycle.response_complete else come
        edge = self._edge
        edge.held_bytes += size - self._held
        self._held = size
        if hot and size > HIGH_WATER_LIMIT and not self.flow.read_paused:
            self.flow.pause_reading()
            self.loop.call_later(0.0, self._read_on)
        return come

    def _read_on(self, *, waited: bool = False) -> None:
        if self.transport.is_closing() or self.pipeline or self._last_word is not None:
            return  # closed, or read on after the earlier answers
        if not waited and self._edge.held_bytes > self._edge.held_limit_bytes / 2:
            self.loop.call_later(_BUSY_WAIT_S, partial(self._read_on, waited=True))
        else:
            self.flow.resume_reading()

    def _release(self) -> None:
        self._edge.held_bytes -= self._held
        self._held = 0

    def _fail(self, problem: Problem) -> None:
        """Answer the arriving request with a problem, after the answers to earlier ones. Parse nothing more."""
        problem.without_traceback()
        self._deaf = True
        self.parser = _Sink(self.transport)  # type: ignore[assignment]
        self._release()
        phase, self._phase = self._phase, _IDLE
        if self.transport.is_closing():
            return
        cycle: Any = self.cycle
        headers: Headers = self._fields.items()
        earlier = bool(self.pipeline) or not (cycle is None or cycle.response_complete)
        if phase == _BODY:  # the cycle belongs to the refused request
            if cycle.response_complete or getattr(cycle, "response_started", False):
                self.transport.close()  # it was answered before its body arrived
                return
            cycle.disconnected = True
            cycle.waiting_for_100_continue = False
            cycle.message_event.set()
            if type(cycle) is Exchange:
                cycle.chunks = []
                headers = cycle.headers
            else:
                headers = cycle.scope["headers"]
            earlier = bool(self.pipeline)
            if earlier:
                self.pipeline.popleft()
        self._last_origin = origin_of(headers)
        if earlier:
            self._last_word = problem
            self.flow.pause_reading()
        else:
            self._say_last(problem)

    def _say_last(self, problem: Problem) -> None:
        """Send the last answer and close. Read on for a moment, because closing at once may destroy the answer."""
        transport = self.transport
        self._last_word = None
        if transport.is_closing():
            return
        self._edge.count(problem)
        more = CLOSE if self.cors is None else head_lines(self.cors.headers(self._last_origin)) + CLOSE
        transport.write(problem_answer(problem, tuple(self.server_state.default_headers), more))
        if not transport.can_write_eof():
            transport.close()
            return
        transport.write_eof()
        self.flow.resume_reading()
        self._unset_keepalive_if_required()
        self.timeout_keep_alive_task = self.loop.call_later(_LAST_READ_S, self.timeout_keep_alive_handler)

    def shutdown(self) -> None:
        """See uvicorn."""
        if self._deaf and self._last_word is None:
            self.transport.close()
        else:
            super().shutdown()


def _fault(error: httptools.HttpParserError) -> Problem:
    """Return the problem of a request at which the parser, or one of our callbacks, stopped."""
    cause = error.__context__
    if isinstance(cause, Problem):
        return cause
    if not isinstance(error, httptools.HttpParserCallbackError):
        return bad_request(f"expected a valid HTTP/1.1 request, got this error: {error}")
    if isinstance(cause, httptools.HttpParserInvalidURLError | UnicodeError):
        return bad_request("expected an ASCII path as the target of the request")
    _log.error("a request failed: %s", type(cause).__name__, exc_info=cause)
    return internal_error()
