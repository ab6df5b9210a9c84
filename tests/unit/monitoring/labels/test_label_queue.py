"""Tests of the label queue: what is asked, and labels coming back."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from absa.errors import PermanentError
from absa.records.lake import Lake
from absa.records.schema import Window
from absa.records.windows import WindowData, load_window
from absa.task import InputForm, TaskSpec
from monitoring.drift.sample import sample_of
from monitoring.labels.label_import import import_labels
from monitoring.labels.label_queue import ask_labels, queue_columns, write_queue
from monitoring.performance import measure
from tests.unit.monitoring.conftest import Traffic

Windows = Callable[[int], Window]


def test_about_as_many_rows_are_drawn_as_wanted(lake: Lake, traffic: Traffic, window: Windows) -> None:
    traffic.send(window(0), 1000, labelled=0.0)
    asked = ask_labels(lake, window(0), count=100)
    assert 70 < asked.height < 130
    assert set(asked["why"]) == {"audit", "uncertain"}
    assert asked["sampling_probability"].is_between(0, 1).all()


@pytest.mark.parametrize(("form", "columns"), [("text", []), ("text+topic", ["topic"]), ("text+aspect", ["aspect"])])
def test_queue_has_phrase_of_task(
    lake: Lake, traffic: Traffic, window: Windows, form: InputForm, columns: list[str]
) -> None:
    task = TaskSpec(name="t", input=form, labels=("a", "b", "c"))
    traffic.send(window(0), 50, labelled=0.0)
    for k in (0, 3):  # a window with rows, and one without
        found = ask_labels(lake, window(k), count=20, task=task).columns
        assert found == ["request_id", "text", *columns, *queue_columns()[3:]]


def test_uncertain_rows_are_likelier_to_be_asked_about(lake: Lake, traffic: Traffic, window: Windows) -> None:
    traffic.send(window(0), 1000, labelled=0.0)
    asked = ask_labels(lake, window(0), count=100)
    everything = sample_of(load_window(lake, window(0)).rows).scores.max(axis=1).mean()
    assert asked.filter(pl.col("why") == "uncertain")["confidence"].mean() < everything - 0.01  # type: ignore[operator]


def test_disagreements_of_a_shadow_come_first(lake: Lake, traffic: Traffic, window: Windows) -> None:
    requests = traffic.send(window(0), 500, labelled=0.0, confidence=0.9)
    (key,) = lake.list("predictions/")
    path = Path(lake.url(key))
    frame = pl.read_parquet(path)
    shadow = frame.with_columns(
        pl.lit(value=True).alias("shadow"),
        pl.lit("2").alias("model_version"),
        pl.when(pl.col("request_id").is_in(requests[:25]))
        .then((pl.col("label") + 1) % 3)
        .otherwise(pl.col("label"))
        .cast(pl.Int8)
        .alias("label"),
    )
    shadow.write_parquet(path.with_name("r1-shadow.parquet"))
    asked = ask_labels(lake, window(0), count=60, audit_share=0.2)
    differing = asked.filter(pl.col("why") == "disagreement")
    assert set(differing["request_id"]) <= set(requests[:25])
    assert asked["sampling_probability"][0] == differing["sampling_probability"].max()


def test_deferred_answers_come_first(lake: Lake, traffic: Traffic, window: Windows) -> None:
    requests = traffic.send(window(0), 500, labelled=0.0, confidence=0.9)
    (key,) = lake.list("predictions/")
    path = Path(lake.url(key))
    frame = pl.read_parquet(path)
    frame.with_columns(certain=~pl.col("request_id").is_in(requests[:25])).write_parquet(path)
    asked = ask_labels(lake, window(0), count=60, audit_share=0.2)
    deferred = asked.filter(pl.col("why") == "deferred")
    assert 10 < deferred.height <= 25
    assert set(deferred["request_id"]) <= set(requests[:25])
    assert asked["sampling_probability"][0] == deferred["sampling_probability"].max()


def test_shadow_disagreements_are_drawn_with_one_chance(lake: Lake, traffic: Traffic, window: Windows) -> None:
    requests = traffic.send(window(0), 500, labelled=0.0)
    (key,) = lake.list("predictions/")
    path = Path(lake.url(key))
    frame = pl.read_parquet(path)
    for version, low, high in (("2", 0, 25), ("3", 25, 50)):
        differs = pl.col("request_id").is_in(requests[low:high])
        label = pl.when(differs).then((pl.col("label") + 1) % 3).otherwise(pl.col("label")).cast(pl.Int8)
        shadow = frame.with_columns(pl.lit(value=True).alias("shadow"), pl.lit(version).alias("model_version"), label)
        shadow.write_parquet(path.with_name(f"r1-shadow-{version}.parquet"))
    asked = ask_labels(lake, window(0), count=400, audit_share=0.2)
    differing = asked.filter(pl.col("request_id").is_in(requests[:50]))
    assert set(differing["why"]) <= {"audit", "disagreement"}
    assert differing["sampling_probability"].n_unique() == 1
    assert set(requests[:25]) & set(differing["request_id"])
    assert set(requests[25:50]) & set(differing["request_id"])


def test_rows_with_feedback_are_not_requested(lake: Lake, traffic: Traffic, window: Windows) -> None:
    traffic.send(window(0), 300, labelled=0.5)
    first, again = ask_labels(lake, window(0), count=50), ask_labels(lake, window(0), count=50)
    assert first.equals(again)
    known = load_window(lake, window(0)).rows.filter(pl.col("feedback_label").is_not_null())["request_id"]
    assert not set(first["request_id"]) & set(known)


def test_more_rows_than_exist_gives_all(lake: Lake, traffic: Traffic, window: Windows) -> None:
    traffic.send(window(0), 20, labelled=0.0)
    assert ask_labels(lake, window(0), count=500).height == 20
    assert ask_labels(lake, window(3), count=500).height == 0


def hidden(lake: Lake, window: Window) -> tuple[WindowData, dict[str, int]]:
    """A window with every row's label, and these by request; afterwards the lake has none of them."""
    full = load_window(lake, window)
    for key in lake.list("feedback/"):
        lake.delete(key)
    return full, dict(full.rows.select("request_id", "feedback_label").iter_rows())


