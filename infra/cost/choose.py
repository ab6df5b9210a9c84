"""Choice of the cheapest set-up that meets a p99 and a quality floor, or the reason why none does. Pure."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from infra.capacity.trace import Trace
from infra.cost.figures import Figures
from infra.cost.month import Quantities, month, training_usd
from infra.cost.prices import Prices
from infra.cost.setup import FARGATE, Setup

DAILY: Final = 30.0  # trainings of a month with one per day
_UNMEASURED: Final = "no set-up has a price, because no model's CPU time was measured; run `make benchmark-serving`"


class NoSetupError(ValueError):
    """No set-up meets the requirements; the message gives the nearest ones."""


@dataclass(frozen=True, kw_only=True)
class Floors:
    """Requirements on a set-up: `p99_ms` at the planned load, `f1` 0 to 1, `spot` True if live serving may use it."""

    p99_ms: float = 100.0
    f1: float = 0.0
    spot: bool = False


def cheapest(
    candidates: Sequence[Setup], floors: Floors, prices: Prices, quantities: Quantities, profile: Trace | None
) -> Setup:
    """Return the candidate that meets the floors with the cheapest month; of equal ones, the first by name.

    Raises:
        NoSetupError: no candidate meets them.
    """
    if not candidates:
        raise NoSetupError(_UNMEASURED)
    offered = [each for each in candidates if each.model.trained and (floors.spot or not each.host.spot)]
    if not offered:
        raise NoSetupError("no set-up can be chosen: every measured model is untrained")
    good_enough = [each for each in offered if floors.f1 <= 0 or (each.model.f1 or 0) >= floors.f1]
    if not good_enough:
        known = sorted(
            f"{each.model.name} {'not measured' if each.model.f1 is None else f'{each.model.f1:.3f}'}"
            for each in {each.model.name: each for each in offered}.values()
        )
        raise NoSetupError(f"expected a model with an F1 of {floors.f1:g} or more, got {', '.join(known)}")
    fast_enough = [each for each in good_enough if each.p99_ms <= floors.p99_ms]
    if not fast_enough:
        best = min(good_enough, key=lambda each: each.p99_ms)
        raise NoSetupError(
            f"expected a p99 of at most {floors.p99_ms:g} ms at {best.load:.0%} load, got {best.p99_ms:.1f} ms from "
            f"the fastest set-up of enough quality, {best.model.name} on {best.host.label}"
        )
    return min(
        fast_enough,
        key=lambda each: (month(each, prices, quantities, profile).usd, each.model.name, each.host.label),
    )


@dataclass(frozen=True, kw_only=True)
class Saving:
    """Saving of one measure alone in the plain month. `usd` is None if a figure is missing."""

    what: str
    usd: float | None
    note: str = ""


def savings(
    figures: Figures, candidates: Sequence[Setup], prices: Prices, quantities: Quantities, profile: Trace
) -> tuple[float, list[Saving]]:
    """Return the saving of each measure alone in a plain month.

    The plain month has the model with the most CPU time on on-demand x86, no cache, enough tasks for the peak at any
    time, and a GPU on demand that always runs. If the GPU scales to zero, trainings are paid for one by one.

    Returns:
        Price of the plain month in US dollars, and the savings.

    Raises:
        NoSetupError: there is no candidate on on-demand x86.
    """
    instances = [replace(each, hit_share=0.0) for each in candidates if each.host.name not in FARGATE]
    x86 = [each for each in instances if each.host.arch == "x86_64" and not each.host.spot]
    if not x86:
        raise NoSetupError(_UNMEASURED)
    largest = max(x86, key=lambda each: each.cpu_s).model
    plain = min((each for each in x86 if each.model == largest), key=lambda each: each.usd_per_million)
    dear = replace(quantities, gpu_always_on=True, gpu_spot=False, follow_load=False, trainings=DAILY)

    def usd(setup: Setup = plain, q: Quantities = dear) -> float:
        return month(setup, prices, q, profile).usd

    base = usd()

    def swap(what: str, wanted: Callable[[Setup], bool], missing: str) -> Saving:
        found = min((each for each in instances if wanted(each)), key=usd, default=None)
        if found is None:
            return Saving(what=what, usd=None, note=missing)
        return Saving(what=what, usd=base - usd(found), note=f"{found.model.name} on {found.host.label}")

    full, separator, _ = largest.name.partition(" fp32")
    hit = figures.hit_cpu_s
    per_training = training_usd(prices, dear)
    return base, [
        swap("spot", lambda e: e.model == largest and e.host.spot and e.host.arch == "x86_64", "no spot price"),
        swap("ARM", lambda e: e.model == largest and not e.host.spot and e.host.arch == "arm64", "no ARM price"),
        swap(
            "int8",
            lambda e: bool(separator) and e.host == plain.host and e.model.name == f"{full} int8",
            "fp32 was not measured in the router",
        ),
        swap(
            "smallest student",
            lambda e: e.host == plain.host and e.cpu_s == min(each.cpu_s for each in x86) < plain.cpu_s,
            "only one model was measured",
        ),
        Saving(what="cache with 30 % hits", usd=None, note="the cache was not measured")
        if hit is None
        else Saving(what="cache with 30 % hits", usd=base - usd(replace(plain, hit_share=0.3, hit_cpu_s=hit))),
        Saving(what="tasks follow the load", usd=base - usd(q=replace(dear, follow_load=True)), note=profile.name),
        Saving(
            what="no firewall",
            usd=base - usd(q=replace(dear, firewalls=0)),
            note="it inspects every request; known callers do not need it",
        ),
        Saving(
            what="GPU scales to zero",
            usd=base - usd(q=replace(dear, gpu_always_on=False)),
            note=f"a training a day at US$ {per_training:.3f}",
        ),
        Saving(
            what="retrain only if it pays",
            usd=(DAILY - quantities.trainings) * per_training,
            note=f"{quantities.trainings:g} trainings a month instead of {DAILY:g}, the GPU scaling to zero",
        ),
    ]
