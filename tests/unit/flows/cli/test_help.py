"""Help of every command: what is written reaches the reader."""

import re
from collections.abc import Iterator

import click
import pytest
import typer.main
from typer.testing import CliRunner

from flows.cli.commands import app


def commands(command: click.Command, words: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """Yield each command with the words that call it."""
    yield words, command
    for name, child in getattr(command, "commands", {}).items():
        yield from commands(child, (*words, name))


COMMANDS = dict(commands(typer.main.get_command(app)))


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_help_keeps_words_in_brackets(words: tuple[str, ...]) -> None:
    command = COMMANDS[words]
    texts = [command.help, command.epilog, *(getattr(parameter, "help", None) for parameter in command.params)]
    written = set(re.findall(r"\[[^\]]*\]", " ".join(filter(None, texts))))
    shown = CliRunner().invoke(app, [*words, "--help"], env={"COLUMNS": "200", "TERMINAL_WIDTH": "200"})
    assert shown.exit_code == 0
    assert {name for name in written if name not in shown.output} == set()


def test_some_help_names_a_section() -> None:
    texts = " ".join(getattr(parameter, "help", None) or "" for each in COMMANDS.values() for parameter in each.params)
    assert "[staleness]" in texts
