"""State file that the parent writes for its workers: the active plan and the folders of its models.

The file outlives the processes. A router that restarts without lake and registry serves the same versions as before.
"""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from absa.ledger.routing import TrafficPlan
from absa.records.files import write_whole


@dataclass(frozen=True, kw_only=True, slots=True)
class RouterState:
    """Fields of the ledger's head that a router needs.

    `folders` maps digests to the folders of complete packages on disk; `errors` maps versions that cannot be fetched
    to the reason. `lake` names the lake, so that the state of another lake is not used. `hash` is the hash of the
    head's record. `problem` reports that the ledger lost this record, so that later records may be missed.
    """

    lake: str
    revision: int = 0
    at: str | None = None
    actor: str | None = None
    action: str | None = None
    champion: str | None = None
    challenger: str | None = None
    plan: TrafficPlan | None = None
    versions: dict[str, str] = field(default_factory=dict)
    folders: dict[str, str] = field(default_factory=dict)
    errors: dict[str, str] = field(default_factory=dict)
    hash: str = ""
    problem: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the state as the file holds it."""
        return {
            **{name: getattr(self, name) for name in self.__slots__ if name != "plan"},
            "plan": self.plan.to_json() if self.plan else None,
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Self:
        """Read a state.

        Raises:
            ValueError: `data` is not a state.
        """
        plan = data.get("plan")
        try:
            known = {name: data[name] for name in cls.__slots__ if name in data and name != "plan"}
            return cls(**known, plan=TrafficPlan.from_json(plan) if plan else None)
        except TypeError as error:
            raise ValueError(f"not a router's state: {error}") from None


def write_state(path: Path, state: RouterState) -> None:
    """Replace the file atomically."""
    write_whole(path, json.dumps(state.to_json()).encode())


def read_state(path: Path) -> RouterState | None:
    """Return the state; None if the file is missing or unreadable."""
    try:
        return RouterState.from_json(json.loads(path.read_bytes()))
    except (OSError, ValueError, AttributeError):
        return None
