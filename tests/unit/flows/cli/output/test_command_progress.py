"""Progress of commands: steps with the time left, by the last run in the home."""

import io
import json
from pathlib import Path

import pytest

from flows.cli.output.command_progress import DURATIONS_FILE, CommandProgress, left_text
from flows.platform.ports import run_step


@pytest.mark.parametrize(
    ("elapsed_s", "usual_s", "text"),
    [
        (3.0, None, "3 s so far"),
        (3.0, 12.2, "about 9 s left"),
        (13.0, 12.2, "13 s so far, 12 s last time"),
    ],
)
def test_time_left_is_that_of_last_run(elapsed_s: float, usual_s: float | None, text: str) -> None:
    assert left_text(elapsed_s, usual_s) == text


def test_progress_without_terminal_has_steps_and_time(tmp_path: Path) -> None:
    (tmp_path / DURATIONS_FILE).write_text('{"up": 3, "monitor": 60.0}')
    out = io.StringIO()
    with CommandProgress(tmp_path, "monitor", out, quiet_s=0.05) as progress:
        step = progress.steps(run_step)

        def wait_for_line() -> int:
            while not out.getvalue():
                pass
            return 7

        assert step("judge-window", wait_for_line, again=True) == 7
    assert out.getvalue().splitlines()[0] == "  0%  judge window, about 60 s left"
    kept = json.loads((tmp_path / DURATIONS_FILE).read_text())
    assert (kept["up"], kept["monitor"] < 60.0) == (3.0, True)


def test_short_or_failed_work_says_and_keeps_nothing(tmp_path: Path) -> None:
    out = io.StringIO()
    with pytest.raises(ValueError, match="no"), CommandProgress(tmp_path, "monitor", out):
        raise ValueError("no")
    assert out.getvalue() == ""
    assert list(tmp_path.iterdir()) == []


def test_share_of_work_replaces_last_duration() -> None:
    out = io.StringIO()
    with CommandProgress(None, "batch", out, quiet_s=0.05) as progress:
        progress.now("40 rows, 3 s left", 0.5)
        while not out.getvalue():
            pass
    assert out.getvalue().splitlines()[0] == " 50%  40 rows, 3 s left"
