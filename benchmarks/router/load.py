"""Load on a router: closed loop through wrk or from here, open loop from the intended send times.

The open loop counts from the time that a request was due, so no answer's lateness hides another's.
"""

import asyncio
import itertools
import json
import random
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast
from urllib.parse import urlsplit

_SCRIPT = """
local bodies = {}
local position = 0
local threads = 0
local path
function setup(thread) thread:set("offset", threads); threads = threads + 1 end
function init(args)
  path = args[3]
  for line in io.lines(args[1]) do bodies[#bodies + 1] = line end
  position = math.floor(#bodies * offset / tonumber(args[2]))
end
function request()
  position = position % #bodies + 1
  return wrk.format("POST", path, {["Content-Type"] = "application/json"}, bodies[position])
end
"""


@dataclass(frozen=True, kw_only=True)
class ClosedLoop:
    """Figures that wrk reports. `failed` counts answers outside 200 to 399, and socket errors."""

    requests: int
    seconds: float
    failed: int

    @property
    def rate(self) -> float:
        """Answered requests a second."""
        return (self.requests - self.failed) / self.seconds


def write_bodies(path: Path, rows: Sequence[tuple[str, str]]) -> None:
    """Write one single-item request per line."""
    path.write_bytes(b"\n".join(body_of(text, aspect, number) for number, (text, aspect) in enumerate(rows)))


def saturate(
    url: str,
    bodies: Path,
    *,
    connections: int = 128,
    seconds: float = 8.0,
    threads: int = 2,
    path: str = "/v1/predict",
) -> ClosedLoop:
    """Ask as fast as the answers come: with wrk, or from this process where wrk is not installed.

    This process needs several times wrk's processor time per request, so only runs of one kind can be compared.
    """
    wrk = shutil.which("wrk")
    if wrk is None:
        address = urlsplit(url)
        assert address.hostname is not None
        assert address.port is not None
        lines = bodies.read_bytes().splitlines()
        return closed_loop(address.hostname, [address.port], lines, connections=connections, seconds=seconds, path=path)
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as script:
        script.write(_SCRIPT)
        script.flush()
        command = [wrk, f"-t{threads}", f"-c{connections}", f"-d{seconds:g}s", "-s", script.name, url]
        command += ["--", str(bodies), str(threads), path]
        out = subprocess.run(command, capture_output=True, text=True, check=True)
    counted = re.search(r"(\d+) requests in ([\d.]+)s", out.stdout)
    assert counted is not None, out.stdout
    failed = sum(int(n) for n in re.findall(r"Non-2xx or 3xx responses: (\d+)", out.stdout))
    for numbers in re.findall(r"Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)", out.stdout):
        failed += sum(int(n) for n in numbers)
    return ClosedLoop(requests=int(counted[1]), seconds=float(counted[2]), failed=failed)


def closed_loop(
    host: str,
    ports: Sequence[int],
    bodies: Sequence[bytes],
    *,
    connections: int = 64,
    seconds: float = 5.0,
    path: str = "/v1/predict",
) -> ClosedLoop:
    """Ask as fast as the answers come, in turn at each port, from this process: up to about 30,000 answers/s."""
    import uvloop

    requests = [_request(body, path) for body in bodies]
    return uvloop.run(_closed_loop(host, ports, itertools.cycle(requests), connections, seconds))


async def _closed_loop(
    host: str, ports: Sequence[int], requests: Iterator[bytes], connections: int, seconds: float
) -> ClosedLoop:
    loop = asyncio.get_running_loop()
    asked = failed = 0
    open_connections = connections
    finished = asyncio.Event()
    turns = itertools.islice(itertools.cycle(ports), connections)
    made = [(await loop.create_connection(_Connection, host, port))[1] for port in turns]
    begin = time.perf_counter()

    def ask(connection: _Connection) -> None:
        def done(status: int) -> None:
            nonlocal asked, failed, open_connections
            asked += 1
            failed += status != 200
            if status and time.perf_counter() < begin + seconds:
                connection.ask(next(requests), done)
                return
            open_connections -= 1
            if not open_connections:
                finished.set()

        connection.ask(next(requests), done)

    for connection in made:
        ask(connection)
    await finished.wait()
    took_s = time.perf_counter() - begin
    for connection in made:
        if connection.transport is not None:
            connection.transport.close()
    return ClosedLoop(requests=asked, seconds=took_s, failed=failed)


@dataclass
class OpenLoop:
    """Answers by intended send time. Latencies are in ms, from the intended time to the last byte."""

    seconds: float
    latencies_ms: dict[int, list[float]] = field(default_factory=dict)
    sent: int = 0
    broken: int = 0
    last_answer_s: float = 0.0

    def percentile_ms(self, share: float, status: int = 200) -> float:
        """A quantile of the latencies of answers with a status."""
        ordered = sorted(self.latencies_ms.get(status, []))
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else float("nan")

    def count(self, status: int) -> int:
        """Answers with a status."""
        return len(self.latencies_ms.get(status, []))


