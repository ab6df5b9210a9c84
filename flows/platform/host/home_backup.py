"""Backup of a home as one tar file, also while its servers and commands write.

The order of the files makes the backup consistent:

1. databases, by SQLite's backup API. They may be older than the ledger, because aliases are set from the ledger's head;
2. the routers' local log, together with the log's keys in the lake at the same moment;
3. the ledger;
4. all other files. Everything that a ledger record names was written before the record, so it is among them.
"""

import hashlib
import io
import json
import os
import shutil
import sqlite3
import tarfile
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, BinaryIO, Final

from absa.errors import NotFoundError, PermanentError, UnavailableError
from absa.records.files import STAGED, whole_file
from absa.records.layout import (
    FEEDBACK_FOLDER,
    LEDGER_FOLDER,
    OUTCOMES_FOLDER,
    PREDICTIONS_FOLDER,
    TOKENS_FOLDER,
    ledger_number,
)
from absa.records.schema import iso

MANIFEST: Final = "backup.json"  # the last member
FORMAT: Final = 1
_LAKE: Final = "lake/"
_LOGS: Final = tuple(f"{_LAKE}{folder}" for folder in (PREDICTIONS_FOLDER, FEEDBACK_FOLDER, OUTCOMES_FOLDER))
_SPOOLS: Final = "serving/replicas/"
# not in a backup, because it is made again: logs of servers, process ids, caches of packages, tokens
_LEFT_OUT: Final = (
    "logs/",
    "run/",
    "models/",
    "serving/models/",
    "prefect/concurrency_leases/",
    f"{_LAKE}{TOKENS_FOLDER}",
)
_SCRATCH: Final = "jobs/"  # its folders are left out; its files have measured times, and are kept
_BESIDE_DATABASES: Final = ("-wal", "-shm", "-journal")
_SQLITE: Final = b"SQLite format 3\0"
_ATTEMPTS: Final = 20  # to copy the log while no segment is shipped


@dataclass(kw_only=True)
class BackupReport:
    """Account of a backup: files, bytes, number of the ledger's head, and notices for the operator."""

    files: int = 0
    size: int = 0
    ledger_head: int = 0
    notices: list[str] = field(default_factory=list)


def back_up(
    home: Path,
    into: Path,
    *,
    now: datetime,
    release: str,
    on_progress: Callable[[int, int], None] = lambda *_: None,
    files: "Callable[[Path, Path], HomeFiles] | None" = None,
) -> BackupReport:
    """Write a home's backup to a new file. Only its owner can read it: it holds secrets and customers' texts.

    Args:
        home: folder of the installation.
        into: file to make.
        now: time of the backup.
        release: version of this release.
        on_progress: called with the bytes written so far and the approximate total.
        files: makes the list of files from the home and a folder for copies; None: `HomeFiles`.

    Raises:
        NotFoundError: there is no home.
        PermanentError: the file exists, or is in the home.
        UnavailableError: the file cannot be written, or segments were shipped during each attempt.
    """
    if not home.is_dir():
        raise NotFoundError(f"there is no home at {home}: EVERGREEN_HOME names another folder")
    if into.exists() or home in into.absolute().parents:
        raise PermanentError(f"expected a new file outside of the home, got {into}")
    try:
        with (
            tempfile.TemporaryDirectory(prefix="evergreen-backup-") as scratch,
            whole_file(into, mode=0o600, sync=True, create=True) as file,
        ):
            return _write(
                (files or HomeFiles)(home, Path(scratch)), file, now=now, release=release, on_progress=on_progress
            )
    except (OSError, sqlite3.Error) as error:
        raise UnavailableError(f"the backup {into} cannot be written: {error}") from error


class HomeFiles:
    """Files of a home in the order of a backup."""

    def __init__(self, root: Path, scratch: Path) -> None:
        self.root, self._scratch = root, scratch

    def names(self, folder: str = "") -> list[str]:
        """Return the files of a folder that a backup has, relative to the home, parents first."""
        found: list[str] = []
        for parent, folders, files in os.walk(self.root / folder):
            folders.sort()
            place = Path(parent).relative_to(self.root)
            paths = ((place / name).as_posix() for name in sorted(files))
            found += [name for name in paths if _is_kept(name) and _is_regular(self.root / name)]
        return found

    def databases(self) -> Iterator[tuple[str, Path]]:
        """Yield the name of each SQLite database and a consistent copy of it."""
        for number, name in enumerate(self.names()):
            if name.startswith(_LAKE) or not _is_database(self.root / name):
                continue
            copy = self._scratch / f"database-{number}"
            uri = f"{(self.root / name).absolute().as_uri()}?mode=ro"
            with closing(sqlite3.connect(uri, uri=True)) as source, closing(sqlite3.connect(copy)) as target:
                source.backup(target)
            yield name, copy

    def logs(self) -> tuple[list[tuple[str, Path]], list[str]]:
        """Return the routers' local log, and the log's keys in the lake at the same moment.

        If the listings of the lake before and after the copy are equal, nothing was shipped meanwhile: no row is
        missing, and none is in both places.

        Raises:
            UnavailableError: segments were shipped during each attempt.
        """
        folder = self._scratch / "spool"
        for _ in range(_ATTEMPTS):
            before, segments = self._shipped(), {name: name for name in self.names(_SPOOLS)}
            shutil.rmtree(folder, ignore_errors=True)
            copied = []
            try:
                for name in segments:
                    copy = folder / name
                    copy.parent.mkdir(parents=True, exist_ok=True)
                    shutil.copyfile(self.root / name, copy)
                    copied.append((name, copy))
            except FileNotFoundError:  # closed or shipped meanwhile
                continue
            if before == self._shipped() and set(segments) == set(self.names(_SPOOLS)):
                return copied, before
        raise UnavailableError(
            f"the routers shipped their log during each of {_ATTEMPTS} attempts to copy it: try again, or stop them "
            "with `evergreen down`"
        )

    def _shipped(self) -> list[str]:
        return [name for folder in _LOGS for name in self.names(folder)]

    def ledger(self) -> list[str]:
        """Return the ledger's records from the first one on, without a gap."""
        by_number = {ledger_number(name.removeprefix(_LAKE)): name for name in self.names(_LAKE + LEDGER_FOLDER)}
        found: list[str] = []
        while (name := by_number.get(len(found) + 1)) is not None:
            found.append(name)
        return found

    def others(self) -> list[str]:
        """Return every other file. Call it after `ledger`, so that each file that a record names is in the backup."""
        own = (*_LOGS, _LAKE + LEDGER_FOLDER, _SPOOLS)
        return [
            name
            for name in self.names()
            if not name.startswith(own) and (name.startswith(_LAKE) or not _is_database(self.root / name))
        ]


