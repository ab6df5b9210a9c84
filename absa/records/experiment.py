"""Experiment record: the judgements (looks) of an experiment under one revision of the plan."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from absa.records.schema import SCHEMA_VERSION, iso, parse_iso

Grounds = Literal["better", "not worse and cheaper"]
"""Reason for a promotion."""


@dataclass(frozen=True, kw_only=True)
class Look:
    """Judgement on each live challenger, by version, with the fields of `ExperimentDecision`."""

    at: datetime
    arms: Mapping[str, Mapping[str, Any]]

    def to_json(self) -> dict[str, Any]:
        """Return the look as a JSON object."""
        return {"at": iso(self.at), "arms": self.arms}


@dataclass(frozen=True, kw_only=True)
class ExperimentRecord:
    """Looks of an experiment, oldest first. `mode` is the mode of the plan: shadow or ab."""

    mode: str
    looks: tuple[Look, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return the record as a JSON object; the last look is repeated at the top level."""
        last = self.looks[-1].to_json() if self.looks else {}
        looks = [look.to_json() for look in self.looks]
        return {"schema_version": SCHEMA_VERSION, "mode": self.mode, **last, "looks": looks}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "ExperimentRecord":
        """Read a record; unknown fields are ignored.

        Raises:
            ValueError, KeyError, TypeError: a field is missing or wrong.
        """
        looks = tuple(Look(at=parse_iso(look["at"]), arms=look["arms"]) for look in data["looks"])
        return cls(mode=data["mode"], looks=looks)
