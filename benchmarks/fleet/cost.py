"""Projected costs, from list prices and what was measured: `python -m benchmarks cost` writes results/cost.json.

The idle month and a training need list prices alone. Prices a million follow for every model that
`benchmarks/results/serving.json` holds; what is missing is printed and left out. Run it again after the others.
"""

import argparse
from pathlib import Path

from benchmarks.figures import Row, write_result
from infra.capacity.trace import shipped_traces
from infra.cost.choose import NoSetupError, savings
from infra.cost.figures import figures_of, read_results
from infra.cost.month import Quantities, month, training_usd
from infra.cost.prices import read_prices
from infra.cost.setup import setups, unmeasured

RESULTS = Path(__file__).parents[1] / "results"
PEAK_PER_S = 10_000.0
_LIVE_TARGETS = (("MiniLM-L6 int8", 0.02), ("2 layers of width 128 int8", 0.005))


def _row(case: str, metric: str, usd: float, target: float | None = None) -> Row:
    value = round(usd, 6)
    return Row(
        case=case, metric=metric, value=value, low=value, high=value, runs=1, unit="US$", projected=True,
        target=None if target is None else f"<= {target:g}", met=None if target is None else usd <= target,
    )  # fmt: skip


def main() -> None:
    """Work everything out and write the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--out", type=Path, default=RESULTS / "cost.json")
    options = parser.parse_args()
    prices, quantities = read_prices(), Quantities()
    figures = figures_of(read_results(options.results))
    idle = month(unmeasured(prices), prices, quantities)
    rows = [_row("idle month", line.what, line.usd) for line in idle.lines]
    rows += [_row("idle month", "in all", idle.usd), _row("training", "at most", training_usd(prices, quantities))]
    full = setups(figures, prices)
    for setup in full:
        target = next((usd for name, usd in _LIVE_TARGETS if setup.model.name.startswith(name)), None)
        cheapest = setup == next(each for each in full if each.model == setup.model)
        case = f"{setup.model.name} on {setup.host.label}, full load"
        rows.append(_row(case, "per_million_live", setup.usd_per_million, target if cheapest else None))
    day = shipped_traces()["daily"]
    try:
        base, found = savings(
            figures, setups(figures, prices, load=0.6), prices, quantities, day.scaled(load=PEAK_PER_S / day.peak)
        )
        rows.append(_row("plain month, daily wave to 10,000/s", "in all", base))
        rows += [_row("saved of the plain month", each.what, each.usd) for each in found if each.usd is not None]
    except NoSetupError as error:
        print(error)
    for sentence in figures.missing:
        print(sentence)
    for row in rows:
        print(f"{row.case}: {row.metric} US$ {row.value:.4f} {row.target or ''}")
    write_result(options.out, name="cost", command="make benchmark-cost", seed=0, rows=rows, versions={})


if __name__ == "__main__":
    main()
