"""Answered predictions reach the lake exactly once, whichever process dies."""

import itertools
import os
import subprocess
import sys
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from absa.adapters.lake_stores import FolderLake
from absa.errors import ConflictError, UnavailableError
from absa.records.log_lines import json_line
from absa.records.rows import Feedback, OutcomeCount, Prediction
from absa.records.tables import OUTCOMES as OUTCOMES_SCHEMA
from absa.records.tables import PREDICTIONS as PREDICTIONS_SCHEMA
from serving.log.shipper import Shipper
from serving.log.spool import FEEDBACK_LOG, MINUTE_US, PREDICTION_LOG, ReplicaLock, SpoolWriter, spool_bytes

HOUR_US = 3_600_000_000
AT_US = 1_795_470_037_401_255
_names = itertools.count()


def line(request_id: str, at_us: int = AT_US) -> bytes:
    text, scores = "a text", [0.1, 0.2, 0.7]
    answer = (2, scores, "7", "champion", None, 3, False, False, True, 1.5)
    return json_line(Prediction(request_id, at_us, "hash", True, None, text, "text", *answer))


def counted(minute: int, ok: int, shed: int = 0) -> bytes:
    return json_line(OutcomeCount(minute, "7", "champion", ok, 0, shed, 0, [ok, *[0] * 11]))


def writer(root: Path, *, limit_bytes: float = 1e9) -> SpoolWriter:
    return SpoolWriter(root, f"w0_{os.getpid()}_{next(_names)}", limit_bytes=limit_bytes)


def die(dead: SpoolWriter) -> None:
    """Act as the system does for a process that ends: its files are closed, its lock is free."""
    os.close(dead._lock)


def shipped(lake: FolderLake) -> list[str]:
    ids: list[str] = []
    for key in lake.list("predictions/"):
        table = pq.read_table(lake.url(key), partitioning=None)
        assert table.schema.equals(PREDICTIONS_SCHEMA)
        ids += table.column("request_id").to_pylist()
    return sorted(ids)


