"""Commands that the demo prints work in the shell of each kind of installation."""

from pathlib import Path

from flows.demo.own_command import own_command


def test_command_on_path_is_named_alone(tmp_path: Path) -> None:
    tool = tmp_path / "tools" / "bin"
    tool.mkdir(parents=True)
    (tool / "evergreen").touch()
    (tmp_path / "evergreen").symlink_to(tool / "evergreen")  # as uv and pipx put it on the path
    found = own_command("up", python=tool / "python", which=lambda _: str(tmp_path / "evergreen"))
    assert found == "evergreen up"


def test_command_of_checkout_is_named_by_file(tmp_path: Path) -> None:
    python = tmp_path / ".venv" / "bin" / "python"
    assert own_command("up", python=python, folder=tmp_path, which=lambda _: None) == ".venv/bin/evergreen up"


def test_other_installation_on_path_is_not_named(tmp_path: Path) -> None:
    python = tmp_path / "cache" / "python"
    said = own_command("up", python=python, folder=tmp_path / "work", which=lambda _: str(tmp_path / "evergreen"))
    assert said == f"{tmp_path}/cache/evergreen up"
