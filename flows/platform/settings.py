"""Settings of flows and command line, and the home folder. The defaults work on one machine."""

import base64
import json
import os
import random
import secrets
import socket
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any, Final, Literal

from pydantic import Field, SecretStr, field_validator, model_validator

from absa.data.mapping import CONFIGURATION_FILE
from absa.earlier_settings import read_settings_file
from absa.errors import NotFoundError, PermanentError
from absa.modeling.folders import CONFIG, PACKAGED, find_base
from absa.policies import LONGEST_S, AlertPolicy, ExperimentPolicy, GatePolicy, StalenessPolicy, TrainingRecipe
from absa.proxies import keep_local_direct
from absa.records.files import write_whole
from absa.router_settings import RouterSettings
from absa.settings_base import SettingsBase
from absa.variables import PREFIX, check_variables, given_values, variable_text

_PORTS_FILE: Final = "ports.json"
PARTS: Final = ("prefect", "mlflow", "evidently", "router")
PREFERRED_PORTS: Final = {"prefect": 4200, "mlflow": 5000, "evidently": 8001, "router": 8080}


class Settings(SettingsBase):
    """Settings of flows and command line. `build_services` reads them once."""

    gate: GatePolicy = GatePolicy()
    staleness: StalenessPolicy = StalenessPolicy()
    experiment: ExperimentPolicy = ExperimentPolicy()
    training: TrainingRecipe = TrainingRecipe()
    alerts: AlertPolicy = AlertPolicy()
    budget_s: float = Field(
        default=900.0, gt=0, le=LONGEST_S, description="Wall-clock budget of a whole training run, in seconds."
    )
    window_s: float = Field(
        default=3600.0, gt=0, le=LONGEST_S, description="Length of a monitoring window, in seconds."
    )
    schedule_monitor: bool = Field(default=True, description="Run the monitor once per window.")
    schedule_training: Literal["never", "nightly", "weekly"] = Field(
        default="never",
        description="Train at 02:00 UTC if there are enough new labels: nightly, weekly (on Sundays) or never.",
    )
    alert_url: SecretStr | None = Field(
        default=None,
        description="Webhook that gets one message per incident: a stale version, a silent monitor.",
    )
    alert_secret: SecretStr | None = Field(
        default=None, description="Key that signs the webhook's messages: whsec_ and 24 to 64 bytes in base64."
    )
    retention_days: float | None = Field(
        default=None,
        gt=0,
        le=LONGEST_S / 86400.0,
        description="Age at which the monitor deletes predictions and examples made from them, in days; unset: never.",
    )
    prefect_port: int | None = Field(
        default=None, ge=1, le=65535, description="Port of the local Prefect, kept in the home; unset: 4200 or above."
    )
    mlflow_port: int | None = Field(
        default=None, ge=1, le=65535, description="Port of the local MLflow, kept in the home; unset: 5000 or above."
    )
    evidently_port: int | None = Field(
        default=None, ge=1, le=65535, description="Port of the local Evidently, kept in the home; unset: 8001 or above."
    )
    router_port: int | None = Field(
        default=None, ge=1, le=65535, description="Port of the local router, kept in the home; unset: 8080 or above."
    )
    router_url: str | None = Field(default=None, description="Router that commands call; unset: the local one.")
    host: str = Field(default="127.0.0.1", min_length=1, description="Address that local servers listen on.")
    approval: bool = Field(default=False, description="Require an operator's approval of a promotion in Prefect.")
    trust: str = Field(
        default="customer,labels", description="Feedback sources that train and measure, separated by commas."
    )
    trust_to_measure: str = Field(
        default="", description="Feedback sources that measure and do not train, separated by commas."
    )
    evidently_url: str | None = Field(
        default=None, description="Address of Evidently's server; unset: a folder in HOME."
    )
    work_pool: str = Field(
        default="", description="Prefect work pool for flow runs; empty: the worker runs them itself."
    )
    work_pool_type: Literal["process", "ecs"] = Field(
        default="process", description="Infrastructure of a run in the pool."
    )
    work_pool_variables: dict[str, Any] = Field(
        default_factory=dict, description="JSON: defaults of the pool's variables, such as cluster and image of ECS."
    )
    training_queues: str = Field(
        default="", description="AWS Batch queues for trainings, tried in this order; empty: train on this machine."
    )
    training_definition: str = Field(default="", description="AWS Batch job definition of a training.")
    machine_wait_s: float = Field(
        default=240.0, ge=0, le=LONGEST_S, description="Seconds before a training tries the next queue for a machine."
    )

    @field_validator("trust", "trust_to_measure", "training_queues", mode="before")
    @classmethod
    def _join_names(cls, value: object) -> object:
        return variable_text(value) if isinstance(value, list) else value

    @field_validator("alert_url", "alert_secret", "evidently_url", "router_url", mode="before")
    @classmethod
    def _empty_is_unset(cls, value: object) -> object:
        return value or None

    @model_validator(mode="after")
    def _fits_together(self) -> "Settings":
        for sentence in _contradictions(self):
            raise PermanentError(sentence)
        return self

    @classmethod
    def load(cls) -> "Settings":
        """Read the settings. See `SettingsBase.read`."""
        return cls.read()

    @classmethod
    def of_home(cls) -> "Settings":
        """Read home and lake only: enough to stop servers if another setting is invalid.

        Raises:
            PermanentError: EVERGREEN_HOME is empty or not UTF-8 text, or `read_settings_file` raises it.
        """
        check_variables({name: value for name, value in os.environ.items() if name.upper() == f"{PREFIX}HOME"})
        kept = read_settings_file(Path(os.environ.get("EVERGREEN_HOME", ".evergreen")))
        given = given_values({**kept.variables, **os.environ})
        return cls.model_construct(home=Path(given.get("HOME", ".evergreen")), lake=given.get("LAKE"))

    @property
    def fixed_ports(self) -> dict[str, int]:
        """Ports that the user chose, by part."""
        chosen = {part: getattr(self, f"{part}_port") for part in PARTS}
        return {part: port for part, port in chosen.items() if port is not None}

    @property
    def training_queue_names(self) -> tuple[str, ...]:
        """AWS Batch queues in the order of the tries; empty if trainings run on this machine."""
        return _parts(self.training_queues)

    @property
    def training_sources(self) -> tuple[str, ...]:
        """Feedback sources that may train."""
        return _parts(self.trust)

    @property
    def measuring_sources(self) -> tuple[str, ...]:
        """Feedback sources that may measure: the sources that may train, and the sources that may only measure."""
        return tuple(dict.fromkeys((*self.training_sources, *_parts(self.trust_to_measure))))


