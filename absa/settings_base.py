"""Base of the settings of flows and router: the variables that both read, and the one way to read them all."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict, SettingsError

from absa.config_file import find_configuration
from absa.configuration import read_configuration
from absa.data.mapping import DEFAULT_MAPPING, DataMapping
from absa.errors import PermanentError
from absa.task import TaskSpec
from absa.variables import PREFIX, check_variables, given_values, named_field, refused_value


class SettingsBase(BaseSettings):
    """Settings that flows and router share.

    Every field is the variable `EVERGREEN_<NAME>`, but for those named as a section of evergreen.toml: these hold
    the content of the section. Secrets are SecretStr, so no message, log or repr shows them. A value outside its range
    raises pydantic's ValidationError, values that do not fit each other PermanentError.
    """

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
    redact_text: bool = Field(default=False, description="Log neither text nor aspect with predictions.")
    data: DataMapping = DEFAULT_MAPPING
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

    @classmethod
    def read(cls, kept: Mapping[str, str] | None = None, *, where: str = "") -> Self:
        """Read the environment, then a settings file, then evergreen.toml, then its profile, then defaults.

        Args:
            kept: variables of the settings file.
            where: the settings file, for messages.

        Raises:
            PermanentError: a variable, section or key is unknown or has a value that cannot be used; the message names
                it.
        """
        check_variables(os.environ)
        check_variables(kept or {}, where=where)
        given = given_values({**(kept or {}), **os.environ})
        home = Path(given.get("HOME", ".evergreen"))
        file = find_configuration(given.get("CONFIG"), home)
        found = read_configuration(file, profile=given.get("PROFILE"))
        values = {name: value for name, value in found.settings.items() if name.upper() not in given}
        values |= {**found.sections, "data": found.data, "config": file, "profile": found.profile}
        try:
            known = {name: value for name, value in values.items() if name in cls.model_fields}
            return cls(_env_file=where or None, **known)
        except ValidationError as error:
            refused = [refused_value(_variable(each["loc"]), each["msg"], each["input"]) for each in error.errors()]
            raise PermanentError("; ".join(refused)) from None
        except SettingsError as error:
            raise PermanentError(f"{named_field(error, cls.model_fields)} cannot be used: expected JSON") from None


def _variable(location: tuple[int | str, ...]) -> str:
    """Return the short name of the variable at the start of a location."""
    return str(location[0]).removeprefix(PREFIX)
