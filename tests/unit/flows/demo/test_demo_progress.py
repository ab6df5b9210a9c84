"""State of a demo between two starts is read whatever version of it was written, and from nothing."""

import json
from pathlib import Path

from flows.demo.chapters import _Progress


def test_without_a_file_nothing_is_done(tmp_path: Path) -> None:
    assert _Progress.load(tmp_path / "demo.json") == _Progress()


def test_what_was_saved_is_loaded(tmp_path: Path) -> None:
    progress = _Progress(done=[1, 2], first="1", held=4, first_answer_s=61.5)
    progress.save(tmp_path / "demo.json")
    assert _Progress.load(tmp_path / "demo.json") == progress


def test_resumed_state_ignores_foreign_and_resets_missing(tmp_path: Path) -> None:
    (tmp_path / "demo.json").write_text(json.dumps({"done": [1], "first": "1", "attempts_seen": 2}))
    assert _Progress.load(tmp_path / "demo.json") == _Progress(done=[1], first="1")
