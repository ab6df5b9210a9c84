"""Tests of the form of the Grafana dashboard; its metrics are tested on a running router."""

import json
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest

BOARD = json.loads((Path(__file__).parents[3] / "infra/grafana/evergreen.json").read_text(encoding="utf-8"))
PANELS: list[dict[str, Any]] = BOARD["panels"]


def test_dashboard_panels_do_not_overlap() -> None:
    areas = [panel["gridPos"] for panel in PANELS]
    assert all(area["x"] >= 0 and area["x"] + area["w"] <= 24 for area in areas)
    for one, other in combinations(areas, 2):
        beside = one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
        below = one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"]
        assert beside or below


def test_dashboard_asks_for_its_data_source() -> None:
    """Grafana's import asks for the data source; a fixed one would exist on one installation alone."""
    assert [each["name"] for each in BOARD["__inputs"]] == ["DS_PROMETHEUS"]
    sources = [each["datasource"]["uid"] for panel in PANELS for each in (panel, *panel["targets"])]
    assert set(sources) == {"${DS_PROMETHEUS}"}
    assert len({panel["id"] for panel in PANELS}) == len(PANELS)


@pytest.mark.parametrize("panel", PANELS, ids=lambda panel: panel["title"])
def test_dashboard_counters_are_shown_as_rates(panel: dict[str, Any]) -> None:
    for target in panel["targets"]:
        counted = "_total" in target["expr"] or "_bucket" in target["expr"]
        assert counted == ("rate(" in target["expr"] or "increase(" in target["expr"])
        assert target["expr"].count("(") == target["expr"].count(")")
