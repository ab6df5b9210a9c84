"""`evergreen config`: every effective value, and the source that set it."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from pydantic import SecretStr

from absa.configuration import SECTIONS, section_keys
from absa.router_settings import RouterSettings
from absa.settings_base import OF_FILE, SettingsBase, Sources
from absa.variables import PLACES, PREFIX, SECRET
from flows.platform.settings import Settings

_MASK: Final = "********"
_KEY_WIDTH: Final = 46


@dataclass(frozen=True, kw_only=True)
class EffectiveValue:
    """Effective value of a key, with its origin.

    Attributes:
        section: section of evergreen.toml; empty for keys above the first section.
        key: key of the section.
        value: value as in JSON; secrets are masked.
        origin: `default`, `profile NAME`, `file`, `settings.env` or `environment`.
        variable: environment variable that takes precedence over the file; None if there is none.
    """

    section: str
    key: str
    value: Any
    origin: str
    variable: str | None = None


def effective_values(settings: Settings, router: RouterSettings) -> Iterator[EffectiveValue]:
    """Yield every value of flows and router in the order of evergreen.toml. Pure."""
    sources = settings.sources
    for name in ("home", "config", "profile"):
        origin = OF_FILE if name == "profile" and name in sources.configuration.table else "default"
        origin = sources.origin(name.upper()) if sources.origin(name.upper()) != "default" else origin
        value = getattr(settings, name)
        yield EffectiveValue(
            section="", key=name, value=None if value is None else str(value), origin=origin,
            variable=f"{PREFIX}{name.upper()}",
        )  # fmt: skip
    for key, value in settings.task.to_json().items():
        yield EffectiveValue(section="task", key=key, value=value, origin=sources.key_origin("task", key))
    for key, column in settings.data.columns.items():
        yield EffectiveValue(section="data", key=key, value=column, origin=sources.key_origin("data", key))
    for section in dict.fromkeys((*SECTIONS, *PLACES)):
        places = PLACES.get(section, {})
        for key in section_keys(section):
            if key in places:
                name = places[key]
                yield EffectiveValue(
                    section=section, key=key, value=_shown(name, _value(name, settings, router)),
                    origin=sources.origin(name), variable=f"{PREFIX}{name}",
                )  # fmt: skip
                continue
            yield EffectiveValue(
                section=section,
                key=key,
                value=getattr(_policy(section, settings, router), key),
                origin=sources.key_origin(section, key),
            )


def config_lines(values: list[EffectiveValue], *, changed: bool) -> Iterator[str]:
    """Yield the values as lines of evergreen.toml, each with its origin; `changed` leaves defaults out."""
    section = ""
    for each in values:
        if changed and each.origin == "default":
            continue
        if each.section != section:
            section = each.section
            yield ""
            yield f"[{section}]"
        said = f"{each.key} = {'unset' if each.value is None else json.dumps(each.value, ensure_ascii=False)}"
        named = f" {each.variable}" if each.origin == "environment" else ""
        yield f"{said:<{_KEY_WIDTH}}  {each.origin}{named}"


def _value(name: str, settings: SettingsBase, router: SettingsBase) -> Any:
    field = name.lower()
    return getattr(settings if field in type(settings).model_fields else router, field)


def _policy(section: str, settings: SettingsBase, router: SettingsBase) -> Any:
    return getattr(settings if section in type(settings).model_fields else router, section)


def _shown(name: str, value: Any) -> Any:
    if name in SECRET or isinstance(value, SecretStr):
        return _MASK if value else None
    return value


def origin_counts(values: list[EffectiveValue], sources: Sources) -> str:
    """Return one sentence: the file in use, and the numbers of values that file and environment set."""
    found = [each.origin for each in values]
    file = sources.configuration.file
    return (
        f"{found.count(OF_FILE)} values come from {file or 'no evergreen.toml'}, "
        f"{found.count('environment')} from the environment, the others from profile {sources.configuration.profile} "
        "and defaults"
    )
