"""Lakes for unit tests: one in memory, and one that counts the calls of another."""

from collections import Counter
from threading import Lock

from absa.errors import AlreadyExistsError, NotFoundError
from absa.records.lake import Lake


class MemoryLake:
    """Lake in memory, for ledgers of thousands of records."""

    uri = "memory"

    def __init__(self) -> None:
        self.kept: dict[str, bytes] = {}

    def read(self, key: str) -> bytes:
        if key not in self.kept:
            raise NotFoundError(f"there is no {key}")
        return self.kept[key]

    def write(self, key: str, data: bytes) -> None:
        self.kept[key] = data

    def create(self, key: str, data: bytes) -> None:
        if self.kept.setdefault(key, data) is not data:
            raise AlreadyExistsError(f"{key} exists already")

    def exists(self, key: str) -> bool:
        return key in self.kept

    def list(self, prefix: str) -> list[str]:
        return sorted(key for key in self.kept if key.startswith(prefix))

    def delete(self, key: str) -> None:
        self.kept.pop(key, None)

    def url(self, key: str) -> str:
        raise NotImplementedError("a lake in memory has no Parquet files to open")


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
