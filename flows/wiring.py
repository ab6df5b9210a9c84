"""Where the world is bound: settings are read once and every adapter is made here."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from absa.adapters.lake import Lake, open_lake
from absa.adapters.ledger import Ledger, LedgerRecord
from absa.adapters.registry import MODEL, MlflowRegistry
from absa.adapters.registry_reader import RegistryReader
from absa.errors import NotFoundError, PermanentError, UnavailableError
from absa.inference.package import ModelPackage, load_package
from flows.settings import Home, Settings, apply_environment


@dataclass(frozen=True)
class Services:
    """What flows and commands work with."""

    settings: Settings
    environment: Mapping[str, str]

    @cached_property
    def home(self) -> Home:
        """The home folder."""
        return Home(self.settings)

    @cached_property
    def lake(self) -> Lake:
        """The lake."""
        return open_lake(self.settings.lake_uri)

    @cached_property
    def ledger(self) -> Ledger:
        """What is in force."""
        return Ledger(self.lake)

    @cached_property
    def registry(self) -> MlflowRegistry:
        """MLflow, to write. Its import takes seconds, so it is made on first use."""
        return MlflowRegistry(self.environment["MLFLOW_TRACKING_URI"], MODEL)

    @cached_property
    def reader(self) -> RegistryReader:
        """MLflow over REST, to read."""
        return RegistryReader(self.environment["MLFLOW_TRACKING_URI"], MODEL)

    @property
    def router_url(self) -> str:
        """Address of the router."""
        return self.environment.get("EVERGREEN_ROUTER_URL") or self.home.url("router")

    def head(self) -> LedgerRecord:
        """The ledger's head.

        Raises:
            PermanentError: nothing was ever promoted here.
        """
        head = self.ledger.head()
        if head is None:
            raise PermanentError("there is no champion yet: run `evergreen train` first")
        return head

    def package(self, version: str, digest: str) -> ModelPackage:
        """A version's package on local disk, fetched once and checked against the ledger's digest.

        Raises:
            NotFoundError, UnavailableError: the registry does not have it, or does not answer.
            IntegrityError: its files are not those that were registered.
        """
        folder: Path = self.home.folder("models") / digest
        if not (folder / "model.onnx").is_file():
            self.reader.fetch(version, folder)
        return load_package(folder, expected_digest=digest)

    def project(self, record: LedgerRecord | None = None) -> list[str]:
        """Set MLflow's aliases as the ledger says; with MLflow away the next one who looks will do it."""
        head = record or self.ledger.head()
        if head is None:
            return []
        try:
            return self.registry.project(head)
        except (UnavailableError, NotFoundError) as error:
            return [f"aliases lag behind the ledger: {error}"]


def wire(settings: Settings | None = None) -> Services:
    """Read the environment and bind everything."""
    chosen = settings or Settings.load()
    return Services(settings=chosen, environment=apply_environment(chosen))
