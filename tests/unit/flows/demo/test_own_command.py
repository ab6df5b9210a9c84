"""Commands that the demo prints work in the shell of each kind of installation."""

from pathlib import Path

from flows.demo.own_command import own_command


def script(folder: Path) -> Path:
    """A folder with a command that can be run."""
    folder.mkdir(parents=True)
    (folder / "evergreen").touch(mode=0o755)
    return folder


def test_command_on_path_is_named_alone(tmp_path: Path) -> None:
    tool = script(tmp_path / "tools" / "bin")
    on_path = tmp_path / "bin"
    on_path.mkdir()
    (on_path / "evergreen").symlink_to(tool / "evergreen")  # as uv and pipx put it on the path
    assert own_command("up", python=tool / "python", environment={"PATH": f"/none:{on_path}"}) == "evergreen up"
    of_uv = {"PATH": f"{tool}:{on_path}", "UV": "/bin/uv"}  # `uvx` uses an installed tool
    assert own_command("up", python=tool / "python", environment=of_uv) == "evergreen up"


def test_command_of_checkout_is_named_by_file(tmp_path: Path) -> None:
    python = script(tmp_path / ".venv" / "bin") / "python"
    said = own_command("up", python=python, folder=tmp_path, environment={"PATH": "/none"})
    assert said == ".venv/bin/evergreen up"
    assert own_command("up", python=python, environment={"PATH": f"{python.parent}:/none"}) == "evergreen up"


def test_other_installation_on_path_is_not_named(tmp_path: Path) -> None:
    other, python = script(tmp_path / "bin"), script(tmp_path / "cache") / "python"
    said = own_command("up", python=python, folder=tmp_path / "work", environment={"PATH": str(other)})
    assert said == f"{tmp_path}/cache/evergreen up"


def test_command_of_uvx_is_named_by_file(tmp_path: Path) -> None:
    python = script(tmp_path / "cache") / "python"
    environment = {"PATH": f"{python.parent}:/none", "UV": "/bin/uv"}
    said = own_command("up", python=python, folder=tmp_path / "work", environment=environment)
    assert said == f"{tmp_path}/cache/evergreen up"
