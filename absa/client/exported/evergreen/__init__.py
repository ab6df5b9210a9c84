"""Name under which an installed wheel offers the client: `from evergreen import Client`."""

from absa.client import AsyncClient, Client

__all__ = ["AsyncClient", "Client"]
