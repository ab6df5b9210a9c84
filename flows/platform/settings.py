"""Everything that the environment can set for flows and the command line, with defaults that work on one machine."""

import json
import os
import random
import secrets
import socket
from collections.abc import Collection
from pathlib import Path
from typing import Any, Final, Literal

from dotenv import dotenv_values
from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict, SettingsError

from absa.errors import PermanentError
from absa.proxies import keep_local_direct
from absa.records.files import write_whole
from absa.variables import PREFIX, check_variables, named_field, refused_value
from flows.platform.setting_rules import contradictions

SETTINGS_FILE: Final = "settings.env"
_PORTS_FILE: Final = "ports.json"
PARTS: Final = ("prefect", "mlflow", "evidently", "router")
LONGEST_S: Final = 10 * 365 * 86400.0  # of any duration: dates that are further away cannot be written
PREFERRED_PORTS: Final = {"prefect": 4200, "mlflow": 5000, "evidently": 8001, "router": 8080}


class Settings(BaseSettings):
    """Read once, in wiring. Every field is an environment variable with the prefix EVERGREEN_.

    A value outside its range raises pydantic's ValidationError, values that do not fit each other PermanentError.
    """

    model_config = SettingsConfigDict(env_prefix=PREFIX, extra="ignore", allow_inf_nan=False)

    home: Path = Field(default=Path(".evergreen"), description="Folder for everything that this checkout keeps.")
    lake: str | None = Field(default=None, description="Lake: a folder or s3://bucket/prefix. Default: HOME/lake.")
    config: Path | None = Field(
        default=None, description="File with sections such as [data.labels]; unset: evergreen.toml in HOME."
    )
    base_model: str = Field(
        default="minilm-l6", min_length=1, description="minilm-l6, a local folder, or a model hub's name."
    )
    layers: int | None = Field(
        default=None, ge=1, description="Keep this many layers of the base model; unset keeps all."
    )
    hidden: int | None = Field(
        default=None, ge=1, description="Width of a small student; unset keeps the base model's."
    )
    max_epochs: float = Field(default=4.0, gt=0, description="Passes over the data at most, whatever time is left.")
    warm_epochs: float = Field(
        default=2.0, gt=0, description="Passes at most where training goes on from the champion."
    )
    warm_layers: int | None = Field(
        default=None,
        ge=0,
        description="Layers that a retraining learns, from the top; unset: all. Few suit a short budget.",
    )
    replay: float | None = Field(default=None, ge=0, description="Old rows per new one on a warm start; unset: all.")
    learning_rate: float | None = Field(
        default=None, gt=0, le=1, description="Peak learning rate; unset: the trainer's default."
    )
    batch_tokens: int | None = Field(default=None, ge=1, description="Tokens of a batch; unset: the trainer's default.")
    budget_s: float = Field(
        default=900.0, gt=0, le=LONGEST_S, description="Wall-clock budget of a whole training run, in seconds."
    )
    window_s: float = Field(
        default=3600.0, gt=0, le=LONGEST_S, description="Length of a monitoring window, in seconds."
    )
    schedule_monitor: bool = Field(default=True, description="Whether the monitor runs by itself once a window.")
    min_labels: int = Field(default=200, ge=0, description="New labels that a retraining needs.")
    label_lag_s: float = Field(
        default=14 * 86400.0, ge=0, le=LONGEST_S, description="How late labels may come and still train."
    )
    min_recent_rows: int = Field(default=100, ge=0, description="Recent test rows without which the gate says HOLD.")
    min_slice_rows: int = Field(default=100, ge=1, description="Test rows of a slice that the gate needs to judge it.")
    established_margin: float = Field(
        default=0.02, ge=0, le=1, description="Loss of F1 on older rows that the gate allows."
    )
    behaviour_margin: float = Field(
        default=0.03, ge=0, le=1, description="Share of cases a behaviour may fail more often."
    )
    max_int8_f1_loss: float = Field(
        default=0.005, ge=0, le=1, description="Loss of pos/neg F1 that int8 may cost in the gate."
    )
    behaviour_cases: int = Field(default=60, ge=1, le=10_000, description="Cases of each behavioural test in the gate.")
    min_window_rows: int = Field(default=100, ge=1, description="Predictions without which a window is not judged.")
    reference_rows: int = Field(default=1000, ge=1, description="Early live rows that later windows are compared with.")
    false_alarm_rate: float = Field(
        default=0.01, gt=0, lt=1, description="False drift alarms a window, over all columns."
    )
    false_alarms_a_month: float | None = Field(
        default=None, gt=0, description="False drift alarms in 30 days; set, it decides the rate a window."
    )
    embed_rows: int = Field(
        default=500, ge=0, description="Rows a side compared in the model's own embedding; 0: none."
    )
    predict_key: str | None = Field(
        default=None, description="API key required by POST /v1/predict, for commands that call the router."
    )
    secret: SecretStr | None = Field(
        default=None, description="Units are hashed with it, as routers do; unset: made once in HOME/secrets.json."
    )
    alert_url: str | None = Field(
        default=None,
        description="Webhook that gets one message per incident: a stale version, a silent monitor.",
    )
    cooldown_s: float = Field(
        default=6 * 3600.0, ge=0, le=LONGEST_S, description="Shortest time between two retrainings, in seconds."
    )
    max_age_s: float | None = Field(
        default=None, gt=0, le=LONGEST_S, description="A champion that is older is stale; unset: never."
    )
    answers_worth_a_training: float = Field(
        default=0.0, ge=0, description="Wrong answers a week that a retraining must avoid to pay; 0: it always does."
    )
    ramp: str = Field(default="0.01,0.05,0.25,0.5", description="The challenger's share in each step of an A/B test.")
    step_s: float = Field(
        default=1800.0, ge=0, le=LONGEST_S, description="Shortest time that a step of the ramp takes, in seconds."
    )
    shadow_s: float = Field(
        default=1800.0, ge=0, le=LONGEST_S, description="How long a challenger scores unseen before it answers."
    )
    min_exposure: int = Field(default=400, ge=1, description="Outcomes an arm before an experiment may be decided.")
    max_experiment_s: float = Field(
        default=14 * 86400.0, gt=0, le=LONGEST_S, description="Longest an experiment runs, in seconds."
    )
    redact_text: bool = Field(default=False, description="Log neither text nor aspect with predictions.")
    retention_days: float | None = Field(
        default=None,
        gt=0,
        le=LONGEST_S / 86400.0,
        description="The monitor forgets predictions, and what was learnt from, that are older.",
    )
    ship_interval_s: float = Field(
        default=5.0, gt=0, le=LONGEST_S, description="How often the router ships its log to the lake."
    )
    workers: int = Field(default=2, ge=1, le=256, description="Router processes, one a core.")
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
    approval: bool = Field(default=False, description="Whether a person must approve a promotion in Prefect.")
    approval_s: float = Field(
        default=7 * 86400.0, gt=0, le=LONGEST_S, description="How long an approval is waited for, in seconds."
    )
    max_rows_a_unit: int = Field(default=200, ge=1, description="Labels of one unit that may train, at most.")
    max_rows_a_source: int = Field(default=200_000, ge=1, description="Labels of one source that may train, at most.")
    worthwhile_gain: float = Field(
        default=0.0, ge=-1, le=1, description="Stop an experiment once the gain is surely smaller."
    )
    trust: str = Field(
        default="customer,labels", description="Feedback sources that train and measure, separated by commas."
    )
    trust_to_measure: str = Field(
        default="", description="Feedback sources that measure and do not train, separated by commas."
    )
    evidently_url: str | None = Field(default=None, description="Evidently's server; unset: a folder in HOME.")
    metrics: Literal["off", "emf"] = Field(default="off", description="emf: metric lines for CloudWatch in the log.")
    work_pool: str = Field(
        default="", description="Prefect work pool for flow runs; empty: the worker runs them itself."
    )
    work_pool_type: Literal["process", "ecs"] = Field(default="process", description="What the pool starts a run as.")
    work_pool_variables: dict[str, Any] = Field(
        default_factory=dict, description="JSON: defaults of the pool's variables, such as cluster and image of ECS."
    )
    training_queues: str = Field(default="", description="AWS Batch queues for trainings, in order; empty: train here.")
    training_definition: str = Field(default="", description="AWS Batch job definition of a training.")
    machine_wait_s: float = Field(
        default=240.0, ge=0, le=LONGEST_S, description="Wait for a machine of a queue but the last, in seconds."
    )

    @field_validator("alert_url", "evidently_url", "router_url", "predict_key", mode="after")
    @classmethod
    def _empty_is_unset(cls, value: str | None) -> str | None:
        return value or None

    @model_validator(mode="after")
    def _fits_together(self) -> "Settings":
        _ = self.ramp_shares
        for sentence in contradictions(self):
            raise PermanentError(sentence)
        return self

    @classmethod
    def load(cls) -> "Settings":
        """Settings of the environment, then of HOME/settings.env, then defaults.

        Raises:
            PermanentError: a variable is unknown or has a value that cannot be used; the message names it.
        """
        check_variables(os.environ, more=cls.model_fields)
        home = Path(os.environ.get("EVERGREEN_HOME", ".evergreen"))
        check_variables(read_settings_file(home), where=str(home / SETTINGS_FILE), more=cls.model_fields)
        try:
            return cls(_env_file=home / SETTINGS_FILE)  # an argument of pydantic-settings
        except ValidationError as error:
            found = [refused_value(str(each["loc"][0]), each["msg"], each["input"]) for each in error.errors()]
            raise PermanentError("; ".join(found)) from None
        except SettingsError as error:
            raise PermanentError(f"{named_field(error, cls.model_fields)} cannot be used: expected JSON") from None

    @property
    def root(self) -> Path:
        """The home folder, absolute."""
        return self.home.absolute()

    @property
    def lake_uri(self) -> str:
        """Address of the lake."""
        return self.lake or str(self.root / "lake")

    @property
    def fixed_ports(self) -> dict[str, int]:
        """Ports that the user chose, by part."""
        chosen = {part: getattr(self, f"{part}_port") for part in PARTS}
        return {part: port for part, port in chosen.items() if port is not None}

    @property
    def training_queue_names(self) -> tuple[str, ...]:
        """AWS Batch queues in the order in which they are tried; empty where trainings run in the worker itself."""
        return _parts(self.training_queues)

    @property
    def training_sources(self) -> tuple[str, ...]:
        """Feedback sources that may train."""
        return _parts(self.trust)

    @property
    def measuring_sources(self) -> tuple[str, ...]:
        """Feedback sources that may measure: those that may train, and those that only measure."""
        return tuple(dict.fromkeys((*self.training_sources, *_parts(self.trust_to_measure))))

    @property
    def ramp_shares(self) -> tuple[float, ...]:
        """The challenger's share at each step, rising.

        Raises:
            PermanentError: not a rising list of shares between 0 and 1.
        """
        try:
            shares = tuple(float(part) for part in self.ramp.split(","))
        except ValueError:
            shares = ()
        if not shares or list(shares) != sorted(set(shares)) or not 0 < shares[0] <= shares[-1] < 1:
            raise PermanentError(
                f"EVERGREEN_RAMP: expected rising shares between 0 and 1 such as 0.05,0.25 (5 %, then 25 %), "
                f"got {self.ramp!r}"
            )
        return shares


