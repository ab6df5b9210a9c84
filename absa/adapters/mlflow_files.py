"""Database and artifacts of an MLflow server, opened by this process while no server runs.

MLflow's server stores artifacts under addresses `mlflow-artifacts:/...`, which its client resolves through the server
alone. Here the client resolves them itself. So a server that starts later finds the runs and packages that were
written without it, and the other way round. SQLite's locks order the writes of several processes.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

_SCHEME: Final = "mlflow-artifacts"
_SQLITE: Final = "sqlite:///"


@dataclass(frozen=True, kw_only=True)
class MlflowFiles:
    """Files of one server.

    Attributes:
        database: SQLAlchemy URI, such as sqlite:////home/mlflow.db.
        artifacts: folder or URI of the artifacts.
    """

    database: str
    artifacts: str

    @classmethod
    def of_home(cls, folder: Path, environment: Mapping[str, str]) -> "MlflowFiles":
        """Return the files of a home's server: in the folder, or at the places that MLflow's own variables name."""
        return cls(
            database=environment.get("MLFLOW_BACKEND_STORE_URI", f"{_SQLITE}{folder}/mlflow.db"),
            artifacts=environment.get("MLFLOW_ARTIFACTS_DESTINATION", f"{folder}/artifacts"),
        )

    @property
    def is_missing(self) -> bool:
        """Return True if the database is a file that does not exist yet; MLflow creates it on first use."""
        return self.database.startswith(_SQLITE) and not Path(self.database.removeprefix(_SQLITE)).exists()

    def open(self) -> None:
        """Let MLflow's client in this process use the files. Idempotent; clients of servers are not affected."""
        from mlflow.store.artifact.artifact_repository_registry import _artifact_repository_registry as repositories
        from mlflow.tracking import get_tracking_uri
        from mlflow.tracking._tracking_service.utils import _get_sqlalchemy_store, _tracking_store_registry
        from mlflow.utils.uri import get_uri_scheme

        root = f"{_SCHEME}:/"

        def store(store_uri: str, artifact_uri: str | None) -> Any:
            return _get_sqlalchemy_store(store_uri, artifact_uri or root)

        _tracking_store_registry.register(get_uri_scheme(self.database), store)
        through_server = repositories.get_registered_artifact_repositories()[_SCHEME]

        def repository(artifact_uri: str, tracking_uri: str | None = None, registry_uri: str | None = None) -> Any:
            if (tracking_uri or get_tracking_uri()) != self.database:
                return through_server(artifact_uri, tracking_uri=tracking_uri, registry_uri=registry_uri)
            place = f"{self.artifacts.rstrip('/')}/{artifact_uri.removeprefix(root).lstrip('/')}"
            return repositories.get_artifact_repository(place, tracking_uri, registry_uri)

        repositories.register(_SCHEME, repository)
