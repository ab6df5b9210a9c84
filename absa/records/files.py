"""Atomic writes of files: after a kill, a file has its old content or all of its new content."""

import errno
import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Final

STAGED: Final = ".tmp-"
"""Prefix of the names of temporary files; a kill may leave such a file."""
_NO_LINKS: Final = frozenset({errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS})


@contextmanager
def whole_file(path: Path, *, mode: int = 0o644, sync: bool = False, create: bool = False) -> Iterator[BinaryIO]:
    """Open a temporary file that replaces `path` when the block ends without an error.

    Args:
        path: path in an existing folder.
        mode: permissions, before the process's umask.
        sync: True: flush the content to the disk first.
        create: True: never overwrite, see `create_from`.

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
    """Move a temporary file to a path that must be free. Atomic: of two concurrent writers one gets FileExistsError.

    On a file system without hard links (FAT, some network and FUSE mounts), an empty file is created before the content
    replaces it. So a reader may see an empty file for a moment, and a kill at this moment leaves an empty file.

    Raises:
        FileExistsError: the path exists.
        OSError: the file cannot be moved; the path stays free.
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
    """Write a file atomically, text as UTF-8. Arguments and errors are those of `whole_file`."""
    with whole_file(path, mode=mode, sync=sync, create=create) as file:
        file.write(content.encode() if isinstance(content, str) else content)
