"""Lake: interface (port) of the storage of bytes under keys."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final, Protocol

_CONCURRENT_READS: Final = 10  # as many as the connections that botocore keeps


class Lake(Protocol):
    """Storage of bytes under keys. A write is atomic; `create` never overwrites."""

    uri: str

    def read(self, key: str) -> bytes:
        """Return the bytes under a key.

        Raises:
            NotFoundError: the key does not exist.
            UnavailableError: the lake is unavailable.
        """

    def write(self, key: str, data: bytes) -> None:
        """Write the bytes under a key and replace earlier bytes."""

    def create(self, key: str, data: bytes) -> None:
        """Create a key. Atomic: of two concurrent writers one gets AlreadyExistsError.

        Raises:
            AlreadyExistsError: the key exists.
        """

    def exists(self, key: str) -> bool:
        """Return True if the key exists."""

    def list(self, prefix: str) -> list[str]:
        """Return all keys that start with a prefix (a folder ends with `/`), sorted."""

    def delete(self, key: str) -> None:
        """Delete a key; a missing key is not an error."""

    def url(self, key: str) -> str:
        """Return the address of a key for other libraries: a path or s3://."""


def read_concurrently(lake: Lake, keys: Sequence[str]) -> list[bytes]:
    """Return the bytes under each key. Reads are concurrent, because each request to S3 takes long.

    Raises:
        NotFoundError: a key does not exist.
        UnavailableError: the lake is unavailable.
    """
    with ThreadPoolExecutor(_CONCURRENT_READS) as pool:
        return list(pool.map(lake.read, keys))
