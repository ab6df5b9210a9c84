"""Load over time: requests per second at points in time, linear in between, and random arrivals from it."""

import csv
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import numpy as np
import numpy.typing as npt

LoadSeries = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Trace:
    """Load of `rate_per_s[k]` requests per second at `at_s[k]`, linear in between. Times start at 0 and rise.

    Raises:
        ValueError: times or rates are invalid; the message names the trace.
    """

    name: str
    at_s: tuple[float, ...]
    rate_per_s: tuple[float, ...]

    def __post_init__(self) -> None:
        if len(self.at_s) < 2 or len(self.at_s) != len(self.rate_per_s):
            raise ValueError(f"trace {self.name}: expected at least two points and a rate for each")
        if self.at_s[0] != 0 or any(b <= a for a, b in zip(self.at_s, self.at_s[1:], strict=False)):
            raise ValueError(f"trace {self.name}: expected times that start at 0 and rise")
        if not np.isfinite(self.rate_per_s).all() or min(self.rate_per_s) < 0:
            raise ValueError(f"trace {self.name}: expected finite rates of 0 or more")

    @property
    def seconds(self) -> float:
        """Length in seconds."""
        return self.at_s[-1]

    @property
    def peak(self) -> float:
        """Highest rate, in requests per second."""
        return max(self.rate_per_s)

    @property
    def requests(self) -> float:
        """Expected number of requests."""
        return float(np.trapezoid(self.rate_per_s, self.at_s))

    def rate(self, at_s: float | LoadSeries) -> LoadSeries:
        """Return the rate at a time or at several, in requests per second; 0 outside the trace."""
        return np.asarray(np.interp(at_s, self.at_s, self.rate_per_s, left=0.0, right=0.0), dtype=np.float64)

    def highest(self, from_s: float, until_s: float) -> float:
        """Return the highest rate between two times."""
        inside = [rate for at, rate in zip(self.at_s, self.rate_per_s, strict=True) if from_s <= at <= until_s]
        return float(max([*inside, *self.rate(np.array([from_s, until_s]))]))

    def arrivals(self, from_s: float, until_s: float, rng: np.random.Generator) -> LoadSeries:
        """Return sorted times of requests in [from_s, until_s): a Poisson process with the mean rate there."""
        mean = float(self.rate((from_s + until_s) / 2))
        count = rng.poisson(mean * (until_s - from_s))
        times: LoadSeries = rng.uniform(from_s, until_s, count)
        times.sort()
        return times

    def scaled(self, *, time: float = 1.0, load: float = 1.0) -> "Trace":
        """Return the trace with its times and rates multiplied."""
        return Trace(
            name=self.name,
            at_s=tuple(at * time for at in self.at_s),
            rate_per_s=tuple(rate * load for rate in self.rate_per_s),
        )


def read_trace(path: Path) -> Trace:
    """Read a CSV file with the columns at_s and requests_per_s.

    Raises:
        ValueError: a column is missing, or a value is not a number or out of order; the message names file and line.
        OSError: the file cannot be read.
    """
    at_s: list[float] = []
    rates: list[float] = []
    with path.open(encoding="utf-8", newline="") as file:
        for number, row in enumerate(csv.DictReader(file), start=2):
            try:
                at_s.append(float(row["at_s"]))
                rates.append(float(row["requests_per_s"]))
            except (KeyError, TypeError, ValueError):
                raise ValueError(
                    f"{path.name} line {number}: expected numbers in the columns at_s and requests_per_s"
                ) from None
    return Trace(name=path.stem, at_s=tuple(at_s), rate_per_s=tuple(rates))


def shipped_traces() -> dict[str, Trace]:
    """Return the traces of the package, by name."""
    folder = resources.files("infra.capacity") / "traces"
    with resources.as_file(folder) as path:
        return {each.stem: read_trace(each) for each in sorted(path.glob("*.csv"))}