def _contradictions(settings: Settings) -> Iterator[str]:
    """Yield a message for each value that is invalid, or does not fit another one."""
    yield from _misfits(settings.training, where=f"[training] of {settings.config or CONFIGURATION_FILE}")
    if bool(settings.training_queue_names) != bool(settings.training_definition.strip()):
        yield "EVERGREEN_TRAINING_QUEUES and EVERGREEN_TRAINING_DEFINITION: expected both or neither"
    ports = list(settings.fixed_ports.values())
    if twice := sorted({port for port in ports if ports.count(port) > 1}):
        names = [f"EVERGREEN_{part.upper()}_PORT" for part, port in settings.fixed_ports.items() if port == twice[0]]
        yield f"{' and '.join(names)}: expected different ports, got {twice[0]} for each"
    for name in ("alert_url", "evidently_url", "router_url"):
        given = getattr(settings, name)
        url = given.get_secret_value() if isinstance(given, SecretStr) else given
        if url is not None and not url.startswith(("http://", "https://")):
            shown = "" if url is not given else f", got {url!r}"
            yield f"EVERGREEN_{name.upper()}: expected http://... or https://...{shown}"
    if settings.alert_secret is not None and not _is_signing_key(settings.alert_secret.get_secret_value()):
        yield "EVERGREEN_ALERT_SECRET: expected whsec_ and 24 to 64 bytes in base64, from `openssl rand -base64 32`"
    if settings.home.exists() and not settings.home.is_dir():
        yield f"EVERGREEN_HOME: expected a folder, got the file {settings.home}"


