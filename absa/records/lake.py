"""Lake: port for bytes under keys."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final, Protocol

_CONCURRENT_READS: Final = 10  # botocore keeps so many connections


class Lake(Protocol):
    """Bytes under keys. A write is whole or not at all; `create` never overwrites."""

    uri: str

    def read(self, key: str) -> bytes:
        """Return the bytes under a key.

        Raises:
            NotFoundError: the key is free.
            UnavailableError: the lake is unavailable.
        """

    def write(self, key: str, data: bytes) -> None:
        """Set the bytes under a key."""

    def create(self, key: str, data: bytes) -> None:
        """Create a key. Atomic: of two concurrent writers one gets AlreadyExistsError.

        Raises:
            AlreadyExistsError: the key is taken.
        """

    def exists(self, key: str) -> bool:
        """Return True if a key holds bytes."""

    def list(self, prefix: str) -> list[str]:
        """Return every key that starts with a prefix (a folder ends with `/`), sorted."""

    def delete(self, key: str) -> None:
        """Free a key; a key that is free stays free."""

    def url(self, key: str) -> str:
        """Return the address that a Parquet engine opens: a path or s3://."""


def read_concurrently(lake: Lake, keys: Sequence[str]) -> list[bytes]:
    """Return the bytes under each key. Many small objects of S3 arrive in the time of a few.

    Raises:
        NotFoundError: a key is free.
        UnavailableError: the lake is unavailable.
    """
    with ThreadPoolExecutor(_CONCURRENT_READS) as pool:
        return list(pool.map(lake.read, keys))
