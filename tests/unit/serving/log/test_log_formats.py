"""Segments of other releases: those of earlier ones are shipped, those of newer ones are kept."""

import logging
from pathlib import Path
from typing import Any

import pytest

from absa.adapters.lake_stores import FolderLake
from absa.records.log_lines import json_line, read_log
from absa.records.rows import Feedback, OutcomeCount, Prediction
from absa.records.tables import FEEDBACK, OUTCOMES, PREDICTIONS, read_parquet
from serving.log.shipper import Shipper

PREDICTION = Prediction(
    "019a8f0e-0000-7000-8000-000000000001", 1795470037401255, "3f2a9c0d11e4b7a6", True, "mobile", "the app is slow",
    "app", 0, [0.93, 0.05, 0.02], "7", "champion", "v7-vs-v8", 3, False, True, False, 12.345,
)  # fmt: skip
# What earlier releases wrote, byte for byte: with 16 values, with 17 (since answers say `truncated`), without a number.
OF_16 = (
    b'["019a8f0e-0000-7000-8000-000000000001",1795470037401255,"3f2a9c0d11e4b7a6",true,"mobile","the app is slow",'
    b'"app",0,[0.93,0.05,0.02],"7","champion","v7-vs-v8",3,false,true,12.345]\n'
)
OF_17 = OF_16.replace(b"true,12.345", b"true,false,12.345")
FEEDBACK_OF_5 = b'["019a8f0e-0000-7000-8000-000000000001",2,1795470037401255,"survey",0.25]\n'
OUTCOMES_OF_8 = b'[1795470000000000,"7","champion",8,1,2,3,[8,0,0,0,0,0,0,0,0,0,0,0]]\n'
NEWER = b'[4,{"request_id":"019a8f0e-0000-7000-8000-000000000009"}]\n'


def shipped(root: Path, name: str, segment: bytes) -> tuple[Shipper, FolderLake]:
    ready = root / "spool" / "ready" / name
    ready.parent.mkdir(parents=True)
    ready.write_bytes(segment)
    lake = FolderLake(root / "lake")
    shipper = Shipper(lake, root / "spool", "r1")
    assert shipper.ship(everything=True)
    return shipper, lake


def rows(lake: FolderLake, folder: str, schema: Any) -> list[dict[str, Any]]:
    return read_parquet(lake, lake.list(folder), schema).to_pylist()


@pytest.mark.parametrize(("segment", "truncated"), [(OF_16, None), (OF_17, False), (json_line(PREDICTION), False)])
def test_prediction_segment_of_any_release_is_shipped(tmp_path: Path, segment: bytes, truncated: bool | None) -> None:
    shipper, lake = shipped(tmp_path, "predictions.w0_1_1-00000001.log", segment)
    (row,) = rows(lake, "predictions/", PREDICTIONS)
    assert row["at"].isoformat() == "2026-11-23T21:40:37.401255+00:00"
    assert row["scores"] == pytest.approx([0.93, 0.05, 0.02])
    assert row["latency_ms"] == pytest.approx(12.345)
    expected = {**PREDICTION._asdict(), "truncated": truncated, "replica": "r1", "schema_version": 1}
    exact = set(expected) - {"at", "scores", "latency_ms"}
    assert {name: row[name] for name in exact} == {name: expected[name] for name in exact}
    assert shipper.counts.unreadable == 0


def test_feedback_segment_of_earlier_release_is_shipped(tmp_path: Path) -> None:
    shipper, lake = shipped(tmp_path, "feedback.w0_1_1-00000001.log", FEEDBACK_OF_5)
    (row,) = rows(lake, "feedback/", FEEDBACK)
    assert (row["request_id"], row["label"], row["source"]) == (PREDICTION.request_id, 2, "survey")
    assert shipper.counts.unreadable == 0


def test_outcome_segment_of_earlier_release_is_shipped(tmp_path: Path) -> None:
    counted = json_line(OutcomeCount(1795470000000000, "7", "champion", 1, 0, 0, 0, [1, *[0] * 11]))
    name = "outcomes.1795470000000000.w0_1_1-00000001.log"
    shipper, lake = shipped(tmp_path, name, OUTCOMES_OF_8 + counted)
    (row,) = rows(lake, "outcomes/", OUTCOMES)
    assert [row[name] for name in ("ok", "error", "shed", "timeout")] == [9, 1, 2, 3]
    assert row["latency_histogram"] == [9, *[0] * 11]
    assert (row["replica"], shipper.counts.unreadable) == ("r1", 0)


