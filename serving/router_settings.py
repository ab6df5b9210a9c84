"""What the environment says about a router, read once when a process starts."""

import os
import re
import secrets
import socket
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict, SettingsError

from absa.errors import PermanentError
from absa.records.files import write_whole
from absa.variables import PREFIX, check_variables, named_field, refused_value

_UNSAFE: Final = re.compile(r"[^A-Za-z0-9_.-]+")
_ORIGIN: Final = re.compile(r"https?://[a-z0-9.-]+(:[0-9]{1,5})?|https?://\[[0-9a-f:.]+\](:[0-9]{1,5})?")
_NAME_CHARS: Final = 60


class FeedbackSource(BaseModel):
    """Who a feedback key belongs to. What a source may do is the flows' to say, who read the records."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    source: str = Field(min_length=1, max_length=100)

    @model_validator(mode="before")
    @classmethod
    def _names_no_trust(cls, value: Any) -> Any:
        if isinstance(value, dict) and "trust" in value:
            raise ValueError(
                "a key names its source alone, so take `trust` out: "
                "EVERGREEN_TRUST and EVERGREEN_TRUST_TO_MEASURE of the flows say what a source may do"
            )
        return value


class Settings(BaseSettings):
    """Settings of one replica: a parent and its workers on one machine. Every field is `EVERGREEN_<NAME>`.

    Times end in `_s` or `_ms`, sizes in `_mb`, `_bytes` or `_chars`.
    """

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        env_ignore_empty=True,
        extra="ignore",
        frozen=True,
        allow_inf_nan=False,
    )

    home: Path = Field(Path(".evergreen"), description="Folder for what a replica keeps: models, spool, names.")
    lake: str | None = Field(None, description="Lake: a folder or s3://bucket/prefix. Unset: HOME/lake.")
    replica: str | None = Field(None, description="Name of the replica; unset: made once and kept.")
    router_host: str = Field("127.0.0.1", description="Address to listen on.")
    router_port: int = Field(8000, ge=0, le=65535, description="Port to listen on; 0: a free one.")
    admin_port: int | None = Field(
        None, ge=0, le=65535, description="Port of their own for console, metrics, models, plan and documentation."
    )
    workers: int = Field(2, ge=1, le=256, description="Processes, one a core.")

    admin_token: SecretStr | None = Field(None, description="Who has it may set a traffic plan; unset: nobody.")
    predict_key: SecretStr | None = Field(None, description="API key required by POST /v1/predict; unset: none.")
    secret: SecretStr | None = Field(None, description="Units are hashed with it; equal on all replicas.")
    feedback_keys: dict[str, FeedbackSource] = Field(
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
    metrics: Literal["off", "emf"] = Field("off", description="emf: metric lines for CloudWatch in the log.")
    metrics_interval_s: float = Field(60.0, gt=0, description="Seconds between metric lines.")
    poll_interval_s: float = Field(0.5, gt=0, description="Seconds between looks at the ledger.")
    ship_interval_s: float = Field(5.0, gt=0, description="Seconds between shipments of the log to the lake.")
    spool_limit_mb: float = Field(
        1024.0, ge=0, description="Log that waits for the lake, at most; 0 logs no prediction and takes no feedback."
    )
    redact_text: bool = Field(False, description="Log neither text nor aspect.")

    queue_ms: float = Field(100.0, gt=0, description="Work that waits, at most, in milliseconds; beyond it 429.")
    token_budget: int = Field(256, ge=1, description="Tokens of a batch, padding included, at most.")
    cache_entries: int = Field(20_000, ge=0, description="Answers that a worker remembers.")
    body_limit_bytes: int = Field(1_048_576, ge=1024, description="Largest body.")
    max_instances: int = Field(128, ge=1, description="Items of a request, at most.")
    max_text_chars: int = Field(10_000, ge=1, description="Characters of a text, at most.")
    request_timeout_s: float = Field(10.0, gt=0, description="Longest that a request may take.")
    stop_timeout_s: float = Field(10.0, gt=0, description="Longest that stopping may take.")

    @field_validator("cors_origins", mode="before")
    @classmethod
    def _split_origins(cls, value: Any) -> Any:
        return tuple(each.strip() for each in value.split(",") if each.strip()) if isinstance(value, str) else value

    @field_validator("cors_origins")
    @classmethod
    def _check_origins(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for each in value:
            if each != "*" and not _ORIGIN.fullmatch(each):
                raise ValueError(f"expected origins such as https://app.example or *, got {each!r}")
        return value

    @model_validator(mode="after")
    def _fits_together(self) -> "Settings":
        if self.admin_port and self.admin_port == self.router_port:
            raise PermanentError(
                f"EVERGREEN_ADMIN_PORT: expected another port than EVERGREEN_ROUTER_PORT, got {self.admin_port}"
            )
        if self.lake is not None and "://" in self.lake and not self.lake.startswith("s3://"):
            raise PermanentError(f"EVERGREEN_LAKE: expected a folder or s3://bucket/prefix, got {self.lake!r}")
        return self

    @property
    def lake_uri(self) -> str:
        """Where the lake lies: EVERGREEN_LAKE, or the folder `lake` in the home."""
        return self.lake or str(self.home.absolute() / "lake")

    @property
    def folder(self) -> Path:
        """What routers of this home share: model files, the unit secret."""
        return self.home.absolute() / "serving"

    @property
    def models_folder(self) -> Path:
        """Model files by digest."""
        return self.folder / "models"


def load_settings() -> Settings:
    """Return the settings of the environment.

    Raises:
        PermanentError: a variable is unknown or has a value that cannot be used; the message names it.
    """
    check_variables(os.environ, more=Settings.model_fields)
    try:
        return Settings()
    except ValidationError as error:
        found = [refused_value(_variable(each["loc"]), each["msg"], each["input"]) for each in error.errors()]
        raise PermanentError("; ".join(found)) from None
    except SettingsError as error:
        raise PermanentError(f"{named_field(error, Settings.model_fields)} cannot be used: expected JSON") from None


def _variable(location: tuple[int | str, ...]) -> str:
    """Return the short name of the variable at the start of a location."""
    return str(location[0]).removeprefix(PREFIX)


def replica_name(settings: Settings) -> str:
    """The replica's name: as set, or one that is made once and kept in the home. Safe as part of a file name."""
    if settings.replica:
        return _UNSAFE.sub("-", settings.replica)[:_NAME_CHARS]
    made = f"{_UNSAFE.sub('-', socket.gethostname())[: _NAME_CHARS - 7]}-{secrets.token_hex(3)}"
    return _kept(settings.folder / "replica", made)


def unit_secret(settings: Settings) -> bytes:
    """The secret that unit ids are hashed with: as set, or one that is made once and kept in the home.

    Replicas on several machines need EVERGREEN_SECRET, or the same unit has a different hash on each.
    """
    if settings.secret is not None:
        return settings.secret.get_secret_value().encode()
    return _kept(settings.folder / "secret", secrets.token_hex(32)).encode()


def _kept(path: Path, value: str) -> str:
    """What the file says; made from `value`, readable by the owner alone, where there is none."""
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        write_whole(path, value + "\n", mode=0o600, create=True)
    except FileExistsError:
        return path.read_text(encoding="utf-8").strip() or value
    return value
