"""Artifacts of a flow run. Prefect renders descriptions and every text cell of a table as Markdown."""

from collections.abc import Mapping, Sequence
from typing import Any

from prefect.artifacts import (
    create_markdown_artifact,
    create_progress_artifact,
    create_table_artifact,
    update_progress_artifact,
)

from absa.sinks import markdown


def show_table(rows: Sequence[Mapping[str, Any]], *, key: str, description: str) -> None:
    """Show rows as a table; texts appear as written, whatever markup they hold."""
    create_table_artifact([_plain(row) for row in rows], key=key, description=markdown(description))


def show_page(page: str, *, key: str, description: str) -> None:
    """Show a Markdown page. Its author has passed each text in it through `absa.sinks`."""
    create_markdown_artifact(page, key=key, description=markdown(description))


def start_progress(*, key: str, description: str) -> Any:
    """Show a bar at 0 %; `move_progress` takes what this returns."""
    return create_progress_artifact(0.0, key=key, description=markdown(description))


def move_progress(progress: Any, percent: float) -> None:
    """Set a bar to a percentage of 0 to 100."""
    update_progress_artifact(progress, percent)


def _plain(row: Mapping[str, Any]) -> dict[str, Any]:
    return {name: markdown(value) if isinstance(value, str) else value for name, value in row.items()}