def test_f1_from_queue_is_unbiased_by_choice(lake: Lake, traffic: Traffic, window: Windows, tmp_path: Path) -> None:
    """The truth of every row is known here; a person labels only the queue's."""
    requests = traffic.send(window(0), 4000, labelled=1.0, accuracy=0.75)
    full, truth = hidden(lake, window(0))
    expected = measure(sample_of(full.rows))
    asked = ask_labels(lake, window(0), count=800)
    filled = asked.with_columns(pl.Series("label", [truth[request] for request in asked["request_id"]]))
    write_queue(filled, tmp_path / "queue.csv")
    taken = import_labels(lake, tmp_path / "queue.csv").taken
    found = measure(sample_of(load_window(lake, window(0)).rows))
    assert taken == asked.height < len(requests)
    assert expected is not None
    assert found is not None
    assert found.rows == taken
    assert abs(found.f1 - expected.f1) < 3.0 * found.standard_error
    plain = np.mean([row["predicted"] == row["label"] for row in filled.iter_rows(named=True)])
    right = full.rows.select((pl.col("label") == pl.col("feedback_label")).mean()).item()
    assert plain < right - 0.02  # the chosen rows are harder than the window


def answered(lake: Lake, window: Window, asked: pl.DataFrame, truth: dict[str, int], path: Path) -> None:
    write_queue(asked.with_columns(pl.Series("label", [truth[each] for each in asked["request_id"]])), path)
    import_labels(lake, path, at=window.end)


def test_second_export_keeps_measured_f1_unbiased(
    lake: Lake, traffic: Traffic, window: Windows, tmp_path: Path
) -> None:
    traffic.send(window(0), 4000, labelled=1.0, accuracy=0.75)
    full, truth = hidden(lake, window(0))
    expected = measure(sample_of(full.rows))
    first = ask_labels(lake, window(0), count=400)
    answered(lake, window(0), first, truth, tmp_path / "first.csv")
    second = ask_labels(lake, window(0), count=400)
    answered(lake, window(0), second, truth, tmp_path / "second.csv")
    assert 340 < second.height < 460
    assert not set(first["request_id"]) & set(second["request_id"])
    found = measure(sample_of(load_window(lake, window(0)).rows))
    assert expected is not None
    assert found is not None
    assert abs(found.f1 - expected.f1) < 3.0 * found.standard_error


def test_two_exports_equal_one_larger_draw(lake: Lake, traffic: Traffic, window: Windows, tmp_path: Path) -> None:
    requests = traffic.send(window(0), 1000, labelled=0.0)
    first = ask_labels(lake, window(0), count=100)
    whole = ask_labels(lake, window(0), count=100 + first.height)
    answered(lake, window(0), first, dict.fromkeys(requests, 0), tmp_path / "queue.csv")
    second = ask_labels(lake, window(0), count=100)
    assert {*first["request_id"], *second["request_id"]} == {*whole["request_id"]}
    chances = dict(whole.select("request_id", "sampling_probability").iter_rows())
    assert all(
        chances[request] == chance
        for request, chance in second.select("request_id", "sampling_probability").iter_rows()
    )


def test_earlier_requests_do_not_swell_next_draw(lake: Lake, traffic: Traffic, window: Windows, tmp_path: Path) -> None:
    requests = traffic.send(window(0), 300, labelled=0.0)
    first = ask_labels(lake, window(0), count=150)
    answered(lake, window(0), first, dict.fromkeys(requests, 0), tmp_path / "queue.csv")
    traffic.send(window(1), 3000, labelled=0.0)
    both = Window(start=window(0).start, end=window(1).end)
    assert 110 < ask_labels(lake, both, count=150).height < 190


def test_rows_labelled_by_untrusted_source_are_requested(lake: Lake, traffic: Traffic, window: Windows) -> None:
    traffic.send(window(0), 40, labelled=1.0, source="forum")
    assert ask_labels(lake, window(0), count=500, trusted_sources=["survey"]).height == 40
    assert ask_labels(lake, window(0), count=500, trusted_sources=["survey", "forum"]).height == 0


def test_redacted_log_requests_no_labels(lake: Lake, traffic: Traffic, window: Windows) -> None:
    traffic.send(window(0), 20, redacted=True, labelled=0.0)
    with pytest.raises(PermanentError, match="redacted"):
        ask_labels(lake, window(0), count=5)
