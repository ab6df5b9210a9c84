"""Answers of commands: every command ends with one, and prints it as JSON on request."""

import json
import typing
from typing import Annotated, Any

import click
import pytest
import typer.main

from flows.cli.commands import app
from flows.cli.output.command_result import CommandResult, facts_of, show
from tests.unit.flows.cli.test_help import commands

WITHOUT = {("demo",)}
"""It tells a story in chapters, and ends with its servers or by Ctrl-C."""
ALL = {
    words: command
    for words, command in commands(typer.main.get_command(app))
    if words and words[0] not in {"lab", "admin", "data"} and not getattr(command, "no_args_is_help", False)
}
ALL |= {words: command for words, command in commands(typer.main.get_command(app)) if words == ("batch",)}


def keys_of(facts: Any) -> dict[str, Any]:
    """Return the keys of a type of facts, or of the objects of a list."""
    row = typing.get_args(facts)[0] if typing.get_origin(facts) is list else facts
    return typing.get_type_hints(row, include_extras=True)


@pytest.mark.parametrize("words", ALL, ids=" ".join)
def test_every_command_returns_documented_facts(words: tuple[str, ...]) -> None:
    command: click.Command = ALL[words]
    facts = facts_of(command.callback)
    if words in WITHOUT:
        assert facts is None
        return
    assert facts is not None, "a command ends with an CommandResult: what happened, what it means, what to do next"
    for key, kind in keys_of(facts).items():
        assert typing.get_origin(kind) is Annotated, f"{key} has no description"
    assert sum("--json" in parameter.opts for parameter in command.params) == 1


def test_result_is_lines_meaning_and_next_step(capsys: pytest.CaptureFixture[str]) -> None:
    answer = CommandResult(facts={"rows": 2}, lines=("2 rows",), meaning="They count", following="evergreen train")
    show(answer, as_json=False)
    assert capsys.readouterr().out == "2 rows\nThey count\nNext: evergreen train\n"
    show(answer, as_json=True)
    assert json.loads(capsys.readouterr().out) == {"rows": 2}
