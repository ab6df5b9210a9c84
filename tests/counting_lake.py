"""Lake that counts calls."""

from collections import Counter
from threading import Lock

from absa.records.lake import Lake


class CountingLake:
    """Passes every call to another lake and counts it by name."""

    def __init__(self, lake: Lake) -> None:
        self._lake, self.uri = lake, lake.uri
        self._calls: Counter[str] = Counter()
        self._lock = Lock()

    def taken(self) -> dict[str, int]:
        """Return the calls since the last look."""
        calls, self._calls = self._calls, Counter()
        return dict(calls)

    def _count(self, name: str) -> Lake:
        with self._lock:
            self._calls[name] += 1
        return self._lake

    def read(self, key: str) -> bytes:
        return self._count("read").read(key)

    def write(self, key: str, data: bytes) -> None:
        self._count("write").write(key, data)

    def create(self, key: str, data: bytes) -> None:
        self._count("create").create(key, data)

    def exists(self, key: str) -> bool:
        return self._count("exists").exists(key)

    def list(self, prefix: str) -> list[str]:
        return self._count("list").list(prefix)

    def delete(self, key: str) -> None:
        self._count("delete").delete(key)

    def url(self, key: str) -> str:
        return self._lake.url(key)
