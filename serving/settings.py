"""What the environment says about a router, read once when a process starts."""

import re
import secrets
import socket
from pathlib import Path
from typing import Final, Literal

from pydantic import AliasChoices, BaseModel, ConfigDict, Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

_UNSAFE: Final = re.compile(r"[^A-Za-z0-9_.-]+")
_NAME_CHARS: Final = 60


class FeedbackSource(BaseModel):
    """Who a feedback key belongs to, and what that source is trusted for (training implies measuring)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    source: str = Field(min_length=1, max_length=100)
    trust: Literal["train", "measure", "none"] = "measure"


class Settings(BaseSettings):
    """Settings of one replica: a parent and its workers on one machine. Every field is `EVERGREEN_<NAME>`.

    Times end in `_s` or `_ms`, sizes in `_mb`, `_bytes` or `_chars`.
    """

    model_config = SettingsConfigDict(
        env_prefix="EVERGREEN_", env_ignore_empty=True, extra="ignore", frozen=True, populate_by_name=True
    )

    home: Path = Path(".evergreen")
    lake: str | None = None
    replica: str | None = None
    router_host: str = "127.0.0.1"
    router_port: int = Field(8000, ge=0, le=65535)
    admin_port: int | None = Field(None, ge=0, le=65535)
    workers: int = Field(2, ge=1, le=256)

    admin_token: SecretStr | None = None
    predict_key: SecretStr | None = None
    secret: SecretStr | None = None
    feedback_keys: dict[str, FeedbackSource] = Field(default_factory=dict)

    mlflow_tracking_uri: str | None = Field(
        None, validation_alias=AliasChoices("MLFLOW_TRACKING_URI", "EVERGREEN_MLFLOW_TRACKING_URI")
    )
    model_source: str | None = None

    links: dict[str, str] = Field(default_factory=dict)  # addresses of other tools by name, for the console
    metrics: Literal["off", "emf"] = "off"
    metrics_interval_s: float = Field(60.0, gt=0)
    poll_interval_s: float = Field(0.5, gt=0)
    ship_interval_s: float = Field(5.0, gt=0)
    spool_limit_mb: float = Field(1024.0, ge=0)  # 0 logs no prediction and takes no feedback
    redact_text: bool = False

    queue_ms: float = Field(100.0, gt=0)
    token_budget: int = Field(256, ge=1)
    cache_entries: int = Field(20_000, ge=0)
    body_limit_bytes: int = Field(1_048_576, ge=1024)
    max_instances: int = Field(128, ge=1)
    max_text_chars: int = Field(10_000, ge=1)
    request_timeout_s: float = Field(10.0, gt=0)
    stop_timeout_s: float = Field(10.0, gt=0)

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

    @property
    def source_uri(self) -> str:
        """Where model files come from: `folder:PATH`, or an MLflow server's address."""
        return self.model_source or self.mlflow_tracking_uri or "http://127.0.0.1:5000"


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
        path.touch(mode=0o600, exist_ok=False)
        path.write_text(value + "\n", encoding="utf-8")
    except FileExistsError:
        return path.read_text(encoding="utf-8").strip() or value
    return value
