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
        ledger: records of what is active.
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
            PermanentError: the ledger is empty.
        """
        head = self.ledger.head()
        if head is None:
            raise PermanentError("there is no champion yet: run `evergreen train` first")
        return head

    def requested_runs(self) -> list[RequestedRun]:
        """Return the trainings that this process has to run; none if Prefect runs them."""
        found = self.deployments.requested if isinstance(self.deployments, EmbeddedDeployments) else []
        return [run for run in found if run.name == TRAINING]

    def check_task(self, task: TaskSpec | None = None, file: Path | None = None, *, data: bool = True) -> None:
        """Check that a task equals the task of the home, or only appends labels to it.

        Args:
            task: task to check; None: the task of the settings.
            file: file that describes the task, for the message; None: evergreen.toml.
            data: also compare with the newest snapshot, which imports polars.

        Raises:
            PermanentError: the task differs.
        """
        wanted = task or self.settings.task
        given = file or self.settings.config or "the task (no evergreen.toml in the working folder or the home)"
        for where, found in self._tasks(data=data).items():
            if found is not None and (misfit := wanted.misfit(found)):
                raise PermanentError(f"{given} does not fit the home {self.home.root} ({where}): {misfit}")

    def home_task(self) -> TaskSpec | None:
        """Return the newest task of the home; None if the home has neither data nor a ledger."""
        return next((task for task in reversed(self._tasks().values()) if task is not None), None)

    def _tasks(self, *, data: bool = True) -> dict[str, TaskSpec | None]:
        ledger = {"its ledger's first record": self.ledger.task()}
        if not data:
            return ledger
        from absa.data.snapshot import latest_manifest

        newest = latest_manifest(self.lake)
        return {**ledger, "its newest snapshot": newest.task if newest else None}

    def copy_packages(self, *, active: bool = False) -> list[str]:
        """Copy packages into the lake that an earlier release stored only in MLflow.

        Args:
            active: copy only the packages of active versions.

        Returns:
            A sentence for each package that was copied, or could not be copied. A later call tries the latter again.
        """
        head = self.ledger.head()
        if head is None:
            return []
        chosen = {
            version: digest for version, digest in head.versions.items() if not active or version in head.state.versions
        }
        return self.packages.copy_missing(chosen)

    def project(self, record: LedgerRecord | None = None) -> list[str]:
        """Set MLflow's aliases from the ledger. If MLflow is unavailable, a later call sets them.

        Args:
            record: the ledger's head; None: read it.

        Returns:
            A sentence for each alias that was changed by hand; one sentence if MLflow is unavailable.
        """
        head = record or self.ledger.head()
        if head is None:
            return []
        try:
            return self.registry.project(head)
        except (UnavailableError, NotFoundError) as error:
            return [f"MLflow's aliases lag behind the ledger: {error}"]


def build_services(
    settings: Settings | None = None, *, keep: bool = True, embedded: bool = False, **overrides: Any
) -> Services:
    """Bind every port: the only place that chooses adapters.

    Args:
        settings: of this installation; None: read from the environment.
        keep: make the home and write its ports; False for commands that only read.
        embedded: work without a server of MLflow or Prefect that does not run; for commands.
        overrides: fields of `Services` that replace the default adapters. If `environment` is one of them, the
            environment of this process does not change.

    Raises:
        PermanentError: a setting is invalid.
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
    """Return services for an existing home, and print its path to standard error. Makes nothing.

    A lake outside of the home (EVERGREEN_LAKE) is enough: routers and operators of a cluster need no home folder.

    Args:
        required: True if the command needs a home or such a lake.
        announced: True to print the path.

    Raises:
        NotFoundError: `required` is True, and there is neither a home nor such a lake.
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
    """Return the error message for a home that does not exist."""
    return (
        f"there is no home at {settings.root}: `evergreen up` and `evergreen train FILE` make one, "
        "EVERGREEN_HOME names another folder"
    )
