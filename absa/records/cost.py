"""Cost record: the last projection of `evergreen cost`, in US dollars."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

from absa.errors import NotFoundError
from absa.records.lake import Lake
from absa.records.layout import COST_CURRENT
from absa.records.schema import SCHEMA_VERSION


@dataclass(frozen=True, kw_only=True)
class Cost:
    """Projected cost of the chosen set-up. Fields that an earlier release did not write are None.

    `lines` are the items of a month's bill. `measured` and `missing` name the benchmark results that were found or
    missing.
    """

    at: str | None = None
    setup: Mapping[str, Any] | None = None
    usd_per_million_live: float | None = None
    usd_per_million_batch: float | None = None
    usd_per_training: float | None = None
    profile: str | None = None
    usd_per_month: float | None = None
    usd_per_idle_month: float | None = None
    lines: Sequence[Mapping[str, Any]] | None = None
    arithmetic: str | None = None
    measured: Sequence[str] | None = None
    missing: Sequence[str] | None = None
    unverified_prices: Sequence[str] | None = None
    price_dates: Sequence[str] | None = None
    projected: bool = True

    def to_json(self) -> dict[str, Any]:
        """Return the record as a JSON object."""
        return {"schema_version": SCHEMA_VERSION, **asdict(self)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Cost":
        """Read a record; unknown fields are ignored."""
        known = {field.name for field in fields(cls)}
        return cls(**{name: value for name, value in data.items() if name in known})


def read_cost(lake: Lake) -> Cost | None:
    """Return the last cost; None if `evergreen cost` never ran or the record cannot be read.

    Raises:
        UnavailableError: the lake is unavailable.
    """
    try:
        return Cost.from_json(json.loads(lake.read(COST_CURRENT)))
    except (NotFoundError, ValueError, AttributeError):
        return None
