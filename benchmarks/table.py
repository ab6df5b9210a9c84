"""A committed result as the Markdown table that the docs show: python -m benchmarks.table drift."""

import argparse
import json
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"


def shown(row: dict[str, Any]) -> str:
    """A figure with its interval, shares in percent."""
    value, low, high = row["value"], row["low"], row["high"]
    if row["unit"] == "share":
        return f"{value:.1%} ({low:.1%} to {high:.1%})"
    spread = "" if low == high else f" ({low:.4g} to {high:.4g})"
    return f"{value:.4g}{spread} {row['unit']}"


def table(result: dict[str, Any]) -> str:
    """Every row of a result; peers name themselves in the measure's column."""
    lines = ["| case | measure | runs | found | target |", "|---|---|---|---|---|"]
    for row in result["rows"]:
        measure = row["metric"].replace("_", " ") + (f"; *{row['peer']}*" if row.get("peer") else "")
        target = "" if row.get("target") is None else f"{row['target']}: {'met' if row['met'] else '**missed**'}"
        lines.append(f"| {row['case']} | {measure} | {row['runs']:,} | {shown(row)} | {target} |")
    machine = result["machine"]
    ran = f"Ran on {machine['cpu']}, {machine['cores']} cores; seed {result['seed']}, {result['date']}"
    return "\n".join([*lines, "", f"Intervals are 95 %. {ran}, commit {result['commit']}.", ""])


def main() -> None:
    """Print one result's table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", help="of the result in benchmarks/results")
    print(table(json.loads((RESULTS / f"{parser.parse_args().name}.json").read_text())))


if __name__ == "__main__":
    main()
