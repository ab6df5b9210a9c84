"""Checkpoints of a run in the lake, so that another machine can continue the training of a lost machine.

If the lake is a folder, the job writes checkpoints directly into it. If the lake is on S3, the newest complete
checkpoint is copied every 20 s. runs/open/<digest of snapshot and settings>.json names the run that is not complete
yet; the next run with that digest resumes it.
"""

import hashlib
import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from absa.adapters.lake_stores import FolderLake
from absa.errors import EvergreenError, NotFoundError
from absa.records.lake import Lake
from absa.records.layout import checkpoints_folder, open_run_key

_COPY_EVERY_S: Final = 20.0


class KeptCheckpoints:
    """Checkpoints of one run.

    Args:
        lake: keeps them.
        run_id: id of this run.
        what: snapshot and settings; runs with equal ones can continue from each other's checkpoints.
        local: folder for checkpoints if the lake is not a folder.
    """

    def __init__(self, lake: Lake, run_id: str, what: Mapping[str, Any], local: Path) -> None:
        self._lake, self._run_id = lake, run_id
        self._open = open_run_key(hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest())
        self._prefix = checkpoints_folder(run_id)
        self.folder = Path(lake.url(self._prefix)) if isinstance(lake, FolderLake) else local

    def adopt(self) -> str | None:
        """Use the checkpoint of an incomplete run with the same snapshot and settings; return that run's id."""
        self.folder.mkdir(parents=True, exist_ok=True)
        adopted = None
        try:
            before = str(json.loads(self._lake.read(self._open))["run_id"])
            kept = checkpoints_folder(before)
            for key in self._lake.list(kept) if before != self._run_id else []:
                (self.folder / key.removeprefix(kept)).write_bytes(self._lake.read(key))
                adopted = before
        except (NotFoundError, ValueError, KeyError, TypeError):
            adopted = None
        self._lake.write(self._open, json.dumps({"run_id": self._run_id}).encode())
        if adopted is not None:
            self._delete(checkpoints_folder(adopted))
        return adopted

    @contextmanager
    def copied(self) -> Iterator[None]:
        """Copy checkpoints to the lake while the body runs."""
        if isinstance(self._lake, FolderLake):
            yield
            return
        ended = threading.Event()

        def copy() -> None:
            while not ended.wait(_COPY_EVERY_S):
                self.copy_newest()

        thread = threading.Thread(target=copy, name="checkpoints", daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join(timeout=_COPY_EVERY_S)

    def copy_newest(self) -> None:
        """Copy the newest complete checkpoint to the lake, digest last, and remove older ones there."""
        notes = sorted(self.folder.glob("*.json"))
        if not notes:
            return
        newest = notes[-1].stem
        try:
            state, note = notes[-1].with_suffix(".pt").read_bytes(), notes[-1].read_bytes()
            if self._lake.exists(f"{self._prefix}{newest}.json"):
                return
            self._lake.write(f"{self._prefix}{newest}.pt", state)
            self._lake.write(f"{self._prefix}{newest}.json", note)
            for key in self._lake.list(self._prefix):
                if Path(key).stem < newest:
                    self._lake.delete(key)
        except (OSError, EvergreenError):  # the job replaced it, or the lake is unavailable: try again later
            return

    def clear(self) -> None:
        """Remove the checkpoints of a complete run."""
        self._delete(self._prefix)
        self._lake.delete(self._open)

    def _delete(self, prefix: str) -> None:
        for key in self._lake.list(prefix):
            self._lake.delete(key)
