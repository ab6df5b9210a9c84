"""HTTP/1.1 of a worker: uvicorn's protocol with bounds on what a client may send, and the hot route without ASGI.

A whole POST /v1/predict goes from parser to predictor, its answer out in one write. uvicorn does everything else. So
does it with a predict request that is not plain: a query, one that came before the last was answered, Expect,
HTTP/1.0, a client that does not read its answers.
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
_IDLE, _HEAD, _BODY = range(3)  # what of a request has come last: nothing, part of its head, its whole head
_PIECE: Final = MAX_HEAD_BYTES  # most bytes that are parsed before the bounds are looked at
_BUSY_WAIT_S: Final = 0.05  # between reads of a large body while unfinished bodies hold half of what they may
_LAST_READ_S: Final = 1.0  # how long, and
_LAST_READ_BYTES: Final = 4_194_304  # how much a client may go on sending to a connection that is to be closed


class _Trailers(dict[bytes, bytes]):
    """Takes headers that come after a body, and drops them: no key, length or host may come so late."""

    def __contains__(self, _name: object) -> bool:
        """None is kept, so none comes twice."""
        return False

    def __setitem__(self, _name: bytes, _value: bytes) -> None:
        """Drop a header."""


_TRAILERS: Final = _Trailers()


class _Sink:
    """Takes the parser's place when nothing more is parsed: throws away a bounded rest of what the client sends."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._left = _LAST_READ_BYTES

    def feed_data(self, data: bytes) -> None:
        """Throw away."""
        self._left -= len(data)
        if self._left < 0:
            self._transport.abort()


class HotProtocol(HttpToolsProtocol):
    """One connection. Its app must be a `serving.http.router.Router`, or have its `edge`, `cors` and `predictor_on`.

    A callback of the parser refuses a request by raising a Problem: it is answered in the request's turn, whatever
    the client sends after it is not parsed, and the connection is closed.
    """

    cors: Cors | None
    _predictor: Predictor | None  # None on the admin port
    _edge: Edge
    _last_origin: bytes | None  # of the request that the last word answers

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """See uvicorn."""
        super().connection_made(transport)
        router: Any = self.app
        self._predictor = router.predictor_on(self.server[1] if self.server else None)
        self._edge, self.cors = router.edge, router.cors
        self._key_needed = self._predictor is not None and self._predictor.key_needed
        self._phase = _IDLE
        self._many_pieces = False  # a head came in more than one piece, so its size has to be counted
        self._mark: tuple[object, int] = (None, 0)  # what had come of the request at the end of the last piece
        self._barren = 0  # bytes that came since without adding to it
        self._size = 0  # of the body, where uvicorn collects it
        self._held = 0  # bytes that this connection's unfinished body is counted with
        self._fields: dict[bytes, bytes] = {}  # the head that comes, by name; what repeats a name beside it
        self._repeated: list[tuple[bytes, bytes]] = []
        self._offer = b""  # head of a request that offers an upgrade, without the offer
        self._deaf = False  # nothing is parsed any more
        self._last_word: Problem | None = None  # sent when the requests before the one at fault are answered
        self._last_origin = None

    def connection_lost(self, exc: Exception | None) -> None:
        """See uvicorn. Unties what would keep protocol, request and body alive until the garbage collector runs."""
        cycle: Any = self.cycle
        super().connection_lost(exc)
        self._unset_keepalive_if_required()  # uvicorn leaves the timer where the connection broke
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
                # The parser cannot be told to ignore an offered upgrade: it stops at the end of the head and takes the
                # body for the next request. So the head was only collected, and is parsed again without the offer.
                data, self._offer = self._offer + data[stopped.args[0] :], b""
            except httptools.HttpParserError as error:
                self._fail(_fault(error))
                return
            else:
                break
        if self._phase:
            self._look_at_unfinished(size)

    def on_message_begin(self) -> None:
        """See uvicorn, whose scope is made where ASGI needs it."""
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
        if not url.startswith(b"/"):  # GET http://host/path: the path is what is asked for
            target = httptools.parse_url(url)
            if target.host is None:
                raise bad_request("expected a path as the request's target")
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
        if self._offer:  # this was the head alone, which is parsed again
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
        """Start the next request of the connection. `SlowClients` closes an idle one, so it needs no timer."""
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
        """Return what the connection waits for, for `SlowClients`.

        Returns:
            A mark that changes with each request, and whether one is arriving; None while the client waits for us.
        """
        cycle: Any = self.cycle
        answered = cycle is None or cycle.response_complete
        if self._deaf or self.pipeline or (self._phase == _IDLE and not answered):
            return None
        return self._repeated, self._phase != _IDLE or cycle is None

    def _look_at_unfinished(self, size: int) -> None:
        """Bound the memory of a request that is arriving, and give other connections their turn.

        Args:
            size: bytes that came last.
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
            self._fail(head_too_large())  # of headers, of trailers or of what may stand beside a chunk's size
        elif not same and type(mark) is Exchange and declared_bytes(mark.headers) > self._edge.body_limit_bytes:
            self._fail(too_large(self._edge.body_limit_bytes))

    def _hold_body(self) -> int:
        """Count the unfinished body; give the bytes of it that have come."""
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
            return  # closed, or to be read on when what came before is answered
        if not waited and self._edge.held_bytes > self._edge.held_limit_bytes / 2:
            self.loop.call_later(_BUSY_WAIT_S, partial(self._read_on, waited=True))
        else:
            self.flow.resume_reading()

    def _release(self) -> None:
        self._edge.held_bytes -= self._held
        self._held = 0

    def _fail(self, problem: Problem) -> None:
        """Answer the request that is arriving with a problem, after those before it. Parse nothing more."""
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
        if phase == _BODY:  # the cycle is that of the request at fault
            if cycle.response_complete or getattr(cycle, "response_started", False):
                self.transport.close()  # it was answered before its body had come
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
        """Send an answer and close, but read on for a moment: closing at once may destroy the answer on its way."""
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
    """Return what a request is answered with that the parser, or a callback of ours, stopped at."""
    cause = error.__context__
    if isinstance(cause, Problem):
        return cause
    if not isinstance(error, httptools.HttpParserCallbackError):
        return bad_request(f"expected an HTTP/1.1 request, got one with this fault: {error}")
    if isinstance(cause, httptools.HttpParserInvalidURLError | UnicodeError):
        return bad_request("expected a path in ASCII as the request's target")
    _log.error("a request failed: %s", type(cause).__name__, exc_info=cause)
    return internal_error()
