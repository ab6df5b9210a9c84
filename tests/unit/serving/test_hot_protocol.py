"""The hot route answers byte for byte as the same app does through ASGI, whatever comes, in whatever pieces."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest
import uvicorn
import uvloop
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from serving.hot_protocol import Exchange, HotProtocol
from serving.predict import Answer, Headers, Receive, Scope, Send, read_body, send_json, send_problem
from serving.problems import Problem, bad_json

LIMIT = 2000


class Echo:
    """Stands for the predictor: says what came, at once or when it is told to."""

    body_limit_bytes = LIMIT

    def __init__(self, *, at_once: bool = True) -> None:
        self.at_once = at_once
        self.waiting: list[tuple[Answer, bytes | Problem]] = []
        self.asked = 0

    def ask(self, headers: Headers, body: bytes, answer: Answer, _started: float) -> None:
        self.asked += 1
        names = sorted(name.decode() for name, _ in headers if name not in {b"content-length", b"transfer-encoding"})
        said: bytes | Problem = json.dumps([names, len(body), body[:20].decode("latin-1")]).encode()
        if body.startswith(b"bad"):
            said = bad_json("the body is not valid JSON in UTF-8")
        if self.at_once:
            answer(said)
        else:
            self.waiting.append((answer, said))

    def refuse(self, problem: Problem) -> Problem:
        return problem


class App:
    """The router as the protocol sees it."""

    def __init__(self, echo: Echo) -> None:
        self.echo = echo

    def predictor_on(self, _port: int | None) -> Echo:
        return self.echo

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["method"] != "POST" or scope["path"] != "/v1/predict":
            await send_problem(send, Problem(405, "method", "POST it"))
            return
        answered: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        try:
            self.echo.ask(scope["headers"], await read_body(scope, receive, LIMIT), answered.set_result, 0.0)
        except Problem as problem:
            answered.set_result(problem)
        result = await answered
        await (send_problem(send, result) if isinstance(result, Problem) else send_json(send, 200, result))


def post(body: bytes, *, path: str = "/v1/predict", version: str = "1.1", more: str = "") -> bytes:
    """A request with a body of a known length."""
    head = f"POST {path} HTTP/{version}\r\nHost: x\r\nContent-Length: {len(body)}\r\n{more}\r\n"
    return head.encode() + body


def chunked(*chunks: bytes) -> bytes:
    """A request whose body comes in chunks."""
    head = b"POST /v1/predict HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    return head + b"".join(b"%x\r\n%b\r\n" % (len(each), each) for each in chunks) + b"0\r\n\r\n"


@asynccontextmanager
async def connected(
    kind: type[HttpToolsProtocol], echo: Echo
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """A client's connection to a server of one protocol."""
    loop = asyncio.get_running_loop()
    app: Any = App(echo)
    config = uvicorn.Config(app, interface="asgi3", lifespan="off", log_config=None, proxy_headers=False, ws="none")
    state = ServerState()
    server = await loop.create_server(lambda: kind(config, state, {}, loop), "127.0.0.1", 0)
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    try:
        yield reader, writer
    finally:
        writer.close()
        server.close()


async def talk(
    kind: type[HttpToolsProtocol], data: bytes, *, piece: int, echo: Echo | None = None, last: bytes = b""
) -> bytes:
    """Everything that is answered until the server closes. The `last` bytes follow once an answer begins to come."""
    said = b""
    async with asyncio.timeout(20), connected(kind, echo or Echo()) as (reader, writer):
        with suppress(ConnectionError):
            for start in range(0, len(data), piece):
                writer.write(data[start : start + piece])
                await asyncio.sleep(0)
            said = await reader.read(65536)
            writer.write(last)
            while part := await reader.read(65536):
                said += part
    return said


