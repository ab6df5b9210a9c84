"""Insert measured figures into the documents: `make reference`, or `python docs/insert_figures.py [--check]`.

docs/figures.toml names each figure and the row of benchmarks/results that holds it. A page shows the figure NAME
between the comments `<!-- figure NAME -->` and `<!-- end -->`; this script writes what is between them. `--check`
changes nothing and ends with 1 if a page shows another figure.
"""

import argparse
import json
import re
import sys
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
_SHOWN = re.compile(r"(<!-- figure (\S+) -->)(.*?)(<!-- end -->)")


def figure(root: Path, wanted: Mapping[str, Any]) -> str:
    """Return a figure as the documents show it.

    Args:
        root: of the repository.
        wanted: `result` (name of the file), `case`, `metric`, `show` (a format of `value`, `low`, `high`, such as
            "{value:.1%}"), and `peer` (the start of the peer's name) for a row of a peer.

    Raises:
        ValueError: not exactly one row fits.
    """
    path = root / "benchmarks" / "results" / f"{wanted['result']}.json"
    rows = [
        row
        for row in json.loads(path.read_text(encoding="utf-8"))["rows"]
        if row["case"] == wanted["case"]
        and row["metric"] == wanted["metric"]
        and (row.get("peer") or "").startswith(wanted.get("peer", ""))
        and bool(row.get("peer")) == ("peer" in wanted)
    ]
    if len(rows) != 1:
        raise ValueError(f"{path.name}: expected one row of {dict(wanted)}, got {len(rows)}")
    return str(wanted["show"]).format(**rows[0])


def with_figures(text: str, figures: Mapping[str, str]) -> str:
    """Return a page with the figures in their places; KeyError for a name that figures.toml lacks."""
    return _SHOWN.sub(lambda found: found[1] + figures[found[2]] + found[4], text)


def main() -> int:
    """Write the figures, or check them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="change nothing; end with 1 if a page is out of date")
    check = parser.parse_args().check
    named = tomllib.loads((ROOT / "docs" / "figures.toml").read_text(encoding="utf-8"))
    figures = {name: figure(ROOT, wanted) for name, wanted in named.items()}
    stale = 0
    for page in (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))):
        text = page.read_text(encoding="utf-8")
        if (new := with_figures(text, figures)) != text:
            stale += 1
            sys.stdout.write(f"{page.relative_to(ROOT)}: {'out of date: make reference' if check else 'written'}\n")
            if not check:
                page.write_text(new, encoding="utf-8")
    return 1 if check and stale else 0


if __name__ == "__main__":
    sys.exit(main())
