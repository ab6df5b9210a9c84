"""evergreen.toml: sections over a profile, and one sentence for each mistake; secrets stay out of sight."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from absa.config_file import DEMO_MARK, SETTINGS_FILE, find_configuration
from absa.configuration import SECTIONS, read_configuration
from absa.errors import PermanentError
from absa.policies import GatePolicy
from absa.profiles import PROFILES, SETTINGS, differences
from absa.router_settings import RouterSettings
from flows.cli.status import status_lines
from flows.platform.processes import parts
from flows.platform.services import build_services
from flows.platform.settings import Settings
from tests.homes import configure
from tests.stand_ins import FakeRegistry

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in [name for name in os.environ if name.upper().startswith("EVERGREEN_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("EVERGREEN_HOME", str(tmp_path / "home"))
    (tmp_path / "folder").mkdir()
    monkeypatch.chdir(tmp_path / "folder")
    return tmp_path / "home"


def test_sections_reach_flows_and_router(home: Path) -> None:
    configure(home, gate={"min_rows": 7}, experiment={"ramp": [0.1, 0.5]}, router={"cache_entries": 3})
    flows = Settings.load()
    assert (flows.gate.min_rows, flows.experiment.ramp, flows.config) == (7, (0.1, 0.5), home / "evergreen.toml")
    assert RouterSettings.read().router.cache_entries == 3


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("[gate]\nmin_rowz = 5", "[gate] of FILE has the unknown key 'min_rowz': did you mean min_rows?"),
        ("[gate]\nxyz = 5", "[gate] of FILE has the unknown key 'xyz': expected min_recent_rows, "),
        ("[experiment]\ncomparisons = 2", "has the unknown key 'comparisons'"),
        (
            "[gate]\nslice_margin = 2",
            "slice_margin in section [gate] of FILE cannot be used: expected a number less than or equal to 1, got 2",
        ),
        ("[gate]\nmin_rows = true", "min_rows in section [gate] of FILE cannot be used: expected a valid integer"),
        ("[gate]\nmin_rows = '5'", "expected a valid integer, got '5'"),
        (
            "[staleness]\ncooldown_s = nan",
            "cooldown_s in section [staleness] of FILE cannot be used: expected",
        ),
        ("[staleness]\nreference_rows = 50", "[staleness] of FILE: reference_rows: expected at least min_rows"),
        ("[experiment]\nramp = [0.5, 0.1]", "expected rising shares between 0 and 1 such as [0.05, 0.25]"),
        ("[experiment]\nramp = []", "ramp in section [experiment] of FILE cannot be used: expected rising shares"),
        ("[experiment]\nramp = 0.5", "ramp in section [experiment] of FILE cannot be used: expected a valid tuple"),
        ("[training]\nhidden = 100", "hidden in section [training] of FILE cannot be used: expected a multiple of 32"),
        ("[training]\nhidden = 512", "hidden in [training] of FILE: expected up to 384, the width of minilm-l6"),
        ("[training]\nmax_epochs = 9", "[training] of FILE has the unknown key 'max_epochs': recipes set it now"),
        ("[training]\nrecipe = 'slow'", "recipe in section [training] of FILE cannot be used: expected 'fast', 'best'"),
        ("[training]\nlayers = 50", "layers in [training] of FILE: expected 1 to 6, the layers of minilm-l6, got 50"),
        ("[training]\nlayers = 2\nwarm_layers = 3", "[training] of FILE: warm_layers: expected 0 to 2"),
        ("[training]\nladder = [2, 6]", "expected falling numbers of layers such as [6, 3, 2]"),
        (
            "[training]\nladder = [9, 3]",
            "ladder in [training] of FILE: expected 1 to 6, the layers of minilm-l6, got 9",
        ),
        ("[training]\nladder = [3]\nlayers = 3", "[training] of FILE: layers and ladder: expected one of them"),
        ("[training]\nbase_model = ''", "base_model in section [training] of FILE cannot be used"),
        ("[router]\nqueue = 1", "[router] of FILE has the unknown key 'queue'"),
        ("[limits]\na = 1", "FILE has the unknown section [limits]; expected profile, task, data, gate"),
        ("gate = 1", "gate of FILE is a single value; expected a section [gate]"),
        ("[data.labels]\na = 7", "a = 7 in [data.labels] of FILE is not a label"),
        ("profile = 'tiny'", "profile of FILE cannot be used: expected default, small, production, demo, test"),
        ("[profile]", "profile of FILE cannot be used: expected default, small, production, demo, test"),
        ("profile = []", "profile of FILE cannot be used: expected default, small, production, demo, test"),
        ("profile", "FILE is not TOML"),
    ],
)
def test_mistake_in_file_gives_one_sentence(home: Path, text: str, sentence: str) -> None:
    home.mkdir()
    file = home / "evergreen.toml"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(PermanentError, match=re.escape(sentence.replace("FILE", str(file)))) as refused:
        Settings.load()
    assert "\n" not in str(refused.value)


def test_all_mistakes_of_a_section_are_named(home: Path) -> None:
    configure(home, gate={"min_rows": 0, "hold_p": 1})
    with pytest.raises(PermanentError, match=r"min_rows in section .*; hold_p in section "):
        Settings.load()


@pytest.mark.parametrize("profile", PROFILES)
def test_profile_is_valid_and_prints_its_changes(profile: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EVERGREEN_PROFILE", profile)
    settings, router = Settings.load(), RouterSettings.read()
    assert settings.profile == router.profile == profile
    for section, table in PROFILES[profile].items():
        for key, value in table.items():
            owner = settings if section == SETTINGS else getattr(router if section == "router" else settings, section)
            assert getattr(owner, key) == (tuple(value) if isinstance(value, list) else value)
            assert f"{'' if section == SETTINGS else f'{section}.'}{key}={value}" in set(differences(profile))


def test_environment_wins_over_file_over_profile(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home.mkdir()
    (home / "evergreen.toml").write_text('profile = "small"\n[gate]\nmin_recent_rows = 7\n', encoding="utf-8")
    settings = Settings.load()
    assert (settings.profile, settings.workers) == ("small", 1)
    assert (settings.gate.min_recent_rows, settings.gate.min_slice_rows) == (7, 50)
    monkeypatch.setenv("EVERGREEN_WORKERS", "3")
    monkeypatch.setenv("EVERGREEN_PROFILE", "default")
    settings = Settings.load()
    assert (settings.profile, settings.workers, settings.gate) == ("default", 3, GatePolicy(min_recent_rows=7))


@pytest.mark.parametrize("home_is_set", [True, False])
def test_variables_without_prefix_change_nothing(
    home_is_set: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not home_is_set:
        monkeypatch.delenv("EVERGREEN_HOME")
    home = tmp_path / "home" if home_is_set else Path(".evergreen")
    configure(home, gate={"min_rows": 7})
    configure(tmp_path / "user", gate={"min_rows": 8})
    monkeypatch.delenv("HOME", raising=False)
    # HOME is now after EVERGREEN_HOME in the environment
    for name, value in {"HOME": str(tmp_path / "user"), "PROFILE": "x", "CONFIG": "/nope", "WORKERS": "9"}.items():
        monkeypatch.setenv(name, value)
    for settings in (Settings.load(), RouterSettings.read()):
        assert (settings.home, settings.config) == (home, home / "evergreen.toml")
        assert (settings.profile, settings.workers) == ("default", 2)
    monkeypatch.setenv("EVERGREEN_PROFILE", "small")
    assert Settings.load().workers == RouterSettings.read().workers == 1


def test_router_process_reads_the_file_of_flows(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    configure(home, router={"cache_entries": 3})
    configure(tmp_path / "user", router={"cache_entries": 4})
    settings = Settings.load()
    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "user"))
    part = parts(settings, dict(os.environ))["router"]
    program = "from absa.router_settings import RouterSettings as R; print(R.read().config)"
    ended = subprocess.run(
        [sys.executable, "-c", program], env={**part.environment, "PYTHONPATH": str(ROOT)},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert ended.stdout.strip() == str(settings.config) == str(home / "evergreen.toml")


def test_unknown_profile_variable_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EVERGREEN_PROFILE", "tiny")
    with pytest.raises(PermanentError, match=r"EVERGREEN_PROFILE cannot be used: expected default, .* got 'tiny'"):
        RouterSettings.read()


def test_file_of_working_folder_is_found(home: Path) -> None:
    assert find_configuration(None, home) is None
    configure(Path.cwd(), gate={})
    assert find_configuration(None, home) == Path("evergreen.toml")
    assert find_configuration(None, Path.cwd()) == Path.cwd() / "evergreen.toml"
    assert find_configuration("other.toml", home) == Path("other.toml")


def test_two_files_are_refused(home: Path) -> None:
    configure(home, gate={})
    configure(Path.cwd(), gate={})
    with pytest.raises(PermanentError, match="both exist: keep one, or name one as EVERGREEN_CONFIG"):
        Settings.load()


def test_settings_of_an_older_demo_become_its_profile(home: Path) -> None:
    home.mkdir()
    old = "EVERGREEN_BUDGET_S=60\nEVERGREEN_RAMP=0.5\nEVERGREEN_SHIP_INTERVAL_S=0.5\n"
    (home / SETTINGS_FILE).write_text(f"{DEMO_MARK} (tiny)\n{old}")
    settings = Settings.load()
    assert (settings.profile, settings.budget_s, settings.experiment.ramp) == ("test", 60, (0.5,))


def test_no_secret_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EVERGREEN_FEEDBACK_KEYS", '{"sesame-key": {"source": "survey"}}')
    monkeypatch.setenv("EVERGREEN_ALERT_URL", "https://chat.example/sesame-hook")
    for name in ("ADMIN_TOKEN", "PREDICT_KEY", "SECRET"):
        monkeypatch.setenv(f"EVERGREEN_{name}", f"sesame-{name}")
    for settings in (Settings.load(), RouterSettings.read()):
        shown = f"{settings!r} {settings} {settings.model_dump()} {settings.model_dump_json()}"
        assert "sesame" not in shown
        assert "**********" in shown


def test_no_secret_is_in_status_or_services(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PREDICT_KEY", "SECRET", "ADMIN_TOKEN"):
        monkeypatch.setenv(f"EVERGREEN_{name}", f"sesame-{name}")
    monkeypatch.setenv("EVERGREEN_PROFILE", "small")
    services = build_services(Settings.load(), environment=dict(os.environ), registry=FakeRegistry())
    lines = list(status_lines(services))
    assert "settings    profile small, no evergreen.toml" in lines
    assert "sesame" not in "\n".join([*lines, repr(services), repr(parts(services.settings, dict(os.environ)))])


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ALERT_URL", "sesame-hook"),
        ("FEEDBACK_KEYS", '{"sesame-key": {"source": ""}}'),
        ("FEEDBACK_KEYS", '{"sesame-key": {"source": "survey", "trust": "sesame"}}'),
        ("FEEDBACK_KEYS", "sesame"),
    ],
)
def test_refused_secret_is_not_quoted(name: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(f"EVERGREEN_{name}", value)
    with pytest.raises(PermanentError, match=f"EVERGREEN_{name}") as refused:
        (Settings.load if name == "ALERT_URL" else RouterSettings.read)()
    assert "sesame" not in str(refused.value)


def test_every_section_has_only_described_keys() -> None:
    configuration = read_configuration(None)
    assert set(configuration.sections) == set(SECTIONS)
    for kind in SECTIONS.values():
        described = {name for name, field in kind.__pydantic_fields__.items() if field.description}
        assert set(kind.__pydantic_fields__) - described <= {"comparisons"}


def test_task_and_data_reach_the_settings(home: Path) -> None:
    task = {"name": "tickets", "input": "text", "labels": ["billing", "bug"]}
    configure(home, task=task, data={"text": "Feedback"})
    settings = Settings.load()
    assert (settings.task.name, settings.data.columns) == ("tickets", {"text": "Feedback"})
    RouterSettings.read()
