"""Slow clients: a connection whose request does not arrive in time is closed, whatever it dribbles."""

import asyncio
from typing import Any


class SlowClients:
    """Looks over a server's connections now and then, so that a request pays nothing for it.

    Args:
        connections: uvicorn's set of protocols, each a `HotProtocol`.
        timeout_s: longest time for a request to arrive whole, headers and body.
        idle_s: longest time between requests of one connection.
    """

    def __init__(self, connections: set[Any], *, timeout_s: float, idle_s: float) -> None:
        self._connections, self._timeout_s, self._idle_s = connections, timeout_s, idle_s
        self._since: dict[Any, tuple[object, bool, float]] = {}
        self.closed = 0

    def look(self, now: float) -> None:
        """Close what has waited for too long. Call it about once a second."""
        seen: dict[Any, tuple[object, bool, float]] = {}
        for protocol in list(self._connections):
            stage = protocol.waits_for_client()
            if stage is None:
                continue  # being answered: the request's own deadline holds
            mark, arriving = stage
            kept, was_arriving, since = self._since.get(protocol, (None, arriving, now))
            if kept is not mark or was_arriving != arriving:
                since = now
            if now - since > (self._timeout_s if arriving else self._idle_s + self._timeout_s):
                self.closed += 1
                protocol.transport.abort()
                continue
            seen[protocol] = (mark, arriving, since)
        self._since = seen

    async def run(self) -> None:
        """Look once a second until cancelled."""
        while True:
            await asyncio.sleep(1.0)
            self.look(asyncio.get_running_loop().time())
