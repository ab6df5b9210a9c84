"""Values of settings: what is out of range, contradicts another value or is no text is refused at the start."""

import os
from contextlib import nullcontext
from pathlib import Path

import pytest

from absa.config_file import SETTINGS_FILE
from absa.errors import PermanentError
from flows.platform.settings import Home, Settings, apply_environment, base_size
from tests.homes import configure

NUMBERS = [name for name, field in Settings.model_fields.items() if "int" in str(field.annotation) or
           "float" in str(field.annotation)]  # fmt: skip


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in [name for name in os.environ if name.upper().startswith("EVERGREEN_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("EVERGREEN_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.mark.parametrize("value", ["nan", "inf", "-inf", "-2", "1e999", "many", ""])
@pytest.mark.parametrize("name", NUMBERS)
def test_number_without_meaning_is_refused(name: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(f"EVERGREEN_{name.upper()}", value)
    with pytest.raises(PermanentError, match=f"EVERGREEN_{name.upper()} cannot be used: expected"):
        Settings.load()


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"CONFIG": "/missing.toml"}, "/missing.toml (EVERGREEN_CONFIG) cannot be read"),
        ({"CONFIG": ""}, "EVERGREEN_CONFIG is empty: name a file"),
        ({"BUDGET_S": "0"}, "EVERGREEN_BUDGET_S"),
        ({"WINDOW_S": "1e30"}, "EVERGREEN_WINDOW_S"),
        ({"WORKERS": "0"}, "EVERGREEN_WORKERS"),
        ({"TRAINING_QUEUES": "gpu"}, "EVERGREEN_TRAINING_DEFINITION: expected both or neither"),
        ({"ROUTER_PORT": "0"}, "EVERGREEN_ROUTER_PORT"),
        ({"MLFLOW_PORT": "65536"}, "EVERGREEN_MLFLOW_PORT"),
        ({"MLFLOW_PORT": "x"}, "EVERGREEN_MLFLOW_PORT"),
        ({"MLFLOW_PORT": "5001", "PREFECT_PORT": "5001"}, "expected different ports, got 5001"),
        ({"LAKE": "gs://bucket"}, "EVERGREEN_LAKE: expected a folder or s3://bucket/prefix"),
        ({"ROUTER_URL": "router:8080"}, "EVERGREEN_ROUTER_URL: expected http://"),
        ({"ALERT_URL": "hooks"}, "EVERGREEN_ALERT_URL: expected http://"),
        ({"EVIDENTLY_URL": "file:///x"}, "EVERGREEN_EVIDENTLY_URL: expected http://"),
        ({"APPROVAL": "perhaps"}, "EVERGREEN_APPROVAL"),
        ({"METRICS": "prometheus"}, "EVERGREEN_METRICS cannot be used: expected 'off' or 'emf'"),
        ({"WORK_POOL_VARIABLES": "no JSON"}, "EVERGREEN_WORK_POOL_VARIABLES cannot be used: expected JSON"),
        ({"WORK_POOL_VARIABLES": "[1]"}, "EVERGREEN_WORK_POOL_VARIABLES"),
        ({"HOST": ""}, "EVERGREEN_HOST"),
        ({"HOME": ""}, "EVERGREEN_HOME is empty"),
        ({"LAKE": ""}, "EVERGREEN_LAKE is empty"),
        ({"LAKE_": "2"}, "did you mean EVERGREEN_LAKE?"),
    ],
)
def test_value_that_cannot_be_used_is_named(
    values: dict[str, str], sentence: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in values.items():
        monkeypatch.setenv(f"EVERGREEN_{name}", value)
    with pytest.raises(PermanentError) as refused:
        Settings.load()
    assert sentence in str(refused.value)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (b"EVERGREEN_LAKES=2\n", "settings.env is not a setting: did you mean EVERGREEN_LAKE?"),
        (b"EVERGREEN_RAMP=2\n", "/settings.env cannot be used: expected rising shares"),
        (b"EVERGREEN_COOLDOWN_S=an hour\n", "cooldown_s in section [staleness] of"),
        (b"EVERGREEN_WINDOW_S=-1\n", "EVERGREEN_WINDOW_S cannot be used"),
        (b"EVERGREEN_TRUST=caf\xe9\n", "settings.env is not UTF-8 text"),
    ],
)
def test_settings_file_is_checked_like_the_environment(home: Path, text: bytes, sentence: str) -> None:
    home.mkdir()
    (home / SETTINGS_FILE).write_bytes(text)
    with pytest.raises(PermanentError) as refused:
        Settings.load()
    assert sentence in str(refused.value)


def test_settings_file_that_is_a_folder_is_refused(home: Path) -> None:
    (home / SETTINGS_FILE).mkdir(parents=True)
    with pytest.raises(PermanentError, match="is a folder"):
        Settings.load()


def test_home_that_is_a_file_is_refused(home: Path) -> None:
    home.write_text("")
    with pytest.raises(PermanentError, match="EVERGREEN_HOME: expected a folder"):
        Settings.load()


def test_all_problems_of_values_are_in_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EVERGREEN_BUDGET_S", "-1")
    monkeypatch.setenv("EVERGREEN_WORKERS", "0")
    with pytest.raises(PermanentError, match=r"EVERGREEN_WORKERS .*; EVERGREEN_BUDGET_S "):
        Settings.load()


def test_settings_file_sets_ports_and_router(home: Path) -> None:
    home.mkdir()
    (home / SETTINGS_FILE).write_text("EVERGREEN_MLFLOW_PORT=5777\nEVERGREEN_ROUTER_URL=http://router.example\n")
    settings = Settings.load()
    assert Home(settings).ports()["mlflow"] == 5777
    assert settings.router_url == "http://router.example"


def test_layers_of_base_folder_are_the_limit(home: Path, tmp_path: Path) -> None:
    for name in ("model.safetensors", "tokenizer.json"):
        (tmp_path / name).write_text("")
    (tmp_path / "config.json").write_text('{"num_hidden_layers": 12, "hidden_size": 768}')
    for layers, fits in ((12, True), (13, False)):
        configure(home, training={"base_model": str(tmp_path), "layers": layers})
        with nullcontext() if fits else pytest.raises(PermanentError, match="expected 1 to 12"):
            assert Settings.load().training.layers == 12
    (tmp_path / "config.json").write_text("[]")
    assert base_size(str(tmp_path)) == (None, None)
    assert base_size("some-hub/name") == (None, None)


def test_empty_optional_settings_are_unset(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ALERT_URL", "EVIDENTLY_URL", "ROUTER_URL", "PREDICT_KEY", "SECRET", "TRAINING_QUEUES"):
        monkeypatch.setenv(f"EVERGREEN_{name}", "")
    settings = Settings.load()
    assert (settings.alert_url, settings.evidently_url, settings.router_url, settings.predict_key) == (None,) * 4


def test_reading_command_keeps_no_ports(home: Path) -> None:
    settings = Settings.load()
    apply_environment(settings, keep=False)
    assert not home.exists()
    apply_environment(settings)
    assert (home / "ports.json").is_file()
    assert not (home / "secrets.json").exists()


def test_config_relative_path_becomes_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own.toml").write_text('[data.labels]\n"1" = "negative"\n')
    monkeypatch.setenv("EVERGREEN_CONFIG", "own.toml")
    assert apply_environment(Settings.load(), keep=False)["EVERGREEN_CONFIG"] == str(tmp_path / "own.toml")
