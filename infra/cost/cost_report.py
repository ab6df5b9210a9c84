"""Output of the cost command: lines of text, and the record in the lake."""

from collections.abc import Iterator, Sequence
from typing import Any

from infra.cost.choose import Saving
from infra.cost.figures import Figures
from infra.cost.month import Month, Quantities, training_usd
from infra.cost.prices import UNVERIFIED, Prices
from infra.cost.setup import Setup, batch_usd_per_million


def basis(figures: Figures, prices: Prices) -> Iterator[str]:
    """Yield the basis of the figures: measurements, missing ones, and dates of the prices."""
    yield from figures.sources
    yield from figures.missing
    dated = sorted(price.source_date for price in prices.values() if price.source_date)
    undated = sum(not price.source_date for price in prices.values())
    doubtful = [price.item for price in prices.values() if price.status == UNVERIFIED]
    yield (
        f"{len(prices)} prices, dated {dated[0]} to {dated[-1]}, {undated} without a date, "
        f"{len(doubtful)} unverified{': ' + ', '.join(doubtful) if doubtful else ''}"
    )


def training(prices: Prices, quantities: Quantities) -> Iterator[str]:
    """Yield the highest cost of a training."""
    q = quantities
    yield (
        f"\na training: US$ {training_usd(prices, q):.4f} at most on {q.gpu}{' spot' if q.gpu_spot else ''} "
        f"(the whole budget of {q.training_s:g} s and an assumed wait of {q.machine_wait_s:g} s for the machine)"
    )


def ladder(found: Sequence[Setup]) -> Iterator[str]:
    """Yield every set-up with its price per million predictions, cheapest first within a model."""
    if found:
        yield "\nat full load, machines only; each vCPU counts as a core of the measured machine (--speed)"
    names = list(dict.fromkeys(each.model.name for each in found))
    for name in names:
        mine = [each for each in found if each.model.name == name]
        model = mine[0].model
        quality = "F1 not measured" if model.f1 is None else f"F1 {model.f1:.3f}"
        yield f"{name} ({quality})"
        for each in mine:
            batch = batch_usd_per_million(model, each.host)
            said = "batch not measured" if batch is None else f"batch US$ {batch:.4f}"
            yield f"  {each.host.label:<18} US$ {each.usd_per_million:.4f} per million live; {said}"
        yield f"  {mine[0].host.label}: {mine[0].arithmetic}"


def bill(month: Month) -> Iterator[str]:
    """Yield a month, line by line."""
    for line in month.lines:
        mark = "  unverified price" if line.unverified else ""
        factors = f"{line.quantity:>12,.2f} {line.unit:<24} x {line.usd_each:<9.5g}"
        yield f"  {line.what:<60} {factors} = {line.usd:>9.2f}{mark}"
    each = f", US$ {month.usd / month.requests * 1e6:.4f} per million in all" if month.requests else ""
    yield f"  {'in all':<60} {month.usd:>63.2f}{each}"


def worth(base: float, found: Sequence[Saving]) -> Iterator[str]:
    """Yield the effect of each saving on the plain month."""
    yield f"a plain month costs US$ {base:,.2f}; each of these alone saves"
    for saving in found:
        said = "unknown" if saving.usd is None else f"{saving.usd:,.2f} ({saving.usd / base:.1%})"
        yield f"  {saving.what:<28} {said:<20} {saving.note}".rstrip()


def record(
    setup: Setup, figures: Figures, prices: Prices, month: Month, idle: Month, quantities: Quantities, *, profile: str,
) -> dict[str, Any]:  # fmt: skip
    """Return the fields of the cost record: the chosen set-up, its cost in US dollars, and their sources."""
    return {
        "setup": {
            "model": setup.model.name, "host": setup.host.name, "spot": setup.host.spot, "load": setup.load,
            "hit_share": setup.hit_share, "p99_ms": round(setup.p99_ms, 3), "f1": setup.model.f1,
        },
        "usd_per_million_live": setup.usd_per_million,
        "usd_per_million_batch": batch_usd_per_million(setup.model, setup.host),
        "usd_per_training": training_usd(prices, quantities),
        "profile": profile,
        "usd_per_month": month.usd,
        "usd_per_idle_month": idle.usd,
        "lines": [
            {"what": line.what, "quantity": line.quantity, "unit": line.unit, "usd": line.usd} for line in month.lines
        ],
        "arithmetic": setup.arithmetic,
        "measured": list(figures.sources),
        "missing": list(figures.missing),
        "unverified_prices": sorted(price.item for price in prices.values() if price.status == UNVERIFIED),
        "price_dates": sorted({price.source_date for price in prices.values() if price.source_date}),
    }  # fmt: skip
