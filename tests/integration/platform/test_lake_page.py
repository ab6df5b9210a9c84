"""Statements of docs/integrations/reading_the_lake.md, run on a lake as the product writes it."""

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from importlib.util import find_spec
from pathlib import Path

import pytest

from absa.adapters.lake_stores import FolderLake
from absa.ledger.lifecycle import crowned
from absa.ledger.store import Ledger
from absa.records.schema import Window
from tests.unit.monitoring.conftest import Traffic

PAGE = Path(__file__).parents[3] / "docs/integrations/reading_the_lake.md"
START = datetime(2026, 11, 23, 10, tzinfo=UTC)


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)


@pytest.fixture
def right(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], dict[str, int]]:
    """Answers of two versions with labels, a shadow and a corrected label; gives the labelled rows by version."""
    lake = FolderLake(tmp_path / ".evergreen" / "lake")
    traffic = Traffic(lake)
    window = Window(start=START, end=START + timedelta(hours=2))
    first = traffic.send(window, 40, version="1", labelled=0.0)
    traffic.send(window, 30, version="2", labelled=0.0)
    traffic.send(window, 40, version="2", shadow=True, labelled=0.0)
    for number, request in enumerate(first[:10]):
        traffic.label(request, 0, START + timedelta(hours=3))
        traffic.label(request, number % 3, START + timedelta(hours=4))
    Ledger(lake).append(
        expected=0, actor="t", action="promote", reason="first", state=crowned("1"), versions={"1": "d"}
    )
    monkeypatch.chdir(tmp_path)
    return lambda: {"1": 10}


def test_polars_statements_give_accuracy_by_version(
    right: Callable[[], dict[str, int]], capsys: pytest.CaptureFixture[str]
) -> None:
    accuracy, history = blocks("python")[:2]
    found: dict[str, object] = {}
    exec(accuracy, found)
    table = found["accuracy"]
    assert dict(table.select("model_version", "labelled").iter_rows()) == right()  # type: ignore[attr-defined]
    exec(history, {})
    assert re.search(r"^1 2\S+ promote 1 first$", capsys.readouterr().out, re.MULTILINE)


@pytest.mark.skipif(find_spec("duckdb") is None, reason="DuckDB is no dependency")
def test_duckdb_statement_equals_that_of_polars(right: Callable[[], dict[str, int]]) -> None:
    import duckdb

    (statement,) = blocks("sql")
    found: dict[str, object] = {}
    exec(blocks("python")[0], found)
    rows = duckdb.sql(statement).fetchall()
    assert {version: count for version, count, _ in rows} == right()
    assert [list(row) for row in rows] == [list(row) for row in found["accuracy"].iter_rows()]  # type: ignore[attr-defined]
