"""Tests of the states of trainings in the lake."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from absa.adapters.lake_stores import FolderLake
from absa.records.layout import training_key
from absa.records.trainings import begin_training, read_trainings, write_training

NOW = datetime(2026, 11, 30, 12, tzinfo=UTC)


def test_states_are_read_as_written(tmp_path: Path) -> None:
    lake = FolderLake(tmp_path)
    first, second, third = (
        begin_training(NOW + timedelta(hours=hour), allowed_s=900, budget_s=600, reason="drift") for hour in range(3)
    )
    done = second.completed(NOW + timedelta(hours=2), version="7", verdict="HOLD", sentence="F1 0.9")
    for state in (third, first, second, done):
        write_training(lake, state)
    assert read_trainings(lake) == ([first, done, third], [])
    assert read_trainings(lake, since=NOW + timedelta(minutes=90)) == ([third], [])


def test_training_without_an_end_is_lost_later() -> None:
    state = begin_training(NOW, allowed_s=800, budget_s=800, reason="manual")
    assert not state.is_lost(NOW + timedelta(seconds=1300))
    assert state.is_lost(NOW + timedelta(seconds=1301))
    assert not state.failed(NOW, "stopped").is_lost(NOW + timedelta(days=1))


def test_state_with_new_fields_is_read(tmp_path: Path) -> None:
    lake = FolderLake(tmp_path)
    state = begin_training(NOW, allowed_s=1, budget_s=1, reason="manual")
    write_training(lake, state)
    key = training_key(state.name)
    lake.write(key, lake.read(key).replace(b"{", b'{"later": 1, ', 1))
    assert read_trainings(lake) == ([state], [])


@pytest.mark.parametrize("content", [b"[]", b"{}", b"cut o"])
def test_unreadable_record_is_named_beside_others(tmp_path: Path, content: bytes) -> None:
    lake = FolderLake(tmp_path)
    states = [begin_training(NOW + timedelta(hours=n), allowed_s=1, budget_s=1, reason="manual") for n in range(2)]
    for state in states:
        write_training(lake, state)
    key = training_key(states[0].name)
    lake.write(key, content)
    found, (sentence,) = read_trainings(lake)
    assert found == states[1:]
    assert sentence == f"{lake.url(key)} is not the record of a training: delete it, no version needs it"
