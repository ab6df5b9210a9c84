"""Files of an MLflow server that does not run: where they are, and readers that make none."""

from pathlib import Path

import pytest

from absa.adapters.mlflow_client import MlflowRegistry
from absa.adapters.mlflow_files import MlflowFiles
from absa.errors import UnavailableError


def test_files_are_where_the_server_keeps_them(tmp_path: Path) -> None:
    files = MlflowFiles.of_home(tmp_path, {})
    assert (files.database, files.artifacts) == (f"sqlite:///{tmp_path}/mlflow.db", f"{tmp_path}/artifacts")
    named = {"MLFLOW_BACKEND_STORE_URI": "postgresql://db/mlflow", "MLFLOW_ARTIFACTS_DESTINATION": "s3://bucket/a"}
    files = MlflowFiles.of_home(tmp_path, named)
    assert (files.database, files.artifacts) == ("postgresql://db/mlflow", "s3://bucket/a")
    assert not files.is_missing


def test_reader_of_missing_database_makes_none(tmp_path: Path) -> None:
    registry = MlflowRegistry(MlflowFiles.of_home(tmp_path / "mlflow", {}), environment={})
    with pytest.raises(UnavailableError, match="has no version yet"):
        registry.aliases()
    assert list(tmp_path.iterdir()) == []
