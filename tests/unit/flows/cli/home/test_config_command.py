"""Effective values: each names its source, the environment wins, and no secret is shown."""

import os
import tomllib
from pathlib import Path

import pytest

from absa.config_file import SETTINGS_FILE
from absa.errors import PermanentError
from absa.router_settings import RouterSettings
from absa.variables import KEYS
from flows.cli.home.config_command import EffectiveValue, config_lines, effective_values, origin_counts
from flows.cli.home.settings_migration import migrate_settings_file, with_values
from flows.platform.processes import parts
from flows.platform.settings import Home, Settings
from tests.homes import configure


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in [name for name in os.environ if name.upper().startswith("EVERGREEN_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("EVERGREEN_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    return tmp_path / "home"


def values() -> dict[tuple[str, str], EffectiveValue]:
    return {(each.section, each.key): each for each in effective_values(Settings.load(), RouterSettings.read())}


def test_every_source_is_named(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    configure(home, gate={"min_rows": 7}, trust={"train": ["labels", "survey"]}, router={"queue_ms": 50})
    monkeypatch.setenv("EVERGREEN_PROFILE", "small")
    monkeypatch.setenv("EVERGREEN_WINDOW_S", "60")
    found = values()
    said = {
        ("gate", "min_rows"): (7, "file"),
        ("gate", "min_recent_rows"): (50, "profile small"),
        ("gate", "hold_p"): (0.1, "default"),
        ("trust", "train"): ("labels,survey", "file"),
        ("schedules", "window_s"): (60.0, "environment"),
        ("router", "queue_ms"): (50.0, "file"),
        ("router", "workers"): (1, "profile small"),
        ("", "profile"): ("small", "environment"),
    }
    assert {place: (found[place].value, found[place].origin) for place in said} == said
    assert Settings.load().training_sources == ("labels", "survey")


def test_every_setting_has_an_effective_value() -> None:
    assert {(each.section, each.key) for each in values().values() if each.variable} >= set(KEYS.values())


def test_secrets_are_masked(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    configure(home, secrets={"units": "sesame-1", "feedback_keys": {}}, alerts={"url": "https://sesame-2"})
    monkeypatch.setenv("EVERGREEN_PREDICT_KEY", "sesame-3")
    monkeypatch.setenv("EVERGREEN_FEEDBACK_KEYS", '{"sesame-4": {"source": "survey"}}')
    found = list(values().values())
    text = "\n".join(config_lines(found, changed=False))
    assert "sesame" not in f"{text}{found}"
    assert 'predict_key = "********"' in text
    assert {each.key for each in found if each.value == "********"} == {
        "units", "predict_key", "feedback_keys", "url",
    }  # fmt: skip


def test_changed_lines_leave_defaults_out(home: Path) -> None:
    configure(home, gate={"min_rows": 7})
    found = list(values().values())
    lines = [line for line in config_lines(found, changed=True) if line]
    assert [line.split()[0] for line in lines] == ["home", "[gate]", "min_rows"]
    assert origin_counts(found, Settings.load().sources).startswith(f"1 values come from {home}/evergreen.toml, 1 from")


@pytest.mark.parametrize(
    ("section", "table", "sentence"),
    [
        ("trust", {"trian": "labels"}, r"\[trust\] of .* has the unknown key 'trian': did you mean train\?"),
        ("servers", {"mlflow_port": 0}, r"mlflow_port in section \[servers\] of .* cannot be used: expected a number"),
        ("secrets", {"predict_key": 5}, r"predict_key in section \[secrets\] of .* expected a valid string$"),
        ("truts", {}, r"unknown section \[truts\]; did you mean trust\?"),
        ("alerts", {"url": "hooks"}, "EVERGREEN_ALERT_URL: expected http://"),
    ],
)
def test_mistake_in_section_of_settings_is_named(
    home: Path, section: str, table: dict[str, object], sentence: str
) -> None:
    configure(home, **{section: table})
    with pytest.raises(PermanentError, match=sentence):
        Settings.load()


def test_local_router_keeps_values_of_file(home: Path) -> None:
    configure(home, router={"queue_ms": 50, "cors_origins": ["https://a.example", "https://b.example"]})
    passed = parts(Settings.load(), {})["router"].environment
    assert passed["EVERGREEN_QUEUE_MS"] == "50"
    assert passed["EVERGREEN_CORS_ORIGINS"] == "https://a.example,https://b.example"
    assert RouterSettings.read().cors_origins == ("https://a.example", "https://b.example")


def test_feedback_key_comes_from_file(home: Path) -> None:
    home.mkdir()
    (home / "evergreen.toml").write_text('[secrets.feedback_keys]\nmine = {source = "survey"}\n')
    assert Home(Settings.load()).feedback_key() == "mine"


def test_settings_file_is_moved_without_a_change(home: Path) -> None:
    home.mkdir()
    (home / "evergreen.toml").write_text("# mine\n[gate]\nmin_rows = 7\n[training]  # ours\nlayers = 2\n")
    lines = (
        "PROFILE=small", "BUDGET_S=60", "TRUST=survey", "REDACT_TEXT=true", "PREDICT_KEY=sesame",
        'FEEDBACK_KEYS={"k": {"source": "survey"}}',
    )  # fmt: skip
    (home / SETTINGS_FILE).write_text("".join(f"EVERGREEN_{line}\n" for line in lines))
    before = (Settings.load(), RouterSettings.read())
    (line,) = migrate_settings_file(*before)
    assert line.startswith(f"moved the 6 settings of {home / SETTINGS_FILE} to {home / 'evergreen.toml'}")
    after = (Settings.load(), RouterSettings.read())
    assert [each.model_dump(exclude={"config"}) for each in after] == [
        each.model_dump(exclude={"config"}) for each in before
    ]
    assert not after[0].sources.earlier
    assert (home / "evergreen.toml").stat().st_mode & 0o077 == 0
    assert list(migrate_settings_file(*after)) == []


def test_key_of_both_files_stops_migration(home: Path) -> None:
    configure(home, training={"budget_s": 60})
    (home / SETTINGS_FILE).write_text("EVERGREEN_BUDGET_S=90\n")
    with pytest.raises(PermanentError, match=r"both set budget_s of \[training\]"):
        list(migrate_settings_file(Settings.load(), RouterSettings.read()))
    assert (home / SETTINGS_FILE).exists()


def test_file_that_cannot_be_extended_is_named() -> None:
    with pytest.raises(PermanentError, match="cannot be extended in place"):
        with_values('[data]\nnote = """\n[trust]\n"""\n', {"trust": {"train": "labels"}}, name="FILE")
    assert tomllib.loads(with_values("", {"": {"profile": "small"}}, name="FILE")) == {"profile": "small"}
