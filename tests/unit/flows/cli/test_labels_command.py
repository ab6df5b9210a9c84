"""Tests of `evergreen labels import`: its account and its exit code."""

import json
from datetime import timedelta
from pathlib import Path

import pytest
from typer.testing import CliRunner

from absa.records.schema import Window
from flows.cli.commands import app
from flows.platform.services import build_services
from flows.platform.settings import Settings
from tests.unit.monitoring.conftest import START, Traffic

WINDOW = Window(start=START, end=START + timedelta(minutes=1))
UNKNOWN = "019a8f0e-0000-7000-8000-000000000000"


@pytest.fixture
def request_id(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Id of the one prediction of a home, in which commands run."""
    monkeypatch.setenv("EVERGREEN_HOME", str(tmp_path))
    services = build_services(Settings(home=tmp_path), environment={})
    return Traffic(services.lake).send(WINDOW, 1, labelled=0.0)[0]


@pytest.mark.parametrize(("first", "code", "taken"), [("known", 0, 1), ("unknown", 1, 0)])
def test_labels_import_prints_account(request_id: str, tmp_path: Path, first: str, code: int, taken: int) -> None:
    queue = tmp_path / "queue.csv"
    known = request_id if first == "known" else UNKNOWN
    queue.write_text(f"request_id;label;sampling_probability\n{known};negative;0,5\n{UNKNOWN};0;1\nx;;1\n")
    ended = CliRunner().invoke(app, ["labels", "import", str(queue)])
    assert ended.exit_code == code
    lines = ended.stdout.splitlines()
    assert lines[0] == f"3 rows read = {taken} labels taken + 1 without a label + {2 - taken} refused"
    assert "has a request_id that no prediction has" in lines[1]
    assert lines[-1] == "Next: evergreen monitor, or evergreen train"


def test_labels_import_prints_its_account_as_json(request_id: str, tmp_path: Path) -> None:
    queue = tmp_path / "queue.csv"
    queue.write_text(f"request_id,label,sampling_probability\n{request_id},negative,1\n{UNKNOWN},0,1\n")
    ended = CliRunner().invoke(app, ["labels", "import", str(queue), "--source", "survey", "--json"])
    assert json.loads(ended.stdout) == {
        "rows": 2, "taken": 1, "unlabelled": 0, "source": "survey", "measures": False, "trains": False,
        "refused": {"has a request_id that no prediction has": [3]},
    }  # fmt: skip


def test_labels_commands_use_codes_of_home(request_id: str, tmp_path: Path) -> None:
    queue = tmp_path / "queue.csv"
    queue.write_text(f"request_id,label,sampling_probability\n{request_id},-1,1\n")
    refused = CliRunner().invoke(app, ["labels", "import", str(queue)])
    assert "codes its labels as -1, 0, 1" in str(refused.exception)
    (tmp_path / "evergreen.toml").write_text("[data.labels]\n-1 = 0\n0 = 1\n1 = 2\n")
    taken = CliRunner().invoke(app, ["labels", "import", str(queue)])
    assert taken.stdout.startswith("1 rows read = 1 labels taken")
    asked = CliRunner().invoke(app, ["labels", "export", str(tmp_path / "next.csv"), "--window", WINDOW.key, "--json"])
    assert json.loads(asked.stdout) == {
        "file": str(tmp_path / "next.csv"), "rows": 0, "why": {},
        "labels": ["negative", "neutral", "positive", "-1", "0", "1"],
    }  # fmt: skip


def test_labels_commands_exchange_with_label_studio(request_id: str, tmp_path: Path) -> None:
    tasks = tmp_path / "tasks.json"
    asked = CliRunner().invoke(app, ["labels", "export", str(tasks), "--window", WINDOW.key])
    assert f"labelling interface in {tmp_path / 'tasks.xml'}" in asked.stdout
    (task,) = json.loads(tasks.read_text(encoding="utf-8"))
    assert task["data"]["request_id"] == request_id
    result = {"from_name": "label", "to_name": "text", "type": "choices", "value": {"choices": ["positive"]}}
    tasks.write_text(json.dumps([task | {"annotations": [{"was_cancelled": False, "result": [result]}]}]))
    taken = CliRunner().invoke(app, ["labels", "import", str(tasks)])
    assert taken.stdout.startswith("1 rows read = 1 labels taken")
