"""Arguments without meaning get one sentence that names them, and nothing is made or asked."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast, get_args

import pytest
from typer.core import TyperGroup
from typer.main import get_command

from flows.cli.commands import app, run_command
from flows.training.train_here import main as train_here

VALUES = {float: ("nan", "inf", "-inf", "-1", "1e30", "1e999"), int: ("-1", "9" * 40, "nan", "1.5")}
DAY = ("--from", "2026-11-01T00:00:00Z", "--to", "2026-11-02T00:00:00Z")
ZERO_MEANS_NOTHING = {
    ("train", "--budget"), ("retrain", "--budget"), ("pretrain", "--budget"), ("pretrain", "--epochs"),
    ("forget", "--days"), ("shadow", "--gain"), ("shadow", "--count"), ("simulate", "--seconds"),
    ("simulate", "--rate"),
    ("monitor", "--last"), ("lab policy", "--window-s"), ("lab policy", "--every"), ("lab policy", "--minutes"),
    ("insights", "--min-rows"), ("labels export", "--count"),
    ("labels export", "--audit"), ("batch", "--partition-rows"), ("capacity", "--rate"), ("capacity", "--workers"),
    ("capacity", "--queue-ms"), ("capacity", "--floor"), ("cost", "--peak"), ("cost", "--p99-ms"), ("cost", "--load"),
}  # fmt: skip


def commands(group: TyperGroup, *above: str) -> Iterator[tuple[tuple[str, ...], Any]]:
    """The words of every command with the command, those of groups included."""
    for name, command in group.commands.items():
        if isinstance(command, TyperGroup):
            yield from commands(command, *above, name)
        yield (*above, name), command


def options(kind: type) -> list[tuple[str, str]]:
    found = []
    for words, command in commands(cast(TyperGroup, get_command(app))):
        for option in command.params:
            if option.opts[0].startswith("--") and kind in (
                option.type_descriptor.annotation,
                *get_args(option.type_descriptor.annotation),
            ):
                found.append((" ".join(words), max(option.opts, key=len)))
    return found


NUMERIC = [(*option, value) for kind, values in VALUES.items() for option in options(kind) for value in values]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a home, so that a command which takes a bad value would go on to its work."""
    for name in [name for name in os.environ if name.startswith(("EVERGREEN_", "PREFECT_", "MLFLOW_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("EVERGREEN_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:9/api")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    (tmp_path / "home").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def outcome(*words: str) -> int:
    """Exit code of a command; an error that is not meant for the user is raised."""
    try:
        return run_command(lambda: app(list(words)))
    except SystemExit as ended:
        return int(ended.code or 0)


def test_numeric_options_are_found() -> None:
    assert len(options(float)) > 20
    assert len(options(int)) > 8
    assert {*options(float), *options(int)} >= ZERO_MEANS_NOTHING


@pytest.mark.parametrize(
    ("command", "option", "value"), [*NUMERIC, *((*option, "0") for option in sorted(ZERO_MEANS_NOTHING))]
)
def test_number_without_meaning_is_refused(
    command: str, option: str, value: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert outcome(*command.split(), option, value) in {1, 2}
    said = capsys.readouterr()
    assert f"{option}: expected a number" in said.err or f"Invalid value for '{option}'" in said.err
    assert said.out == ""
    assert [*folder.rglob("*")] == [folder / "home"]


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("monitor", "--window", "foo"), "--window: expected <start>_<end>"),
        (("monitor", "--window", "20261130T130000.000000Z_20261130T120000.000000Z"), "--window: expected"),
        (("monitor", "--window", "a_b", "--last", "5"), "expected --window or --last, got both"),
        (("insights", "--window", "0d"), "got '0d'"),
        (("insights", "--window", "nand"), "got 'nand'"),
        (("insights", "--window", "1e300d"), "got '1e300d'"),
        (("insights", "--window", "900000d"), "got '900000d'"),
        (("labels", "export", "q.csv", "--window", ""), "got ''"),
        (("labels", "export", "home"), "expected a file to write, got the folder home"),
        (("labels", "export", "no/q.csv"), "does not exist: make it first"),
        (("labels", "import", "none.csv"), "none.csv cannot be read"),
        (("labels", "import", "home"), "expected a file, got the folder home"),
        (("insights", "--csv", "home"), "--csv: expected a file to write"),
        (("insights", "--plot", "no/p.png"), "--plot: the folder"),
        (("shadow", "--export", "home"), "--export: expected a file to write"),
        (("capacity", "--plot", "home"), "--plot: expected a file to write"),
        (("capacity", "--plot", "picture.xyz"), "--plot: expected a name that ends in .svg or .png"),
        (("capacity", "--trace", "home"), "home"),
        (("capacity", "--trace", "none.csv"), "none.csv"),
        (("capacity", "--results", "none"), "was not measured"),
        (("cost", "--prices", "none.csv"), "none.csv"),
        (("cost", "--prices", "home"), "home"),
        (("cost", "--f1", "x=nan"), "--f1: expected NAME=NUMBER"),
        (("cost", "--speed", "c8g=-1"), "--speed: expected NAME=NUMBER"),
        (("cost", "--f1", "=1"), "--f1: expected NAME=NUMBER"),
        (("lab", "policy", "--from", "yesterday", "--to", "2026-11-01T00:00:00Z"), "--from: expected an ISO 8601 time"),
        (("lab", "policy", *DAY[:3], DAY[1]), "--to: expected a time after"),
        (("lab", "policy", *DAY, "--policy", "no"), "no cannot be read"),
        (("ledger", "shwo"), "got 'shwo'"),
        (("ledger", "--at", "noon"), "--at: expected an ISO 8601 time"),
        (("simulate", "--drift", "weather"), "vocabulary"),
        (("demo", "--scale", "huge"), "'huge'"),
        (("demo", "--data", "none.csv"), "none.csv does not exist"),
        (("demo", "--data", "home"), "home"),
        (("ingest", "home"), "holds no file"),
        (("train", "home"), "home is not a file"),
        (("pretrain", "none"), "none is missing"),
        (("pretrain", "home"), "holds no file"),
        (("train", "--reason", " "), "--reason: expected a text"),
        (("train", "--encoder", ""), "--encoder: expected a text"),
        (("retrain", "--reason", ""), "--reason: expected a text"),
        (("promote", "--now", "1", "2"), "--now: expected one version, got 2"),
        (("forget",), "expected one of --unit ID and --days N"),
        (("forget", "--unit", ""), "--unit: expected a text"),
        (("forget", "--unit", "a", "--days", "3"), "expected one of --unit ID and --days N"),
        (("batch", "--input", "a"), "--output"),
        (("batch", "--input", "none.csv", "--output", "o", "--model", "home"), "home"),
        (("batch", "verify", "none"), "none"),
    ],
    ids=str,
)  # fmt: skip
def test_argument_that_cannot_be_used_is_named(
    words: tuple[str, ...], sentence: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert outcome(*words) == 1
    said = capsys.readouterr()
    assert sentence in said.out + said.err
    assert [*folder.rglob("*")] == [folder / "home"]


@pytest.mark.parametrize(
    "words",
    [("predict", "caf\udce9", "app"), ("ingest", "r\udce9.csv"), ("forget", "--unit", "\udcff"), ("\udcff",)],
    ids=ascii,
)
def test_bytes_that_are_not_utf8_are_named(words: tuple[str, ...]) -> None:
    command = [sys.executable, "-m", "flows.cli", *words]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 1
    assert ended.stderr.startswith("evergreen: argument ")
    assert "is not UTF-8 text" in ended.stderr
    assert len(ended.stderr.splitlines()) == 1


def test_output_in_another_encoding_ends_in_no_traceback(folder: Path) -> None:
    environment = os.environ | {"PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    command = [sys.executable, "-m", "flows.cli", "predict", "schön", "ü"]
    ended = subprocess.run(command, env=environment, capture_output=True, timeout=60, check=False)
    assert ended.returncode == 1
    assert b"Traceback" not in ended.stderr


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("--budget-s", "nan"), "--budget-s: expected seconds above 0, got nan"),
        (("--budget-s", "0"), "--budget-s: expected seconds above 0, got 0"),
        (("--budget-s", "9", "--window", "foo"), "--window: expected <start>_<end>"),
    ],
    ids=str,
)
def test_training_on_a_machine_names_unusable_arguments(
    words: tuple[str, ...], sentence: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train_here(list(words)) == 1
    assert sentence in capsys.readouterr().err
    assert [*folder.rglob("*")] == [folder / "home"]