def _is_signing_key(secret: str) -> bool:
    """Return True for a signing key of Standard Webhooks: whsec_ and 24 to 64 bytes in base64."""
    try:
        key = base64.b64decode(secret.removeprefix("whsec_"), validate=True)
    except ValueError:
        return False
    return secret.startswith("whsec_") and 24 <= len(key) <= 64


def _misfits(recipe: TrainingRecipe, *, where: str) -> Iterator[str]:
    depth, width = base_size(recipe.base_model)
    for name, layers in (("layers", recipe.layers), ("ladder", max(recipe.ladder, default=None))):
        if layers is not None and depth is not None and layers > depth:
            yield f"{name} in {where}: expected 1 to {depth}, the layers of {recipe.base_model}, got {layers}"
    learning, kept = recipe.warm_layers, recipe.layers or depth
    if learning is not None and kept is not None and learning > kept:
        yield f"warm_layers in {where}: expected 0 to {kept}, the layers of the model, got {learning}"
    if recipe.hidden is not None and width is not None and recipe.hidden > width:
        yield f"hidden in {where}: expected up to {width}, the width of {recipe.base_model}, got {recipe.hidden}"


def base_size(name: str) -> tuple[int | None, int | None]:
    """Return layers and width of a base model; both are None without its files."""
    if name != PACKAGED and not Path(name).expanduser().is_dir():
        return None, None
    try:
        folder = find_base(name) if name == PACKAGED else Path(name).expanduser()
        config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
        return int(config["num_hidden_layers"]), int(config["hidden_size"])
    except (NotFoundError, OSError, ValueError, KeyError, TypeError):
        return None, None  # a training reports the error when it reads the base