def test_segment_of_newer_release_is_kept(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    name = "predictions.w0_1_1-00000001.log"
    with caplog.at_level(logging.ERROR):
        shipper, lake = shipped(tmp_path, name, NEWER)
    assert "expected format 3 or older, got 4" in caplog.text
    assert (shipper.counts.kept_aside, shipper.counts.unreadable) == (1, 0)
    again = Shipper(lake, tmp_path / "spool", "r1")
    assert again.ship()
    assert (tmp_path / "spool" / "aside" / name).read_bytes() == NEWER
    assert lake.list("predictions/") == []


def test_segment_kept_aside_is_shipped_once_readable(tmp_path: Path) -> None:
    spool, lake = tmp_path / "spool", FolderLake(tmp_path / "lake")
    (spool / "aside").mkdir(parents=True)
    (spool / "aside" / "predictions.w0_1_1-00000001.log").write_bytes(json_line(PREDICTION))
    shipper = Shipper(lake, spool, "r1")
    assert shipper.ship()
    assert len(rows(lake, "predictions/", PREDICTIONS)) == 1
    assert list((spool / "aside").iterdir()) == []


def test_newer_segment_leaves_rows_of_its_claim(tmp_path: Path) -> None:
    ready = tmp_path / "spool" / "ready"
    ready.mkdir(parents=True)
    (ready / "predictions.w0_1_1-00000001.log").write_bytes(NEWER)
    (ready / "predictions.w1_2_2-00000001.log").write_bytes(OF_17)
    lake = FolderLake(tmp_path / "lake")
    assert Shipper(lake, tmp_path / "spool", "r1").ship()
    assert [row["request_id"] for row in rows(lake, "predictions/", PREDICTIONS)] == [PREDICTION.request_id]


@pytest.mark.parametrize("line", [b"[]", b"{}", b"[1,2]", b"[2,3]", b"rubbish", b'["a"]', OF_17[:-1] + b",4]"])
def test_broken_line_is_counted(line: bytes) -> None:
    found = read_log(line + b"\n" + json_line(PREDICTION) + b"[2,", Prediction)
    assert found == ([PREDICTION], 1, 0)


@pytest.mark.parametrize("field", ["minute", "version", "arm", "ok", "latency_histogram"])
def test_outcome_without_a_value_holds_up_no_other(tmp_path: Path, field: str) -> None:
    counted = OutcomeCount(1795470000000000, "7", "champion", 1, 0, 0, 0, [1, *[0] * 11])
    damaged = counted._replace(**{field: None})
    name = "outcomes.1795470000000000.w0_1_1-00000001.log"
    shipper, lake = shipped(tmp_path, name, json_line(damaged) + json_line(counted))
    assert [row["ok"] for row in rows(lake, "outcomes/", OUTCOMES)] == [1]
    assert shipper.counts.unreadable == 1


@pytest.mark.parametrize("field", ["request_id", "label", "at", "source"])
def test_feedback_without_a_value_is_unreadable(field: str) -> None:
    row = Feedback(PREDICTION.request_id, 1, 1795470037401255, "survey", None)
    assert read_log(json_line(row._replace(**{field: None})) + json_line(row), Feedback) == ([row], 1, 0)


@pytest.mark.parametrize("number", [b"[3,", b"[999,"])
def test_flipped_format_number_costs_one_line(tmp_path: Path, number: bytes) -> None:
    line = json_line(PREDICTION)
    flipped = number + line.removeprefix(b"[2,")
    shipper, lake = shipped(tmp_path, "predictions.w0_1_1-00000001.log", line + flipped + line)
    assert len(rows(lake, "predictions/", PREDICTIONS)) == 2
    assert (shipper.counts.unreadable, shipper.counts.kept_aside) == (1, 0)


@pytest.mark.parametrize(
    ("segment", "newer"),
    [
        (NEWER + b"rubbish\n", 4),  # no line is known
        (OF_17 + NEWER, 4),
        (OF_17 + NEWER + b"[2,", 4),  # the last line without its end says nothing
        (NEWER + OF_17, 0),
        (b"rubbish\n", 0),
    ],
)
def test_last_whole_line_or_none_known_decides_release(segment: bytes, newer: int) -> None:
    assert read_log(segment, Prediction).newer == newer


def test_line_without_later_fields_gets_their_defaults() -> None:
    line = json_line(PREDICTION).replace(b',12.345,"",null]', b"]")
    assert read_log(line, Prediction).rows == [PREDICTION._replace(latency_ms=None)]


def test_feedback_line_round_trips() -> None:
    row = Feedback("019a8f0e-0000-7000-8000-000000000001", 1, 1795470037401255, "survey", None)
    assert read_log(json_line(row), Feedback).rows == [row]


@pytest.mark.parametrize(
    "damaged",
    [
        PREDICTION._replace(at="noon"),  # type: ignore[arg-type]
        PREDICTION._replace(scores=[0.5]),
        PREDICTION._replace(label=1_000),
        PREDICTION._replace(at=10**30),
        PREDICTION._replace(model_version=None),  # type: ignore[arg-type]
        PREDICTION._replace(scores=[0.5, None, 0.5]),  # type: ignore[list-item]
    ],
)
def test_line_with_wrong_values_holds_up_no_other(tmp_path: Path, damaged: Prediction) -> None:
    line = json_line(damaged) if damaged.at != 10**30 else json_line(PREDICTION).replace(b"1795470037401255", b"1" * 30)
    shipper, lake = shipped(tmp_path, "predictions.w0_1_1-00000001.log", line + json_line(PREDICTION))
    assert [row["request_id"] for row in rows(lake, "predictions/", PREDICTIONS)] == [PREDICTION.request_id]
    assert shipper.counts.unreadable == 1
