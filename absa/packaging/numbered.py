"""Packages of one job: each is complete or absent, and a later one replaces an earlier one."""

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from absa.records.files import write_whole

PACKAGE_FOLDER: Final = "package"
WEIGHTS_FOLDER: Final = "weights"
DONE_FILE: Final = "done.json"
_BUILT_FOLDER: Final = "built"
_FACTS_FILE: Final = "facts.json"


@dataclass(frozen=True)
class BuiltPackage:
    """Complete package of a job, with its weights and what the training reported. `folder` holds all of them."""

    number: int
    folder: Path

    @property
    def package(self) -> Path:
        """Folder of the package itself."""
        return self.folder / PACKAGE_FOLDER

    def facts(self) -> dict[str, Any]:
        """Read what the training and packaging reported."""
        facts: dict[str, Any] = json.loads((self.folder / _FACTS_FILE).read_text(encoding="utf-8"))
        return facts


class NumberedPackages:
    """Packages of a job in JOB/built/<number>; the job's result moves to JOB/package and JOB/weights."""

    def __init__(self, job: Path) -> None:
        self._job, self._built = job, job / _BUILT_FOLDER

    @property
    def folder(self) -> Path:
        """Folder of the job."""
        return self._job

    @contextmanager
    def next(self) -> Iterator[tuple[Path, dict[str, Any]]]:
        """Yield a folder to build in and a dict for the facts; both become the newest package when the body ends."""
        newest = self.newest()
        number = 1 if newest is None else newest.number + 1
        self._built.mkdir(parents=True, exist_ok=True)
        for leftover in self._built.glob(".[0-9]*"):  # of a process that was killed while it built
            shutil.rmtree(leftover)
        making = self._built / f".{number:04d}"
        making.mkdir()
        facts: dict[str, Any] = {}
        try:
            yield making, facts
            (making / _FACTS_FILE).write_text(json.dumps(facts), encoding="utf-8")
            making.replace(self._built / f"{number:04d}")
            if newest is not None:
                shutil.rmtree(newest.folder)
        finally:
            shutil.rmtree(making, ignore_errors=True)

    def newest(self) -> BuiltPackage | None:
        """Return the newest complete package, or None."""
        numbers = [int(path.name) for path in self._built.glob("[0-9]*")] if self._built.is_dir() else []
        return BuiltPackage(max(numbers), self._built / f"{max(numbers):04d}") if numbers else None

    def done(self) -> dict[str, Any] | None:
        """Return the facts of the job's result, or None while there is none."""
        file = self._job / DONE_FILE
        if not file.is_file() or not (self._job / PACKAGE_FOLDER).is_dir():
            return None
        facts: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        return facts

    def settle(self) -> dict[str, Any] | None:
        """Make the newest package the job's result and return its facts; None where there is no package.

        A job that has its result keeps it.
        """
        if (done := self.done()) is not None:
            return done
        newest = self.newest()
        if newest is None:
            return None
        facts = newest.facts()
        for name in (WEIGHTS_FOLDER, PACKAGE_FOLDER):
            if (newest.folder / name).is_dir():  # an interrupted call may have moved it already
                shutil.rmtree(self._job / name, ignore_errors=True)
                (newest.folder / name).replace(self._job / name)
        write_whole(self._job / DONE_FILE, json.dumps(facts))
        return facts

    def clear(self) -> None:
        """Remove every package that is not the job's result."""
        shutil.rmtree(self._built, ignore_errors=True)
