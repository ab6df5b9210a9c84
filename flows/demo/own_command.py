"""Command `evergreen` of this installation, for the user's shell."""

import os
import shlex
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path

NAME = "evergreen"


def own_command(
    *words: str,
    python: Path | None = None,
    folder: Path | None = None,
    environment: Mapping[str, str] = os.environ,
) -> str:
    """Return a command line: `evergreen` if PATH finds this installation, otherwise the path of its script.

    Args:
        words: arguments of the command.
        python: interpreter of the installation; None: interpreter of this process.
        folder: working folder of the shell; None: working folder of this process.
        environment: of this process.
    """
    script = (python or Path(sys.executable)).with_name(NAME)
    here = folder or Path.cwd()
    path = environment.get("PATH", os.defpath).split(os.pathsep)
    if "UV" in environment and Path(path[0]) == script.parent:
        del path[0]  # `uvx` and `uv run` put it first for this process; the user's shell does not have it
    found = shutil.which(NAME, path=os.pathsep.join(path))
    if found is not None and Path(found).resolve() == script.resolve():
        name = NAME
    else:
        name = str(script.relative_to(here) if script.is_relative_to(here) else script)
    return shlex.join([name, *words])
