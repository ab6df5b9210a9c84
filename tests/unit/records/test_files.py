"""A file has its old content or all of its new one."""

import errno
from pathlib import Path

import pytest

from absa.records.files import create_from, whole_file, write_whole


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


@pytest.mark.parametrize("code", [errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.ENOSPC])
def test_create_without_hard_links_stays_exclusive(code: int, tmp_path: Path) -> None:
    def link(_staged: Path, _path: Path) -> None:
        raise OSError(code, "no link")

    staged, second, path = tmp_path / "first", tmp_path / "second", tmp_path / "secret"
    staged.write_text("first")
    second.write_text("second")
    if code == errno.ENOSPC:
        with pytest.raises(OSError, match="no link"):
            create_from(staged, path, link=link)
        assert not path.exists()
        return
    create_from(staged, path, link=link)
    with pytest.raises(FileExistsError):
        create_from(second, path, link=link)
    assert path.read_text() == "first"


def test_failed_create_without_hard_links_frees_path(tmp_path: Path) -> None:
    def link(_staged: Path, _path: Path) -> None:
        raise OSError(errno.EPERM, "no link")

    with pytest.raises(FileNotFoundError):
        create_from(tmp_path / "missing", tmp_path / "secret", link=link)
    assert list(tmp_path.iterdir()) == []
