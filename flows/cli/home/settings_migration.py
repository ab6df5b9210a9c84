"""Migration of HOME/settings.env, which homes of release 0.1 have, into evergreen.toml."""

import json
import re
import tomllib
from collections.abc import Iterator, Mapping
from itertools import count
from pathlib import Path
from typing import Any, Final

from pydantic import TypeAdapter

from absa.config_file import SETTINGS_FILE
from absa.errors import PermanentError
from absa.records.files import write_whole
from absa.router_settings import RouterSettings
from absa.variables import KEYS, PREFIX, SECRET
from flows.cli.home.init_command import configuration_place
from flows.platform.settings import Settings

_OWNER_ONLY: Final = 0o600
_ALL: Final = 0o644
Sections = Mapping[str, Mapping[str, Any]]


def migrate_settings_file(settings: Settings, router: RouterSettings) -> Iterator[str]:
    """Write the values of settings.env into evergreen.toml and rename settings.env; yield lines for the user.

    The first line names the moved keys. Each further line names a variable that this release does not read; the
    variable stays in the renamed file. Without settings there is no line.

    Raises:
        PermanentError: settings.env has a setting that a file in the home cannot have, or a value that differs from
            evergreen.toml.
    """
    earlier = settings.sources.earlier
    kept = earlier.values
    if not (kept or earlier.sections or earlier.retired):
        return
    old, place = settings.root / SETTINGS_FILE, configuration_place(settings)
    if refused := sorted({"HOME", "CONFIG"} & kept.keys()):
        raise PermanentError(f"{old} sets {PREFIX}{refused[0]}: set it in the environment, and take it out of the file")
    sections = {name: dict(table) for name, table in earlier.sections.items()}
    for name, text in kept.items():
        section, key = KEYS.get(name, ("", name.lower()))
        try:
            value = _typed(text, _field(name, settings, router))
        except ValueError:  # reading does not check a value that the environment overrides
            raise PermanentError(f"{PREFIX}{name} in {old} cannot be used: correct it, or take it out") from None
        sections.setdefault(section, {})[key] = value
    if sections:
        text, mode = "", _ALL
        if place.exists():
            text, mode = place.read_text(encoding="utf-8-sig"), place.stat().st_mode & 0o777
        place.parent.mkdir(parents=True, exist_ok=True)
        secret = set(SECRET) & kept.keys()
        write_whole(place, with_values(text, sections, name=str(place)), mode=_OWNER_ONLY if secret else mode)
    aside = old.replace(_free_name(old))
    moved = "; ".join(f"{f'[{name}] ' if name else ''}{', '.join(table)}" for name, table in sections.items())
    yield (
        f"moved the {sum(map(len, sections.values()))} settings of {old} to {place} ({moved or 'none'}); "
        f"the old file is now {aside.name}"
    )
    for name, advice in earlier.retired.items():
        yield f"{name} was not moved from {aside.name}: {advice}"


def with_values(old: str, sections: Sections, *, name: str) -> str:
    """Return a configuration with more keys; existing keys stay unchanged. Pure.

    Args:
        old: text of the file.
        sections: keys and values by section; the section "" is above the first.
        name: name of the file in messages.

    Raises:
        PermanentError: a key has another value in the file, or the text cannot be extended.
    """
    before = tomllib.loads(old)
    text = old
    for section, values in sections.items():
        there = before.get(section, {}) if section else before
        if twice := [key for key, value in values.items() if there.get(key, value) != value]:
            raise PermanentError(f"{name} and {SETTINGS_FILE} both set {twice[0]} of [{section}]: take it out of one")
        lines = "".join(f"{key} = {toml_value(value)}\n" for key, value in values.items() if key not in there)
        if not lines:
            continue
        header = re.compile(rf"(?m)^[ \t]*\[{section}\][ \t]*(?:#.*)?\n?")
        if not section:
            text = lines + text
        elif found := header.search(text):
            text = f"{text[: found.end()].rstrip()}\n{lines}{text[found.end() :]}"
        else:
            text = f"{text.rstrip()}\n\n[{section}]\n{lines}".lstrip()
    wanted = {**before, **sections.get("", {})}
    wanted |= {each: {**before.get(each, {}), **values} for each, values in sections.items() if each}
    if tomllib.loads(text) != wanted:
        raise PermanentError(f"{name} cannot be extended in place: write the lines of {SETTINGS_FILE} into it by hand")
    return text


def toml_value(value: Any) -> str:
    """Return a text, number, boolean, list or table as TOML on one line."""
    if isinstance(value, Mapping):
        pairs = (f"{json.dumps(key, ensure_ascii=False)} = {toml_value(each)}" for key, each in value.items())
        return f"{{{', '.join(pairs)}}}"
    return json.dumps(value, ensure_ascii=False)


def _free_name(file: Path) -> Path:
    """Return the first of FILE.migrated, FILE.migrated1, ... that does not exist."""
    names = (file.with_name(f"{file.name}.migrated{number or ''}") for number in count())
    return next(path for path in names if not path.exists())


def _field(name: str, settings: Settings, router: RouterSettings) -> Any:
    owner = settings if name.lower() in type(settings).model_fields else router
    return getattr(owner, name.lower())


def _typed(text: str, value: Any) -> Any:
    """Return a variable's text, converted to the type of its setting's present value.

    Raises:
        ValueError: the text has another type.
    """
    if isinstance(value, dict):
        return json.loads(text)
    return TypeAdapter(type(value)).validate_python(text) if isinstance(value, bool | int | float) else text
