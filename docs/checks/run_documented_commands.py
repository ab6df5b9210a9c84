"""Run of documented commands, as `make prove-docs`: each page that a reader can follow, in a fresh clone.

Every page starts with an empty home in a clean clone. Its commands run in their order in one shell, with trainings of
20 seconds and the profile `test`; values for placeholders are in `documented_pages.py`. The clone's environment has the
libraries of the environment that runs this script; with --install `make install` makes it, and the commands that
download packages run too. The script prints a table and exits with 1 if a command failed.
"""

import argparse
import os
import random
import re
import shlex
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
import time
import venv
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from docs.checks.documented_commands import ROOT, blocks
from docs.checks.documented_pages import PAGES, Page, PlannedCommand, planned, unused
from docs.checks.reader_actions import ACTIONS
from flows.platform.settings import PARTS, port_is_free

_MARK = "DOCUMENTED_COMMANDS"
_PORTS = range(20_000, 32_000)  # below those that the kernel gives to clients
_SHOWN_LINES, _SHOWN_LETTERS = 15, 80
_READY_S, _END_S = 120.0, 60.0
_OURS = ("EVERGREEN_", "PREFECT_", "MLFLOW_", "PYTHONPATH", "VIRTUAL_ENV", "MAKEFLAGS", "MAKELEVEL")
_ENDED_BY_CTRL_C = (0, 130, -signal.SIGINT)
_INTERPRETER = re.compile(rb"\A#!\S*/python[\d.]*$", re.MULTILINE)
_SCRIPT = """
set -o pipefail
export LAST={last}
{actions}
if [ -f {state} ]; then . {state}; cd "$(cat {place})"; fi
{command}
code=$?
export -p > {state}; pwd > {place}
exit $code
"""


@dataclass(frozen=True, kw_only=True)
class Row:
    """Result of a command: ran, failed, or the reason why it was not run."""

    page: str
    command: str
    result: str
    seconds: float = 0.0
    typed: str = ""
    output: str = ""


