"""Settings of an earlier release: HOME/settings.env, translated to the sections of evergreen.toml."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from io import StringIO
from pathlib import Path
from typing import Any, Final

from dotenv import dotenv_values

from absa.config_file import DEMO_MARK, SETTINGS_FILE
from absa.errors import PermanentError
from absa.variables import MOVED, PREFIX, REMOVED, given_values

_ALSO: Final = {"MIN_WINDOW_ROWS": ("staleness", "min_reference_rows")}  # in release 0.1 one variable set both limits
_OF_ANOTHER: Final = "it is not a setting of Evergreen, so set it in the environment"


@dataclass(frozen=True, kw_only=True)
class EarlierSettings:
    """Content of HOME/settings.env.

    Attributes:
        file: path of the file.
        variables: settings that this release has, with the prefix.
        sections: policies that release 0.1 read from variables, by section and key of evergreen.toml.
        retired: variables that this release does not read, each with what to do instead.
    """

    file: Path = Path(SETTINGS_FILE)
    variables: Mapping[str, str] = field(default_factory=dict, repr=False)  # may hold secrets
    sections: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    retired: Mapping[str, str] = field(default_factory=dict)

    @property
    def values(self) -> dict[str, str]:
        """Settings that are not empty, by upper-case name without the prefix."""
        return given_values(self.variables)


def read_settings_file(home: Path) -> EarlierSettings:
    """Return the values that HOME/settings.env of an earlier release sets; empty if there is no such file.

    Raises:
        PermanentError: the file is a folder, or not UTF-8 text.
    """
    file = home / SETTINGS_FILE
    if file.is_dir():
        raise PermanentError(f"{file} is a folder: expected a text file with lines such as EVERGREEN_WORKERS=2")
    try:
        text = file.read_text(encoding="utf-8") if file.exists() else ""
    except UnicodeDecodeError:
        raise PermanentError(f"{file} is not UTF-8 text: save it as UTF-8") from None
    found = {name: value for name, value in dotenv_values(stream=StringIO(text)).items() if value is not None}
    if text.startswith(DEMO_MARK) and "EVERGREEN_PROFILE" not in found:  # written by a release without profiles
        profile = "test" if text.startswith(f"{DEMO_MARK} (tiny)") else "demo"
        found = {name: value for name, value in found.items() if name.removeprefix(PREFIX) not in REMOVED}
        found["EVERGREEN_PROFILE"] = profile
    variables: dict[str, str] = {}
    sections: dict[str, dict[str, Any]] = {}
    retired: dict[str, str] = {}
    for name, value in found.items():
        short = name.upper().removeprefix(PREFIX)
        if short == name.upper():
            retired[name] = _OF_ANOTHER
        elif short in MOVED:
            places = [MOVED[short], *([_ALSO[short]] if short in _ALSO else [])]
            for section, key in places if value else []:
                sections.setdefault(section, {})[key] = _policy_value(short, value)
        elif short in REMOVED:
            retired[name] = REMOVED[short]
        else:
            variables[name] = value
    return EarlierSettings(file=file, variables=variables, sections=sections, retired=retired)


def _policy_value(name: str, text: str) -> Any:
    """Return the value of a policy's variable as evergreen.toml would have it; text that is not a number stays text."""
    if name == "BASE_MODEL":
        return text
    return [_number(each) for each in text.split(",")] if name == "RAMP" else _number(text)


def _number(text: str) -> int | float | str:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text
