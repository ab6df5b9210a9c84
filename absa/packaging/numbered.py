"""Packages of one training job: each is complete or absent, and a later package replaces an earlier one."""

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
    """Complete package of a job, with its weights and the facts of the training, all in `folder`."""

    number: int
    folder: Path

    @property
    def package(self) -> Path:
        """Folder of the package."""
        return self.folder / PACKAGE_FOLDER

    def facts(self) -> dict[str, Any]:
        """Read the facts that training and packaging reported."""
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
        """Yield a new folder and a dict for facts; both become the newest package if the body raises no error."""
        newest = self.newest()
        number = 1 if newest is None else newest.number + 1
        self._built.mkdir(parents=True, exist_ok=True)
        for leftover in self._built.glob(".[0-9]*"):  # from a process that was killed during a build
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
        """Return the newest complete package; None if there is none."""
        numbers = [int(path.name) for path in self._built.glob("[0-9]*")] if self._built.is_dir() else []
        return BuiltPackage(max(numbers), self._built / f"{max(numbers):04d}") if numbers else None

    def done(self) -> dict[str, Any] | None:
        """Return the facts of the job's result; None if the job has no result yet."""
        file = self._job / DONE_FILE
        if not file.is_file() or not (self._job / PACKAGE_FOLDER).is_dir():
            return None
        facts: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        return facts

    def settle(self) -> dict[str, Any] | None:
        """Make the newest package the job's result and return its facts; None if there is no package.

        A job that already has a result keeps it.
        """
        if (done := self.done()) is not None:
            return done
        newest = self.newest()
        if newest is None:
            return None
        facts = newest.facts()
        for name in (WEIGHTS_FOLDER, PACKAGE_FOLDER):
            if (newest.folder / name).is_dir():  # otherwise an interrupted call has moved it
                shutil.rmtree(self._job / name, ignore_errors=True)
                (newest.folder / name).replace(self._job / name)
        write_whole(self._job / DONE_FILE, json.dumps(facts))
        return facts

    def clear(self) -> None:
        """Remove every package that is not the job's result."""
        shutil.rmtree(self._built, ignore_errors=True)
