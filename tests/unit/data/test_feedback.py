"""Feedback that comes late, out of order, twice or for nothing."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pyarrow as pa
import pytest

from absa.adapters.lake_stores import FolderLake
from absa.data.feedback import labelled_examples
from absa.data.read import EXAMPLE_COLUMNS
from absa.records.layout import feedback_prefix, prediction_prefix
from absa.records.schema import Window
from absa.records.tables import FEEDBACK, PREDICTIONS, write_parquet
from absa.records.windows import join_feedback, load_window

AT = datetime(2026, 11, 30, 23, 50, tzinfo=UTC)
LATER = AT + timedelta(days=2)


def predicted(request_id: str, *, minute: int = 0, **changes) -> dict:
    return {
        "schema_version": 1,
        "request_id": request_id,
        "at": AT + timedelta(minutes=minute),
        "unit_hash": "u1",
        "unit_given": True,
        "segment": "shop",
        "text": f"the app of {request_id}",
        "aspect": "app",
        "label": 1,
        "scores": [0.2, 0.6, 0.2],
        "model_version": "1",
        "arm": "champion",
        "experiment": None,
        "revision": 1,
        "shadow": False,
        "cached": False,
        "latency_ms": 1.0,
        "replica": "r",
    } | changes


def told(request_id: str, label: int, *, minute: int = 0, source: str = "survey") -> dict:
    return {
        "schema_version": 1,
        "request_id": request_id,
        "label": label,
        "at": AT + timedelta(minutes=minute),
        "source": source,
        "sampling_probability": None,
    }


def predictions(*rows: dict) -> pa.Table:
    return pa.Table.from_pylist(list(rows), schema=PREDICTIONS)


def feedback(*rows: dict) -> pa.Table:
    return pa.Table.from_pylist(list(rows), schema=FEEDBACK)


def test_last_by_time_wins_in_any_order():
    records = [told("a", 0, minute=1), told("a", 2, minute=3), told("a", 1, minute=2)]
    for order in (records, records[::-1]):
        joined = join_feedback(pl.DataFrame(predictions(predicted("a"))), pl.DataFrame(feedback(*order)))
        assert joined["feedback_label"].to_list() == [2]


def test_served_prediction_keeps_last_feedback_or_nulls():
    served = predictions(predicted("a"), predicted("b"), predicted("a", shadow=True, model_version="2"))
    said = feedback(told("a", 2, minute=5), told("a", 2, minute=5), told("unknown", 0))
    joined = join_feedback(pl.DataFrame(served), pl.DataFrame(said))
    rows = joined.select("request_id", "label", "feedback_label", "feedback_source", "feedback_at").rows()
    assert rows == [("a", 1, 2, "survey", AT + timedelta(minutes=5)), ("b", 1, None, None, None)]
    assert set(PREDICTIONS.names) < set(joined.columns)


@pytest.fixture
def lake(tmp_path: Path) -> FolderLake:
    return FolderLake(tmp_path)


def store(lake: FolderLake, served: list[dict], said: list[dict]) -> None:
    for n, row in enumerate(served):
        write_parquet(lake, f"{prediction_prefix(row['at'])}r-{n}.parquet", predictions(row))
    for n, row in enumerate(said):
        write_parquet(lake, f"{feedback_prefix(row['at'])}r-{n}.parquet", feedback(row))


def test_untrusted_source_hides_no_trusted_one(lake):
    store(lake, [predicted("a")], [told("a", 2, minute=1), told("a", 0, minute=5, source="public")])
    data = load_window(lake, Window(start=AT, end=LATER), trusted_sources=["survey"], feedback_until=LATER)
    assert data.rows["feedback_label"].to_list() == [2]


def test_examples_come_from_trusted_feedback_of_window(lake):
    store(
        lake,
        [predicted("before", minute=-1), predicted("in"), predicted("late", minute=20), predicted("after", minute=30)],
        [told(r, 2, minute=m) for r, m in (("before", 1), ("in", 1), ("late", 600), ("after", 31))]
        + [told("in", 0, minute=2, source="public")],
    )
    examples = labelled_examples(lake, AT, AT + timedelta(minutes=30), ["survey"], feedback_until=LATER)
    assert examples.schema == pl.Schema(EXAMPLE_COLUMNS)
    assert examples.select("text", "label", "source", "segment", "observed_at").rows() == [
        ("the app of in", 2, "survey", "shop", AT),
        ("the app of late", 2, "survey", "shop", AT + timedelta(minutes=20)),
    ]


def test_redacted_texts_train_nothing(lake):
    store(lake, [predicted("a", text=None)], [told("a", 2)])
    assert labelled_examples(lake, AT, AT + timedelta(hours=1), ["survey"], feedback_until=LATER).height == 0


def test_unit_trains_no_more_than_its_cap(lake):
    served = [predicted(f"{n:03d}", unit_hash="loud") for n in range(20)]
    served += [predicted(f"quiet{n}", unit_hash="quiet") for n in range(2)]
    served += [predicted(f"none{n}", unit_hash=f"hash{n % 1}", unit_given=False) for n in range(8)]
    store(lake, served, [told(row["request_id"], 2) for row in served])
    examples = labelled_examples(lake, AT, AT + timedelta(hours=1), ["survey"], feedback_until=LATER, max_a_unit=5)
    kinds = examples["text"].str.extract(r"of ([a-z]*)").value_counts()
    assert dict(kinds.iter_rows()) == {"": 5, "quiet": 2, "none": 8}


def test_no_source_trains_more_than_its_cap(lake):
    served = [predicted(f"{n:03d}", unit_hash=f"u{n}") for n in range(12)]
    said = [told(row["request_id"], 2, source="survey" if n < 9 else "desk") for n, row in enumerate(served)]
    store(lake, served, said)
    examples = labelled_examples(
        lake, AT, AT + timedelta(hours=1), ["survey", "desk"], feedback_until=LATER, max_a_source=4
    )
    assert dict(examples["source"].value_counts().iter_rows()) == {"survey": 4, "desk": 3}


def test_an_empty_lake_gives_no_examples(lake):
    assert labelled_examples(lake, AT, AT + timedelta(hours=1), ["survey"], feedback_until=LATER).height == 0
