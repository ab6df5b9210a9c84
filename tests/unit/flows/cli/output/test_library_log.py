"""Log of libraries: warnings and tracebacks are in a file of the home, own lines on the terminal."""

import logging
import sys
import warnings
from pathlib import Path

import pytest

from absa.errors import PermanentError, UnavailableError
from flows.cli.commands import run_command
from flows.cli.output.library_log import _Handler, libraries_logged, log_place
from flows.platform.terminal import ProgressLine, say


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("EVERGREEN_HOME", str(tmp_path))
    return tmp_path


def write_as_a_library() -> None:
    """Write in each way that a library has: a warning, a logger's handler, no handler at all, and a bar."""
    # an import of plotly replaces the form of a warning in the whole process, so only type and text are expected
    print(warnings.formatwarning("deprecated soon", UserWarning, "library.py", 1), file=sys.stderr)
    logger = logging.getLogger("some.library")
    logger.addHandler(handler := logging.StreamHandler())
    logger.warning("slow \x1b[31m disk")
    logger.removeHandler(handler)
    logger.propagate = False
    logger.warning("nobody listens")
    sys.stderr.write("10 %\r20 %\rdone\n")


def test_library_lines_are_in_private_file(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with libraries_logged(home):
        write_as_a_library()
        say("own line", err=True)
        ProgressLine(every_s=0.0).update(0.5, "training")
    text = log_place(home).read_text(encoding="utf-8")
    for said in ("UserWarning:", "deprecated soon", r"slow \u001b[31m disk", "nobody listens", " done\n"):
        assert said in text
    assert "20 %" not in text
    assert log_place(home).stat().st_mode & 0o077 == 0
    assert capsys.readouterr().err.splitlines() == ["own line", " 50%  training"]


def test_log_without_home_is_the_terminal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with libraries_logged(tmp_path / "none"):
        sys.stderr.write("early\n")
        (tmp_path / "none").mkdir()
        sys.stderr.write("later\nend")
    assert capsys.readouterr().err == "early\n"
    assert [line.split()[-1] for line in log_place(tmp_path / "none").read_text().splitlines()] == ["later", "end"]


def test_stream_kept_by_library_ends_on_terminal(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with libraries_logged(home):
        kept = sys.stderr
    kept.write("after the command\n")
    assert capsys.readouterr().err == "after the command\n"


def test_log_is_rotated_before_it_grows_large(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    handler = _Handler(home)
    handler.maxBytes = 200
    for number in range(20):
        handler.emit(logging.makeLogRecord({"msg": f"line {number} {'x' * 50}"}))
    handler.close()
    files = sorted(log_place(home).parent.iterdir())
    assert [file.name for file in files] == ["evergreen.log", *(f"evergreen.log.{n}" for n in (1, 2, 3))]
    assert all(file.stat().st_mode & 0o077 == 0 and file.stat().st_size <= 200 for file in files)


def test_error_of_the_program_names_its_traceback(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def command() -> None:
        raise ValueError("a customer's text")

    assert run_command(command) == 1
    said = capsys.readouterr().err
    assert said.splitlines() == [
        f"evergreen: an error of the program, ValueError; please report it with its traceback, the end of "
        f"{log_place(home)}"
    ]
    assert "ValueError: a customer's text" in log_place(home).read_text(encoding="utf-8")


def test_error_of_a_library_names_the_log(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def command() -> None:
        try:
            raise ConnectionError("refused")
        except ConnectionError as error:
            raise UnavailableError("MLflow is unavailable") from error

    assert run_command(command) == 3
    assert capsys.readouterr().err == f"evergreen: MLflow is unavailable; details: {log_place(home)}\n"
    assert "ConnectionError: refused" in log_place(home).read_text(encoding="utf-8")


def test_plain_refusal_leaves_no_log(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def command() -> None:
        raise PermanentError("name a file")

    assert run_command(command) == 1
    assert capsys.readouterr().err == "evergreen: name a file\n"
    assert list(home.iterdir()) == []
