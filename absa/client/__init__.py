"""Client of a router for Python programs: `Client` and `AsyncClient`. Needs httpx alone."""

from absa.client.asynchronous import AsyncClient
from absa.client.blocking import Client

__all__ = ["AsyncClient", "Client"]
