"""Progress line: plain and rare in a file, one redrawn line on a terminal."""

import io

from flows.platform.terminal import ProgressLine


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_states_are_rare_without_a_terminal() -> None:
    out = io.StringIO()
    line = ProgressLine(out, indent=2)
    for number in range(5):
        line.update(number / 2, f"step {number}")
    line.print("[bold]a\x1b[2J long line " + "x" * 200)
    line.close()
    assert out.getvalue() == "    0%  step 0\n[bold]a\\u001b[2J long line " + "x" * 200 + "\n"


def test_terminal_redraws_one_line() -> None:
    out = Terminal()
    line = ProgressLine(out)
    for number in range(3):
        line.update(number / 2, f"[red]step {number}\x1b[2J")
    line.print("a lasting line")
    line.close()
    shown = out.getvalue()
    assert "[red]step 2\\u001b[2J" in shown
    assert "\x1b[2J" not in shown
    assert "a lasting line\n" in shown
    assert shown.rindex("\x1b[2K") > shown.rindex("step 2"), "the line is cleared at the end"
    assert shown.endswith("\x1b[?25h") or shown.rindex("\x1b[?25h") > 0, "the cursor is shown again"