def _is_kept(name: str) -> bool:
    last = name.rpartition("/")[2]
    return not (
        name.startswith(_LEFT_OUT)
        or (name.startswith(_SCRATCH) and name.count("/") > 1)
        or last.startswith(STAGED)
        or last.endswith((".lock", *_BESIDE_DATABASES))
    )


def _is_regular(path: Path) -> bool:
    return path.is_file() and not path.is_symlink()


def _is_database(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(len(_SQLITE)) == _SQLITE
    except FileNotFoundError:
        return False


def _write(
    home: HomeFiles, file: BinaryIO, *, now: datetime, release: str, on_progress: Callable[[int, int], None]
) -> BackupReport:
    report, digests = BackupReport(), dict[str, str]()
    with tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as archive:
        chosen = list(home.databases())
        log, shipped = home.logs()
        ledger = home.ledger()
        report.ledger_head = len(ledger)
        chosen += log
        chosen += [(name, home.root / name) for name in (*ledger, *shipped, *home.others())]
        total = sum(_size(path) for _, path in chosen)
        for name, path in chosen:
            try:
                digests[name] = _add(archive, name, path)
            except FileNotFoundError:  # forgotten, or replaced by another snapshot meanwhile
                report.notices.append(f"{name} was removed during the backup")
                continue
            report.files += 1
            report.size += _size(path)
            on_progress(report.size, total)
        manifest = {"format": FORMAT, "release": release, "at": iso(now), "home": str(home.root), "files": digests}
        _add_bytes(archive, MANIFEST, json.dumps(manifest, indent=1).encode())
    return report


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _add(archive: tarfile.TarFile, name: str, path: Path) -> str:
    """Add a file as it is now, to the size that it has now; return its SHA-256."""
    with path.open("rb") as source:
        state = os.fstat(source.fileno())
        member = tarfile.TarInfo(name)
        member.size, member.mode, member.mtime = state.st_size, state.st_mode & 0o777, int(state.st_mtime)
        hashed = _Hashed(source, state.st_size)
        archive.addfile(member, hashed)
    return hashed.digest


def _add_bytes(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size, member.mode = len(content), 0o600
    archive.addfile(member, io.BytesIO(content))


class _Hashed:
    """Reader of a given number of bytes that hashes them. If the file has become shorter, zeros fill the rest."""

    def __init__(self, source: BinaryIO, size: int) -> None:
        self._source, self._left = source, size
        self._hash = hashlib.sha256()

    def read(self, size: int = -1) -> bytes:
        """Return the next bytes."""
        wanted = self._left if size < 0 else min(size, self._left)
        data = self._source.read(wanted).ljust(wanted, b"\0")
        self._left -= len(data)
        self._hash.update(data)
        return data

    @property
    def digest(self) -> str:
        """SHA-256 of the bytes read so far."""
        return self._hash.hexdigest()


def elsewhere(lake: str | None, config: Path | None, home: Path, variables: Mapping[str, str]) -> Iterator[str]:
    """Yield a sentence for each store of an installation that is not in its home. Pure.

    Args:
        lake: EVERGREEN_LAKE, or None if the lake is in the home.
        config: evergreen.toml in use, or None without one.
        home: folder of the installation.
        variables: the environment.
    """
    if lake is not None and Path(lake).absolute() != home / "lake":
        yield f"the lake {lake} is not in the home: copy it after this backup, and its folder ledger/ first"
    for name in ("MLFLOW_BACKEND_STORE_URI", "MLFLOW_ARTIFACTS_DESTINATION", "PREFECT_API_DATABASE_CONNECTION_URL"):
        if variables.get(name, "").startswith(("postgresql", "mysql", "s3:")):
            yield f"{name} names a store outside of the home: back it up before this"
    if config is not None and home not in config.absolute().parents:
        yield f"{config} is not in the home: keep it with the backup"


def parsed_manifest(content: bytes) -> dict[str, Any]:
    """Return the manifest of a backup.

    Raises:
        PermanentError: a newer release wrote it.
    """
    manifest: dict[str, Any] = json.loads(content)
    if manifest["format"] > FORMAT:
        raise PermanentError(
            f"the backup has format {manifest['format']}, expected at most {FORMAT}: restore it with release "
            f"{manifest['release']} or newer"
        )
    return manifest
