"""Checkpoints: whole or not at all, the last two kept, a broken one passed over."""

from pathlib import Path

import pytest
import torch

from absa.training.checkpoints import Checkpoints


def state(step: int) -> dict[str, object]:
    return {"step": step, "weights": [torch.full((3,), float(step))]}


def test_the_newest_state_comes_back(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path)
    for step in (1, 2, 11):
        checkpoints.save(step, state(step))
    loaded = checkpoints.load()
    assert loaded is not None
    assert loaded["step"] == 11
    assert loaded["weights"][0].tolist() == [11.0] * 3


def test_two_are_kept(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path)
    for step in range(5):
        checkpoints.save(step, state(step))
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "0000000003.json", "0000000003.pt", "0000000004.json", "0000000004.pt",
    ]  # fmt: skip


@pytest.mark.parametrize("damage", ["cut", "flipped", "no digest", "no file"])
def test_broken_checkpoint_falls_back_to_previous(tmp_path: Path, damage: str) -> None:
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(1, state(1))
    newest = checkpoints.save(2, state(2))
    content = newest.read_bytes()
    if damage == "cut":
        newest.write_bytes(content[: len(content) // 2])
    elif damage == "flipped":
        newest.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    elif damage == "no digest":
        newest.with_suffix(".json").unlink()
    else:
        newest.unlink()
    loaded = checkpoints.load()
    assert loaded is not None
    assert loaded["step"] == 1


def test_without_any_there_is_none(tmp_path: Path) -> None:
    assert Checkpoints(tmp_path / "absent").load() is None


def test_code_in_a_checkpoint_is_not_run(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return (exec, (f"open({str(tmp_path / 'ran')!r}, 'w')",))

    checkpoints = Checkpoints(tmp_path / "kept")
    checkpoints.save(1, {"evil": Evil()})
    assert checkpoints.load() is None
    assert not (tmp_path / "ran").exists()
