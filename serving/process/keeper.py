"""Keeper: follows the ledger and keeps the packages of active versions on disk. One per replica, in the parent."""

import logging
import os
import re
import shutil
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Final

from absa.adapters.package_store import FETCHING, PackageStore
from absa.errors import EvergreenError, NotFoundError
from absa.ledger.record import LedgerRecord
from absa.ledger.routing import single
from absa.ledger.store import Ledger
from absa.records.schema import iso
from serving.replica_state import RouterState, read_state, write_state

_log = logging.getLogger("evergreen.keeper")
_DIGEST: Final = re.compile(r"[0-9a-f]{64}\Z")
_RETRY_FIRST_S: Final = 1.0
_RETRY_LAST_S: Final = 30.0
_KEPT_MODELS: Final = 6


class Keeper:
    """Turns the ledger's head into a state file that workers follow.

    A head that is older than the known head is ignored and reported as a problem. While the lake is unavailable, the
    last good state stays.

    Args:
        ledger: ledger to follow.
        lake_uri: names the lake; the state of another lake is not used.
        packages: packages of the ledger's versions.
        models: folder of packages by digest.
        path: the state file.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        ledger: Ledger,
        *,
        lake_uri: str,
        packages: PackageStore,
        models: Path,
        path: Path,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._ledger, self._packages, self._models, self._path, self._clock = ledger, packages, models, path, clock
        models.mkdir(parents=True, exist_ok=True)
        kept = read_state(path)
        self._state = kept if kept is not None and kept.lake == lake_uri else RouterState(lake=lake_uri)
        self._whole: set[str] = set()
        self._retry_at: dict[str, float] = {}
        self._retry_after: dict[str, float] = {}
        self.last_error: str | None = None
        self.polled_at: float | None = None
        self.failures = 0
        if kept != self._state:
            write_state(path, self._state)

    @property
    def state(self) -> RouterState:
        """Last state written for the workers."""
        return self._state

    def step(self) -> None:
        """Read the ledger once; write the state if it changed. `last_error` reports an unavailable lake."""
        state = self._followed()
        folders, errors = self._files(state)
        state = replace(state, folders=folders, errors=errors)
        if state != self._state:
            write_state(self._path, state)
            _note_use({*self._state.folders.values(), *state.folders.values()})
            self._state = state
            self._forget_old_models()

    def _followed(self) -> RouterState:
        known = self._state
        try:
            head = self._ledger.head(after=known.revision)
        except NotFoundError:
            return self._cut(f"the lake lost ledger record {known.revision}")
        except (EvergreenError, OSError) as error:
            self._failed(f"the ledger cannot be read: {error}")
            return known
        if head is not None and head.number == known.revision and known.hash not in {"", head.hash}:
            return self._cut(f"the lake has another ledger record {known.revision} than before")
        self.last_error = None
        self.polled_at = self._clock()
        if head is None or head.number == known.revision:
            return replace(known, hash=head.hash if head else "", problem=None)
        self._retry_at.clear()
        self._retry_after.clear()
        return _state_of(head, known)

    def _cut(self, what: str) -> RouterState:
        """Return the last state with the problem that the ledger was replaced by a shorter one."""
        file = f"serving/replicas/{self._path.parent.name}/{self._path.name}"
        sentence = (
            f"{what}, so this router keeps its last plan: restore the missing records; or, if the shorter ledger is "
            f"right, stop the router, delete {file} in its home, and start it"
        )
        self._failed(sentence)
        return replace(self._state, problem=sentence)

    def _files(self, state: RouterState) -> tuple[dict[str, str], dict[str, str]]:
        folders: dict[str, str] = {}
        errors: dict[str, str] = {}
        for version in state.plan.versions if state.plan else ():
            digest = state.versions.get(version, "")
            if self._retry_at.get(version, 0.0) > self._clock():
                errors[version] = self._state.errors.get(version, "not fetched yet")
                continue
            try:
                folders[digest] = str(self._ensure(digest))
            except (EvergreenError, OSError) as error:
                errors[version] = str(error)
                self._failed(f"version {version} cannot be fetched: {error}")
                wait_s = self._retry_after.get(version, _RETRY_FIRST_S)
                self._retry_at[version] = self._clock() + wait_s
                self._retry_after[version] = min(2 * wait_s, _RETRY_LAST_S)
        return folders, errors

    def _ensure(self, digest: str) -> Path:
        """Return the folder of a package, complete and with the right digest."""
        folder = self._models / digest
        if digest not in self._whole or not folder.is_dir():
            self._packages.get(digest, folder)
            self._whole.add(digest)
        return folder

    def _failed(self, sentence: str) -> None:
        self.failures += 1
        if sentence != self.last_error:
            _log.warning("%s", sentence)
        self.last_error = sentence

    def _forget_old_models(self) -> None:
        """Delete old models; keep active and recently used ones, so that a rollback needs no download."""
        for leftover in self._models.glob(FETCHING):
            if time.time() - leftover.stat().st_mtime > 3600:
                shutil.rmtree(leftover, ignore_errors=True)
        needed = {self._state.versions.get(v, "") for v in (self._state.plan.versions if self._state.plan else ())}
        kept = sorted((f for f in self._models.iterdir() if _DIGEST.match(f.name)), key=_modified, reverse=True)
        for folder in kept[_KEPT_MODELS:]:
            if folder.name not in needed:
                self._whole.discard(folder.name)
                shutil.rmtree(folder, ignore_errors=True)


def _note_use(folders: Iterable[str]) -> None:
    """Touch the folders of models that are or were active. The newest folders are kept when old models are deleted."""
    for folder in folders:
        with suppress(FileNotFoundError):
            os.utime(folder)


def _modified(path: Path) -> float:
    return path.stat().st_mtime


def _state_of(head: LedgerRecord, before: RouterState) -> RouterState:
    plan = head.state.plan
    if plan is None and head.state.champion is not None:
        plan = single(head.state.champion)
    return RouterState(
        lake=before.lake,
        revision=head.number,
        at=iso(head.at),
        actor=head.actor,
        action=head.action,
        champion=head.state.champion,
        challenger=head.state.challenger,
        plan=plan,
        versions=dict(head.versions),
        folders=before.folders,
        errors={},
        hash=head.hash,
    )
