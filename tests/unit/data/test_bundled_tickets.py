"""Bundled support tickets: the second task's rows."""

import polars as pl
import pytest

from absa.data.bundled import SAMPLE
from absa.data.normalise import side_key

INTENTS = {"account access", "billing", "bug", "cancellation", "feature request", "how-to"}
FILES = ("tickets.csv", "traffic.csv", "new_area.csv")


@pytest.fixture(scope="module")
def tickets() -> dict[str, pl.DataFrame]:
    return {name: pl.read_csv(SAMPLE / "tickets" / name) for name in FILES}


def test_tickets_have_six_intents_and_plans(tickets: dict[str, pl.DataFrame]) -> None:
    assert tickets["tickets.csv"].height >= 1_200
    for rows in tickets.values():
        assert set(rows["label"]) == INTENTS
        assert set(rows["segment"]) == {"free", "team", "business"}
        assert min(rows["label"].value_counts()["count"]) >= 30


def test_no_ticket_text_is_in_two_files(tickets: dict[str, pl.DataFrame]) -> None:
    keys = [side_key(text) for rows in tickets.values() for text in rows["text"]]
    assert len(set(keys)) == len(keys)
