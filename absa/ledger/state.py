"""State after a ledger record: champion, challenger and traffic plan."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from absa.ledger.routing import TrafficPlan


@dataclass(frozen=True, kw_only=True, slots=True)
class State:
    """Active versions and traffic plan. Versions are registry version numbers as text."""

    champion: str | None = None
    challenger: str | None = None
    plan: TrafficPlan | None = None

    @property
    def versions(self) -> set[str]:
        """All versions in the state."""
        plan = self.plan.versions if self.plan else ()
        return {version for version in (self.champion, self.challenger, *plan) if version is not None}

    def to_json(self) -> dict[str, Any]:
        """Return the JSON object of a ledger record's `state`."""
        return {
            "champion": self.champion,
            "challenger": self.challenger,
            "plan": self.plan.to_json() if self.plan else None,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "State":
        """Read a state and ignore unknown fields.

        Raises:
            ValueError: the plan is invalid.
        """
        plan = data.get("plan")
        return cls(
            champion=data.get("champion"),
            challenger=data.get("challenger"),
            plan=TrafficPlan.from_json(plan) if plan else None,
        )
