"""`evergreen admin backup`, `restore` and `install-service` as an operator calls them."""

import json
from pathlib import Path

import pytest

from absa.adapters.lake_stores import FolderLake
from absa.ledger.lifecycle import crowned
from absa.ledger.store import Ledger
from tests.command_line import evergreen

Printed = pytest.CaptureFixture[str]


def test_backup_and_restore_of_a_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Printed) -> None:
    home, restored, file = tmp_path / "home", tmp_path / "restored", tmp_path / "backup.tar"
    Ledger(FolderLake(home / "lake")).append(
        expected=0, actor="t", action="promote", reason="r", state=crowned("1"), versions={"1": "d"}
    )
    monkeypatch.setenv("EVERGREEN_HOME", str(home))
    assert evergreen("admin", "backup", file) == 0
    assert "1 files, 0 MB, ledger up to record 1" in capsys.readouterr().out
    monkeypatch.setenv("EVERGREEN_HOME", str(restored))
    assert evergreen("admin", "restore", file, "--json") == 0
    facts = json.loads(capsys.readouterr().out)
    assert (facts["home"], facts["records"], facts["problems"]) == (str(restored), 1, [])
    assert evergreen("admin", "restore", file) == 1
    assert "is not empty: set EVERGREEN_HOME to a new folder" in capsys.readouterr().err


def test_written_unit_leaves_named_variables_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Printed
) -> None:
    monkeypatch.setenv("EVERGREEN_HOME", str(tmp_path))
    monkeypatch.setenv("EVERGREEN_WORKERS", "1")
    assert evergreen("admin", "install-service", "--into", tmp_path) == 0
    unit, said = (tmp_path / "evergreen.service").read_text(), capsys.readouterr().out
    assert f"Environment=EVERGREEN_HOME={tmp_path}\n" in unit
    assert f"User={tmp_path.owner()}\n" in unit
    assert "EVERGREEN_WORKERS" in said
    assert "EVERGREEN_WORKERS" not in unit
    assert "systemctl daemon-reload && systemctl enable --now evergreen.service" in said
    assert evergreen("admin", "install-service", "--router", "--user") == 0
    printed = capsys.readouterr().out
    assert "WantedBy=default.target" in printed
    assert "User=" not in printed
    assert [path.name for path in tmp_path.iterdir()] == ["evergreen.service"]
