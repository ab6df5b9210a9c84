"""Units of systemd: what they start, for whom, and that systemd itself takes them."""

import configparser
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from flows.platform.host.service_units import PLATFORM_UNIT, ROUTER_UNIT, quoted, service_units


def parsed(unit: str) -> configparser.ConfigParser:
    found = configparser.ConfigParser(interpolation=None, delimiters=("=",), strict=False)
    found.optionxform = str  # type: ignore[assignment, method-assign]
    found.read_string(unit)
    return found


def units(tmp_path: Path, *, user: str | None = "evergreen") -> dict[str, str]:
    config = tmp_path / "conf $1 100%" / "evergreen.toml"
    command = (sys.executable, "-m", "flows.cli")
    return dict(service_units(command, home=tmp_path / "the home", config=config, folder=tmp_path, user=user))


@pytest.mark.parametrize(("name", "last"), [(PLATFORM_UNIT, ["up", "--foreground"]), (ROUTER_UNIT, ["serve"])])
def test_unit_starts_command_of_its_part(tmp_path: Path, name: str, last: list[str]) -> None:
    unit = parsed(units(tmp_path)[name])
    service = unit["Service"]
    assert shlex.split(service["ExecStart"]) == [sys.executable, "-m", "flows.cli", *last]
    assert (service["User"], service["Restart"], service["KillMode"]) == ("evergreen", "on-failure", "mixed")
    assert service["SuccessExitStatus"] == "130"  # of a start that SIGTERM interrupts
    assert unit["Install"]["WantedBy"] == "multi-user.target"
    assert unit["Unit"]["Conflicts"] == ({PLATFORM_UNIT, ROUTER_UNIT} - {name}).pop()


def test_unit_of_a_user_names_no_account(tmp_path: Path) -> None:
    unit = parsed(units(tmp_path, user=None)[PLATFORM_UNIT])
    assert "User" not in unit["Service"]
    assert unit["Install"]["WantedBy"] == "default.target"


def test_units_carry_home_and_configuration(tmp_path: Path) -> None:
    lines = [line for line in units(tmp_path)[ROUTER_UNIT].splitlines() if line.startswith("Environment=")]
    assert [shlex.split(line.removeprefix("Environment=")) for line in lines] == [
        [f"EVERGREEN_HOME={tmp_path}/the home"],
        [f"EVERGREEN_CONFIG={tmp_path}/conf $1 100%%/evergreen.toml"],
    ]


@pytest.mark.parametrize(
    ("word", "text"), [("plain", "plain"), ("two words", '"two words"'), ('a"b', '"a\\"b"'), ("5%", "5%%")]
)
def test_words_are_quoted_as_systemd_reads_them(word: str, text: str) -> None:
    assert quoted(word) == text


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed here")
def test_systemd_accepts_units(tmp_path: Path) -> None:
    files = []
    for name, text in units(tmp_path, user="root").items():
        files.append(tmp_path / name)
        files[-1].write_text(text)
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *map(str, files)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    said = [line for line in done.stderr.splitlines() if "evergreen" in line]
    assert (said, done.returncode) == ([], 0)