class _Connection(asyncio.Protocol):
    """One HTTP/1.1 connection, one request at a time."""

    def __init__(self) -> None:
        self._buffer = b""
        self._done: Callable[[int], None] | None = None
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's has no base class in common

    def ask(self, request: bytes, done: Callable[[int], None]) -> None:
        """Send; `done` gets the status, 0 where the connection broke."""
        self._done = done
        assert self.transport is not None
        self.transport.write(request)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head, separator, body = self._buffer.partition(b"\r\n\r\n")
        if not separator:
            return
        length = re.search(rb"content-length: (\d+)", head)
        if length is None or len(body) < int(length[1]):
            return
        self._buffer = b""
        done, self._done = self._done, None
        if done is not None:
            done(int(head[9:12]))

    @property
    def closed(self) -> bool:
        """Return whether nothing can be sent any more: a server may close after an answer."""
        return self.transport is None or self.transport.is_closing()

    def connection_lost(self, _error: Exception | None) -> None:
        self.transport = None
        if self._done is not None:
            self._done(0)


def open_loop(
    host: str, port: int, rows: Sequence[tuple[str, str]], *, rate: float, seconds: float, seed: int = 0
) -> OpenLoop:
    """Send at Poisson times, whether or not earlier answers have come; a connection more where all are busy."""
    return replay(host, port, rows, _poisson(rate, seconds, random.Random(seed)), seconds=seconds)


def replay(
    host: str, port: int, rows: Sequence[tuple[str, str]], times_s: Iterable[float], *, seconds: float
) -> OpenLoop:
    """Send at given times, seconds from now and rising, whether or not earlier answers have come."""
    import uvloop

    return uvloop.run(_open_loop(host, port, _requests(rows), times_s, seconds=seconds))


def _poisson(rate: float, seconds: float, chosen: random.Random) -> Iterator[float]:
    at_s = 0.0
    while at_s < seconds:
        at_s += chosen.expovariate(rate)
        yield at_s


async def _open_loop(
    host: str, port: int, requests: Iterator[bytes], times_s: Iterable[float], *, seconds: float
) -> OpenLoop:
    loop = asyncio.get_running_loop()
    result = OpenLoop(seconds=seconds)
    idle: list[_Connection] = []
    waiting: set[asyncio.Task[None]] = set()

    async def connect() -> _Connection:
        _, connection = await loop.create_connection(_Connection, host, port)
        return connection

    for _ in range(64):
        idle.append(await connect())

    def ask(connection: _Connection, request: bytes, intended: float, begin: float) -> None:
        def done(status: int) -> None:
            now = time.perf_counter()
            if status:
                result.latencies_ms.setdefault(status, []).append((now - intended) * 1000)
                result.last_answer_s = now - begin
                idle.append(connection)
            else:
                result.broken += 1

        connection.ask(request, done)

    async def connect_and_ask(request: bytes, intended: float, begin: float) -> None:
        try:
            ask(await connect(), request, intended, begin)
        except OSError:
            result.broken += 1

    begin = time.perf_counter()
    for at_s in times_s:
        intended = begin + at_s
        wait_s = intended - time.perf_counter()
        if wait_s > 0:
            await asyncio.sleep(wait_s)
        elif result.sent % 64 == 0:
            await asyncio.sleep(0)
        result.sent += 1
        request = next(requests)
        while idle and idle[-1].closed:
            idle.pop()
        if idle:
            ask(idle.pop(), request, intended, begin)
        else:
            task = asyncio.create_task(connect_and_ask(request, intended, begin))
            waiting.add(task)
            task.add_done_callback(waiting.discard)
    ends = time.perf_counter() + 10
    while time.perf_counter() < ends and sum(map(len, result.latencies_ms.values())) + result.broken < result.sent:
        await asyncio.sleep(0.02)
    return result


def _requests(rows: Sequence[tuple[str, str]]) -> Iterator[bytes]:
    for number in itertools.count():
        text, aspect = rows[number % len(rows)]
        yield _request(body_of(text, aspect, number))


def body_of(text: str, aspect: str, number: int) -> bytes:
    """Return the body of a request; the number makes the unit."""
    return json.dumps({"text": text, "aspect": aspect, "unit_id": f"u{number}"}).encode()


def _request(body: bytes, path: str = "/v1/predict") -> bytes:
    return b"POST %b HTTP/1.1\r\nHost: b\r\nContent-Length: %d\r\n\r\n%b" % (path.encode(), len(body), body)