@dataclass
class ReaderShell:
    """Shell of one reader. Exported variables and the working folder stay the same from command to command."""

    folder: Path
    environment: dict[str, str]
    work: Path
    running: list[tuple[PlannedCommand, subprocess.Popen[bytes]]] = field(default_factory=list)

    def run(self, command: str, *, deadline_s: float) -> tuple[int | None, str]:
        """Run a command to its end; return its exit code (None after the deadline) and its output."""
        output = self.work / "output"
        process = self._start(command, output)
        try:
            code: int | None = process.wait(deadline_s)
        except subprocess.TimeoutExpired:
            code = None
            _end(process)
        said = output.read_text(encoding="utf-8", errors="replace")
        (self.work / "last").write_text(said, encoding="utf-8")
        return code, said

    def stay(self, planned_command: PlannedCommand, command: str) -> tuple[int | None, str]:
        """Start a command that keeps running; return 0 once its output has the awaited text, else see `run`."""
        output = self.work / f"output-{len(self.running)}"
        process = self._start(command, output)
        until = time.monotonic() + _READY_S
        while time.monotonic() < until:
            said = output.read_text(encoding="utf-8", errors="replace")
            if process.poll() is not None:
                return process.returncode, said
            if re.search(planned_command.step.foreground, said):
                self.running.append((planned_command, process))
                return 0, said
            time.sleep(0.2)
        _end(process)
        return None, said

    def end(self, *, before: PlannedCommand | None) -> Iterator[tuple[PlannedCommand, int | None]]:
        """End running commands like Ctrl-C, before the next command of their block or the next section."""
        for each in [*self.running]:
            stays, process = each
            if before is None or before.block == stays.block or before.section != stays.section:
                self.running.remove(each)
                yield stays, _end(process)

    def _start(self, command: str, output: Path) -> subprocess.Popen[bytes]:
        names = "\n".join(f'{name}() {{ _act {name} "$@"; }}' for name in ACTIONS)
        python, clone = shlex.quote(sys.executable), shlex.quote(str(self.folder))
        act = f'_act() {{ PYTHONPATH={clone} {python} -m docs.checks.reader_actions "$@"; }}'
        script = _SCRIPT.format(
            last=self.work / "last", state=self.work / "state", place=self.work / "place",
            actions=f"{act}\n{names}", command=command,
        )  # fmt: skip
        with output.open("wb") as file:
            return subprocess.Popen(  # noqa: S603
                ["/bin/bash", "-c", script],
                cwd=self.folder, env=self.environment, stdin=subprocess.DEVNULL, stdout=file,
                stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip


def _end(process: subprocess.Popen[bytes]) -> int | None:
    """End a command and its child processes like Ctrl-C; return its exit code, None if it had to be killed."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGINT)
        try:
            return process.wait(_END_S)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            return None
    return process.returncode


def run_page(page: Page, folder: Path, environment: dict[str, str], *, installs: bool) -> Iterator[Row]:
    """Run the commands of a page in their order; yield a row per command and per failed preparation."""
    text = (folder / page.path).read_text(encoding="utf-8")
    commands = planned(page, [*blocks(page.path, text)])
    for each in unused(page, commands):
        yield Row(page=page.path, command=each, result="failed", output="documented_pages.py: no command has this")
    with tempfile.TemporaryDirectory() as work:
        shell = ReaderShell(folder, environment, Path(work))
        for command in commands:
            yield from _ended(page, shell, before=command)
            yield _run(page, shell, command, installs=installs)
        yield from _ended(page, shell, before=None)


def _run(page: Page, shell: ReaderShell, command: PlannedCommand, *, installs: bool) -> Row:
    step, shown = command.step, " ".join(command.text.split())
    reason = step.not_run or ("downloads packages: --install runs it" if step.installs and not installs else "")
    if reason:
        return Row(page=page.path, command=shown, result=f"not run: {reason}")
    if step.before:
        code, said = shell.run(step.before, deadline_s=3 * command.deadline_s)
        if code != 0:
            return Row(page=page.path, command=shown, result="failed", typed=step.before, output=f"{said}\nexit {code}")
    began = time.monotonic()
    if step.foreground:
        code, said = shell.stay(command, command.typed)
    else:
        code, said = shell.run(command.typed, deadline_s=command.deadline_s)
    result = f"exit {code}" if code in step.codes else "failed"
    return Row(
        page=page.path, command=shown, result=result, seconds=time.monotonic() - began, typed=command.typed,
        output=f"{said}\nexit {code}",
    )  # fmt: skip


def _ended(page: Page, shell: ReaderShell, *, before: PlannedCommand | None) -> Iterator[Row]:
    for stays, code in shell.end(before=before):
        if code not in (*_ENDED_BY_CTRL_C, *stays.step.codes):
            yield Row(page=page.path, command=f"Ctrl-C in {stays.text}", result="failed", output=f"exit {code}")


@contextmanager
def fresh_clone(*, installs: bool) -> Iterator[tuple[Path, dict[str, str]]]:
    """Context with a clone of the last commit, its environment in .venv, and the variables of a new account."""
    with tempfile.TemporaryDirectory(prefix="evergreen-documents-") as made:
        work, clone = Path(made).resolve(), Path(made).resolve() / "evergreen"
        _git("clone", "--quiet", str(ROOT), str(clone), at=work)
        account, shims = work / "account", work / "shims"
        for folder in (account / "srv", shims):
            folder.mkdir(parents=True)
        found = shutil.which("curl")
        (shims / "curl").write_text(f'#!/bin/sh\nexec {found} --fail-with-body "$@"\n', encoding="utf-8")
        (shims / "curl").chmod(0o700)
        outer = {name: value for name, value in os.environ.items() if not name.startswith(_OURS)}
        environment = outer | {
            "HOME": str(account),
            "PATH": f"{shims}:{clone / '.venv/bin'}:{os.environ['PATH']}",
            _MARK: str(work),
            "EVERGREEN_PROFILE": "test",
            "EVERGREEN_WORKERS": "1",
            **_free_ports(),
        }  # fmt: skip
        if installs:
            apart = outer | {"HOME": os.environ["HOME"]}  # the caches of this account
            subprocess.run(["make", "install"], cwd=clone, env=apart, check=True)  # noqa: S607
        else:
            _link_libraries(clone)
        try:
            yield clone, environment
        finally:
            _kill_all(str(work))


def _free_ports() -> dict[str, str]:
    """Return the variables that give each part its own port, because other systems may use the default ports."""
    drawn = random.SystemRandom().sample(_PORTS, 40)
    free = (port for port in drawn if port_is_free("127.0.0.1", port))
    return {f"EVERGREEN_{part.upper()}_PORT": str(port) for part, port in zip(PARTS, free, strict=False)}


def _link_libraries(clone: Path) -> None:
    """Make .venv with the libraries and tools of this environment and an editable install of the clone."""
    place = clone / ".venv"
    venv.create(place, with_pip=False, symlinks=True)
    (packages,) = place.glob("lib/python*/site-packages")
    (packages / "libraries.pth").write_text(f"{sysconfig.get_path('purelib')}\n", encoding="utf-8")
    install = ("-m", "pip", "--python", str(place / "bin/python"), "install", "-q", "--no-deps", "--no-build-isolation")
    apart = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | {"PYTHONWARNINGS": "ignore"}
    subprocess.run([sys.executable, *install, "-e", "."], cwd=clone, env=apart, check=True)  # noqa: S603
    for tool in Path(sysconfig.get_path("scripts")).iterdir():
        here = place / "bin" / tool.name
        if tool.is_file() and not here.exists():
            script = _INTERPRETER.sub(f"#!{place}/bin/python".encode(), tool.read_bytes(), count=1)
            here.write_bytes(script)
            here.chmod(0o700)
    for mark in (".installed", ".installed-dev"):
        (place / mark).touch()


def _git(*words: str, at: Path) -> None:
    subprocess.run(["git", *words], cwd=at, check=True)  # noqa: S603, S607


def _kill_all(mark: str) -> None:
    """Kill every process that a page left running."""
    for process in psutil.process_iter():
        try:
            if process.environ().get(_MARK) == mark:
                process.kill()
        except (psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
            continue


def _lines(row: Row) -> Iterator[str]:
    """Yield the row of the table, and the end of the output if the command failed."""
    command = row.command if len(row.command) <= _SHOWN_LETTERS else f"{row.command[: _SHOWN_LETTERS - 3]}..."
    yield f"{command:<{_SHOWN_LETTERS}} | {row.result} | {row.seconds:.1f}"
    if row.result == "failed":
        yield from (f"    {line}" for line in (row.typed, *row.output.splitlines()[-_SHOWN_LINES:]))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the pages and print the table; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m docs.checks.run_documented_commands", description=__doc__)
    parser.add_argument(
        "pages", nargs="*", metavar="PAGE", help="Pages to run (default: all), such as docs/tutorial.md."
    )
    parser.add_argument("--install", action="store_true", help="Run the commands that download packages, too.")
    chosen = parser.parse_args(arguments)
    if unknown := set(chosen.pages) - {page.path for page in PAGES}:
        parser.error(f"no plan for {', '.join(sorted(unknown))}: expected {', '.join(page.path for page in PAGES)}")
    rows: list[Row] = []
    with fresh_clone(installs=chosen.install) as (clone, environment):
        for page in PAGES:
            if chosen.pages and page.path not in chosen.pages:
                continue
            _git("checkout", "-q", ".", at=clone)
            _git("clean", "-fdxq", "-e", ".venv", "-e", "*.egg-info", at=clone)
            subprocess.run(
                [sys.executable, "-m", "docs.checks.reader_actions", "files"],
                cwd=clone, env=environment | {"PYTHONPATH": str(clone)}, check=True,
            )  # fmt: skip
            sys.stdout.write(f"\n{page.path}\ncommand | result | seconds\n")
            for row in run_page(page, clone, environment, installs=chosen.install):
                rows.append(row)
                sys.stdout.write("".join(f"{line}\n" for line in _lines(row)))
                sys.stdout.flush()
            _kill_all(environment[_MARK])
    counted = Counter(row.result.partition(":")[0].partition(" ")[0] for row in rows)
    sys.stdout.write(f"\n{counted['exit']} ran, {counted['failed']} failed, {counted['not']} not run\n")
    return 1 if counted["failed"] or not counted["exit"] else 0


if __name__ == "__main__":
    sys.exit(main())
