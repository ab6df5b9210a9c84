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
    assert line.startswith(f"moved the 6 settings of {home / SETTINGS_FILE} to {home / 'evergreen.toml'} (profile; ")
    after = (Settings.load(), RouterSettings.read())
    assert [each.model_dump(exclude={"config"}) for each in after] == [
        each.model_dump(exclude={"config"}) for each in before
    ]
    assert not after[0].sources.earlier.variables
    assert (home / "evergreen.toml").stat().st_mode & 0o077 == 0
    assert list(migrate_settings_file(*after)) == []


RELEASE_0_1 = {
    "COOLDOWN_S": ("staleness", "cooldown_s", 600), "MIN_LABELS": ("staleness", "min_new_labels", 300),
    "MIN_WINDOW_ROWS": ("staleness", "min_rows", 80), "RAMP": ("experiment", "ramp", (0.1, 0.5)),
    "MAX_EXPERIMENT_S": ("experiment", "max_duration_s", 864.5), "LEARNING_RATE": ("training", "learning_rate", 3e-3),
    "MIN_RECENT_ROWS": ("gate", "min_recent_rows", 70), "CACHE_ENTRIES": ("router", "cache_entries", 9),
}  # fmt: skip


def write_policies(home: Path) -> None:
    """Write the policies that release 0.1 read from variables, and one that has no successor."""
    home.mkdir()
    texts = {name: ",".join(map(str, v)) if isinstance(v, tuple) else v for name, (_, _, v) in RELEASE_0_1.items()}
    lines = "".join(f"EVERGREEN_{name}={text}\n" for name, text in texts.items())
    (home / SETTINGS_FILE).write_text(f"{lines}EVERGREEN_MAX_EPOCHS=4\nOTEL_SERVICE_NAME=mine\n")


def test_policies_of_former_release_are_read_and_moved(home: Path) -> None:
    write_policies(home)
    wanted = {(section, key): value for section, key, value in RELEASE_0_1.values()}
    wanted["staleness", "min_reference_rows"] = 80  # the same variable was both limits
    found = values()
    assert {place: (found[place].value, found[place].origin) for place in wanted} == {
        place: (value, "settings.env") for place, value in wanted.items()
    }
    moved, *kept = migrate_settings_file(Settings.load(), RouterSettings.read())
    assert moved.startswith("moved the 9 settings of ")
    assert "[experiment] ramp, max_duration_s" in moved
    assert kept == [
        "EVERGREEN_MAX_EPOCHS was not moved from settings.env.migrated: set recipe = fast, best or distilled in "
        "section [training] of evergreen.toml",
        "OTEL_SERVICE_NAME was not moved from settings.env.migrated: it is not a setting of Evergreen, so set it in "
        "the environment",
    ]
    after = values()
    assert {place: (after[place].value, after[place].origin) for place in wanted} == {
        place: (value, "file") for place, value in wanted.items()
    }
    assert "EVERGREEN_MAX_EPOCHS=4" in (home / "settings.env.migrated").read_text()


def test_migration_that_was_killed_is_completed(home: Path) -> None:
    write_policies(home)
    list(migrate_settings_file(Settings.load(), RouterSettings.read()))
    written = (home / "evergreen.toml").read_text()
    old = (home / "settings.env.migrated").read_text()
    (home / SETTINGS_FILE).write_text(old)  # as before the file was set aside
    list(migrate_settings_file(Settings.load(), RouterSettings.read()))
    assert (home / "evergreen.toml").read_text() == written
    assert [(home / f"settings.env.migrated{number}").read_text() for number in ("", 1)] == [old] * 2


def test_value_that_environment_overrides_is_moved(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home.mkdir()
    (home / SETTINGS_FILE).write_text("EVERGREEN_WORKERS=3\nEVERGREEN_REDACT_TEXT=true\n")
    (home / "evergreen.toml").touch(mode=0o600)
    monkeypatch.setenv("EVERGREEN_WORKERS", "1")
    list(migrate_settings_file(Settings.load(), RouterSettings.read()))
    assert tomllib.loads((home / "evergreen.toml").read_text()) == {"router": {"workers": 3, "redact_text": True}}
    assert (home / "evergreen.toml").stat().st_mode & 0o777 == 0o600
    (home / SETTINGS_FILE).write_text("EVERGREEN_WORKERS=many\n")
    with pytest.raises(PermanentError, match=r"EVERGREEN_WORKERS in .* cannot be used: correct it"):
        list(migrate_settings_file(Settings.load(), RouterSettings.read()))


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
