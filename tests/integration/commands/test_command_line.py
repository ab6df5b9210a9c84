"""The command line: bad input gets one sentence and a non-zero exit code, and leaves nothing half-written."""

import re
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import pytest
from typer.core import TyperGroup
from typer.main import get_command

from absa.adapters.lake_stores import FolderLake
from absa.ledger.lifecycle import crowned
from absa.ledger.store import Ledger
from flows.cli.commands import app
from flows.platform.processes import Supervisor, bring_up
from flows.platform.settings import Settings, apply_environment
from tests.command_line import evergreen


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("EVERGREEN_HOME", "EVERGREEN_LAKE", "MLFLOW_TRACKING_URI", "PREFECT_API_URL"):
        monkeypatch.delenv(name, raising=False)
    home = tmp_path / "home"
    monkeypatch.setenv("EVERGREEN_HOME", str(home))
    monkeypatch.setenv("EVERGREEN_LAKE", str(home / "lake"))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:9/api")
    return home


GOOD = "text,aspect,label\n" + "".join(f"the editor {n} is great,editor,2\n" for n in "abcdefghijklmnop")

BAD_FILES = [
    ("empty.csv", b"", "empty"),
    ("columns.csv", b"text,label\nhi,1\n", "aspect"),
    ("label.csv", b"text,aspect,label\nthe app is fine,app,7\n", "label"),
    ("aspect.csv", b"text,aspect,label\nthe app is fine,invoice,1\n", "aspect"),
    ("bytes.csv", b"text,aspect,label\n\xff\xfe\xfa,app,1\n", "UTF-8"),
]


@pytest.mark.parametrize(("name", "content", "word"), BAD_FILES, ids=[name for name, _, _ in BAD_FILES])
def test_unusable_file_is_named_in_one_sentence(
    tmp_path: Path, home: Path, capsys: pytest.CaptureFixture[str], name: str, content: bytes, word: str
) -> None:
    file = tmp_path / name
    file.write_bytes(content)
    assert evergreen("ingest", str(file)) == 1
    error = capsys.readouterr().err
    assert name in error
    assert word.lower() in error.lower()
    assert "Traceback" not in error
    assert len(error.strip().splitlines()) == 1
    assert FolderLake(home / "lake").list("snapshots/") == []


def test_a_missing_file_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert evergreen("ingest", str(tmp_path / "none.csv")) == 1
    assert "none.csv" in capsys.readouterr().err


