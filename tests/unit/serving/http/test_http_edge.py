"""Requests that are broken, ambiguous, endless or huge: one answer, nothing parsed after it, and no memory kept."""

import asyncio
import gc
import weakref
from collections.abc import Iterator
from typing import Any

import pytest
import uvicorn
from uvicorn.server import ServerState

from serving.http.cors import Cors
from serving.http.edge import MAX_HEAD_BYTES, MAX_HEADERS, Edge, SlowClients
from serving.http.hot_protocol import HotProtocol
from tests.echo_server import LIMIT, App, Echo, chunked, connected, post, statuses, talk

PATHS = ("/v1/predict", "/asgi")
LAST = post(b"bye", more="Connection: close\r\n")


def ask(data: bytes, *, piece: int = 10**6, app: App | None = None, last: bytes = b"") -> bytes:
    """Send bytes to a server and return everything that is answered until it closes."""
    return asyncio.run(talk(HotProtocol, data, piece=piece, app=app, last=last))


def head(*lines: bytes, first: bytes = b"POST /v1/predict HTTP/1.1") -> bytes:
    """A request's head."""
    return b"\r\n".join((first, *lines, b"", b""))


@pytest.mark.parametrize("piece", [1, 7, 10**6])
@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("offer", ["websocket", "h2c", "foo"])
def test_upgrade_offer_is_ignored_and_body_read(offer: str, path: str, piece: int):
    smuggled = b"GET /elsewhere HTTP/1.1\r\nHost: x\r\n\r\n"
    more = f"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: {offer}\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n"
    said = ask(post(smuggled, path=path, more=more) + post(b"next", path=path), piece=piece, last=LAST)
    assert statuses(said) == [200, 200, 200]
    assert b'%d, "GET /elsewhere' % len(smuggled) in said
    assert b'"next"' in said


def test_offers_in_one_packet_are_each_ignored():
    offer = "Connection: upgrade\r\nUpgrade: h2c\r\n"
    get = b"GET /elsewhere HTTP/1.1\r\nHost: x\r\n" + offer.encode() + b"\r\n"
    said = ask(post(b"1", more=offer) + get + post(b"3", more=offer), last=LAST)
    assert statuses(said) == [200, 405, 200, 200]


LONG = {
    "one header": head(b"Host: x", b"X: " + b"a" * 100_000),
    "the target": head(b"Host: x", first=b"POST /" + b"a" * 100_000 + b" HTTP/1.1"),
    "the name of a header": head(b"Host: x", b"a" * 100_000 + b": x"),
    "just too many bytes": head(b"Host: x", *(b"X-%d: %s" % (k, b"a" * 1000) for k in range(17))),
    "many headers": head(b"Host: x", *(b"X-%d: a" % k for k in range(MAX_HEADERS))),
    "many equal headers": head(b"Host: x", *[b"X: a"] * 2000),
    "a header without end": b"POST /v1/predict HTTP/1.1\r\nHost: x\r\nX: " + b"a" * 100_000,
    "a trailer without end": chunked(b"abc")[:-2] + b"X: " + b"a" * 100_000,
    "trailers without end": chunked(b"abc")[:-2] + b"X: a\r\n" * 20_000,
    "a chunk extension without end": chunked(b"abc")[:-5] + b"0;a=" + b"a" * 100_000,
}


@pytest.mark.parametrize("piece", [1000, 10**6])
@pytest.mark.parametrize("name", LONG)
def test_head_beyond_its_bounds_is_431(name: str, piece: int):
    app = App(Echo())
    said = ask(LONG[name], piece=piece, app=app)
    assert statuses(said) == [431]
    assert b"application/problem+json" in said
    assert app.echo.asked == 0
    assert app.edge.refused == {431: 1}


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("piece", [100, 10**6])
def test_head_within_its_bounds_is_taken(path: str, piece: int):
    more = "".join(f"X-{k}: {'a' * 150}\r\n" for k in range(MAX_HEADERS - 4))
    assert len(more) < MAX_HEAD_BYTES - 200
    long = post(b"z" * LIMIT, path=path, more=more)  # head and body together are beyond the bound
    assert statuses(ask(long + long, piece=piece, last=LAST)) == [200, 200, 200]


