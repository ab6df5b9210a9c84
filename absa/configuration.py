"""Configuration: evergreen.toml over the values of a profile, checked section by section."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError

from absa.config_file import read_table
from absa.data.mapping import CONFIGURATION_FILE, DataMapping, data_mapping
from absa.earlier_settings import EarlierSettings
from absa.errors import PermanentError
from absa.policies import (
    AlertPolicy,
    ExperimentPolicy,
    GatePolicy,
    RouterTuning,
    ServingPolicy,
    StalenessPolicy,
    TrainingRecipe,
)
from absa.profiles import PROFILES
from absa.variables import PLACES, expectation, printable

SECTIONS: Final[Mapping[str, type[Any]]] = {
    "gate": GatePolicy,
    "staleness": StalenessPolicy,
    "experiment": ExperimentPolicy,
    "training": TrainingRecipe,
    "router": RouterTuning,
    "serving": ServingPolicy,
    "alerts": AlertPolicy,
}
_COUNTED: Final = frozenset({"comparisons"})  # counted by the flow, so not a key of a section
_RETIRED: Final = {
    ("training", name): "recipes set it now: remove it, or choose recipe = fast, best or distilled"
    for name in ("max_epochs", "warm_epochs")
}
"""Keys of earlier releases, each with what to do instead."""
_OTHERS: Final = ("profile", "task", "data")
FROM_FILE: Final = frozenset({"data", *SECTIONS})
"""Fields of the settings that only the file can set."""


@dataclass(frozen=True, kw_only=True)
class Configuration:
    """Checked configuration file over its profile.

    Attributes:
        file: path of the file; None without a file.
        table: content of the file.
        profile: name of the profile.
        settings: values that the file sets for settings, by variable without the prefix.
        data: the task, and the form of the data files.
        sections: the policy of each section.
    """

    file: Path | None
    table: Mapping[str, Any]
    profile: str
    settings: Mapping[str, Any]
    data: DataMapping
    sections: Mapping[str, Any]


def read_configuration(
    file: Path | None, *, profile: str | None = None, earlier: EarlierSettings | None = None
) -> Configuration:
    """Read a file and check all its sections.

    Args:
        file: see `config_file.find_configuration`.
        profile: overrides the file's own `profile`; None: no override.
        earlier: HOME/settings.env, whose policies override those of the file.

    Raises:
        PermanentError: the file cannot be read, the profile or a section is unknown, or a section is invalid (see
            `read_section`).
    """
    table, where = read_table(file), str(file or CONFIGURATION_FILE)
    chosen = profile or table.get("profile", "default")
    if not isinstance(chosen, str) or chosen not in PROFILES:
        source = "EVERGREEN_PROFILE" if profile else f"profile of {where}"
        raise PermanentError(f"{source} cannot be used: expected {', '.join(PROFILES)}, got {printable(str(chosen))!r}")
    known = (*_OTHERS, *SECTIONS, *(name for name in PLACES if name not in SECTIONS))
    for name in table:
        if name not in known:
            raise PermanentError(f"{where} has the unknown section [{printable(name)}]; {_advice(name, known)}")
    below = PROFILES[chosen]
    settings: dict[str, Any] = {}
    for section, places in PLACES.items():
        given = _checked_table(section, table.get(section, {}), where=where)
        settings |= {places[key]: value for key, value in given.items() if key in places}
    return Configuration(
        file=file,
        table=table,
        profile=chosen,
        settings=settings,
        data=data_mapping(table, name=where),
        sections={
            name: _policy(name, table.get(name, {}), where=where, below=below.get(name, {}), earlier=earlier)
            for name in SECTIONS
        },
    )


def _policy(name: str, table: Any, *, where: str, below: Mapping[str, Any], earlier: EarlierSettings | None) -> Any:
    """Return the policy of a section. The error for a value of settings.env names settings.env."""
    if earlier is None or name not in earlier.sections:
        return read_section(name, table, where=where, below=below)
    above = earlier.sections[name]
    read_section(name, above, where=str(earlier.file), below=below)
    return read_section(name, {**_checked_table(name, table, where=where), **above}, where=where, below=below)


def section_keys(name: str) -> list[str]:
    """Return the keys of a section: the fields of its policy, then the settings in this section."""
    kind = SECTIONS.get(name)
    policy = [] if kind is None else [each.name for each in fields(kind) if each.name not in _COUNTED]
    return [*policy, *PLACES.get(name, ())]


def _checked_table(name: str, table: Any, *, where: str) -> Mapping[str, Any]:
    if not isinstance(table, Mapping):
        raise PermanentError(f"{name} of {where} is a single value; expected a section [{name}]")
    keys = section_keys(name)
    for key in table:
        if key not in keys:
            advice = _RETIRED.get((name, key), _advice(key, keys))
            raise PermanentError(f"[{name}] of {where} has the unknown key {printable(key)!r}: {advice}")
    return table


def _advice(name: str, known: Sequence[str]) -> str:
    close = get_close_matches(name, known, n=1, cutoff=0.6)
    return f"did you mean {close[0]}?" if close else f"expected {', '.join(known)}"


def read_section(name: str, table: Any, *, where: str, below: Mapping[str, Any] | None = None) -> Any:
    """Return the policy of one section. Pure.

    Args:
        name: name of the section.
        table: content of the section.
        where: the file, for messages.
        below: values of keys that the section does not set.

    Raises:
        PermanentError: a key is unknown, or a value is out of range or does not fit another.
    """
    places = PLACES.get(name, {})
    given = {key: value for key, value in _checked_table(name, table, where=where).items() if key not in places}
    kind = SECTIONS[name]
    try:
        return kind(**{**(below or {}), **given})
    except ValidationError as error:
        said = []
        for each in error.errors():
            if not each["loc"]:
                said.append(f"[{name}] of {where}: {expectation(each['msg'])}")
                continue
            key = str(each["loc"][0])
            value = table.get(key, each["input"])
            said.append(
                f"{key} in section [{name}] of {where} cannot be used: {expectation(each['msg'])}, "
                f"got {printable(repr(value))}"
            )
        raise PermanentError("; ".join(said)) from None
