"""The databases of Prefect and MLflow on a real PostgreSQL: made once, and brought up to date from an older MLflow."""

from collections.abc import Iterator

import pytest

from absa.errors import PermanentError, UnavailableError
from flows.platform.databases import prepare
from tests.aws.postgres import postgres

pytest.importorskip("psycopg2", reason="psycopg2-binary is not installed")


@pytest.fixture(scope="module")
def server() -> Iterator[dict[str, str]]:
    with postgres() as variables:
        yield variables


@pytest.fixture
def to_server(server: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in server.items():
        monkeypatch.setenv(name, value)


@pytest.mark.usefixtures("to_server")
def test_database_creation_is_idempotent() -> None:
    import psycopg2

    prepare("prefect")
    with psycopg2.connect(dbname="prefect") as connection, connection.cursor() as cursor:
        cursor.execute("CREATE TABLE kept (id int)")
    prepare("prefect")
    with psycopg2.connect(dbname="prefect") as connection, connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM kept")
        assert cursor.fetchone() == (0,)


@pytest.mark.usefixtures("to_server")
def test_tables_of_older_mlflow_are_migrated() -> None:
    import sqlalchemy
    from alembic import command
    from mlflow.store.db.utils import _get_alembic_config, _get_latest_schema_revision, _initialize_tables

    prepare("mlflow")
    engine = sqlalchemy.create_engine("postgresql+psycopg2:///mlflow")
    _initialize_tables(engine)
    newest = _get_latest_schema_revision()
    with engine.begin() as connection:
        configuration = _get_alembic_config("postgresql+psycopg2:///mlflow")
        configuration.attributes["connection"] = connection
        command.downgrade(configuration, "-1")
    with engine.connect() as connection:
        assert connection.execute(sqlalchemy.text("SELECT version_num FROM alembic_version")).scalar() != newest
    prepare("mlflow")
    with engine.connect() as connection:
        assert connection.execute(sqlalchemy.text("SELECT version_num FROM alembic_version")).scalar() == newest
    engine.dispose()


@pytest.mark.usefixtures("to_server")
def test_wrong_name_and_dead_server_are_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(PermanentError, match="prefect, mlflow"):
        prepare("other")
    monkeypatch.setenv("PGPORT", "1")
    with pytest.raises(UnavailableError, match="PostgreSQL is unavailable"):
        prepare("prefect")
