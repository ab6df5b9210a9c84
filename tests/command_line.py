"""The `evergreen` command, called in this process."""

from pathlib import Path

from flows.cli.commands import app, run_command


def evergreen(*words: str | Path) -> int:
    """Run a command, and give its exit code."""
    codes: list[int | None] = []
    return run_command(lambda: codes.append(app([str(word) for word in words], standalone_mode=False))) or codes[0] or 0
