"""Where the world is bound: settings are read once and every adapter is made here."""

import contextlib
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from absa.adapters.lake import open_lake
from absa.adapters.registry import MODEL, MlflowRegistry
from absa.adapters.registry_reader import REQUIRED_FILES, RegistryReader
from absa.errors import IntegrityError, NotFoundError, PermanentError, UnavailableError
from absa.inference.package import ModelPackage, load_package
from absa.ledger.record import LedgerRecord
from absa.ledger.store import Ledger
from absa.proxies import require_route
from absa.records.lake import Lake
from flows.platform.settings import Home, Settings, apply_environment


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
        """MLflow, to write. Its import takes seconds, so it is made on first use.

        Raises:
            UnavailableError: its address needs a proxy that cannot be used.
        """
        require_route(self.environment["MLFLOW_TRACKING_URI"], self.environment)
        return MlflowRegistry(self.environment["MLFLOW_TRACKING_URI"], MODEL)

    @cached_property
    def reader(self) -> RegistryReader:
        """MLflow over REST, to read."""
        return RegistryReader(self.environment["MLFLOW_TRACKING_URI"], MODEL)

    @property
    def router_url(self) -> str:
        """Address of the router."""
        return self.settings.router_url or self.home.url("router")

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

        It is fetched beside its place and comes there whole: of two who fetch it, the first one's stays.

        Raises:
            NotFoundError, UnavailableError: the registry does not have it, or does not answer.
            IntegrityError: its files are not those that were registered.
        """
        models = self.home.folder("models")
        folder = models / digest
        if (kept := _kept(folder, digest)) is not None:
            return kept
        with tempfile.TemporaryDirectory(dir=models, prefix=".fetch-") as staging:
            staged = Path(staging, "package")
            self.reader.fetch(version, staged)
            load_package(staged, expected_digest=digest)
            if _kept(folder, digest) is None:
                with contextlib.suppress(FileNotFoundError):
                    folder.rename(Path(staging, "damaged"))
                with contextlib.suppress(OSError):  # somebody else's is there by now
                    staged.rename(folder)
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


def _kept(folder: Path, digest: str) -> ModelPackage | None:
    """The package in a folder; None where it is missing or not whole."""
    if not all((folder / name).is_file() for name in REQUIRED_FILES):
        return None
    try:
        return load_package(folder, expected_digest=digest)
    except IntegrityError:
        return None


def wire(settings: Settings | None = None) -> Services:
    """Read the environment, make the home, and bind everything."""
    chosen = settings or Settings.load()
    return Services(settings=chosen, environment=apply_environment(chosen))
