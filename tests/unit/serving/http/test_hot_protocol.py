"""The hot route answers byte for byte as the same app does through ASGI, whatever comes, in whatever pieces."""

import asyncio
from typing import Any

import pytest
import uvloop
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from serving.http.exchange import Exchange
from serving.http.hot_protocol import HotProtocol
from tests.echo_server import LIMIT, App, Echo, chunked, connected, post, statuses, talk

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
    "headers in many forms": post(b"h", more="X-API-Key: K\r\nx-timeout-ms: 5\r\n"),
    "as large as may be": post(b"z" * LIMIT),
}
LAST = post(b"bye", more="Connection: close\r\n")
CLOSED = ("a client that wants to close", "HTTP/1.0")  # by the server
PIECES = [(name, piece) for name in REQUESTS for piece in (7, 100_000) if piece > 7 or name != CLOSED[0]]


@pytest.mark.parametrize(("name", "piece"), PIECES)
def test_hot_route_answers_as_asgi_does(name: str, piece: int):
    async def both() -> tuple[bytes, bytes]:
        data, last = REQUESTS[name], b"" if name in CLOSED else LAST
        hot = await talk(HotProtocol, data, piece=piece, last=last)
        return hot, await talk(HttpToolsProtocol, data, piece=piece, last=last)

    hot, plain = asyncio.run(both())
    assert plain
    assert (b"bye" in plain) == (name not in CLOSED)
    assert hot == plain


async def ordered(data: bytes, *, last: bytes = b"") -> tuple[bytes, int]:
    """Everything that is answered where the newest of several waiting requests is scored first, and their number."""
    echo = Echo(at_once=False)

    async def release() -> None:
        while True:
            await asyncio.sleep(0.005)
            while echo.waiting:
                answer, said = echo.waiting.pop()
                answer(said)

    releasing = asyncio.create_task(release())
    said = await talk(HotProtocol, data, piece=10**6, app=App(echo), last=last)
    releasing.cancel()
    return said, echo.asked


def test_answers_keep_the_order_of_requests():
    said, asked = asyncio.run(ordered(post(b"first") + post(b"second"), last=LAST))
    assert asked == 3
    assert 0 < said.index(b"first") < said.index(b"second") < said.index(b"bye")


BROKEN = {
    "no HTTP": b"RUBBISH\r\n\r\n",
    "two hosts": b"GET / HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n",
    "length and chunks": post(b"", more="Transfer-Encoding: chunked\r\n"),
    "a body that breaks": chunked(b"abc").replace(b"0\r\n\r\n", b"zz\r\n"),
}


@pytest.mark.parametrize("name", BROKEN)
@pytest.mark.parametrize("kind", [asyncio.run, uvloop.run])  # uvloop's transport raises where a closed one is used
def test_error_is_answered_after_earlier_requests(name: str, kind: Any):
    said, asked = kind(ordered(post(b"first") + post(b"second") + BROKEN[name] + post(b"never")))
    assert statuses(said) == [200, 200, 400]
    assert asked == 2
    assert 0 < said.index(b"first") < said.index(b"second") < said.index(b"problem+json")
    assert said.count(b"connection: close") == 1


def test_answer_for_a_lost_client_is_dropped():
    async def late() -> bool:
        echo = Echo(at_once=False)
        async with asyncio.timeout(20), connected(HotProtocol, App(echo)) as (_, writer):
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
