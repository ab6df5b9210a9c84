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
    """Drift: changes, their size at full strength, their start. Shares are 0 to 1; parts combine; none by default.

    Args:
        new_area_share: share of the requests that come from the new area's rows.
        vocabulary_share: share of the requests in which the swaps of `vocabulary` are made, outside the aspect.
        class_shares: the mix of labels, in their order, that true labels move to (before a concept change).
        concept_share: share of the aspects whose first and last label swap places, chosen by hash, the same for ever;
            in plain text the share of the labels whose texts are renamed to the next label.
        concept_aspects: these aspects as well, whatever the share.
        noise_share: share of the requests that are typed carelessly: four typos per hundred characters, case lost.
        starts_at: number of the request at which the drift starts.
        ramp: number of requests over which it grows from nothing to full strength.
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
        """Return the active share of the drift at a request, 0 to 1."""
        if number < self.starts_at:
            return 0.0
        return 1.0 if self.ramp == 0 else min(1.0, (number - self.starts_at) / self.ramp)

    def flips(self, aspect: str) -> bool:
        """Return True if the active concept change changes the labels of an aspect, or a label of plain text."""
        known = normalise(aspect)
        if known in {normalise(named) for named in self.concept_aspects}:
            return True
        return hold_back_point(f"concept {known}") < self.concept_share


KINDS: Final = ("new-area", "vocabulary", "class-shift", "concept", "noise")


def drift_of(kind: str, strength: float = 0.5, *, starts_at: int = 0, ramp: int = 0, n_labels: int = 3) -> Drift | None:
    """Return a drift by its name: one of `KINDS`, several joined by "+", or "none".

    Raises:
        ValueError: another name.
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
