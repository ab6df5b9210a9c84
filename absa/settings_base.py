"""Base of the settings of flows and router: common variables, and the reading of all variables."""

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal, Self

from pydantic import Field, PrivateAttr, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict, SettingsError

from absa.config_file import SETTINGS_FILE, find_configuration
from absa.configuration import Configuration, read_configuration
from absa.data.mapping import DEFAULT_MAPPING, DataMapping
from absa.earlier_settings import EarlierSettings, read_settings_file
from absa.errors import PermanentError
from absa.policies import ServingPolicy
from absa.profiles import PROFILES, SETTINGS
from absa.task import TaskSpec
from absa.variables import KEYS, PREFIX, check_variables, given_values, named_field, refused_value, variable_text

OF_FILE: Final = "file"


@dataclass(frozen=True, kw_only=True)
class Sources:
    """Sources of settings: the environment, settings.env and evergreen.toml, each with its values by variable."""

    environment: Mapping[str, str] = field(default_factory=dict, repr=False)  # may hold secrets
    earlier: EarlierSettings = field(default_factory=EarlierSettings, repr=False)
    configuration: Configuration = field(default_factory=lambda: read_configuration(None), repr=False)

    def origin(self, name: str) -> str:
        """Return the source of a setting: `environment`, `settings.env`, `file`, `profile NAME` or `default`."""
        if name in self.environment:
            return "environment"
        if name in self.earlier.values:
            return SETTINGS_FILE
        if name in self.configuration.settings:
            return OF_FILE
        profile = self.configuration.profile
        return f"profile {profile}" if name.lower() in PROFILES[profile].get(SETTINGS, {}) else "default"

    def key_origin(self, section: str, key: str) -> str:
        """Return the source of a key of evergreen.toml that no variable sets."""
        if key in self.earlier.sections.get(section, {}):
            return SETTINGS_FILE
        if key in self.configuration.table.get(section, {}):
            return OF_FILE
        profile = self.configuration.profile
        return f"profile {profile}" if key in PROFILES[profile].get(section, {}) else "default"

    def variables(self) -> dict[str, str]:
        """Return the values of both files as variables with the prefix, for a process that does not read the files."""
        of_file = {name: variable_text(value) for name, value in self.configuration.settings.items()}
        kept = {**of_file, **self.earlier.values}
        return {f"{PREFIX}{name}": value for name, value in kept.items()}


class SettingsBase(BaseSettings):
    """Settings that flows and router share.

    A field is the variable `EVERGREEN_<NAME>` and a key of evergreen.toml (`variables.PLACES`). A field with the name
    of a section holds the content of that section instead. Secrets are SecretStr, so no message, log or repr shows
    them. A value outside its range raises pydantic's ValidationError; values that contradict each other raise
    PermanentError.
    """

    _sources: Sources = PrivateAttr(default_factory=Sources)
    model_config = SettingsConfigDict(env_prefix=PREFIX, extra="ignore", frozen=True, allow_inf_nan=False)

    home: Path = Field(default=Path(".evergreen"), description="Folder for everything that an installation keeps.")
    lake: str | None = Field(default=None, description="Lake: a folder or s3://bucket/prefix. Unset: HOME/lake.")
    config: Path | None = Field(
        default=None, description="evergreen.toml; unset: the one in the working folder or in HOME, if there is one."
    )
    profile: str = Field(
        default="default",
        description="Named set of settings and policies below evergreen.toml; unset: the file's `profile`, or default.",
    )
    workers: int = Field(default=2, ge=1, le=256, description="Router processes, one per core.")
    secret: SecretStr | None = Field(
        default=None, description="Key of the units' hashes, equal on all replicas; unset: made once and kept in HOME."
    )
    predict_key: SecretStr | None = Field(
        default=None, description="API key required by POST /v1/predict; commands that call the router send it."
    )
    redact_text: bool = Field(default=False, description="Log predictions without their texts and phrases.")
    data: DataMapping = DEFAULT_MAPPING
    serving: ServingPolicy = ServingPolicy()
    metrics: Literal["off", "emf"] = Field(default="off", description="emf: metric lines for CloudWatch in the log.")

    @field_validator("secret", "predict_key", mode="before")
    @classmethod
    def _no_secret_is_unset(cls, value: object) -> object:
        return value or None

    @model_validator(mode="after")
    def _lake_is_known(self) -> Self:
        if self.lake is not None and "://" in self.lake and not self.lake.startswith("s3://"):
            raise PermanentError(f"EVERGREEN_LAKE: expected a folder or s3://bucket/prefix, got {self.lake!r}")
        return self

    @property
    def root(self) -> Path:
        """The home folder, absolute."""
        return self.home.absolute()

    @property
    def task(self) -> TaskSpec:
        """Task of section [task] of evergreen.toml."""
        return self.data.task

    @property
    def lake_uri(self) -> str:
        """Address of the lake."""
        return self.lake or str(self.root / "lake")

    @property
    def sources(self) -> Sources:
        """Values of each source; empty for settings that were not made by `read`."""
        return self._sources

    @classmethod
    def read(cls) -> Self:
        """Read all settings.

        Precedence: environment, HOME/settings.env of an earlier release, evergreen.toml, its profile, defaults.

        Raises:
            PermanentError: a variable, section or key is unknown or has a value that cannot be used; the message names
                it.
        """
        check_variables(os.environ)
        given = given_values(os.environ)
        home = Path(given.get("HOME", ".evergreen"))
        earlier = read_settings_file(home)
        check_variables(earlier.variables, where=str(earlier.file))
        kept = earlier.values
        file = find_configuration(given.get("CONFIG") or kept.get("CONFIG"), home)
        found = read_configuration(file, profile=given.get("PROFILE") or kept.get("PROFILE"), earlier=earlier)
        sources = Sources(environment=given, earlier=earlier, configuration=found)
        profile = {name.upper(): value for name, value in PROFILES[found.profile].get(SETTINGS, {}).items()}
        below = {name: value for name, value in {**profile, **found.settings}.items() if name not in {**kept, **given}}
        values = {name.lower(): value for name, value in below.items()}
        values |= {**found.sections, "data": found.data, "config": file, "profile": found.profile}
        try:
            known = {name: value for name, value in values.items() if name in cls.model_fields}
            settings = cls(_env_file=str(earlier.file) if kept else None, **known)
        except ValidationError as error:
            raise PermanentError("; ".join(_refusals(error, sources))) from None
        except SettingsError as error:
            raise PermanentError(f"{named_field(error, cls.model_fields)} cannot be used: expected JSON") from None
        settings._sources = sources
        return settings


def _refusals(error: ValidationError, sources: Sources) -> Iterator[str]:
    """Yield a sentence for each refused value, which names its place in evergreen.toml or its variable."""
    for each in error.errors():
        name = str(each["loc"][0]).removeprefix(PREFIX).upper()
        said = refused_value(name, each["msg"], each["input"])
        if sources.origin(name) == OF_FILE:
            section, key = KEYS[name]
            said = said.replace(f"{PREFIX}{name}", f"{key} in section [{section}] of {sources.configuration.file}", 1)
        yield said
