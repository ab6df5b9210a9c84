"""Settings of a router, read from its environment at the start of a process."""

import re
from pathlib import Path
from typing import Annotated, Any, Final

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    field_validator,
    model_validator,
)
from pydantic_settings import NoDecode, SettingsConfigDict

from absa.errors import PermanentError
from absa.policies import RouterTuning
from absa.settings_base import SettingsBase
from absa.variables import variable_text

_ORIGIN: Final = re.compile(r"https?://[a-z0-9.-]+(:[0-9]{1,5})?|https?://\[[0-9a-f:.]+\](:[0-9]{1,5})?")


class FeedbackSource(BaseModel):
    """Source of a feedback key. The flows, which read the records, decide how labels of the source may be used."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    source: str = Field(min_length=1, max_length=100)

    @model_validator(mode="before")
    @classmethod
    def _names_no_trust(cls, value: Any) -> Any:
        if isinstance(value, dict) and "trust" in value:
            raise ValueError(
                "a key has only the name of its source, so remove `trust`: "
                "EVERGREEN_TRUST and EVERGREEN_TRUST_TO_MEASURE of the flows say what a source may do"
            )
        return value


class RouterSettings(SettingsBase):
    """Settings of one replica: a parent and its workers on one machine. `router` is the section of evergreen.toml."""

    model_config = SettingsConfigDict(env_ignore_empty=True)

    router: RouterTuning = RouterTuning()
    replica: str | None = Field(None, description="Name of the replica; unset: made once and kept.")
    router_host: str = Field("127.0.0.1", description="Address to listen on.")
    router_port: int = Field(8000, ge=0, le=65535, description="Port to listen on; 0: a free one.")
    admin_port: int | None = Field(
        None, ge=0, le=65535, description="Port of their own for console, metrics, models, plan and documentation."
    )
    admin_token: SecretStr | None = Field(None, description="Token that may set a traffic plan; unset: none may.")
    feedback_keys: dict[SecretStr, FeedbackSource] = Field(
        default_factory=dict, description='JSON: whose feedback comes with a key, {"KEY": {"source": "NAME"}}.'
    )

    cors_origins: Annotated[tuple[str, ...], NoDecode] = Field(
        (),
        description="Origins whose web pages may call the router, such as `https://app.example`, separated by commas; "
        "`*`: any. Empty: none.",
    )

    links: dict[str, str] = Field(
        default_factory=dict, description="JSON: addresses of other tools by name, for the console."
    )
    metrics_interval_s: float = Field(60.0, gt=0, description="Seconds between metric lines.")
    queue_ms: float = Field(100.0, gt=0, description="Work that waits, at most, in milliseconds; beyond it 429.")

    @field_validator("cors_origins", mode="before")
    @classmethod
    def _split_origins(cls, value: Any) -> Any:
        value = variable_text(value) if isinstance(value, list) else value
        return tuple(each.strip() for each in value.split(",") if each.strip()) if isinstance(value, str) else value

    @field_validator("cors_origins")
    @classmethod
    def _check_origins(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for each in value:
            if each != "*" and not _ORIGIN.fullmatch(each):
                raise ValueError(f"expected origins such as https://app.example or *, got {each!r}")
        return value

    @model_validator(mode="after")
    def _fits_together(self) -> "RouterSettings":
        if self.admin_port and self.admin_port == self.router_port:
            raise PermanentError(
                f"EVERGREEN_ADMIN_PORT: expected another port than EVERGREEN_ROUTER_PORT, got {self.admin_port}"
            )
        return self

    @property
    def folder(self) -> Path:
        """Folder that all routers of this home share, with model files and the unit secret."""
        return self.root / "serving"

    @property
    def models_folder(self) -> Path:
        """Folder of model files by digest."""
        return self.folder / "models"
