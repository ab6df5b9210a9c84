"""Migration of HOME/settings.env, which homes up to release 1.0 have, into evergreen.toml."""

import json
import re
import tomllib
from collections.abc import Iterator, Mapping
from typing import Any, Final

from absa.config_file import SETTINGS_FILE
from absa.errors import PermanentError
from absa.records.files import write_whole
from absa.router_settings import RouterSettings
from absa.variables import KEYS, SECRET
from flows.cli.home.init_command import configuration_place
from flows.platform.settings import Settings

_OWNER_ONLY: Final = 0o600
_ALL: Final = 0o644
Sections = Mapping[str, Mapping[str, Any]]


def migrate_settings_file(settings: Settings, router: RouterSettings) -> Iterator[str]:
    """Write what settings.env sets into evergreen.toml and set it aside; yields a line, or nothing without the file.

    Raises:
        PermanentError: it sets what a file in the home cannot, or the same key as evergreen.toml.
    """
    kept = settings.sources.earlier
    if not kept:
        return
    old, place = settings.root / SETTINGS_FILE, configuration_place(settings)
    if refused := sorted({"HOME", "CONFIG"} & kept.keys()):
        raise PermanentError(
            f"{old} sets EVERGREEN_{refused[0]}: set it in the environment, and take it out of the file"
        )
    sections: dict[str, dict[str, Any]] = {}
    for name, text in kept.items():
        section, key = KEYS.get(name, ("", name.lower()))
        sections.setdefault(section, {})[key] = _typed(text, _field(name, settings, router))
    text = place.read_text(encoding="utf-8-sig") if place.exists() else ""
    secret = bool(set(SECRET) & kept.keys())
    place.parent.mkdir(parents=True, exist_ok=True)
    write_whole(place, with_values(text, sections, name=str(place)), mode=_OWNER_ONLY if secret else _ALL)
    aside = old.replace(old.with_name(f"{SETTINGS_FILE}.migrated"))
    yield f"moved the {len(kept)} settings of {old} to {place}; the old file is now {aside.name}"


def with_values(old: str, sections: Sections, *, name: str) -> str:
    """Return a configuration with more keys; what it holds stays. Pure.

    Args:
        old: text of the file.
        sections: keys and values by section; the section "" is above the first.
        name: of the file, for messages.

    Raises:
        PermanentError: a key is in the file already, or the text cannot be extended.
    """
    before = tomllib.loads(old)
    text = old
    for section, values in sections.items():
        there = before.get(section, {}) if section else before
        if twice := [key for key in values if key in there]:
            raise PermanentError(f"{name} and {SETTINGS_FILE} both set {twice[0]} of [{section}]: take it out of one")
        lines = "".join(f"{key} = {toml_value(value)}\n" for key, value in values.items())
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
    """Return a text, number, truth value, list or table as TOML writes it on one line."""
    if isinstance(value, Mapping):
        pairs = (f"{json.dumps(key, ensure_ascii=False)} = {toml_value(each)}" for key, each in value.items())
        return f"{{{', '.join(pairs)}}}"
    return json.dumps(value, ensure_ascii=False)


def _field(name: str, settings: Settings, router: RouterSettings) -> Any:
    owner = settings if name.lower() in type(settings).model_fields else router
    return getattr(owner, name.lower())


def _typed(text: str, value: Any) -> Any:
    """Return a variable's text in the type of its setting."""
    if isinstance(value, dict):
        return json.loads(text)
    return value if isinstance(value, bool | int | float) else text
