"""A committed result as the Markdown table that the docs show: python -m benchmarks table drift."""

import argparse
import json
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"
WORDS = {" labels a window": " labels per window", "back test says not to trust it": "back test distrusts the estimate"}
"""Names of earlier results, in the words of the documents."""


def shown(row: dict[str, Any]) -> str:
    """A figure with its interval, shares in percent."""
    value, low, high = row["value"], row["low"], row["high"]
    if row["unit"] == "share":
        return f"{value:.1%} ({low:.1%} to {high:.1%})"
    spread = "" if low == high else f" ({low:.4g} to {high:.4g})"
    return f"{value:.4g}{spread} {row['unit']}"


def table(result: dict[str, Any], *, judged: bool = False) -> str:
    """Every row of a result, or the `judged` ones: with a target, or a peer's, named in the measure."""
    lines = ["| case | measure | runs | found | target |", "|---|---|---|---|---|"]
    for row in result["rows"]:
        if judged and row.get("target") is None and not row.get("peer"):
            continue
        measure = row["metric"].replace("_", " ") + (f"; *{row['peer']}*" if row.get("peer") else "")
        target = "" if row.get("target") is None else f"{row['target']}: {'met' if row['met'] else '**missed**'}"
        lines.append(f"| {row['case']} | {measure} | {row['runs']:,} | {shown(row)} | {target} |")
    for old, new in WORDS.items():
        lines = [line.replace(old, new) for line in lines]
    machine = result["machine"]
    ran = f"Ran on {machine['cpu']}, {machine['cores']} cores; seed {result['seed']}, {result['date']}"
    spread = "Spans are those of the runs" if judged else "Intervals are 95 %"
    return "\n".join([*lines, "", f"{spread}. {ran}, commit {result['commit']}.", ""])


def pivot(result: dict[str, Any], metrics: list[str]) -> str:
    """A line a case and a column a measure; spans of the first measure alone."""
    heads = [metric.replace("_", " ") for metric in metrics]
    lines = [f"| case | runs | {' | '.join(heads)} |", "|---|---|" + "---|" * len(metrics)]
    cases: dict[str, dict[str, dict[str, Any]]] = {}
    for row in result["rows"]:
        cases.setdefault(row["case"], {})[row["metric"]] = row
    for case, found in cases.items():
        if not any(metric in found for metric in metrics):
            continue
        cells = [f"{found[metric]['value']:.3f}" if metric in found else "" for metric in metrics]
        if metrics[0] in found and found[metrics[0]]["low"] != found[metrics[0]]["high"]:
            cells[0] += f" ({found[metrics[0]]['low']:.3f} to {found[metrics[0]]['high']:.3f})"
        runs = max(found[metric]["runs"] for metric in metrics if metric in found)
        lines.append(f"| {case} | {runs} | {' | '.join(cells)} |")
    return "\n".join([*lines, ""])


def main() -> None:
    """Print one result's table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", help="of the result in benchmarks/results")
    parser.add_argument("--judged", action="store_true", help="only rows with a target, and peers")
    parser.add_argument("--columns", nargs="+", metavar="MEASURE", help="a line a case, these measures side by side")
    options = parser.parse_args()
    result = json.loads((RESULTS / f"{options.name}.json").read_text())
    print(pivot(result, options.columns) if options.columns else table(result, judged=options.judged))


if __name__ == "__main__":
    main()
