"""Tests of the memory check before a training."""

from pathlib import Path

import pytest

from absa.training.memory import available_bytes, memory_shortage

MEMINFO = "MemTotal:       16000000 kB\nMemAvailable:    4000000 kB\nSwapFree:        1000000 kB\n"


@pytest.mark.parametrize(
    ("weights", "available", "short"),
    [(1_110_000_000, 6e9, True), (1_110_000_000, 9e9, False), (90_000_000, 1e8, False), (1_110_000_000, None, False)],
    ids=["large encoder", "enough memory", "small encoder", "unknown memory"],
)
def test_memory_check_refuses_what_cannot_fit(weights: int, available: float | None, short: bool) -> None:
    said = memory_shortage(weights, available)
    assert (said is not None) == short
    if said:
        assert said.startswith("training and packaging it take about 8.3 GB of memory, and 6.0 GB are")


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, 5_120_000_000),
        ({"memory.max": "max", "memory.current": "1"}, 5_120_000_000),
        ({"memory.max": "3000000000", "memory.current": "1000000000"}, 2_000_000_000),
    ],
    ids=["no container", "no limit", "limit"],
)
def test_available_memory_counts_limit_of_container(tmp_path: Path, files: dict[str, str], expected: int) -> None:
    (tmp_path / "meminfo").write_text(MEMINFO)
    for name, content in files.items():
        (tmp_path / name).write_text(content + "\n")
    assert available_bytes(tmp_path / "meminfo", tmp_path) == expected


def test_available_memory_without_proc_is_known(tmp_path: Path) -> None:
    found = available_bytes(tmp_path / "meminfo", tmp_path)
    assert found is not None
    assert 1e6 < found < 1e14
