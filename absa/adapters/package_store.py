"""Packages in the lake, by digest: written once, never changed, loaded by every process that scores."""

import contextlib
import re
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Final

from absa.errors import AlreadyExistsError, IntegrityError, NotFoundError
from absa.inference.package import (
    CONFIG_FILE,
    DIGESTED_FILES,
    PACKAGE_FILES,
    WARMUP_FILE,
    ModelPackage,
    load_package,
)
from absa.records.lake import Lake
from absa.records.layout import PACKAGES_FOLDER, package_folder

FETCHING: Final = ".fetch-*"
"""Pattern of folders that a killed `get` leaves beside its target."""
_DIGEST: Final = re.compile(r"[0-9a-f]{64}\Z")
_REQUIRED: Final = (*DIGESTED_FILES, WARMUP_FILE)
_LAST: Final = CONFIG_FILE  # written last and read first: a package without its config is not complete


class PackageStore:
    """Content-addressed packages of one lake. Two processes may put and get the same package concurrently."""

    def __init__(self, lake: Lake) -> None:
        self._lake = lake

    def put(self, folder: Path) -> str:
        """Copy a package into the lake and return its digest; files that exist already are not changed.

        Raises:
            IntegrityError: the folder holds no complete package.
            UnavailableError: the lake is unavailable. The files written so far are not a complete package; call again.
        """
        digest = load_package(folder).digest
        if missing := [name for name in _REQUIRED if not (folder / name).is_file()]:
            raise IntegrityError(f"the package at {folder} has no {', '.join(missing)}")
        there = self._names(digest)
        for name in sorted({*PACKAGE_FILES} - there, key=lambda name: name == _LAST):
            if (folder / name).is_file():
                with contextlib.suppress(AlreadyExistsError):  # a concurrent put was faster
                    self._lake.create(_key(digest, name), (folder / name).read_bytes())
        return digest

    def digests(self) -> set[str]:
        """Return the digest of every package that the lake holds."""
        keys = self._lake.list(PACKAGES_FOLDER)
        return {Path(key).parent.name for key in keys if Path(key).name == _LAST}

    def get(self, digest: str, folder: Path) -> ModelPackage:
        """Return the package in a local folder; it is fetched unless the folder has it already, undamaged.

        Files are fetched beside the folder, checked, and renamed together: the folder never holds half a package. Of
        two concurrent fetches, the files of the first are kept.

        Args:
            digest: digest of the package.
            folder: folder of the local copy. It may be missing; if it holds anything else, or a damaged package, it is
                replaced.

        Raises:
            NotFoundError: the lake does not hold the package.
            UnavailableError: the lake is unavailable.
            IntegrityError: the files in the lake do not have the digest.
        """
        _key(digest, "")  # refuses a digest that could name another folder
        if (kept := _whole(folder, digest)) is not None:
            return kept
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=FETCHING.removesuffix("*")) as staging:
            staged = Path(staging, "package")
            staged.mkdir()
            self._fetch(digest, staged)
            package = load_package(staged, expected_digest=digest)
            if _whole(folder, digest) is None:
                with contextlib.suppress(FileNotFoundError):
                    folder.rename(Path(staging, "damaged"))
                with contextlib.suppress(OSError):  # a concurrent fetch was faster
                    staged.rename(folder)
                    return replace(package, folder=folder)
        return load_package(folder, expected_digest=digest)

    def _names(self, digest: str) -> set[str]:
        prefix = _key(digest, "")
        return {key.removeprefix(prefix) for key in self._lake.list(prefix)} & {*PACKAGE_FILES}

    def _fetch(self, digest: str, into: Path) -> None:
        names = self._names(digest)
        if _LAST not in names:
            raise NotFoundError(
                f"the lake at {self._lake.uri} holds no package {digest}: `evergreen ledger packages` copies the "
                "packages of an earlier release from MLflow"
            )
        if missing := sorted({*_REQUIRED} - names):
            raise NotFoundError(f"package {digest} in the lake at {self._lake.uri} has no {', '.join(missing)}")
        for name in sorted(names):
            (into / name).write_bytes(self._lake.read(_key(digest, name)))


def _key(digest: str, name: str) -> str:
    if not _DIGEST.match(digest):
        raise IntegrityError(f"expected a package digest of 64 hex digits, got {digest!r}")
    return package_folder(digest) + name


def _whole(folder: Path, digest: str) -> ModelPackage | None:
    """Return the package in a folder; None if it is missing or damaged."""
    if not all((folder / name).is_file() for name in _REQUIRED):
        return None
    try:
        return load_package(folder, expected_digest=digest)
    except IntegrityError:
        return None
