"""A file has its old content or all of its new one."""

from pathlib import Path

import pytest

from absa.records.files import whole_file, write_whole


def test_written_file_has_content_and_mode(tmp_path: Path) -> None:
    path = tmp_path / "note.json"
    write_whole(path, "é", mode=0o600)
    write_whole(path, b"second", mode=0o600, sync=True)
    assert path.read_bytes() == b"second"
    assert path.stat().st_mode & 0o777 == 0o600
    assert list(tmp_path.iterdir()) == [path]


def test_failed_write_keeps_previous_content(tmp_path: Path) -> None:
    path = tmp_path / "note.json"
    write_whole(path, "before")
    with pytest.raises(RuntimeError), whole_file(path) as file:
        file.write(b"half")
        raise RuntimeError
    assert path.read_text() == "before"
    assert list(tmp_path.iterdir()) == [path]


def test_second_create_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    write_whole(path, "first", create=True)
    with pytest.raises(FileExistsError):
        write_whole(path, "second", create=True)
    assert path.read_text() == "first"
    assert list(tmp_path.iterdir()) == [path]
