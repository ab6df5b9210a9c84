"""Metrics of a replica: each process writes a small status file, so any worker can report all processes."""

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final, TypeVar

from absa.records.files import write_whole

Number = TypeVar("Number", int, float)

PARENT: Final = "parent"
_RETIRED: Final = "retired"


@dataclass(slots=True)
class Status:
    """Status of one process. `counters` only grow, `gauges` are present values, `outcomes` are OutcomeCounts.totals."""

    worker: str
    pid: int = 0
    ready: bool = False
    revision: int = 0
    models: list[dict[str, Any]] = field(default_factory=list)
    counters: dict[str, float] = field(default_factory=dict)
    gauges: dict[str, float] = field(default_factory=dict)
    outcomes: list[list[Any]] = field(default_factory=list)
    refused: dict[str, int] = field(default_factory=dict)


class StatusBoard:
    """The status files of a replica.

    Args:
        folder: holds one `<incarnation>.json` per process.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def put(self, incarnation: str, status: Status) -> None:
        """Write the status of a process. On a full disk the old status stays."""
        with suppress(OSError):
            write_whole(self._folder / f"{incarnation}.json", json.dumps(asdict(status)).encode())

    def all(self, *, but: str | None = None) -> list[Status]:
        """Return the last status of each process. Ended processes are summed into one status, named retired."""
        found = []
        for path in sorted(self._folder.glob("*.json")):
            if path.stem != but:
                with suppress(OSError, ValueError, TypeError):
                    found.append(Status(**json.loads(path.read_bytes())))
        return found

    def clear(self) -> None:
        """Remove every status: a new parent starts from zero."""
        for path in self._folder.iterdir():
            path.unlink(missing_ok=True)

    def retire(self, incarnation: str) -> None:
        """Add the counts of an ended process to those of earlier ones."""
        path = self._folder / f"{incarnation}.json"
        try:
            gone = Status(**json.loads(path.read_bytes()))
        except (OSError, ValueError, TypeError):
            return
        total = Status(worker=_RETIRED)
        with suppress(OSError, ValueError, TypeError):
            total = Status(**json.loads((self._folder / f"{_RETIRED}.json").read_bytes()))
        total.counters = summed([total.counters, gone.counters])
        total.refused = summed([total.refused, gone.refused])
        total.outcomes = summed_outcomes([total, gone])
        self.put(_RETIRED, total)
        path.unlink(missing_ok=True)


def summed_outcomes(statuses: Iterable[Status]) -> list[list[Any]]:
    """Return outcome rows by version and arm, summed over processes."""
    sums: dict[tuple[str, str], list[Any]] = {}
    for status in statuses:
        for version, arm, *numbers, histogram in status.outcomes:
            row = sums.get((version, arm))
            if row is None:
                sums[version, arm] = [version, arm, *numbers, list(histogram)]
                continue
            for index, number in enumerate(numbers, start=2):
                row[index] += number
            row[-1] = [a + b for a, b in zip(row[-1], histogram, strict=True)]
    return [sums[key] for key in sorted(sums)]


def summed(counts: Iterable[Mapping[str, Number]]) -> dict[str, Number]:
    """Return the sum of each name over several counts."""
    total: defaultdict[str, Number] = defaultdict(int)
    for each in counts:
        for name, count in each.items():
            total[name] += count
    return dict(total)