def _parts(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


class Home:
    """Home folder: its folders, and the ports and secrets that are chosen once and kept.

    The constructor writes nothing.
    """

    def __init__(self, settings: Settings) -> None:
        self.root = settings.root
        self._host = settings.host
        self._secret = settings.secret
        self._fixed_ports = settings.fixed_ports

    def folder(self, *parts: str) -> Path:
        """Return a folder in the home, and make it if it is missing."""
        path = self.root.joinpath(*parts)
        path.mkdir(parents=True, exist_ok=True)
        return path

    def ports(self) -> dict[str, int]:
        """Return the port of each local server: EVERGREEN_<PART>_PORT, the kept port, or a free one."""
        return self._chosen_ports(())

    def keep_ports(self) -> None:
        """Write the present ports to the home, so that links stay valid. Makes the home."""
        self.choose_ports_again(())

    def choose_ports_again(self, parts: Collection[str]) -> dict[str, int]:
        """Choose new ports for some parts, unless the user fixed them; other parts keep their ports."""
        chosen, file = self._chosen_ports(parts), self.folder() / _PORTS_FILE
        if not file.exists() or json.loads(file.read_text()) != chosen:
            write_whole(file, json.dumps(chosen, indent=1))
        return chosen

    def _chosen_ports(self, anew: Collection[str]) -> dict[str, int]:
        file = self.root / _PORTS_FILE
        ports: dict[str, int] = json.loads(file.read_text()) if file.exists() else {}
        chosen = {**{part: port for part, port in ports.items() if part not in anew}, **self._fixed_ports}
        for part in PARTS:
            if part not in chosen:
                chosen[part] = free_port(
                    self._host, preferred=PREFERRED_PORTS[part], taken=set(chosen.values()), seed=str(self.root)
                )
        return chosen

    def secrets(self) -> dict[str, str]:
        """Return admin token, unit secret and feedback key.

        The first call makes them, and writes them to a file that only the owner can read.
        """
        file = self.folder() / "secrets.json"
        if not file.exists():
            made = {name: secrets.token_urlsafe(24) for name in ("admin_token", "unit_secret", "feedback_key")}
            write_whole(file, json.dumps(made, indent=1), mode=0o600)
        found: dict[str, str] = json.loads(file.read_text())
        return found

    def unit_secret(self) -> str:
        """Return the secret that hashes units: EVERGREEN_SECRET, or the one in the home."""
        given = self._secret.get_secret_value() if self._secret is not None else ""
        return given or self.secrets()["unit_secret"]

    def feedback_key(self) -> str:
        """Return the feedback key of simulated customers: one of EVERGREEN_FEEDBACK_KEYS, or the one in the home.

        Of several keys it is the first with the source `customer`; without such a key it is the first of all.

        Raises:
            PermanentError: the router's settings are invalid, or EVERGREEN_FEEDBACK_KEYS has no key.
        """
        router = RouterSettings.read()
        if router.sources.origin("FEEDBACK_KEYS") == "default":
            return self.secrets()["feedback_key"]
        sources = {key.get_secret_value(): source.source for key, source in router.feedback_keys.items()}
        if not sources:
            raise PermanentError("EVERGREEN_FEEDBACK_KEYS: expected a key, got none: add one, or unset it")
        return min(sources, key=lambda key: sources[key] != "customer")

    def url(self, part: str) -> str:
        """Return the address of a local server."""
        return f"http://{self._host}:{self.ports()[part]}"

    def flow_run_page(self, run_id: str) -> str:
        """Return the address of a flow run's page in Prefect."""
        return f"{self.url('prefect')}/runs/flow-run/{run_id}"


def port_is_free(host: str, port: int) -> bool:
    """Return True if a server can listen on this port now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True


def free_port(host: str, *, preferred: int, taken: set[int], seed: str = "") -> int:
    """Return the preferred port, or a free one of the 199 ports above it.

    The seed decides the order of the search. Homes use different seeds, so that homes that start concurrently choose
    different ports.

    Raises:
        PermanentError: none of these ports is free.
    """
    above = list(range(preferred + 1, preferred + 200))
    for port in [preferred, *random.Random(f"{seed}:{preferred}").sample(above, len(above))]:
        if port not in taken and port_is_free(host, port):
            return port
    raise PermanentError(f"no free port between {preferred} and {preferred + 199} on {host}")


def apply_environment(settings: Settings, *, keep: bool = True) -> dict[str, str]:
    """Set the environment variables of MLflow, Prefect and other libraries that the user has not set.

    Call it before these libraries are imported. Telemetry is turned off; Prefect's profile and all databases are in
    the home folder; local addresses use no proxy.

    Args:
        settings: of this installation.
        keep: make the home and write its ports; False for commands that only read.

    Returns:
        The whole environment, for child processes.
    """
    home = Home(settings)
    if keep:
        home.keep_ports()
        home.folder("prefect")
    keep_local_direct(os.environ, settings.host)
    defaults = {
        "EVERGREEN_HOME": str(settings.root),
        "EVERGREEN_LAKE": settings.lake_uri,
        "MLFLOW_TRACKING_URI": home.url("mlflow"),
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "3",
        "MLFLOW_LOGGING_LEVEL": "WARNING",  # at INFO, MLflow logs each table, experiment and thread
        "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
        "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
        "PREFECT_API_URL": f"{home.url('prefect')}/api",
        "PREFECT_HOME": str(home.root / "prefect"),
        "PREFECT_PROFILES_PATH": str(home.root / "prefect" / "profiles.toml"),
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": "prefect.server.concurrency.lease_storage.filesystem",
        "PREFECT_CLOUD_ENABLE_ORCHESTRATION_TELEMETRY": "false",
        "PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW": "ignore",
        "PREFECT_RUNNER_POLL_FREQUENCY": "1",
        "PREFECT_WORKER_QUERY_SECONDS": "1",
        "PREFECT_SERVER_EPHEMERAL_ENABLED": "false",
        "DO_NOT_TRACK": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "TOKENIZERS_PARALLELISM": "false",
    }
    for name, value in defaults.items():
        os.environ.setdefault(name, value)
    if settings.config is not None:  # a flow run has another working folder, and would find another file or none
        os.environ["EVERGREEN_CONFIG"] = str(settings.config.absolute())
    return dict(os.environ)
