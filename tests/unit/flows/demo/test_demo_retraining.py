"""A version that the gate holds back is not the demo's end: the customers go on, and the monitor looks again."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from absa.errors import PermanentError
from flows.demo.chapters import Demo, _Progress

WHY = "No clear gain"


def chapter_six(folder: Path, monkeypatch: pytest.MonkeyPatch, answers: list[str | None]) -> tuple[Demo, list[str]]:
    """A demo that has told five chapters, in which the gate answers so; what it does stands in the list."""
    demo, done = object.__new__(Demo), list[str]()
    demo.options = SimpleNamespace(drifts=True)  # type: ignore[assignment]
    demo.story = SimpleNamespace(fact=done.append)  # type: ignore[assignment]
    demo.state_file = folder / "demo.json"
    demo.state = _Progress(done=[1, 2, 3, 4, 5])
    gate = iter(answers)
    monkeypatch.setattr(demo, "_await_version", lambda: next(gate))
    monkeypatch.setattr(demo, "_until_stale", lambda: done.append("drifted traffic"))
    return demo, done


def test_a_better_version_needs_no_second_retraining(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    demo, done = chapter_six(tmp_path, monkeypatch, [None])
    demo._retrain()
    assert done == []
    assert demo.state.done == [1, 2, 3, 4, 5]


def test_traffic_drifts_on_after_held_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    demo, done = chapter_six(tmp_path, monkeypatch, [WHY, None])
    demo._retrain()
    assert done[0] == f"the gate did not promote the new version: {WHY}"
    assert done[-1] == "drifted traffic"
    assert _Progress.load(demo.state_file).done == [1, 2, 3, 4], "a start after a kill drifts on"
    assert demo.state.done == [1, 2, 3, 4, 5]


def test_demo_gives_up_after_three_and_resumes_drift(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    demo, done = chapter_six(tmp_path, monkeypatch, [WHY] * 3)
    with pytest.raises(PermanentError, match=f"promoted none of 3 versions; the last: {WHY}"):
        demo._retrain()
    assert done.count("drifted traffic") == 2
    assert _Progress.load(demo.state_file).done == [1, 2, 3, 4]
