"""Picture of the rooms and of who imports whom: docs/reference/structure.svg, drawn by `make reference`.

Rooms are the packages on disk, the layers of flows come from the import contract in pyproject.toml.
"""

import tomllib
from pathlib import Path

_WIDTH, _GAP, _ROW, _TITLE = 960, 12, 34, 30
_FILL = {
    "flows": "#dbeafe", "serving": "#fee2e2", "monitoring": "#fef3c7", "infra": "#e5e7eb", "absa": "#dcfce7",
}  # fmt: skip
_STYLE = (
    "text{font:14px sans-serif;fill:#111}"
    ".room{font-weight:bold;font-size:16px}.note{font-size:12px;font-weight:normal;fill:#444}"
)


def structure_svg(root: Path) -> str:
    """Return the picture of a checkout."""
    layers = _layers(root)
    height = _TITLE + len(layers) * (_ROW + _GAP) + _GAP
    left, right = 560, _WIDTH - 2 * _GAP - 560 - 60
    right_x = _WIDTH - right - _GAP
    serving = _rows(_packages(root, "serving"), 2)
    parts = [
        _room("flows", "Prefect, the command line, the demo", layers, (_GAP, _GAP), (left, height)),
        _room("serving", "the router", serving, (right_x, _GAP), (right, height)),
    ]
    below = height + _GAP + 50
    half = (left - 40) // 2
    low = _TITLE + 2 * (_ROW + _GAP) + _GAP
    monitoring = _rows(_packages(root, "monitoring"), 2)
    infra = _rows(_packages(root, "infra"), 2)
    parts += [
        _room("monitoring", "drift, verdicts", monitoring, (_GAP, below), (half, low)),
        _room("infra", "AWS, capacity, cost", infra, (_GAP + half + 40, below), (half, low)),
    ]
    bottom = below + low + 50
    absa = _rows(_packages(root, "absa"), 6)
    tall = _TITLE + len(absa) * (_ROW + _GAP) + _GAP
    parts.append(
        _room(
            "absa", "the model and its records; imports no other room", absa, (_GAP, bottom), (_WIDTH - 2 * _GAP, tall)
        )
    )
    serving_x = _WIDTH - right // 2 - _GAP
    parts += [
        _arrow((_GAP + half // 2, _GAP + height), (_GAP + half // 2, below)),
        _arrow((_GAP + half + 40 + half // 2, _GAP + height), (_GAP + half + 40 + half // 2, below)),
        _arrow((_GAP + half // 2, below + low), (_GAP + half // 2, bottom)),
        _arrow((_GAP + half + 20, _GAP + height), (_GAP + half + 20, bottom)),
        _arrow((serving_x, _GAP + height), (serving_x, bottom)),
        _arrow((_GAP + left, height // 2), (right_x, height // 2), dashed=True),
        f'<text class="note" x="{_GAP + left + 8}" y="{height // 2 - 8}">starts</text>',
    ]
    total = bottom + tall + _GAP
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {total}" role="img" aria-label="Rooms and '
        f'imports"><style>{_STYLE}</style><defs><marker id="tip" markerWidth="9" markerHeight="8" refX="8" refY="4" '
        f'orient="auto"><path d="M0,0 L9,4 L0,8 z" fill="#444"/></marker></defs>'
        f'<rect width="{_WIDTH}" height="{total}" fill="#fff"/>\n' + "\n".join(parts) + "\n</svg>\n"
    )


def _packages(root: Path, room: str) -> list[str]:
    """Return the folders of a room that hold code."""
    return sorted(each.name for each in (root / room).iterdir() if any(each.glob("*.py")))


def _layers(root: Path) -> list[list[str]]:
    """Return the layers of flows, the upper ones first."""
    contracts = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"][
        "contracts"
    ]
    layers = next(each["layers"] for each in contracts if each.get("containers") == ["flows"])
    return [[name.strip() for name in layer.split("|")] for layer in layers]


def _rows(names: list[str], columns: int) -> list[list[str]]:
    return [names[start : start + columns] for start in range(0, len(names), columns)]


def _room(name: str, note: str, rows: list[list[str]], at: tuple[int, int], size: tuple[int, int]) -> str:
    (x, y), (width, height) = at, size
    drawn = [
        f'<rect x="{x}" y="{y}" width="{width}" height="{height}" rx="8" fill="{_FILL[name]}" stroke="#888"/>',
        f'<text class="room" x="{x + _GAP}" y="{y + 22}">{name}<tspan class="note" dx="10">{note}</tspan></text>',
    ]
    columns = max(map(len, rows))
    for number, row in enumerate(rows):
        each = (width - _GAP) // (columns if len(rows) > 1 and name == "absa" else len(row)) - _GAP
        top = y + _TITLE + _GAP // 2 + number * (_ROW + _GAP)
        for column, inner in enumerate(row):
            left = x + _GAP + column * (each + _GAP)
            drawn += [
                f'<rect x="{left}" y="{top}" width="{each}" height="{_ROW}" rx="5" fill="#fff" stroke="#999"/>',
                f'<text x="{left + each // 2}" y="{top + 22}" text-anchor="middle">{inner}</text>',
            ]
    return "\n".join(drawn)


def _arrow(start: tuple[int, int], end: tuple[int, int], *, dashed: bool = False) -> str:
    dash = ' stroke-dasharray="6 4"' if dashed else ""
    (x1, y1), (x2, y2) = start, end
    return (
        f'<line x1="{x1}" y1="{y1}" x2="{x2}" y2="{y2}" stroke="#444" stroke-width="2"{dash} marker-end="url(#tip)"/>'
    )
