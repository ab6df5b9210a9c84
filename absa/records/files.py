"""Whole-file writes: a file has its old content or all of its new one, whatever is killed meanwhile."""

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Final

STAGED: Final = ".tmp-"
"""First characters of the names of files that are being written; a kill leaves one."""


@contextmanager
def whole_file(path: Path, *, mode: int = 0o644, sync: bool = False, create: bool = False) -> Iterator[BinaryIO]:
    """Open a file beside `path` that takes its place when the block ends without an error.

    Args:
        path: in a folder that exists.
        mode: permissions, before the process's umask.
        sync: hand the content to the disk first.
        create: never overwrite. Atomic: of two concurrent writers one gets FileExistsError.

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
            os.link(staged, path)
        else:
            staged.replace(path)
    finally:
        staged.unlink(missing_ok=True)


def write_whole(
    path: Path, content: bytes | str, *, mode: int = 0o644, sync: bool = False, create: bool = False
) -> None:
    """Write a file whole or not at all, text as UTF-8. Arguments and errors are those of `whole_file`."""
    with whole_file(path, mode=mode, sync=sync, create=create) as file:
        file.write(content.encode() if isinstance(content, str) else content)
