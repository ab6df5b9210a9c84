"""The run of documented commands: the plan fits the pages, and the shell behaves as a reader's."""

import os
import sys
import time
from pathlib import Path

import pytest

from docs.checks.documented_commands import ROOT, blocks
from docs.checks.documented_pages import PAGES, Page, PlannedCommand, Step, planned, unused
from docs.checks.run_documented_commands import ReaderShell, Row, run_page

PAGE = """
# First
```sh
export A=1     # a comment
cd inside && touch here
```
```text
1 2 * * * test -f here -a "$A" = 1
```
## Second
```python
print("said `exit 1` " + "$A")
```
"""


@pytest.fixture
def shell(tmp_path: Path) -> ReaderShell:
    folder, work = tmp_path / "folder", tmp_path / "work"
    (folder / "inside").mkdir(parents=True)
    work.mkdir()
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    return ReaderShell(folder, environment, work)


def command(typed: str, *, block: int = 0, section: str = "", foreground: str = "") -> PlannedCommand:
    step = Step(match="", foreground=foreground)
    return PlannedCommand(text=typed, typed=typed, step=step, block=block, section=section)


def rows(page: Page, folder: Path, text: str) -> list[Row]:
    (folder / page.path).write_text(text, encoding="utf-8")
    (folder / "inside").mkdir()
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    return [*run_page(page, folder, environment, installs=False)]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.path)
def test_plan_fits_the_page_that_it_runs(page: Page) -> None:
    """A failure means that the page changed: adapt its steps and values in docs/checks/documented_pages.py."""
    text = (ROOT / page.path).read_text(encoding="utf-8")
    commands = planned(page, [*blocks(page.path, text)])
    assert commands
    assert unused(page, commands) == []
    assert [span for span in page.spans if f"`{span}`" not in text] == []


def test_commands_of_a_page_share_one_shell(tmp_path: Path) -> None:
    done = rows(Page(path="page.md", values=((r"said", "SAID"),)), tmp_path, PAGE)
    assert [(row.command, row.result) for row in done] == [
        ("export A=1", "exit 0"),
        ("cd inside && touch here", "exit 0"),
        ('test -f here -a "$A" = 1', "exit 0"),
        ('print("said `exit 1` " + "$A")', "exit 0"),
    ]
    assert done[-1].output.startswith("SAID `exit 1` 1\n")


def test_failed_and_left_out_commands_are_reported(tmp_path: Path) -> None:
    steps = (
        Step(match="^false"),
        Step(match="^true", before="exit 7"),
        Step(match="^touch", not_run="for a test"),
        Step(match="^never"),
    )
    text = "```sh\nfalse\ntrue\ntouch here\nmake install\nexit 4\ndocker ps\n```"
    done = rows(Page(path="page.md", steps=(*steps, Step(match="^exit 4", codes=(4,)))), tmp_path, text)
    assert [row.result for row in done] == [
        "failed",  # a step of the plan that the page lacks
        "failed",
        "failed",
        "not run: for a test",
        "not run: downloads packages: --install runs it",
        "exit 4",
        "not run: needs Docker",
    ]
    assert "exit 7" in done[2].output


def test_command_over_its_deadline_is_ended(shell: ReaderShell) -> None:
    began = time.monotonic()
    assert shell.run("echo begun; sleep 60", deadline_s=0.3) == (None, "begun\n")
    assert time.monotonic() - began < 10


def test_staying_command_ends_before_the_next_section(shell: ReaderShell) -> None:
    serve = command("echo ready; sleep 60", section="a", foreground="ready")
    assert shell.stay(serve, serve.typed)[0] == 0
    assert [*shell.end(before=command("true", block=1, section="a"))] == []
    ((ended, code),) = shell.end(before=command("true", block=2, section="b"))
    assert ended == serve
    assert code != 0
    assert shell.running == []
