"""Whole-file writes: a file has its old content or all of its new one, whatever is killed meanwhile."""

import errno
import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Final

STAGED: Final = ".tmp-"
"""First characters of the names of files that are being written; a kill leaves one."""
_NO_LINKS: Final = frozenset({errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS})


@contextmanager
def whole_file(path: Path, *, mode: int = 0o644, sync: bool = False, create: bool = False) -> Iterator[BinaryIO]:
    """Open a file beside `path` that takes its place when the block ends without an error.

    Args:
        path: in a folder that exists.
        mode: permissions, before the process's umask.
        sync: hand the content to the disk first.
        create: never overwrite, see `create_from`.

    Raises:
        FileExistsError: `create` is set and the file exists.
        OSError: the file cannot be written.
    """
    staged = path.with_name(f"{STAGED}{secrets.token_hex(8)}")
    try:
        with os.fdopen(os.open(staged, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode), "wb") as file:
            yield file
            if sync:
                file.flush()
                os.fsync(file.fileno())
        if create:
            create_from(staged, path)
        else:
            staged.replace(path)
    finally:
        staged.unlink(missing_ok=True)


def create_from(staged: Path, path: Path, *, link: Callable[[Path, Path], None] = os.link) -> None:
    """Put a staged file at a path that must be free. Atomic: of two concurrent writers one gets FileExistsError.

    A file system without hard links (FAT, some network and FUSE mounts) loses one thing: the name exists, empty, before
    the content replaces it, so a reader may see an empty file for a moment, and a kill at that moment leaves one.

    Raises:
        FileExistsError: the path exists.
        OSError: the file cannot be put there; the path stays free.
    """
    try:
        link(staged, path)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        try:
            staged.replace(path)
        except OSError:
            path.unlink()
            raise


def write_whole(
    path: Path, content: bytes | str, *, mode: int = 0o644, sync: bool = False, create: bool = False
) -> None:
    """Write a file whole or not at all, text as UTF-8. Arguments and errors are those of `whole_file`."""
    with whole_file(path, mode=mode, sync=sync, create=create) as file:
        file.write(content.encode() if isinstance(content, str) else content)
