"""Services: the ports that use cases work with, bound in one place."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from absa.adapters.kept_packages import KeptPackages
from absa.adapters.lake_stores import open_lake
from absa.adapters.mlflow_client import MlflowRegistry, MlflowRuns
from absa.adapters.mlflow_files import MlflowFiles
from absa.adapters.package_store import PackageStore
from absa.errors import NotFoundError, PermanentError, UnavailableError
from absa.ledger.record import LedgerRecord
from absa.ledger.store import Ledger
from absa.records.lake import Lake
from absa.records.schema import utc_now
from absa.task import TaskSpec
from flows.platform.embedded import EmbeddedDeployments, RequestedRun
from flows.platform.ports import Deployments, Packages, Registry, Reporter, Runs, Steps, run_step
from flows.platform.prefect_runs import TRAINING, PrefectDeployments
from flows.platform.processes import is_served
from flows.platform.settings import Home, Settings, apply_environment
from flows.platform.terminal import TerminalReporter, say


@dataclass(frozen=True, kw_only=True, slots=True)
class Services:
    """Ports of the use cases. `build_services` makes one.

    Attributes:
        settings: of this installation.
        environment: for child processes.
        home: home folder.
        lake: bytes under keys.
        ledger: what is active.
        registry: registered versions, in MLflow.
        runs: tracking runs, in MLflow.
        packages: model packages by digest.
        deployments: runs of Prefect deployments.
        steps: runs the steps of a use case.
        reporter: receives pages, tables and progress.
        clock: returns the time, UTC.
    """

    settings: Settings
    environment: Mapping[str, str] = field(repr=False)  # may hold secrets
    home: Home
    lake: Lake
    ledger: Ledger
    registry: Registry
    runs: Runs
    packages: Packages
    deployments: Deployments
    steps: Steps
    reporter: Reporter
    clock: Callable[[], datetime]

    @property
    def router_url(self) -> str:
        """Address of the router."""
        return self.settings.router_url or self.home.url("router")

    def head(self) -> LedgerRecord:
        """Return the ledger's head.

        Raises:
            PermanentError: nothing was ever promoted here.
        """
        head = self.ledger.head()
        if head is None:
            raise PermanentError("there is no champion yet: run `evergreen train` first")
        return head

    def requested_runs(self) -> list[RequestedRun]:
        """Return the trainings that a use case requested of this process; none where Prefect runs them."""
        found = self.deployments.requested if isinstance(self.deployments, EmbeddedDeployments) else []
        return [run for run in found if run.name == TRAINING]

    def check_task(self, task: TaskSpec | None = None, file: Path | None = None, *, data: bool = True) -> None:
        """Check that a task is the one that the home was made for, or appends labels to it.

        Args:
            task: None: that of evergreen.toml.
            file: which names the task; None: evergreen.toml.
            data: check the newest snapshot too, which imports polars.

        Raises:
            PermanentError: it is another one.
        """
        wanted = task or self.settings.task
        given = file or self.settings.config or "no evergreen.toml in the working folder or the home"
        for where, found in self._tasks(data=data).items():
            if found is not None and (misfit := wanted.misfit(found)):
                raise PermanentError(f"{given} does not fit the home {self.home.root} ({where}): {misfit}")

    def home_task(self) -> TaskSpec | None:
        """Return the newest task of the home; None where it has neither data nor a ledger."""
        return next((task for task in reversed(self._tasks().values()) if task is not None), None)

    def _tasks(self, *, data: bool = True) -> dict[str, TaskSpec | None]:
        ledger = {"its ledger's first record": self.ledger.task()}
        if not data:
            return ledger
        from absa.data.snapshot import latest_manifest

        newest = latest_manifest(self.lake)
        return {**ledger, "its newest snapshot": newest.task if newest else None}

    def copy_packages(self, *, active: bool = False) -> list[str]:
        """Copy into the lake the packages that an earlier release left in MLflow alone.

        Args:
            active: only those of active versions.

        Returns:
            Sentences about packages that were copied or could not be; a later call copies those.
        """
        head = self.ledger.head()
        if head is None:
            return []
        chosen = {
            version: digest for version, digest in head.versions.items() if not active or version in head.state.versions
        }
        return self.packages.copy_missing(chosen)

    def project(self, record: LedgerRecord | None = None) -> list[str]:
        """Set MLflow's aliases from the ledger; where MLflow is unavailable a later call does it.

        Args:
            record: the ledger's head; None: it is read.

        Returns:
            Sentences about aliases that were moved by hand, or that lag.
        """
        head = record or self.ledger.head()
        if head is None:
            return []
        try:
            return self.registry.project(head)
        except (UnavailableError, NotFoundError) as error:
            return [f"aliases lag behind the ledger: {error}"]


def build_services(
    settings: Settings | None = None, *, keep: bool = True, embedded: bool = False, **overrides: Any
) -> Services:
    """Bind every port: the only place that chooses adapters.

    Args:
        settings: of this installation; None: read from the environment.
        keep: make the home and keep its ports; without it nothing is made, for commands that only read.
        embedded: do without MLflow's and Prefect's server where the home runs none, for commands.
        overrides: fields of `Services` that replace what would be bound. With `environment` the environment of this
            process is left as it is.

    Raises:
        PermanentError: a setting cannot be used.
    """
    chosen = settings or Settings.load()
    environment = overrides.get("environment")
    if environment is None:
        environment = apply_environment(chosen, keep=keep)
    home = overrides.get("home") or Home(chosen)
    lake = overrides.get("lake") or open_lake(chosen.lake_uri)
    clock = overrides.get("clock") or utc_now
    mlflow: str | MlflowFiles = environment.get("MLFLOW_TRACKING_URI") or home.url("mlflow")
    if embedded and not is_served(chosen, environment, "mlflow"):
        mlflow = MlflowFiles.of_home(home.root / "mlflow", environment)
    alone = embedded and not is_served(chosen, environment, "prefect")
    registry = overrides.get("registry") or MlflowRegistry(mlflow, chosen.task.name, environment=environment)
    ports: dict[str, Any] = {
        "settings": chosen,
        "environment": environment,
        "home": home,
        "lake": lake,
        "ledger": Ledger(lake, clock=clock, task=chosen.task),
        "registry": registry,
        "runs": MlflowRuns(mlflow, chosen.task.name),
        "packages": KeptPackages(PackageStore(lake), home.root / "models", registry=registry),
        "deployments": EmbeddedDeployments(lake) if alone else PrefectDeployments(),
        "steps": run_step,
        "reporter": TerminalReporter(),
        "clock": clock,
    }
    return Services(**{**ports, **overrides})


def open_home(*, required: bool = True, announced: bool = True) -> Services:
    """Return services that read an existing home, and print the home to stderr. Makes nothing.

    A lake elsewhere (EVERGREEN_LAKE) is enough: routers and operators of a cluster need no home folder.

    Args:
        required: whether the command is of no use without a home.
        announced: whether the home is printed.

    Raises:
        NotFoundError: there is neither a home nor a lake of its own, and one is required.
    """
    settings = Settings.load()
    if required and not is_there(settings):
        raise NotFoundError(absence(settings))
    if announced and settings.root.is_dir():
        say(f"home: {settings.root}", err=True)
    return build_services(settings, keep=False, embedded=True)


def is_there(settings: Settings) -> bool:
    """Return True if the home, or a lake outside of it, exists."""
    lake = settings.lake
    return settings.root.is_dir() or (lake is not None and (lake.startswith("s3://") or Path(lake).is_dir()))


def absence(settings: Settings) -> str:
    """Return the sentence for a home that does not exist."""
    return (
        f"there is no home at {settings.root}: `evergreen up` and `evergreen train FILE` make one, "
        "EVERGREEN_HOME names another folder"
    )
