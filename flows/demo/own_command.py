"""Command line of this installation, as a shell takes it."""

import shlex
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

NAME = "evergreen"


def own_command(
    *words: str,
    python: Path | None = None,
    folder: Path | None = None,
    which: Callable[[str], str | None] = shutil.which,
) -> str:
    """Return a command of this installation: by its name where the path leads to it, otherwise by its file.

    Args:
        words: after the name.
        python: interpreter of the installation; None: this one.
        folder: working folder of the shell; None: this one.
        which: finds a command on the path.
    """
    script = (python or Path(sys.executable)).with_name(NAME)
    found, here = which(NAME), folder or Path.cwd()
    if found is not None and Path(found).resolve() == script.resolve():
        name = NAME
    else:
        name = str(script.relative_to(here) if script.is_relative_to(here) else script)
    return shlex.join([name, *words])