def _parts(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


def read_settings_file(home: Path) -> dict[str, str]:
    """Return what HOME/settings.env sets; nothing where there is no such file.

    Raises:
        PermanentError: it is a folder, or not UTF-8 text.
    """
    file = home / SETTINGS_FILE
    if file.is_dir():
        raise PermanentError(f"{file} is a folder: expected a text file with lines such as EVERGREEN_WORKERS=2")
    try:
        return {name: value for name, value in dotenv_values(file).items() if value is not None}
    except UnicodeDecodeError:
        raise PermanentError(f"{file} is not UTF-8 text: save it as UTF-8") from None


class Home:
    """The home folder: ports and secrets that are chosen once and kept, folders by name. Reading makes nothing."""

    def __init__(self, settings: Settings) -> None:
        self.root = settings.root
        self._host = settings.host
        self._secret = settings.secret
        self._fixed_ports = settings.fixed_ports

    def folder(self, *parts: str) -> Path:
        """Return a folder in the home; it is made if missing."""
        path = self.root.joinpath(*parts)
        path.mkdir(parents=True, exist_ok=True)
        return path

    def ports(self) -> dict[str, int]:
        """Return the port of each local server: EVERGREEN_<PART>_PORT, what `keep_ports` kept, or a free one."""
        return self._chosen_ports(())

    def keep_ports(self) -> None:
        """Keep the ports that are chosen now, so that links stay valid. Makes the home."""
        self.choose_ports_again(())

    def choose_ports_again(self, parts: Collection[str]) -> dict[str, int]:
        """Choose new ports for some parts that the user fixed none for, and keep those of the others."""
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
        """Return admin token, unit secret and feedback key, made on the first call, readable by the owner alone."""
        file = self.folder() / "secrets.json"
        if not file.exists():
            made = {name: secrets.token_urlsafe(24) for name in ("admin_token", "unit_secret", "feedback_key")}
            write_whole(file, json.dumps(made, indent=1), mode=0o600)
        found: dict[str, str] = json.loads(file.read_text())
        return found

    def unit_secret(self) -> str:
        """Return the secret that hashes units: EVERGREEN_SECRET, or the one that was made once."""
        given = self._secret.get_secret_value() if self._secret is not None else ""
        return given or self.secrets()["unit_secret"]

    def feedback_key(self) -> str:
        """Return the key of simulated customers: one of EVERGREEN_FEEDBACK_KEYS, or the one that was made once.

        Of several keys it is a customer's, or the first.

        Raises:
            PermanentError: they are no JSON object.
        """
        given = os.environ.get("EVERGREEN_FEEDBACK_KEYS") or self.settings_file().get("EVERGREEN_FEEDBACK_KEYS")
        if not given:
            return self.secrets()["feedback_key"]
        try:
            sources: dict[str, str] = {key: source["source"] for key, source in json.loads(given).items()}
            return min(sources, key=lambda key: sources[key] != "customer")
        except (ValueError, AttributeError, TypeError, KeyError):
            raise PermanentError('EVERGREEN_FEEDBACK_KEYS is not JSON like {"KEY": {"source": "NAME"}}') from None

    def settings_file(self) -> dict[str, str]:
        """Return what HOME/settings.env sets, for processes that do not read it themselves."""
        return read_settings_file(self.root)

    def url(self, part: str) -> str:
        """Return the address of a local server."""
        return f"http://{self._host}:{self.ports()[part]}"


def port_is_free(host: str, port: int) -> bool:
    """Whether a server could listen there now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True


def free_port(host: str, *, preferred: int, taken: set[int], seed: str = "") -> int:
    """Return the preferred port, or a free one of the 199 above it.

    Equal seeds look for one in the same order; homes use different seeds, as several may start at the same time.
    """
    above = list(range(preferred + 1, preferred + 200))
    for port in [preferred, *random.Random(f"{seed}:{preferred}").sample(above, len(above))]:
        if port not in taken and port_is_free(host, port):
            return port
    raise PermanentError(f"no free port between {preferred} and {preferred + 199} on {host}")


def apply_environment(settings: Settings, *, keep: bool = True) -> dict[str, str]:
    """Set what the platform's own libraries read, where the user has not, before they are imported.

    Telemetry is off everywhere; Prefect's profile and every database stay in the home folder; local addresses use no
    proxy.

    Args:
        settings: of this installation.
        keep: make the home and keep its ports; without it nothing is made, for commands that only read.

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
    if settings.config is not None:  # a flow run works in another folder, where a relative path names another file
        os.environ["EVERGREEN_CONFIG"] = str(settings.config.absolute())
    return dict(os.environ)