class BreakingLake(FolderLake):
    """A lake that is away after some writes; `half` leaves the write done and tells nobody."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.writes_left = 10**9
        self.half = False

    def write(self, key: str, data: bytes) -> None:
        if self.writes_left <= 0:
            if self.half:
                super().write(key, data)
            raise UnavailableError("the lake is away")
        self.writes_left -= 1
        super().write(key, data)


def test_closed_segments_are_shipped_with_lake_schema(tmp_path: Path) -> None:
    spool, lake = tmp_path / "spool", FolderLake(tmp_path / "lake")
    log = writer(spool)
    assert log.append(PREDICTION_LOG, line("a") + line("b"), 2)
    log.rotate()
    assert Shipper(lake, spool, "r1").ship()
    (key,) = lake.list("predictions/")
    assert key.startswith("predictions/date=2026-11-23/hour=21/r1-")
    row = pq.read_table(lake.url(key), partitioning=None).to_pylist()[0]
    assert (row["request_id"], row["label"], row["replica"], row["revision"]) == ("a", 2, "r1", 3)
    assert row["scores"] == pytest.approx([0.1, 0.2, 0.7])
    assert list((spool / "ready").iterdir()) == list((spool / "claims").iterdir()) == []


def test_segment_of_two_hours_is_split(tmp_path: Path) -> None:
    spool, lake = tmp_path / "spool", FolderLake(tmp_path / "lake")
    log = writer(spool)
    log.append(PREDICTION_LOG, line("a") + line("b", AT_US + HOUR_US) + line("c"), 3)
    log.rotate()
    Shipper(lake, spool, "r1").ship()
    assert [key.split("/")[2] for key in lake.list("predictions/")] == ["hour=21", "hour=22"]
    assert shipped(lake) == ["a", "b", "c"]


def test_open_segment_of_dead_worker_is_recovered(tmp_path: Path) -> None:
    spool, lake = tmp_path / "spool", FolderLake(tmp_path / "lake")
    living, dead = writer(spool), writer(spool)
    living.append(PREDICTION_LOG, line("living"), 1)
    dead.append(PREDICTION_LOG, line("dead") + line("half")[:-20], 2)  # killed in the middle of a write
    die(dead)
    shipper = Shipper(lake, spool, "r1")
    shipper.ship()
    assert shipped(lake) == ["dead"]
    living.close()
    shipper.ship()
    assert shipped(lake) == ["dead", "living"]
    assert list((spool / "open").iterdir()) == []


@settings(max_examples=40)
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 4), st.booleans()), min_size=1, max_size=6))
def test_interrupted_shipping_ships_each_row_once(
    tmp_path_factory: pytest.TempPathFactory, rounds: list[tuple[int, int, bool]]
) -> None:
    root = tmp_path_factory.mktemp("exactly-once")
    spool, lake = root / "spool", BreakingLake(root / "lake")
    written = []
    for number, (rows, writes, half) in enumerate(rounds):
        log = writer(spool)
        for row in range(rows):
            written.append(f"{number}-{row}")
            log.append(PREDICTION_LOG, line(written[-1], AT_US + row * HOUR_US), 1)
        if half:
            die(log)
        else:
            log.close()
        lake.writes_left, lake.half = writes, half
        Shipper(lake, spool, "r1").ship()  # a new one each time, as after a restart
    lake.writes_left = 10**9
    assert Shipper(lake, spool, "r1").ship()
    assert shipped(lake) == sorted(written)


def test_interrupted_claim_is_shipped(tmp_path: Path) -> None:
    spool, lake = tmp_path / "spool", FolderLake(tmp_path / "lake")
    for name in ("a", "b"):
        log = writer(spool)
        log.append(PREDICTION_LOG, line(name), 1)
        log.close()
    first = min((spool / "ready").iterdir())
    claim = spool / "claims" / f"{PREDICTION_LOG}.r1-1"
    claim.mkdir(parents=True)
    first.rename(claim / first.name)
    Shipper(lake, spool, "r1").ship()
    assert shipped(lake) == ["a", "b"]
    assert len(lake.list("predictions/")) == 2


def test_unreadable_line_is_counted_and_skipped(tmp_path: Path) -> None:
    spool, lake = tmp_path / "spool", FolderLake(tmp_path / "lake")
    log = writer(spool)
    log.append(PREDICTION_LOG, line("a") + b"rubbish\n[1,2]\n" + line("b"), 4)
    log.close()
    shipper = Shipper(lake, spool, "r1")
    shipper.ship()
    assert shipped(lake) == ["a", "b"]
    assert shipper.counts.unreadable == 2


def test_feedback_goes_to_the_day_of_its_receipt(tmp_path: Path) -> None:
    spool, lake = tmp_path / "spool", FolderLake(tmp_path / "lake")
    log = writer(spool)
    log.append(FEEDBACK_LOG, json_line(Feedback("id", 0, AT_US, "survey", 0.25)), 1)
    log.close()
    Shipper(lake, spool, "r1").ship()
    (key,) = lake.list("feedback/")
    assert key.startswith("feedback/date=2026-11-23/r1-")
    row = pq.read_table(lake.url(key), partitioning=None).to_pylist()[0]
    assert (row["label"], row["source"], row["sampling_probability"]) == (0, "survey", 0.25)


def test_minute_counts_sum_workers_late_ones_apart(tmp_path: Path) -> None:
    spool, lake = tmp_path / "spool", FolderLake(tmp_path / "lake")
    shipper = Shipper(lake, spool, "r1")
    minute = (time.time_ns() // 1000 - 120_000_000) // 60_000_000 * 60_000_000

    def count(ok: int, shed: int) -> None:
        log = writer(spool)
        log.append_outcomes(minute, counted(minute, ok, shed), 1)
        log.close()

    count(3, 1)
    count(4, 0)
    shipper.ship()
    (key,) = lake.list("outcomes/")
    table = pq.read_table(lake.url(key), partitioning=None)
    assert table.schema.equals(OUTCOMES_SCHEMA)
    assert [(row["ok"], row["shed"], row["latency_histogram"][0]) for row in table.to_pylist()] == [(7, 1, 7)]
    count(1, 0)
    shipper.ship()
    rows = [
        row for each in lake.list("outcomes/") for row in pq.read_table(lake.url(each), partitioning=None).to_pylist()
    ]
    assert sum(row["ok"] for row in rows) == 8


def test_late_minute_counts_replace_nothing(tmp_path: Path) -> None:
    spool, lake = tmp_path / "spool", FolderLake(tmp_path / "lake")
    first = (time.time_ns() // 1000 - 180_000_000) // 60_000_000 * 60_000_000
    log = writer(spool)
    for minute, ok in ((first, 3), (first + 60_000_000, 5), (first, 4), (first + 60_000_000, 6)):
        log.append_outcomes(minute, counted(minute, ok), 1)
    log.close()
    Shipper(lake, spool, "r1").ship()
    tables = [pq.read_table(lake.url(key), partitioning=None) for key in lake.list("outcomes/")]
    assert [table.column("ok").to_pylist() for table in tables] == [[7], [11]]


def test_full_spool_drops_counts_and_recovers(tmp_path: Path) -> None:
    spool, lake = tmp_path / "spool", FolderLake(tmp_path / "lake")
    log = writer(spool, limit_bytes=300)
    assert log.append(PREDICTION_LOG, line("a") * 3, 3)
    log.rotate()
    assert not log.append(PREDICTION_LOG, line("b"), 1)
    assert log.dropped[PREDICTION_LOG] == 1
    Shipper(lake, spool, "r1").ship()
    log.rotate()
    assert log.append(PREDICTION_LOG, line("c"), 1)
    log.close()
    assert spool_bytes(spool) > 0


def test_full_disk_drops_lines_keeps_readable_ones(tmp_path: Path) -> None:
    script = """
