"""Tests of reading a window of the prediction log."""

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from absa.adapters.lake_stores import FolderLake
from absa.records.lake import Lake
from absa.records.schema import Window
from absa.records.windows import load_window, select_feedback
from monitoring.drift.sample import sample_of
from monitoring.reference_rows import load_reference, save_reference
from tests.unit.monitoring.conftest import Traffic

Windows = Callable[[int], Window]


class OpenedKeys(FolderLake):
    """Folder lake that notes the keys that are read."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.opened: list[str] = []

    def read(self, key: str) -> bytes:
        self.opened.append(key)
        return super().read(key)


def test_small_feedback_files_are_joined_in_batches() -> None:
    """Each frame that comes back is one join, which hashes the ids of every prediction."""
    predictions = pl.DataFrame({"request_id": [f"r{number}" for number in range(0, 1000, 2)]})
    files = [pl.DataFrame({"request_id": [f"r{number}"], "label": [1]}) for number in range(1000)]
    found = list(select_feedback((*files, files[0].clear()), predictions, batch_rows=300))
    assert len(found) == 4
    assert set(pl.concat(found)["request_id"]) == set(predictions["request_id"])


def test_only_rows_of_the_window_are_read(lake: Lake, traffic: Traffic, window: Windows) -> None:
    traffic.send(window(0), 20)
    mine = traffic.send(window(1), 30)
    traffic.send(window(2), 10)
    data = load_window(lake, window(1))
    assert data.rows["request_id"].to_list() == mine
    assert data.total == 30


def test_shadow_scores_are_left_out(lake: Lake, traffic: Traffic, window: Windows) -> None:
    traffic.send(window(0), 10)
    traffic.send(window(0), 10, shadow=True, version="2")
    assert load_window(lake, window(0)).by_version == {"1": 10}


def test_late_feedback_changes_window_and_last_counts(lake: Lake, traffic: Traffic, window: Windows) -> None:
    (request, *_) = traffic.send(window(0), 5, labelled=0.0)
    end = window(0).end
    assert sample_of(load_window(lake, window(0), feedback_until=end).rows).labelled == 0
    traffic.label(request, 2, end + timedelta(days=2))
    traffic.label(request, 0, end + timedelta(days=1))
    early = sample_of(load_window(lake, window(0), feedback_until=end + timedelta(days=1, hours=1)).rows)
    late = sample_of(load_window(lake, window(0), feedback_until=end + timedelta(days=3)).rows)
    assert early.truth.tolist().count(0) == 1
    assert late.truth.tolist().count(2) == 1


def test_feedback_of_untrusted_sources_does_not_measure(lake: Lake, traffic: Traffic, window: Windows) -> None:
    traffic.send(window(0), 10, labelled=1.0, source="forum")
    until = window(5).end
    assert sample_of(load_window(lake, window(0), trusted_sources=["survey"], feedback_until=until).rows).labelled == 0
    assert sample_of(load_window(lake, window(0), trusted_sources=["forum"], feedback_until=until).rows).labelled == 10


def test_a_segment_that_was_shipped_twice_counts_once(lake: Lake, traffic: Traffic, window: Windows) -> None:
    traffic.send(window(0), 10)
    (key,) = lake.list("predictions/")
    lake.write(key.replace("r1-", "r2-"), lake.read(key))
    assert load_window(lake, window(0)).rows.height == 10


def test_an_empty_window_has_no_rows(lake: Lake, window: Windows) -> None:
    data = load_window(lake, window(0))
    assert (data.total, data.rows.height, sample_of(data.rows).rows) == (0, 0, 0)


def test_large_window_is_sampled_alike_and_reported(lake: Lake, traffic: Traffic, window: Windows) -> None:
    for _ in range(5):
        traffic.send(window(0), 100)
    first, again = (load_window(lake, window(0), max_rows=60) for _ in range(2))
    assert first.rows["request_id"].to_list() == again.rows["request_id"].to_list()
    assert (first.rows.height, first.total, first.by_version) == (60, 500, {"1": 500})
    assert "60 of 500" in first.how


def test_window_reads_its_own_hours(tmp_path: Path, window: Windows) -> None:
    lake = OpenedKeys(tmp_path)
    traffic = Traffic(lake)
    traffic.send(window(0), 5)
    traffic.send(window(180), 5)
    load_window(lake, window(0))
    predictions = [key for key in lake.opened if key.startswith("predictions/")]
    assert predictions
    assert all("hour=10" in key for key in predictions)


def test_a_redacted_log_gives_a_sample_without_texts(lake: Lake, traffic: Traffic, window: Windows) -> None:
    traffic.send(window(0), 10, redacted=True)
    sample = sample_of(load_window(lake, window(0)).rows)
    assert sample.texts is None
    assert sample.rows == 10


def test_a_reference_reads_back(lake: Lake, traffic: Traffic, window: Windows) -> None:
    traffic.send(window(0), 10)
    rows = load_window(lake, window(0)).rows
    assert load_reference(lake, "1") is None
    save_reference(lake, "1", rows)
    found = load_reference(lake, "1")
    assert found is not None
    assert found["request_id"].to_list() == rows["request_id"].to_list()
    assert lake.list("monitoring/") == ["monitoring/reference/1.parquet"]


def test_answered_rows_have_no_sampling_probability(lake: Lake, traffic: Traffic, window: Windows) -> None:
    """A request that the customer answered too would be known without the draw, so it counts once."""
    for request in traffic.send(window(0), 40, labelled=1.0, probability=0.1)[:15]:
        traffic.label(request, 0, window(0).end)
    found = load_window(lake, window(0), feedback_until=window(5).end)
    assert found.rows["sampling_probability"].is_null().sum() == 15
    assert sample_of(found.rows).weights.sum() == pytest.approx(15 + 25 / 0.1)


def test_sample_knows_request_times_and_label_delays(lake: Lake, traffic: Traffic, window: Windows) -> None:
    traffic.send(window(0), 20, labelled=0.5)
    found = sample_of(load_window(lake, window(0), feedback_until=window(5).end).rows)
    assert found.times[0] == window(0).start.timestamp()
    assert np.array_equal(np.isnan(found.delays), found.truth < 0)
    assert found.delays[found.truth >= 0] == pytest.approx(1.0)
