"""A run's checkpoints in the lake: another machine that trains the same goes on from them."""

import json
from pathlib import Path

import pytest

from absa.adapters.lake_stores import FolderLake
from absa.errors import UnavailableError
from absa.records.lake import Lake
from flows.training.kept_checkpoints import KeptCheckpoints

WHAT = {"snapshot": "d1", "seed": 0}


class FarLake:
    """A lake that is no folder, as S3 is none."""

    def __init__(self, root: Path) -> None:
        self._folder, self.away = FolderLake(root), False

    def _here(self) -> FolderLake:
        if self.away:
            raise UnavailableError("the lake does not answer")
        return self._folder

    def read(self, key: str) -> bytes:
        return self._here().read(key)

    def write(self, key: str, data: bytes) -> None:
        self._here().write(key, data)

    def create(self, key: str, data: bytes) -> None:
        self._here().create(key, data)

    def exists(self, key: str) -> bool:
        return self._here().exists(key)

    def list(self, prefix: str) -> list[str]:
        return self._here().list(prefix)

    def delete(self, key: str) -> None:
        self._here().delete(key)

    def url(self, key: str) -> str:
        return f"far://{key}"


def save(folder: Path, step: int) -> None:
    """A checkpoint as the trainer leaves it: state and digest."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{step:08d}.pt").write_bytes(f"state {step}".encode())
    (folder / f"{step:08d}.json").write_text(json.dumps({"sha256": str(step)}))


def kept(lake: Lake, run: str, tmp_path: Path, what: dict[str, object] | None = None) -> KeptCheckpoints:
    return KeptCheckpoints(lake, run, what or WHAT, tmp_path / "machine" / run)


@pytest.fixture(params=["folder", "far"])
def lake(request: pytest.FixtureRequest, tmp_path: Path) -> Lake:
    return FolderLake(tmp_path / "lake") if request.param == "folder" else FarLake(tmp_path / "lake")


def test_interrupted_run_hands_on_its_newest_checkpoint(lake: Lake, tmp_path: Path) -> None:
    first = kept(lake, "run1", tmp_path)
    assert first.adopt() is None
    for step in (10, 20):
        save(first.folder, step)
    if isinstance(lake, FarLake):
        first.copy_newest()
    second = kept(lake, "run2", tmp_path)
    assert second.adopt() == "run1"
    assert (second.folder / "00000020.pt").read_bytes() == b"state 20"
    assert lake.list("runs/run1/checkpoints/") == []


def test_another_snapshot_or_setting_adopts_nothing(lake: Lake, tmp_path: Path) -> None:
    first = kept(lake, "run1", tmp_path)
    first.adopt()
    save(first.folder, 10)
    if isinstance(lake, FarLake):
        first.copy_newest()
    assert kept(lake, "run2", tmp_path, {**WHAT, "seed": 1}).adopt() is None


def test_completed_run_leaves_nothing_to_adopt(lake: Lake, tmp_path: Path) -> None:
    first = kept(lake, "run1", tmp_path)
    first.adopt()
    save(first.folder, 10)
    if isinstance(lake, FarLake):
        first.copy_newest()
    first.clear()
    assert lake.list("runs/") == []
    assert kept(lake, "run2", tmp_path).adopt() is None


def test_newest_checkpoint_is_copied_once(tmp_path: Path) -> None:
    lake = FarLake(tmp_path / "lake")
    run = kept(lake, "run1", tmp_path)
    run.adopt()
    for step in (10, 20, 30):
        save(run.folder, step)
        run.copy_newest()
    run.copy_newest()
    assert [Path(key).name for key in lake.list("runs/run1/checkpoints/")] == ["00000030.json", "00000030.pt"]


def test_a_lake_that_is_away_stops_no_training(tmp_path: Path) -> None:
    lake = FarLake(tmp_path / "lake")
    run = kept(lake, "run1", tmp_path)
    run.adopt()
    save(run.folder, 10)
    lake.away = True
    run.copy_newest()
    lake.away = False
    run.copy_newest()
    assert lake.exists("runs/run1/checkpoints/00000010.pt")


def test_a_note_that_cannot_be_read_adopts_nothing(lake: Lake, tmp_path: Path) -> None:
    kept(lake, "run1", tmp_path).adopt()
    (note,) = lake.list("runs/open/")
    lake.write(note, b"{")
    assert kept(lake, "run2", tmp_path).adopt() is None
    assert json.loads(lake.read(note)) == {"run_id": "run2"}
