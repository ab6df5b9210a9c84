"""Names of variables: the lists are complete, and any other name with the prefix is refused with advice."""

import re
from dataclasses import fields
from pathlib import Path

import pytest

from absa.configuration import FROM_FILE, SECTIONS
from absa.errors import PermanentError
from absa.policies import StalenessPolicy
from absa.router_settings import RouterSettings
from absa.variables import KEYS, KNOWN, MOVED, REMOVED, TESTS, check_variables, refused_value
from flows.platform.settings import Settings

ROOT = Path(__file__).resolve().parents[2]


def test_lists_are_the_fields_of_both_settings() -> None:
    fields_of_both = {**Settings.model_fields, **RouterSettings.model_fields}
    assert {name.upper() for name in fields_of_both if name not in FROM_FILE} == {"CONFIG", "HOME", "PROFILE", *KEYS}
    assert len(KEYS) < 45


def test_every_variable_named_in_the_repository_is_known() -> None:
    files = [file for room in ("absa", "flows", "serving", "monitoring", "infra", "benchmarks", "tests")
             for file in (ROOT / room).rglob("*.py")]  # fmt: skip
    files += [ROOT / "Makefile", ROOT / "docker-compose.yml"]
    written = "\n".join(file.read_text(encoding="utf-8") for file in files if file != Path(__file__))
    named = set(re.findall(r"""["' {$]EVERGREEN_([A-Z0-9]+(?:_[A-Z0-9]+)*)["'=:} ]""", written))
    assert len(named) > 40
    assert named - KNOWN - REMOVED.keys() - {"LAKES"} == set()


def test_every_moved_variable_names_a_key() -> None:
    for section, key in MOVED.values():
        assert key in {each.name for each in fields(SECTIONS[section])}
    assert {"min_rows", "min_reference_rows"} <= {each.name for each in fields(StalenessPolicy)}
    assert not KNOWN & MOVED.keys()


@pytest.mark.parametrize(
    ("name", "advice"),
    [
        ("EVERGREEN_LAKES", "did you mean EVERGREEN_LAKE?"),
        ("EVERGREEN_BUDGET", "did you mean EVERGREEN_BUDGET_S?"),
        ("EVERGREEN_QUEUE_M", "did you mean EVERGREEN_QUEUE_MS?"),
        ("evergreen_workerz", "did you mean EVERGREEN_WORKERS?"),
        ("EVERGREEN_STEP_S", "set step_s in section [experiment] of evergreen.toml"),
        ("EVERGREEN_MIN_WINDOW_ROWS", "set min_rows and min_reference_rows in section [staleness] of evergreen.toml"),
        ("EVERGREEN_MIN_LABELS", "set min_new_labels in section [staleness] of evergreen.toml"),
        ("EVERGREEN_", "docs/reference/settings.md"),
        ("EVERGREEN_XYZZY", "docs/reference/settings.md"),
        ("EVERGREEN_\udcff", "docs/reference/settings.md"),
    ],
)
def test_unknown_name_is_refused_with_advice(name: str, advice: str) -> None:
    with pytest.raises(PermanentError, match=re.escape(advice)) as refused:
        check_variables({name: "1"})
    str(refused.value).encode("utf-8")


def test_known_names_and_other_prefixes_pass() -> None:
    check_variables({f"EVERGREEN_{name}": "1" for name in KNOWN} | {"EVERGREENS": "1", "evergreen_home": "x"})
    check_variables({f"EVERGREEN_{name}": "" for name in TESTS} | {"EVERGREEN_TRUST": ""})


@pytest.mark.parametrize("name", ["EVERGREEN_HOME", "EVERGREEN_LAKE", "EVERGREEN_CONFIG"])
@pytest.mark.parametrize("value", ["", " "])
def test_empty_path_is_refused(name: str, value: str) -> None:
    what = "file" if name == "EVERGREEN_CONFIG" else "folder"
    with pytest.raises(PermanentError, match=f"{name} in FILE is empty: name a {what}"):
        check_variables({name: value}, where="FILE")


def test_value_that_is_not_utf8_is_refused() -> None:
    with pytest.raises(PermanentError, match="EVERGREEN_TRUST is not UTF-8"):
        check_variables({"EVERGREEN_TRUST": "caf\udce9"})


def test_refused_secrets_are_not_quoted() -> None:
    assert "hidden" not in refused_value("predict_key", "Input should be a valid string", "hidden")
    assert refused_value("window_s", "Input should be greater than 0", "-1") == (
        "EVERGREEN_WINDOW_S cannot be used: expected a number greater than 0, got '-1'"
    )