def test_a_good_file_becomes_a_snapshot(tmp_path: Path, home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "good.csv"
    file.write_text(GOOD)
    assert evergreen("ingest", str(file)) == 0
    assert "16 rows" in capsys.readouterr().out
    assert any(key.endswith("manifest.json") for key in FolderLake(home / "lake").list("snapshots/"))


def test_ingest_prints_where_every_row_went(tmp_path: Path, home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "rows.csv"
    file.write_text(GOOD + '"the menu,menu,2\nthe editor a is great,editor,2\nthe editor,invoice,2\n')
    assert evergreen("ingest", file) == 0
    out = capsys.readouterr().out
    assert "19 rows = 17 kept + 1 duplicates + 0 conflicts resolved + 1 quarantined" in out
    assert "quarantined 1 × aspect_not_in_text" in out
    assert f"{file} line 18: a double quote opens a field and does not close it" in out
    assert evergreen("ingest", file, "--max-bad-share", "0.01") == 1
    error = capsys.readouterr().err
    assert "1 of 19 rows cannot be used (at most 1% may be bad): 1 aspect_not_in_text; the first is row 20" in error
    [key] = FolderLake(home / "lake").list("quarantine/")
    assert str(home / "lake" / key) in error


def test_home_maps_labels_of_another_coding(tmp_path: Path, home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "rows.csv"
    file.write_text(GOOD.replace(",2\n", ",1\n") + "the editor is bad,editor,-1\nthe editor is there,editor,0\n")
    assert evergreen("ingest", file) == 1
    assert "[data.labels]" in capsys.readouterr().err
    home.mkdir(exist_ok=True)
    (home / "evergreen.toml").write_text('[data.labels]\n-1 = "negative"\n0 = "neutral"\n1 = "positive"\n')
    assert evergreen("ingest", file) == 0
    out = capsys.readouterr().out
    counts = [sum(int(line.split()[n]) for line in out.splitlines() if "negative" in line) for n in (1, 3, 5)]
    assert counts == [1, 1, 16]
    (home / "evergreen.toml").write_text('[data.labels]\n-1 = "bad"\n')
    assert evergreen("ingest", file) == 1
    assert "-1 = 'bad' in [data.labels]" in capsys.readouterr().err


@pytest.mark.parametrize("words", [("rollback",), ("promote", "--now")])
def test_decision_without_champion_names_first_step(words: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    assert evergreen(*words) == 1
    assert "evergreen train" in capsys.readouterr().err


def test_promotion_of_an_unknown_version_is_refused(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Before Prefect is asked, so that nothing waits in its queue."""
    champion(home, "1")
    assert evergreen("promote", "99") == 1
    assert "version 99 is not in the ledger; expected one of: 1, 2" in capsys.readouterr().err


def test_rollback_says_what_it_changed(
    home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    for version in "12":
        champion(home, version)
    assert evergreen("rollback") == 0
    first, second, meaning, following = capsys.readouterr().out.splitlines()[-4:]
    assert first.startswith("version 1 is champion again, in place of version 2 (ledger record 3)")
    assert second == "a second rollback would change nothing: there is no champion before version 1"
    assert meaning == "Version 1 answers all traffic; no data and no version is lost"
    assert following.startswith("Next: evergreen status")


def champion(home: Path, version: str) -> None:
    ledger = Ledger(FolderLake(home / "lake"))
    head = ledger.head()
    ledger.append(
        expected=head.number if head else 0, actor="test", action="promote", reason="test", state=crowned(version),
        versions=dict.fromkeys("12", "d"),
    )  # fmt: skip


@pytest.mark.parametrize("words", [("train",), ("monitor",)])
def test_unavailable_named_server_is_an_error(
    words: tuple[str, ...], home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A server that the user names is used; a home's own is not needed."""
    home.mkdir()
    assert evergreen(*words) == 3
    error = capsys.readouterr().err
    assert "prefect is unavailable at http://127.0.0.1:9/api/health" in error
    assert "PREFECT_API_URL names it, so start it, or unset the variable" in error


def test_status_of_empty_home_names_missing_parts(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    home.mkdir()
    assert evergreen("status") == 0
    assert "none yet" in capsys.readouterr().out


def test_the_ledger_of_an_empty_home_verifies(home: Path) -> None:
    home.mkdir()
    with pytest.raises(SystemExit) as ended:
        sys.exit(evergreen("ledger", "--verify"))
    assert ended.value.code == 0


def test_an_unknown_drift_lists_those_there_are(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    home.mkdir()
    assert evergreen("simulate", "--drift", "weather", "--seconds", "1") == 1
    assert "vocabulary" in capsys.readouterr().err


def test_taken_port_is_named_and_nothing_remains(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        monkeypatch.setenv("EVERGREEN_ROUTER_PORT", str(port))
        settings = Settings.load()
        with pytest.raises(Exception, match=f"port {port} is taken") as refused:
            bring_up(settings, apply_environment(settings), ["router"])
        assert "EVERGREEN_ROUTER_PORT" in str(refused.value)
        assert Supervisor(settings).running("router") is None


def commands(group: TyperGroup, *above: str) -> Iterator[tuple[str, ...]]:
    """The words of everything that can be called in a group, those of its groups included."""
    for name, command in group.commands.items():
        if isinstance(command, TyperGroup):
            yield from commands(command, *above, name)
        if not isinstance(command, TyperGroup) or command.invoke_without_command:
            yield (*above, name)


@pytest.mark.parametrize("words", [*commands(cast(TyperGroup, get_command(app)))], ids=" ".join)
def test_every_command_explains_itself_with_an_example(
    words: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert evergreen(*words, "--help") == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert re.search(rf"Example: (?:sudo |EVERGREEN_HOME=\S+ )?evergreen {' '.join(words)}", shown)
