"""The `evergreen` command, called in this process or as a process of its own."""

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from flows.cli.commands import app, run_command


def evergreen(*words: str | Path) -> int:
    """Run a command, and give its exit code."""
    codes: list[int | None] = []
    return run_command(lambda: codes.append(app([str(word) for word in words], standalone_mode=False))) or codes[0] or 0


def run_evergreen(
    environment: Mapping[str, str], folder: Path, *words: str, timeout_s: float = 240
) -> subprocess.CompletedProcess[str]:
    """Run a command in a folder as its user does; it has to succeed."""
    command = [sys.executable, "-m", "flows.cli", *words]
    ended = subprocess.run(
        command, env=environment, cwd=folder, capture_output=True, text=True, timeout=timeout_s, check=False
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended
