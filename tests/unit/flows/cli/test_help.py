"""Help of every command: what is written reaches the reader."""

import re
import subprocess
import sys
from collections.abc import Iterator
from importlib import metadata

import click
import pytest
import typer.main
from typer.testing import CliRunner

from absa.errors import PermanentError, UnavailableError
from flows.cli.command_places import FRONT, GROUPS
from flows.cli.commands import app, run_command
from tests.homes import words_of_default_task


def commands(command: click.Command, words: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """Yield each command with the words that call it."""
    yield words, command
    for name, child in getattr(command, "commands", {}).items():
        yield from commands(child, (*words, name))


ALL = dict(commands(typer.main.get_command(app)))
COMMANDS = {words: command for words, command in ALL.items() if not command.hidden}


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_help_keeps_words_in_brackets(words: tuple[str, ...]) -> None:
    command = COMMANDS[words]
    texts = [command.help, command.epilog, *(getattr(parameter, "help", None) for parameter in command.params)]
    written = set(re.findall(r"\[[^\]]*\]", " ".join(filter(None, texts))))
    shown = CliRunner().invoke(app, [*words, "--help"], env={"COLUMNS": "200", "TERMINAL_WIDTH": "200"})
    assert shown.exit_code == 0
    assert {name for name in written if name not in shown.output} == set()


def test_help_names_no_word_of_default_task() -> None:
    """Help is the same in every home."""
    for words, command in COMMANDS.items():
        shown = [each for each in command.params if not getattr(each, "hidden", False)]
        parameters = [f"{each.opts} {each.metavar} {getattr(each, 'help', '')}" for each in shown]
        said = f"{command.help} {command.epilog} {' '.join(parameters)}"
        assert (words, words_of_default_task(said)) == (words, [])


def test_some_help_names_a_section() -> None:
    texts = " ".join(getattr(parameter, "help", None) or "" for each in COMMANDS.values() for parameter in each.params)
    assert "[staleness]" in texts


def test_front_page_names_the_commands_of_a_day() -> None:
    shown = CliRunner().invoke(app, ["--help"], env={"COLUMNS": "200", "TERMINAL_WIDTH": "200"}).output
    front = [name for names in FRONT.values() for name in names]
    found = [line.split()[1] for line in shown.splitlines() if line.startswith("│ ") and not line.startswith("│  ")]
    named = [each for each in found if not each.startswith("-")]
    assert named == [name for name in front if (name,) in COMMANDS]
    assert "Exit codes: 0 done; 1 request refused" in shown


def test_every_command_is_placed() -> None:
    placed = {name for table in (FRONT, GROUPS) for names in table.values() for name in names}
    assert {words[0] for words in ALL if words} <= placed
    for group, names in GROUPS.items():
        assert {(group, name) for name in names} <= ALL.keys()


def test_version_is_printed() -> None:
    assert CliRunner().invoke(app, ["--version"]).output == f"evergreen {metadata.version('evergreen')}\n"


@pytest.mark.parametrize(
    ("error", "code"),
    [(PermanentError("no"), 1), (UnavailableError("later"), 3), (KeyboardInterrupt(), 130), (None, 0)],
)
def test_exit_code_of_each_error(error: BaseException | None, code: int) -> None:
    def command() -> None:
        if error is not None:
            raise error

    assert run_command(command) == code


def test_commands_load_no_large_package_at_start() -> None:
    """`evergreen serve` and help start in a moment, and a router needs none of them."""
    code = "import sys, flows.cli.commands; print(*{'polars', 'mlflow', 'prefect', 'torch'} & set(sys.modules))"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ended.stdout == "\n"
