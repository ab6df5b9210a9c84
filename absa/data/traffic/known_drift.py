"""Drift of simulated traffic: named changes whose size and start are known exactly."""

from dataclasses import dataclass, replace
from typing import Final

from absa.data.normalise import hold_back_point
from absa.inference.aspect_span import normalise

Swaps = tuple[tuple[str, str], ...]

NEW_VOCABULARY: Final[Swaps] = (
    ("love", "stan"),
    ("great", "fire"),
    ("good", "solid af"),
    ("nice", "chef's kiss"),
    ("perfect", "goated"),
    ("brilliant", "bussin"),
    ("lovely", "immaculate"),
    ("easy", "no-brainer"),
    ("fast", "zippy"),
    ("quick", "zippy"),
    ("works", "slaps"),
    ("bad", "mid"),
    ("terrible", "trash tier"),
    ("awful", "cursed"),
    ("broken", "borked"),
    ("slow", "laggy"),
    ("useless", "a nothingburger"),
    ("hate", "cannot with"),
    ("crashes", "rage quits"),
    ("wrong", "sus"),
    ("never", "literally never ever"),
    ("very", "hella"),
    ("really", "lowkey"),
    ("please", "pls"),
    ("customer", "user"),
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Drift:
    """Drift: changes, their size at full strength, and their start. Shares are 0 to 1. By default nothing changes.

    Args:
        new_area_share: share of the requests that come from the new area's rows.
        vocabulary_share: share of the requests in which the swaps of `vocabulary` are made, outside the aspect.
        class_shares: share of each label that the true labels move to, in label order (before a concept change).
        concept_share: share of the aspects, chosen by a fixed hash, whose first and last label are exchanged; for plain
            text, share of the labels that become the next label.
        concept_aspects: aspects whose labels are exchanged in addition to `concept_share`.
        noise_share: share of the requests that are typed carelessly: four typos per hundred characters, case lost.
        starts_at: number of the request at which the drift starts.
        ramp: number of requests over which the drift grows from nothing to full strength.
    """

    new_area_share: float = 0.0
    vocabulary_share: float = 0.0
    vocabulary: Swaps = NEW_VOCABULARY
    class_shares: tuple[float, ...] | None = None
    concept_share: float = 0.0
    concept_aspects: tuple[str, ...] = ()
    noise_share: float = 0.0
    starts_at: int = 0
    ramp: int = 0

    def __post_init__(self) -> None:
        for name in ("new_area_share", "vocabulary_share", "concept_share", "noise_share"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name}: expected a share from 0 to 1, got {getattr(self, name)}")
        if self.class_shares is not None and (min(self.class_shares) < 0 or abs(sum(self.class_shares) - 1) > 1e-9):
            raise ValueError(f"class_shares: expected shares that sum to 1, got {self.class_shares}")
        if self.starts_at < 0 or self.ramp < 0:
            raise ValueError(f"starts_at and ramp: expected 0 requests or more, got {self.starts_at} and {self.ramp}")

    def strength(self, number: int) -> float:
        """Return the share of the drift that is active at a request, 0 to 1."""
        if number < self.starts_at:
            return 0.0
        return 1.0 if self.ramp == 0 else min(1.0, (number - self.starts_at) / self.ramp)

    def flips(self, aspect: str) -> bool:
        """Return True if the concept change affects an aspect, or a label of plain text."""
        known = normalise(aspect)
        if known in {normalise(named) for named in self.concept_aspects}:
            return True
        return hold_back_point(f"concept {known}") < self.concept_share


KINDS: Final = ("new-area", "vocabulary", "class-shift", "concept", "noise")


def drift_of(kind: str, strength: float = 0.5, *, starts_at: int = 0, ramp: int = 0, n_labels: int = 3) -> Drift | None:
    """Return the drift of a name: one of `KINDS`, several joined by "+", or "none".

    Raises:
        ValueError: the name is unknown.
    """
    if kind == "none":
        return None
    drift = Drift(starts_at=starts_at, ramp=ramp)
    for part in kind.split("+"):
        match part:
            case "new-area":
                drift = replace(drift, new_area_share=strength)
            case "vocabulary":
                drift = replace(drift, vocabulary_share=strength)
            case "class-shift":
                rest = (1 - strength) / n_labels
                drift = replace(drift, class_shares=(rest + strength, *[rest] * (n_labels - 1)))
            case "concept":
                drift = replace(drift, concept_share=strength)
            case "noise":
                drift = replace(drift, noise_share=strength)
            case _:
                raise ValueError(f"drift: expected none, or some of {', '.join(KINDS)} joined by +, got {part!r}")
    return drift
