"""Checkpoints of a training on disk: written atomically; the last two are kept, broken ones are skipped."""

import hashlib
import json
from pathlib import Path
from typing import Any, Final

import torch

from absa.records.files import STAGED, whole_file, write_whole

_KEPT: Final = 2
_SUFFIX: Final = ".pt"


class Checkpoints:
    """Checkpoints of one run in a folder: `<step>.pt`, and its SHA-256 in `<step>.json`.

    The digest is written last, so a file without a digest is not complete. Files have only tensors, numbers and
    strings, and are read with `weights_only`, so that no code from them is run.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def save(self, step: int, state: dict[str, Any]) -> Path:
        """Write the state of a step; keep the newest one before it, and remove older ones."""
        self._folder.mkdir(parents=True, exist_ok=True)
        path = self._folder / f"{step:010d}{_SUFFIX}"
        with whole_file(path, sync=True) as file:
            torch.save(state, file)
        write_whole(path.with_suffix(".json"), json.dumps({"step": step, "sha256": _sha256(path)}))
        for old in sorted(self._folder.glob(f"*{_SUFFIX}"))[:-_KEPT]:
            old.with_suffix(".json").unlink(missing_ok=True)
            old.unlink(missing_ok=True)
        for part in self._folder.glob(f"{STAGED}*"):
            part.unlink(missing_ok=True)
        return path

    def load(self) -> dict[str, Any] | None:
        """Return the newest complete state; None if there is none."""
        for path in sorted(self._folder.glob(f"*{_SUFFIX}"), reverse=True):
            state = _read(path)
            if state is not None:
                return state
        return None


def _read(path: Path) -> dict[str, Any] | None:
    try:
        noted = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))["sha256"]
        if _sha256(path) != noted:
            return None
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except Exception:  # broken in any way: the checkpoint before may be complete
        return None
    return state


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