REQUESTS = {
    "one": post(b'{"a":1}'),
    "two in one packet": post(b"first") + post(b"second"),
    "three, the middle one a problem": post(b"one") + post(b"bad") + post(b"three"),
    "in chunks": chunked(b"abc", b"defg") + post(b"after"),
    "no body": post(b""),
    "with a query": post(b"q", path="/v1/predict?x=1") + post(b"after"),
    "an escaped path": post(b"q", path="/v1/predic%74"),
    "another path between": post(b"1") + post(b"2", path="/elsewhere") + post(b"3"),
    "a client that wants to close": post(b"last", more="Connection: close\r\n") + post(b"never"),
    "HTTP/1.0": post(b"old", version="1.0"),
    "a client that waits to send": post(b"late", more="Expect: 100-continue\r\n"),
    "an upgrade": post(b"up", more="Connection: upgrade\r\nUpgrade: h2c\r\n"),
    "headers in many forms": post(b"h", more="X-API-Key: K\r\nx-timeout-ms: 5\r\n"),
    "too large": post(b"x" * (LIMIT + 1)),
    "too large in chunks": chunked(*[b"y" * 500] * 5),
    "as large as may be": post(b"z" * LIMIT),
    "rubbish": b"HELLO\r\n\r\n",
}


LAST = post(b"bye", more="Connection: close\r\n")
CLOSED = ("a client that wants to close", "HTTP/1.0", "too large", "too large in chunks", "rubbish")  # by the server
CLOSED_EARLY = (
    "a client that wants to close",
    "too large",
    "too large in chunks",
)  # who still sends may miss the answer
PIECES = [(name, piece) for name in REQUESTS for piece in (7, 100_000) if piece > 7 or name not in CLOSED_EARLY]


@pytest.mark.parametrize(("name", "piece"), PIECES)
def test_what_goes_past_asgi_is_answered_as_through_it(name: str, piece: int):
    async def both() -> tuple[bytes, bytes]:
        data, last = REQUESTS[name], b"" if name in CLOSED else LAST
        hot = await talk(HotProtocol, data, piece=piece, last=last)
        return hot, await talk(HttpToolsProtocol, data, piece=piece, last=last)

    hot, plain = asyncio.run(both())
    assert plain
    assert (b"bye" in plain) == (name not in CLOSED)
    assert hot == plain


def test_answers_to_one_connection_keep_the_order_of_its_requests():
    async def ordered() -> tuple[bytes, int]:
        echo = Echo(at_once=False)

        async def release() -> None:
            while True:
                await asyncio.sleep(0.005)
                while echo.waiting:
                    answer, said = echo.waiting.pop()
                    answer(said)

        releasing = asyncio.create_task(release())
        said = await talk(HotProtocol, post(b"first") + post(b"second"), piece=10**6, echo=echo, last=LAST)
        releasing.cancel()
        return said, echo.asked

    said, asked = asyncio.run(ordered())
    assert asked == 3
    assert 0 < said.index(b"first") < said.index(b"second") < said.index(b"bye")


def test_an_answer_for_a_client_that_has_gone_is_dropped():
    async def late() -> bool:
        echo = Echo(at_once=False)
        async with asyncio.timeout(20), connected(HotProtocol, echo) as (_, writer):
            writer.write(post(b"gone"))
            while not echo.waiting:
                await asyncio.sleep(0)
            writer.close()
            ((answer, said),) = echo.waiting
            exchange = answer.__self__  # type: ignore[attr-defined]
            assert isinstance(exchange, Exchange)
            while not exchange.disconnected:
                await asyncio.sleep(0)
        answer(said)
        return exchange.response_complete

    assert not asyncio.run(late())


def test_an_answer_on_a_connection_that_was_closed_for_rubbish_is_dropped():
    async def late() -> bytes:
        echo = Echo(at_once=False)
        queued = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
        said = await talk(HotProtocol, post(b"first") + queued + b"RUBBISH\r\n\r\n", piece=10**6, echo=echo)
        ((answer, result),) = echo.waiting
        answer(result)
        return said

    said = uvloop.run(late())  # its transport raises where a closed one is written to
    assert said.startswith(b"HTTP/1.1 400")
    assert b"first" not in said