import resource, signal, sys
from pathlib import Path
sys.path.insert(0, sys.argv[3])
from serving.log.spool import PREDICTION_LOG, SpoolWriter
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
log = SpoolWriter(Path(sys.argv[1]), "w0_1_1", limit_bytes=1e9)
line = sys.argv[2].encode() + b"\\n"
resource.setrlimit(resource.RLIMIT_FSIZE, (len(line) * 3 + 40, resource.RLIM_INFINITY))
taken = [log.append(PREDICTION_LOG, line, 1) for _ in range(6)]
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
taken.append(log.append(PREDICTION_LOG, line, 1))
print(taken, log.dropped[PREDICTION_LOG])
"""
    spool, lake = tmp_path / "spool", FolderLake(tmp_path / "lake")
    root = str(Path(__file__).parents[4])
    run = subprocess.run(
        [sys.executable, "-c", script, str(spool), line("a").decode().strip(), root],
        capture_output=True, text=True, check=True, cwd=root,
    )  # fmt: skip
    assert run.stdout.strip() == f"{[True] * 3 + [False] * 3 + [True]} 3"
    shipper = Shipper(lake, spool, "r1")
    shipper.ship()
    assert len(shipped(lake)) == 4
    assert shipper.counts.unreadable == 0


def test_immovable_segment_is_moved_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spool, lake = tmp_path / "spool", FolderLake(tmp_path / "lake")
    log = writer(spool)
    monkeypatch.setattr("serving.log.spool._SEGMENT_BYTES", 1)  # each append fills a segment
    (spool / "ready").rmdir()
    (spool / "ready").touch()  # nothing can be moved into it
    minute = (time.time_ns() // 1000 - 180_000_000) // MINUTE_US * MINUTE_US
    for ok in (3, 5):
        at = minute + ok * MINUTE_US
        assert log.append_outcomes(at, counted(at, ok), 1)
    assert log.append(PREDICTION_LOG, line("a"), 1)
    with pytest.raises(OSError, match="ready"):
        log.rotate()
    assert log.append(PREDICTION_LOG, line("b"), 1)
    (spool / "ready").unlink()
    (spool / "ready").mkdir()
    log.rotate()
    Shipper(lake, spool, "r1").ship(everything=True)
    assert shipped(lake) == ["a", "b"]
    assert len(lake.list("outcomes/")) == 2


def test_two_routers_cannot_run_as_the_same_replica(tmp_path: Path) -> None:
    lock = ReplicaLock(tmp_path / "r1")
    with pytest.raises(ConflictError, match="EVERGREEN_REPLICA"):
        ReplicaLock(tmp_path / "r1")
    lock.release()
    ReplicaLock(tmp_path / "r1").release()
