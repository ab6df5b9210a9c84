"""Slow clients: a connection whose request does not arrive in time is closed, whatever it dribbles."""

import asyncio
from typing import Any


class SlowClients:
    """Looks over a server's connections now and then, so that a request pays nothing for it.

    Args:
        connections: uvicorn's set of protocols.
        timeout_s: longest time for a request to arrive whole, headers and body.
        idle_s: longest time between requests of one connection.
    """

    def __init__(self, connections: set[Any], *, timeout_s: float, idle_s: float) -> None:
        self._connections, self._timeout_s, self._idle_s = connections, timeout_s, idle_s
        self._since: dict[Any, tuple[object, float]] = {}
        self.closed = 0

    def look(self, now: float) -> None:
        """Close what has waited for too long. Call it about once a second."""
        seen: dict[Any, tuple[object, float]] = {}
        for protocol in list(self._connections):
            cycle = protocol.cycle
            arriving = cycle is None or cycle.more_body
            idle = cycle is not None and cycle.response_complete
            if not arriving and not idle:
                continue  # being answered: the request's own deadline holds
            stage = (cycle, arriving)  # the cycle itself: an id would come again
            kept, since = self._since.get(protocol, (None, now))
            if kept != stage:
                since = now
            if now - since > (self._timeout_s if arriving and not idle else self._idle_s + self._timeout_s):
                self.closed += 1
                protocol.transport.abort()
                continue
            seen[protocol] = (stage, since)
        self._since = seen

    async def run(self) -> None:
        """Look once a second until cancelled."""
        while True:
            await asyncio.sleep(1.0)
            self.look(asyncio.get_running_loop().time())
