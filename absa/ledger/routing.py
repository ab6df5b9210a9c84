"""Traffic plan, and assignment of units to arms. Pure; used by router, replay and simulation."""

import hashlib
import math
from dataclasses import asdict, dataclass
from typing import Any, Final, Literal

Mode = Literal["single", "shadow", "ab"]
MODES: Final = ("single", "shadow", "ab")
CHAMPION: Final = "champion"
CHALLENGER: Final = "challenger"
_SHARE_TOLERANCE: Final = 1e-9
_BELOW_ONE: Final = math.nextafter(1.0, 0.0)


@dataclass(frozen=True, kw_only=True, slots=True)
class Arm:
    """One version in a plan with its share of the traffic, 0 to 1."""

    name: str
    version: str
    share: float


@dataclass(frozen=True, kw_only=True, slots=True)
class TrafficPlan:
    """Distribution of the traffic over arms. The champion's arm comes first; shares sum to 1.

    In shadow mode the champion has share 1. The other arms have share 0 and score the same requests; their scores are
    only logged.

    Raises:
        ValueError: an unknown mode, no champion, equal names, a share outside 0 to 1, or shares that do not sum to 1.
    """

    mode: Mode
    experiment: str | None
    salt: str
    arms: tuple[Arm, ...]

    def __post_init__(self) -> None:
        if self.mode not in MODES:
            raise ValueError(f"mode must be one of {', '.join(MODES)}, got {self.mode!r}")
        if not self.arms or self.arms[0].name != CHAMPION:
            raise ValueError("the first arm must be the champion")
        if len({arm.name for arm in self.arms}) != len(self.arms):
            raise ValueError("two arms have the same name")
        if any(not 0.0 <= arm.share <= 1.0 for arm in self.arms):
            raise ValueError("every share must be 0 to 1")
        if abs(sum(arm.share for arm in self.arms) - 1.0) > _SHARE_TOLERANCE:
            raise ValueError("the shares must sum to 1")
        if self.mode == "single" and len(self.arms) != 1:
            raise ValueError("mode single has one arm, the champion")
        if self.mode == "shadow" and self.champion.share != 1.0:
            raise ValueError("mode shadow answers from the champion alone: its share must be 1")
        challengers = self.challengers
        if self.mode == "ab" and any(arm.share > 1.0 / len(challengers) for arm in challengers):
            raise ValueError(f"each of {len(challengers)} challengers can have at most its own band of the traffic")

    @property
    def champion(self) -> Arm:
        """Arm of the champion, which has all traffic that no challenger has."""
        return self.arms[0]

    @property
    def challengers(self) -> tuple[Arm, ...]:
        """Arms of the challengers, in order."""
        return self.arms[1:]

    @property
    def versions(self) -> tuple[str, ...]:
        """Versions that a router must load, the champion first, without repeats."""
        return tuple(dict.fromkeys(arm.version for arm in self.arms))

    def to_json(self) -> dict[str, Any]:
        """Return the JSON object of a state's `plan`."""
        return {**asdict(self), "arms": [asdict(arm) for arm in self.arms]}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "TrafficPlan":
        """Read a plan; unknown fields are ignored, so that an older release reads newer records.

        Raises:
            ValueError: a field is missing or wrong.
        """
        try:
            arms = tuple(
                Arm(name=str(arm["name"]), version=str(arm["version"]), share=float(arm["share"]))
                for arm in data["arms"]
            )
            return cls(mode=data["mode"], experiment=data.get("experiment"), salt=str(data["salt"]), arms=arms)
        except (KeyError, TypeError) as error:
            raise ValueError(f"a traffic plan needs mode, salt and arms with name, version, share: {error}") from None


def single(version: str, *, salt: str = "") -> TrafficPlan:
    """Return a plan in which one version has all traffic."""
    return TrafficPlan(
        mode="single", experiment=None, salt=salt, arms=(Arm(name=CHAMPION, version=version, share=1.0),)
    )


def bucket(unit: str, salt: str) -> float:
    """Return a unit's position in [0, 1): the first 8 bytes of SHA-256 of `salt:unit`, big-endian, over 2^64."""
    digest = hashlib.sha256(f"{salt}:{unit}".encode()).digest()
    return min(int.from_bytes(digest[:8], "big") / 2**64, _BELOW_ONE)  # the largest digests would be rounded up to 1.0


def assign(plan: TrafficPlan, unit: str) -> Arm:
    """Return the arm that answers a unit. Sticky: if shares grow, no unit leaves its challenger.

    Challenger k of n has the units whose bucket is in [k / n, k / n + share); the champion has the rest.
    """
    if plan.mode != "ab":
        return plan.champion
    challengers = plan.challengers
    position = bucket(unit, plan.salt)
    for k, arm in enumerate(challengers):
        start = k / len(challengers)
        if start <= position < start + arm.share:
            return arm
    return plan.champion
