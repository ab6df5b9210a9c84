"""The demo's loop on PostgreSQL and S3, with the environment alone changed, from tables of older Prefect and MLflow."""

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from absa.adapters.lake_stores import S3Lake
from absa.ledger.store import Ledger
from monitoring.verdicts import VerdictStore
from tests.aws.account import OPERATOR, account
from tests.aws.postgres import PASSWORD, postgres
from tests.aws.template import REGION
from tests.homes import end_family, outer_environment, tell

pytestmark = [
    pytest.mark.skipif(os.environ.get("EVERGREEN_TEST_CLOUD") != "1", reason="minutes: `make test-cloud`"),
    pytest.mark.timeout(600),
]


@dataclass
class Told:
    """A demo that ran, and where what it kept lies."""

    home: Path
    story: str
    s3: Any
    environment: dict[str, str]

    def rows(self, database: str, query: str) -> list[Any]:
        """Rows of PostgreSQL."""
        import psycopg2

        words = {"host": "PGHOST", "port": "PGPORT", "user": "PGUSER", "password": "PGPASSWORD"}
        given = {word: self.environment[name] for word, name in words.items()}
        connection = psycopg2.connect(dbname=database, **given)
        try:
            with connection.cursor() as cursor:
                cursor.execute(query)
                return list(cursor.fetchall())
        finally:
            connection.close()


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Told]:
    home = tmp_path_factory.mktemp("cloud") / "home"
    with postgres() as database, account({}) as owned:
        for bucket in ("lake", "artifacts"):
            where = {"LocationConstraint": REGION}
            owned.client("s3").create_bucket(Bucket=bucket, CreateBucketConfiguration=where)
        at = f"{database['PGUSER']}:{PASSWORD}@{database['PGHOST']}:{database['PGPORT']}"
        environment = {
            **outer_environment(),
            **database,
            "AWS_ENDPOINT_URL": owned.url,
            "AWS_ACCESS_KEY_ID": OPERATOR,
            "AWS_SECRET_ACCESS_KEY": "secret",
            "AWS_DEFAULT_REGION": REGION,
            "EVERGREEN_HOME": str(home),
            "EVERGREEN_LAKE": "s3://lake/lake",
            "MLFLOW_BACKEND_STORE_URI": "postgresql+psycopg2:///mlflow",
            "MLFLOW_ARTIFACTS_DESTINATION": "s3://artifacts/mlflow",
            "PREFECT_SERVER_DATABASE_CONNECTION_URL": f"postgresql+asyncpg://{at}/prefect",
        }
        _older_tables(environment)
        try:
            story = tell(environment, timeout_s=400)
            yield Told(home=home, story=story, s3=owned.client("s3"), environment=environment)
        finally:
            end_family(home)


def _older_tables(environment: dict[str, str]) -> None:
    """Databases as the versions before left them; MLflow's are brought up to date, Prefect does it at its start."""

    def run(*command: str) -> None:
        ended = subprocess.run([sys.executable, *command], env=environment, capture_output=True, text=True, check=False)
        assert ended.returncode == 0, ended.stderr

    for name in ("prefect", "mlflow"):
        run("-m", "flows.platform.databases", name)
    run("-m", "prefect", "server", "database", "upgrade", "-y")
    run("-m", "prefect", "server", "database", "downgrade", "-y", "-r", "-1")
    run("-c", _OLDER_MLFLOW)
    run("-m", "flows.platform.databases", "mlflow")


_OLDER_MLFLOW = """
import sqlalchemy
from alembic import command
from mlflow.store.db.utils import _get_alembic_config, _initialize_tables
engine = sqlalchemy.create_engine("postgresql+psycopg2:///mlflow")
_initialize_tables(engine)
with engine.begin() as connection:
    configuration = _get_alembic_config("postgresql+psycopg2:///mlflow")
    configuration.attributes["connection"] = connection
    command.downgrade(configuration, "-1")
"""


def test_story_ends_with_version_2_on_s3(told: Told) -> None:
    assert all(f"[{number}/7]" in told.story for number in range(1, 8))
    ledger = Ledger(S3Lake("s3://lake/lake", told.s3))
    assert ledger.verify() == []
    assert ledger.follow()[-1].state.champion == "2"
    verdicts = VerdictStore(S3Lake("s3://lake/lake", told.s3)).history()
    assert verdicts[-1].verdict == "STALE"


def test_versions_are_in_postgresql_and_files_on_s3(told: Told) -> None:
    aliases = dict(told.rows("mlflow", "SELECT alias, version FROM registered_model_aliases"))
    assert aliases == {"champion": 2}
    assert {name for (name,) in told.rows("prefect", "SELECT name FROM deployment")} >= {"monitor", "promote"}
    assert told.rows("prefect", "SELECT count(*) FROM flow_run")[0][0] > 0
    lake = S3Lake("s3://lake/lake", told.s3)
    assert lake.list("predictions/")
    assert any(key.endswith("model.onnx") for key in S3Lake("s3://artifacts/mlflow", told.s3).list(""))


def test_machine_kept_no_database_and_no_lake(told: Told) -> None:
    assert list(told.home.rglob("*.db")) == []
    assert not (told.home / "lake").exists()
    assert not any((told.home / "mlflow").rglob("*"))
