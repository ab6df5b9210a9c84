"""Progress of a training: written by the run, shown by the command line and the demo."""

import io
import time
from pathlib import Path

from flows.training.run_progress import TrainingProgress, read_progress, shown, writer


def test_progress_names_phase_time_rate_and_loss(tmp_path: Path) -> None:
    write = writer(tmp_path, started=100.0, ends_at=400.0)
    write({"event": "progress", "epoch": 1.25, "loss": 0.4321, "tokens_per_s": 1234.5, "step": 3})
    progress = read_progress(tmp_path, since=100.0)
    assert progress is not None
    assert progress.share(250.0) == 0.5
    assert progress.line(250.0) == "training, 150 s left, epoch 1.2, loss 0.43, 1234 tokens/s"
    write({"event": "phase", "name": "judge"})
    progress = read_progress(tmp_path, since=100.0)
    assert progress is not None
    assert progress.line(390.0) == "judging, 10 s left"


def test_share_stays_within_its_bounds() -> None:
    progress = TrainingProgress(started=100.0, ends_at=200.0, phase="judging")
    assert (progress.share(0.0), progress.share(1_000.0)) == (0.0, 1.0)
    assert progress.line(215.0) == "judging, 15 s over the budget"


def test_earlier_training_is_not_shown(tmp_path: Path) -> None:
    assert read_progress(tmp_path, since=0.0) is None
    writer(tmp_path, started=100.0, ends_at=400.0)
    assert read_progress(tmp_path, since=101.0) is None
    (tmp_path / "latest.json").write_text('{"event": "progress", "epoch": 1}')  # as an earlier release wrote it
    assert read_progress(tmp_path, since=0.0) is None


def test_notes_are_shown_once_without_a_terminal(tmp_path: Path) -> None:
    out = io.StringIO()
    with shown(tmp_path, out):
        write = writer(tmp_path, started=time.time(), ends_at=time.time() + 60)
        write({"event": "note", "sentence": "there is no champion yet"})
        ends = time.monotonic() + 10
        while "preparing" not in out.getvalue() and time.monotonic() < ends:
            time.sleep(0.05)
    assert out.getvalue().count("there is no champion yet") == 1
    assert "preparing, " in out.getvalue()
