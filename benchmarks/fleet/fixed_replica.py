"""A replica with a declared fixed service time: `python -m benchmarks fixed_replica --port 9001 --service-ms 20`.

One request after the other, each exactly so long; 429 at once for what would wait beyond the bound. It sleeps instead
of working, so that many of them fit a small machine and what is measured is queues, balancing and scaling alone.
"""

import argparse
import asyncio

_OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"
_BUSY = b"HTTP/1.1 429 Too Many Requests\r\nRetry-After: 1\r\nContent-Length: 0\r\n\r\n"


class Replica:
    """Return the time at which the one server is free."""

    def __init__(self, service_s: float, queue_s: float) -> None:
        self.service_s, self.queue_s, self.free_s = service_s, queue_s, 0.0

    def take(self, now_s: float) -> float | None:
        """Return the time at which a request that comes now is answered; None refuses it."""
        start = max(now_s, self.free_s)
        if start - now_s > self.queue_s:
            return None
        self.free_s = start + self.service_s
        return self.free_s


class Connection(asyncio.Protocol):
    """HTTP/1.1 with bodies of a known length, one request at a time."""

    def __init__(self, replica: Replica) -> None:
        self._replica, self._buffer = replica, b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head, separator, body = self._buffer.partition(b"\r\n\r\n")
        if not separator:
            return
        length = 0
        for line in head.lower().split(b"\r\n"):
            if line.startswith(b"content-length:"):
                length = int(line.split(b":")[1])
        if len(body) < length:
            return
        self._buffer = b""
        loop = asyncio.get_running_loop()
        at = self._replica.take(loop.time())
        if at is None:
            self._answer(_BUSY)
        else:
            loop.call_at(at, self._answer, _OK)

    def _answer(self, answer: bytes) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(answer)


async def serve(port: int, replica: Replica) -> None:
    """Answer until the process ends."""
    server = await asyncio.get_running_loop().create_server(lambda: Connection(replica), "127.0.0.1", port)
    await server.serve_forever()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--service-ms", type=float, default=20.0)
    parser.add_argument("--queue-ms", type=float, default=200.0)
    options = parser.parse_args()
    asyncio.run(serve(options.port, Replica(options.service_ms / 1e3, options.queue_ms / 1e3)))
