"""Insert measured figures and tables into the documents: `make reference`, or `docs/insert_figures.py [--check]`.

docs/figures.toml has each figure's name and its row of benchmarks/results. A page shows the figure NAME between the
comments `<!-- figure NAME -->` and `<!-- end -->`; this script writes the text between them. Tables are defined in
docs/tables.toml and written between `<!-- table NAME -->` and `<!-- end -->`. A figure needs its row; a table shows
"not measured yet" if a row or a whole result is missing. `--check` changes nothing and exits with 1 if a page is out of
date.
"""

import argparse
import json
import re
import sys
import tomllib
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
MISSING = "not measured yet"
_SHOWN = re.compile(r"(<!-- (?:figure|table) (\S+) -->)((?:(?!<!-- (?:figure|table) ).)*?)(<!-- end -->)", re.DOTALL)
_LONG_NUMBER = re.compile(r"\d{4,}")
_NO_SPREAD = re.compile(r" \((\S+) to \1\)")


def read_result(root: Path, name: str) -> dict[str, Any] | None:
    """Return a result of benchmarks/results; None if it was not measured yet."""
    path = root / "benchmarks" / "results" / f"{name}.json"
    result: dict[str, Any] | None = json.loads(path.read_text(encoding="utf-8")) if path.exists() else None
    return result


def rows_of(result: Mapping[str, Any] | None, wanted: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    """Return the rows of a result that have a case, metric and peer.

    Args:
        result: result of a benchmark; None: not measured yet.
        wanted: `metric`, `case` and, for a row of a peer, `peer`, the start of its name. A case is a pattern of
            `fnmatch`, or a list of patterns; the first pattern that has rows is used.
    """
    cases = [wanted["case"]] if isinstance(wanted["case"], str) else wanted["case"]
    named = [
        row
        for row in (result or {"rows": []})["rows"]
        if row["metric"] == wanted["metric"]
        and (row.get("peer") or "").startswith(wanted.get("peer", ""))
        and bool(row.get("peer")) == ("peer" in wanted)
    ]
    found = ([row for row in named if fnmatchcase(row["case"], case)] for case in cases)
    return next((rows for rows in found if rows), [])


def figure(root: Path, wanted: Mapping[str, Any]) -> str:
    """Return a figure in the form that the documents show.

    Args:
        root: root of the repository.
        wanted: `result` (name of the file), the fields that `rows_of` takes, and `show` (a format of the row's fields,
            such as "{value:.1%}").

    Raises:
        ValueError: no row fits, or more than one.
    """
    rows = rows_of(read_result(root, wanted["result"]), wanted)
    if len(rows) != 1:
        raise ValueError(f"{wanted['result']}.json: expected one row of {dict(wanted)}, got {len(rows)}")
    return str(wanted["show"]).format(**rows[0])


def table(root: Path, wanted: Mapping[str, Any]) -> str:
    """Return a table as Markdown, with a line for each result that names its command, machine, date and commit.

    Args:
        root: root of the repository.
        wanted: `what` (head of the first column), `columns` (each with `head`), `rows` (each with `what`). A cell has
            the fields that `figure` takes. They come from the table, the row and the column; a field of the column
            overrides one of the row, which overrides one of the table. The case of a column may contain the row's case
            as "{case}". `show` may also use {target}: the target, and the result of the comparison with it. `command`
            measures a missing result; by default `make benchmark-RESULT`.
    """
    columns: Sequence[Mapping[str, Any]] = wanted["columns"]
    lines, results = [_line([wanted["what"], *(column["head"] for column in columns)])], dict[str, Any]()
    lines.append("|---" * (len(columns) + 1) + "|")
    shared = {key: value for key, value in wanted.items() if key not in ("what", "columns", "rows")}
    for row in wanted["rows"]:
        cells: list[str] = []
        for column in columns:
            cell = {**shared, **row, **column}
            if "case" in column:
                cell["case"] = column["case"].format(case=row.get("case", ""))
            name = cell["result"]
            results[name] = read_result(root, name) or {"command": cell.get("command", f"make benchmark-{name}")}
            cells.append(_cell(results[name], cell) or ("" if MISSING in cells else MISSING))
        lines.append(_line([row["what"], *cells]))
    measured = any("rows" in result for result in results.values())
    return "\n\n".join(["\n".join(lines)] * measured + [_origin(result) for result in results.values()])


def _cell(result: Mapping[str, Any], cell: Mapping[str, Any]) -> str | None:
    """Return the content of a cell; None if its row is missing."""
    rows = rows_of(result if "rows" in result else None, cell)
    if len(rows) > 1:
        raise ValueError(f"{cell['result']}.json: expected one row of {dict(cell)}, got {len(rows)}")
    if not rows:
        return None
    (row,) = rows
    target = ""
    if row.get("target") is not None:
        number = _LONG_NUMBER.sub(lambda found: f"{int(found[0]):,}", row["target"])
        target = f"{number}: {'met' if row['met'] else '**missed**'}"
    return _NO_SPREAD.sub("", str(cell["show"]).format(**{**row, "target": target})) or " "


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cell.strip() for cell in cells)} |"


def _origin(result: Mapping[str, Any]) -> str:
    if "rows" not in result:
        return f"{MISSING.capitalize()}, command: `{result['command']}`."
    machine = result["machine"]
    on = ", ".join(filter(None, (machine.get("accelerator"), machine["cpu"], f"{machine['cores']} cores")))
    return f"`{result['command']}` on {on}; {result['date']}, commit {result['commit']}."


def with_figures(text: str, figures: Mapping[str, str]) -> str:
    """Return a page with its figures and tables.

    Raises:
        KeyError: a name is in neither file.
    """
    return _SHOWN.sub(lambda found: found[1] + figures[found[2]] + found[4], text)


def main() -> int:
    """Write the figures and tables, or check them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="change nothing; end with 1 if a page is out of date")
    check = parser.parse_args().check
    named, tables = (
        tomllib.loads((ROOT / "docs" / name).read_text(encoding="utf-8")) for name in ("figures.toml", "tables.toml")
    )
    figures = {name: figure(ROOT, wanted) for name, wanted in named.items()}
    figures |= {name: f"\n\n{table(ROOT, wanted)}\n\n" for name, wanted in tables.items()}
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