FAULTS = {
    "no host": (head(b"Content-Length: 0"), 400),
    "two hosts": (head(b"Host: x", b"Host: x"), 400),
    "two hosts in HTTP/1.0": (head(b"Host: x", b"Host: y", first=b"POST /v1/predict HTTP/1.0"), 400),
    "length and chunks": (head(b"Host: x", b"Content-Length: 5", b"Transfer-Encoding: chunked") + b"0\r\n\r\n", 400),
    "chunks and length": (head(b"Host: x", b"Transfer-Encoding: chunked", b"Content-Length: 5") + b"0\r\n\r\n", 400),
    "chunks in HTTP/1.0": (
        head(b"Host: x", b"Transfer-Encoding: chunked", first=b"POST /v1/predict HTTP/1.0") + b"0\r\n\r\n",
        400,
    ),
    "a coding before the chunks": (head(b"Host: x", b"Transfer-Encoding: gzip, chunked") + b"0\r\n\r\n", 415),
    "an unknown coding": (head(b"Host: x", b"Transfer-Encoding: xchunked") + b"0\r\n\r\n", 415),
    "chunks twice": (head(b"Host: x", b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked"), 400),
    "a compressed body": (post(b"\x1f\x8b\x08", more="Content-Encoding: gzip\r\n"), 415),
    "no number": (head(b"Host: x", b"Content-Length: abc"), 400),
    "a signed number": (head(b"Host: x", b"Content-Length: +5") + b"abcde", 400),
    "two lengths": (head(b"Host: x", b"Content-Length: 5", b"Content-Length: 5") + b"abcde", 400),
    "a list of lengths": (head(b"Host: x", b"Content-Length: 5, 5") + b"abcde", 400),
    "a length beyond 64 bits": (head(b"Host: x", b"Content-Length: " + b"9" * 400), 400),
    "a chunk size beyond 64 bits": (head(b"Host: x", b"Transfer-Encoding: chunked") + b"f" * 20 + b"\r\n", 400),
    "a chunk size that is none": (head(b"Host: x", b"Transfer-Encoding: chunked") + b"0x3\r\nabc\r\n0\r\n\r\n", 400),
    "a chunk after a bare line feed": (head(b"Host: x", b"Transfer-Encoding: chunked") + b"3\nabc\n0\n\n", 400),
    "a bare line feed": (b"POST /v1/predict HTTP/1.1\nHost: x\nContent-Length: 0\n\n", 400),
    "a bare carriage return": (head(b"Host: x\rX: y"), 400),
    "a folded header": (head(b"Host: x", b"X: a\r\n b"), 400),
    "a space before the colon": (head(b"Host: x", b"Content-Length : 5") + b"abcde", 400),
    "a header without a name": (head(b"Host: x", b": y"), 400),
    "a NUL in a header": (head(b"Host: x", b"X: a\x00b"), 400),
    "HTTP/0.9": (b"GET /\r\n\r\n", 400),
    "HTTP/2.0": (head(b"Host: x", first=b"GET / HTTP/2.0"), 400),
    "HTTP/2 without an upgrade": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
    "a tunnel": (head(b"Host: x", first=b"CONNECT x:80 HTTP/1.1"), 405),
    "a target that is no path": (head(b"Host: x", first=b"OPTIONS * HTTP/1.1"), 400),
    "a target beyond ASCII": (head(b"Host: x", first=b"GET /\xff HTTP/1.1"), 400),
    "a method in small letters": (head(b"Host: x", first=b"get / HTTP/1.1"), 400),
    "TLS": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),
}


@pytest.mark.parametrize("piece", [1, 10**6])
@pytest.mark.parametrize("name", FAULTS)
def test_fault_is_answered_once_and_ends_connection(name: str, piece: int):
    data, status = FAULTS[name]
    app = App(Echo())
    said = ask(data + post(b"after") * 3, piece=piece, app=app)
    assert statuses(said) == [status]
    assert b"content-type: application/problem+json\r\n" in said
    assert b"connection: close\r\n" in said
    assert app.echo.asked == 0
    assert app.edge.refused == {status: 1}


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("more", ["", "Expect: 100-continue\r\n"])
def test_length_beyond_limit_is_413_before_the_body(path: str, more: str):
    request = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 5000000000\r\n{more}\r\n".encode()
    said = ask(request)
    assert statuses(said) == [413]
    assert said.startswith(b"HTTP/1.1 413 ")


@pytest.mark.parametrize("path", PATHS)
def test_chunks_beyond_limit_are_413(path: str):
    data = chunked(*[b"y" * 500] * 5).replace(b"/v1/predict", path.encode())
    assert statuses(ask(data + post(b"after"))) == [413]


def test_trailers_are_dropped():
    said = ask(chunked(b"abc")[:-2] + b"X-API-Key: K\r\nHost: y\r\n\r\n", last=LAST)
    assert statuses(said) == [200, 200]
    assert b"x-api-key" not in said


def test_key_is_checked_before_the_body():
    app = App(Echo(key_needed=True))
    assert statuses(ask(post(b"x" * LIMIT)[:-LIMIT], app=app)) == [401]
    assert app.echo.asked == 0


@pytest.mark.parametrize("target", [b"http://example.org/asgi", b"http://example.org/asgi?x=1"])
def test_absolute_target_is_its_path(target: bytes):
    said = ask(head(b"Host: x", b"Content-Length: 2", first=b"POST " + target + b" HTTP/1.1") + b"hi", last=LAST)
    assert statuses(said) == [200, 200]
    assert b'"hi"' in said


def test_target_of_host_alone_is_root():
    assert statuses(ask(head(b"Host: x", first=b"GET http://example.org HTTP/1.1"), last=LAST)) == [405, 200]


@pytest.mark.parametrize(("origin", "allowed"), [("https://a.example", True), ("https://b.example", False)])
def test_hot_answer_names_an_allowed_origin(origin: str, allowed: bool):
    app = App(Echo(), cors=Cors(["https://a.example"]))
    said = ask(
        post(b"1", more=f"Origin: {origin}\r\n") + post(b"bad", more=f"Origin: {origin}\r\n"), app=app, last=LAST
    )
    assert statuses(said) == [200, 400, 200]
    assert said.count(b"access-control-allow-origin: " + origin.encode()) == 2 * allowed
    assert said.count(b"vary: Origin") == 3


ALLOWED = "Origin: https://a.example\r\n"
REFUSED = {
    "a declared length": (post(b"", more=ALLOWED).replace(b"Length: 0", b"Length: 9000"), 413),
    "a body": (post(b"x" * (LIMIT + 1), more=ALLOWED), 413),
    "chunks": (chunked(b"x" * (LIMIT + 1)).replace(b"Host: x\r\n", b"Host: x\r\n" + ALLOWED.encode()), 413),
    "a coding": (post(b"x", more=f"{ALLOWED}Content-Encoding: gzip\r\n"), 415),
}


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("earlier", [b"", post(b"1")])
@pytest.mark.parametrize("name", REFUSED)
def test_refusal_at_edge_names_allowed_origin(name: str, earlier: bytes, path: str):
    """Without the header a page's script sees a network error in the place of the sentence."""
    data, status = REFUSED[name]
    data = data.replace(b"/v1/predict", path.encode())
    app = App(Echo(), cors=Cors(["https://a.example"]))
    said = ask(earlier + data, app=app)
    assert statuses(said)[-1] == status
    assert said.count(b"access-control-allow-origin: https://a.example\r\n") == 1
    other = ask(earlier + data.replace(b"a.example", b"b.example"), app=app)
    assert statuses(other)[-1] == status
    assert b"access-control-allow-origin" not in other


def test_missing_key_answer_names_allowed_origin():
    app = App(Echo(key_needed=True), cors=Cors(["https://a.example"]))
    said = ask(post(b"x", more=ALLOWED), app=app)
    assert statuses(said) == [401]
    assert b"access-control-allow-origin: https://a.example\r\n" in said


class Wire(asyncio.Transport):
    """Transport that keeps what is written, and whose reading can be paused."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self.closed = self.paused = False

    def write(self, data: Any) -> None:
        self.written += data

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True

    abort = close

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        """Nothing follows."""

    def pause_reading(self) -> None:
        self.paused = True

    def resume_reading(self) -> None:
        self.paused = False


class Server:
    """Connections of one worker, fed by hand."""

    def __init__(self, app: App) -> None:
        made: Any = app
        self.config = uvicorn.Config(
            made, interface="asgi3", lifespan="off", log_config=None, ws="none", proxy_headers=False
        )
        self.state = ServerState()

    def connect(self) -> tuple[HotProtocol, Wire]:
        """A new connection."""
        protocol, wire = HotProtocol(self.config, self.state, {}, asyncio.get_running_loop()), Wire()
        protocol.connection_made(wire)
        return protocol, wire


@pytest.fixture
def no_collector() -> Iterator[None]:
    gc.disable()
    yield
    gc.enable()


ABORTED = {
    "hot body": post(b"x" * LIMIT)[:-1],
    "ASGI body": post(b"x" * LIMIT, path="/asgi")[:-1],
    "head": post(b"")[:-3],
    "answered": post(b"x" * LIMIT),
    "queued": post(b"first", path="/asgi") + post(b"x" * LIMIT, path="/asgi"),
    "fault": b"RUBBISH\r\n\r\n",
    "too large": post(b"x" * (LIMIT + 1)),
}


@pytest.mark.parametrize("lost", [None, ConnectionResetError()])
@pytest.mark.parametrize("name", ABORTED)
@pytest.mark.usefixtures("no_collector")
def test_lost_connection_keeps_no_memory(name: str, lost: Exception | None):
    async def scenario() -> tuple[bool, int]:
        app = App(Echo())
        server = Server(app)
        protocol, wire = server.connect()
        protocol.data_received(ABORTED[name])
        wire.closed = True
        protocol.connection_lost(lost)
        kept = weakref.ref(protocol)
        del protocol
        for _ in range(10):  # the tasks of ASGI requests end
            await asyncio.sleep(0)
        return kept() is None, app.edge.held_bytes

    assert asyncio.run(scenario()) == (True, 0)


@pytest.mark.parametrize("path", PATHS)
def test_unfinished_bodies_share_a_bound(path: str):
    async def scenario() -> None:
        edge = Edge(body_limit_bytes=LIMIT, held_limit_bytes=2 * LIMIT)
        server = Server(App(Echo(), edge=edge))
        part = post(b"x" * LIMIT, path=path)[:-1]
        kept = [server.connect() for _ in range(3)]
        for protocol, _ in kept:
            protocol.data_received(part)
        assert [statuses(wire.written) for _, wire in kept] == [[], [], [429]]
        assert b"retry-after: 1\r\n" in kept[2][1].written
        assert edge.held_bytes == 2 * (LIMIT - 1)
        kept[0][0].connection_lost(None)
        kept[1][0].data_received(b"x")
        assert edge.held_bytes == 0
        await asyncio.sleep(0.01)
        assert statuses(kept[1][1].written) == [200]

    asyncio.run(scenario())


def test_large_hot_body_is_read_in_turns():
    async def scenario() -> None:
        large = 400_000
        edge = Edge(body_limit_bytes=10**6, held_limit_bytes=500_000)
        protocol, wire = Server(App(Echo(), edge=edge)).connect()
        protocol.data_received(post(b"x" * large)[:-large] + b"x" * 100_000)
        assert wire.paused
        while wire.paused:
            await asyncio.sleep(0)
        began = asyncio.get_running_loop().time()
        protocol.data_received(b"x" * 200_000)  # half of the bound is held: the client has to wait
        assert wire.paused
        while wire.paused:
            await asyncio.sleep(0.001)
        assert asyncio.get_running_loop().time() - began > 0.03
        protocol.data_received(b"x" * 100_000)
        assert statuses(wire.written) == [200]

    asyncio.run(scenario())


SLOW = {
    "nothing": b"",
    "part of a head": b"POST /v1/pre",
    "part of a body": post(b"abc")[:-1],
    "part of the next head": post(b"abc") + b"POST /v1/pre",
    "part of the next body": post(b"abc") + post(b"abc")[:-1],
    "part of an ASGI body": post(b"abc", path="/asgi")[:-1],
    "a body after its answer": post(b"x" * 200, path="/elsewhere")[:-1],
}


@pytest.mark.parametrize("name", SLOW)
def test_slow_request_is_cut_off_in_time(name: str):
    async def scenario() -> None:
        server = Server(App(Echo()))
        protocol, wire = server.connect()
        slow = SlowClients(server.state.connections, timeout_s=10.0, idle_s=75.0)
        protocol.data_received(SLOW[name])
        for _ in range(5):
            await asyncio.sleep(0)
        slow.look(0.0)
        slow.look(9.9)
        assert not wire.closed
        slow.look(10.1)
        assert wire.closed

    asyncio.run(scenario())


def test_slow_dribble_does_not_extend_the_deadline():
    async def scenario() -> None:
        server = Server(App(Echo()))
        protocol, wire = server.connect()
        slow = SlowClients(server.state.connections, timeout_s=10.0, idle_s=75.0)
        for second, byte in enumerate(post(b"x" * 100)[:12]):
            protocol.data_received(bytes([byte]))
            slow.look(float(second))
        assert wire.closed

    asyncio.run(scenario())


def test_idle_connection_is_kept_longer():
    async def scenario() -> None:
        server = Server(App(Echo()))
        protocol, wire = server.connect()
        slow = SlowClients(server.state.connections, timeout_s=10.0, idle_s=75.0)
        protocol.data_received(post(b"abc"))
        for now, closed in ((0.0, False), (80.0, False), (86.0, True)):
            slow.look(now)
            assert wire.closed == closed

    asyncio.run(scenario())


def test_client_sending_after_error_is_cut_off():
    async def scenario() -> None:
        protocol, wire = Server(App(Echo())).connect()
        protocol.data_received(b"RUBBISH\r\n\r\n")
        sent = 0
        while not wire.closed:
            protocol.data_received(b"x" * 65_536)
            sent += 65_536
        assert sent < 10_000_000
        assert statuses(wire.written) == [400]

    asyncio.run(scenario())


def test_answer_reaches_a_client_that_sends_on():
    async def scenario() -> bytes:
        async with asyncio.timeout(10), connected(HotProtocol, App(Echo())) as (reader, writer):
            writer.write(head(b"Host: x", b"Content-Length: 1000000") + b"x" * 1_000_000)
            await writer.drain()
            return await reader.read()

    assert statuses(asyncio.run(scenario())) == [413]
