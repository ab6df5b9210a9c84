"""Peak memory of a process, with and without /proc."""

from pathlib import Path

from absa.packaging.validate import peak_memory_mb


def test_peak_memory_is_read_from_status_file(tmp_path: Path) -> None:
    status = tmp_path / "status"
    status.write_text("Name:\tpython\nVmPeak:\t  900000 kB\nVmHWM:\t  250000 kB\n")
    assert peak_memory_mb(status) == 256.0


def test_peak_memory_without_proc_is_of_getrusage(tmp_path: Path) -> None:
    assert 5 < peak_memory_mb(tmp_path / "missing") < 100_000
