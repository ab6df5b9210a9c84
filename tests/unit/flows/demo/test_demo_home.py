"""A demo keeps to a home of its own, and goes on with the rows that it began with."""

import json
import socket
from pathlib import Path

import polars as pl
import pytest

from absa.adapters.lake_stores import FolderLake
from absa.data.ingest import ingest
from absa.data.snapshot import latest_manifest
from absa.errors import PermanentError
from flows.demo.chapters import ChapterError, Demo
from flows.demo.loop import run_demo
from flows.demo.pace import DemoOptions
from flows.platform.processes import PortTakenError
from tests.conftest import labelled_rows


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home whose demo tells nothing: what is done before the first chapter is all that happens."""
    servers = ("MLFLOW_TRACKING_URI", "PREFECT_API_URL", "PREFECT_HOME", "PREFECT_PROFILES_PATH")
    for name in ("EVERGREEN_LAKE", "EVERGREEN_CONFIG", *servers):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    monkeypatch.setenv("EVERGREEN_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(Demo, "run", lambda demo: demo.state.save(demo.state_file))
    monkeypatch.setattr("flows.demo.loop.slowdown", lambda: 1.0)  # its measurement takes seconds
    return tmp_path / "home"


def rows_in(file: Path) -> Path:
    """A user's file of labelled rows."""
    pl.DataFrame(labelled_rows(60)).write_csv(file)
    return file


def demo(data: Path | None = None, *, reset: bool = False) -> int:
    return run_demo(DemoOptions(scale="tiny", data=data, keep=False, reset=reset))


@pytest.mark.parametrize("reset", [False, True])
def test_ingested_user_rows_stop_demo_and_stay(home: Path, tmp_path: Path, reset: bool) -> None:
    lake = FolderLake(home / "lake")
    ingest(lake, [rows_in(tmp_path / "my.csv")])
    kept = latest_manifest(lake)
    with pytest.raises(PermanentError, match="not a demo's"):
        demo(reset=reset)
    assert latest_manifest(lake) == kept
    assert not (home / "settings.env").exists()


def test_settings_that_a_user_wrote_are_not_replaced(home: Path) -> None:
    home.mkdir()
    (home / "settings.env").write_text("EVERGREEN_WINDOW_S=60\n")
    with pytest.raises(PermanentError, match="not a demo's"):
        demo()
    assert (home / "settings.env").read_text() == "EVERGREEN_WINDOW_S=60\n"


def test_file_of_another_task_stops_demo(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    task = '[task]\nname = "mine"\ninput = "text"\nlabels = ["a", "b", "c"]\n'
    (tmp_path / "evergreen.toml").write_text(task)
    with pytest.raises(PermanentError, match="describes task mine"):
        demo()
    assert not home.exists()
    assert demo(rows_in(tmp_path / "my.csv")) == 0


def test_demo_continues_only_with_its_own_rows(home: Path, tmp_path: Path) -> None:
    mine = rows_in(tmp_path / "my.csv")
    assert demo() == 0
    ingest(FolderLake(home / "lake"), [mine])
    assert demo() == 0
    with pytest.raises(PermanentError, match="RESET=1"):
        demo(mine)
    assert demo(mine, reset=True) == 0
    with pytest.raises(PermanentError, match=f"DATA={mine}"):
        demo()


def test_reset_clears_former_demo_beside_users_file(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first demo wrote HOME/evergreen.toml; the user's own file came to the working folder since."""

    def again(*, reset: bool = False) -> int:
        monkeypatch.delenv("EVERGREEN_CONFIG", raising=False)  # which the demo before set in this process
        return demo(mine, reset=reset)

    monkeypatch.chdir(tmp_path)
    assert demo() == 0
    mine, own, former = rows_in(tmp_path / "my.csv"), tmp_path / "evergreen.toml", home / "evergreen.toml"
    own.write_text("[training]\nbudget_s = 60\n")
    (home / "notes.txt").write_text("the user's")
    with pytest.raises(PermanentError, match=r"which a former demo wrote: RESET=1"):
        again()
    assert former.exists()
    assert again(reset=True) == 0
    assert not former.exists()
    assert own.read_text() == "[training]\nbudget_s = 60\n"
    assert (home / "notes.txt").read_text() == "the user's"
    assert again() == 0


def test_demo_without_kept_row_name_continues(home: Path, tmp_path: Path) -> None:
    assert demo() == 0
    state = json.loads((home / "demo.json").read_text())
    state.pop("data", None)
    (home / "demo.json").write_text(json.dumps(state | {"done": [1, 2]}))
    assert demo(rows_in(tmp_path / "my.csv")) == 0
    assert demo() == 0


def test_port_taken_at_start_is_replaced(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    addresses: list[str] = []
    with socket.socket() as other:

        def start(demo: Demo) -> None:
            addresses.append(demo.services.environment["MLFLOW_TRACKING_URI"])
            if len(addresses) == 1:
                other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # an earlier demo's connections linger
                other.bind(("127.0.0.1", int(addresses[0].rpartition(":")[2])))
                other.listen()
                raise ChapterError(1, home / "demo.log") from PortTakenError("port is taken")

        monkeypatch.setattr(Demo, "run", start)
        assert demo() == 0
    first, second = addresses
    assert first != second
