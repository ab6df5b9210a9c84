"""Restore of a home from a backup into an empty folder. Each file is checked; a failed restore leaves no file."""

import hashlib
import os
import shutil
import tarfile
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Final

from absa.adapters.lake_stores import FolderLake
from absa.errors import IntegrityError, NotFoundError, PermanentError, UnavailableError
from absa.ledger.store import Ledger
from absa.records.files import STAGED
from flows.platform.host.home_backup import MANIFEST, parsed_manifest

_STAGED: Final = f"{STAGED}restored"
_CHUNK: Final = 1 << 20


@dataclass(frozen=True, kw_only=True)
class Restored:
    """Restored home: time and release of its backup, its files, and problems of its ledger."""

    at: str
    release: str
    files: int
    ledger_records: int
    ledger_problems: tuple[str, ...]


def restore_home(backup: Path, home: Path) -> Restored:
    """Restore a backup into a home that is empty or does not exist. A restore that fails leaves no file.

    Raises:
        NotFoundError: there is no such file.
        PermanentError: the home is not empty, the file is not a backup, or a newer release wrote it.
        IntegrityError: the backup is damaged or cut short.
        UnavailableError: the home cannot be written.
    """
    if not backup.is_file():
        raise NotFoundError(f"there is no file {backup}")
    if home.exists() and any(each.name != _STAGED for each in home.iterdir()):
        raise PermanentError(f"the home {home} is not empty: set EVERGREEN_HOME to a new folder, or move it away")
    staged = home / _STAGED  # in the home, which may be a volume of its own: a rename works only within one
    try:
        shutil.rmtree(staged, ignore_errors=True)  # of a restore that was killed
        staged.mkdir(parents=True)
        manifest = _extract(backup, staged)
        for each in staged.iterdir():
            each.rename(home / each.name)
    except tarfile.TarError as error:
        raise IntegrityError(f"{backup} is damaged, or `evergreen admin backup` did not make it: {error}") from error
    except OSError as error:
        raise UnavailableError(f"the home {home} cannot be written: {error.strerror or error}") from error
    finally:
        shutil.rmtree(staged, ignore_errors=True)
    ledger = Ledger(FolderLake(home / "lake"))
    return Restored(
        at=manifest["at"],
        release=manifest["release"],
        files=len(manifest["files"]),
        ledger_records=len(ledger.follow()),
        ledger_problems=tuple(ledger.verify()),
    )


def _extract(backup: Path, into: Path) -> dict[str, Any]:
    """Write the files of a backup, check their digests, and return the manifest."""
    digests, content = dict[str, str](), None
    with tarfile.open(backup, "r:") as archive:
        for member in archive:
            place = PurePosixPath(member.name)
            if not member.isfile() or place.is_absolute() or ".." in place.parts:
                raise PermanentError(f"{backup} holds {member.name!r}, so it is not a backup: nothing was restored")
            source = archive.extractfile(member)
            assert source is not None  # true for regular files
            if member.name == MANIFEST:
                content = source.read()
                continue
            path = into / place
            path.parent.mkdir(parents=True, exist_ok=True)
            hashed = hashlib.sha256()
            with path.open("xb") as target:
                while chunk := source.read(_CHUNK):
                    hashed.update(chunk)
                    target.write(chunk)
            path.chmod(member.mode)
            os.utime(path, (member.mtime, member.mtime))  # status reads the age of a training's file
            digests[member.name] = hashed.hexdigest()
    if content is None:
        raise IntegrityError(f"{backup} is cut short, or not a backup: nothing was restored")
    manifest = parsed_manifest(content)
    changed = sorted(name for name, digest in manifest["files"].items() if digests.get(name) != digest)
    if changed:
        raise IntegrityError(f"{backup} is damaged at {changed[0]} ({len(changed)} files): nothing was restored")
    return manifest
