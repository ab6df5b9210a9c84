"""The router's settings are checked whole before anything is made."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from absa.errors import PermanentError
from absa.router_settings import RouterSettings

NUMBERS = [name for name, field in RouterSettings.model_fields.items() if "int" in str(field.annotation) or
           "float" in str(field.annotation)]  # fmt: skip


@pytest.fixture(autouse=True)
def variables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.upper().startswith(("EVERGREEN_", "MLFLOW_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("EVERGREEN_HOME", str(tmp_path / "home"))


@pytest.mark.parametrize("value", ["nan", "inf", "-1", "1e999", "many"])
@pytest.mark.parametrize("name", NUMBERS)
def test_number_without_meaning_is_refused(name: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(f"EVERGREEN_{name.upper()}", value)
    with pytest.raises(PermanentError, match=f"EVERGREEN_{name.upper()} cannot be used: expected"):
        RouterSettings.read()


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"ADMIN_PORT": "8000", "ROUTER_PORT": "8000"}, "EVERGREEN_ADMIN_PORT: expected another port"),
        ({"LAKE": "gs://bucket"}, "EVERGREEN_LAKE: expected a folder or s3://"),
        ({"HOME": ""}, "EVERGREEN_HOME is empty"),
        ({"LINKS": "no JSON"}, "EVERGREEN_LINKS cannot be used: expected JSON"),
        ({"QUEUE_M": "5"}, "did you mean EVERGREEN_QUEUE_MS?"),
        ({"MODEL_SOURCE": "folder:models"}, "routers load packages from the lake, so unset it"),
    ],
)
def test_check_prints_one_sentence_and_makes_nothing(values: dict[str, str], sentence: str, tmp_path: Path) -> None:
    environment = os.environ | {f"EVERGREEN_{name}": value for name, value in values.items()}
    command = [sys.executable, "-m", "serving", "--check"]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 2
    assert sentence in ended.stderr
    assert len(ended.stderr.splitlines()) == 1
    assert not (tmp_path / "home").exists()


def test_check_of_usable_settings_ends_at_once(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "serving", "--check"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")
    assert not (tmp_path / "home").exists()


def test_admin_port_of_zero_is_a_free_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EVERGREEN_ADMIN_PORT", "0")
    monkeypatch.setenv("EVERGREEN_ROUTER_PORT", "0")
    assert RouterSettings.read().admin_port == 0
