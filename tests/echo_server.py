"""Server of one protocol whose app reports what it was asked, for tests of the protocol."""

import asyncio
import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from serving.http.cors import Cors
from serving.http.edge import Edge
from serving.http.messages import Headers, Receive, Scope, Send, read_body, send_json, send_problem
from serving.http.ticket import Respond
from serving.problems import Problem, bad_json

LIMIT = 2000


class Echo:
    """Predictor for tests: reports what came, at once or when a test releases it."""

    def __init__(self, *, at_once: bool = True, key_needed: bool = False) -> None:
        self.at_once, self.key_needed = at_once, key_needed
        self.waiting: list[tuple[Respond, bytes | Problem]] = []
        self.asked = 0

    def ask(self, headers: Headers, body: bytes, answer: Respond, _started: float) -> None:
        self.asked += 1
        names = sorted(name.decode() for name, _ in headers if name not in {b"content-length", b"transfer-encoding"})
        said: bytes | Problem = json.dumps([names, len(body), body[:20].decode("latin-1")]).encode()
        if body.startswith(b"bad"):
            said = bad_json("the body is not valid JSON in UTF-8")
        if self.at_once:
            answer(said)
        else:
            self.waiting.append((answer, said))

    def admit(self, _headers: Headers) -> None:
        raise Problem(401, "key-missing", "a key is needed")


class App:
    """Router as the protocol sees it. POST /asgi echoes too, always through ASGI."""

    def __init__(self, echo: Echo, edge: Edge | None = None, cors: Cors | None = None) -> None:
        self.echo = echo
        self.edge = edge or Edge(body_limit_bytes=LIMIT)
        self.cors = cors

    def predictor_on(self, _port: int | None) -> Echo:
        return self.echo

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["method"] != "POST" or scope["path"] not in {"/v1/predict", "/asgi"}:
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
    kind: type[HttpToolsProtocol], app: Any
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """Connect a client to a server of one protocol."""
    loop = asyncio.get_running_loop()
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
    kind: type[HttpToolsProtocol], data: bytes, *, piece: int, app: App | None = None, last: bytes = b""
) -> bytes:
    """Return everything that is answered until the server closes.

    Args:
        kind: protocol of the server.
        data: sent first.
        piece: bytes of each write.
        app: of the server; None: one that echoes.
        last: sent when an answer begins to come.
    """
    said = b""
    async with asyncio.timeout(20), connected(kind, app or App(Echo())) as (reader, writer):
        with suppress(ConnectionError):
            for start in range(0, len(data), piece):
                writer.write(data[start : start + piece])
                await asyncio.sleep(0)
            said = await reader.read(65536)
            writer.write(last)
            while part := await reader.read(65536):
                said += part
    return said


def statuses(answers: bytes) -> list[int]:
    """Return the statuses of answers, in order."""
    return [int(code) for code in re.findall(rb"HTTP/1\.1 (\d{3}) ", answers)]
