"""`python -m flows.platform.databases NAME`: make a missing PostgreSQL database, and migrate MLflow's tables.

libpq's own variables name the server (PGHOST, PGPORT, PGUSER, PGPASSWORD). Prefect's server migrates its
tables itself when it starts. Running it again changes nothing.
"""

import subprocess
import sys
from typing import Final

from absa.errors import EvergreenError, PermanentError, UnavailableError
from flows.platform.terminal import say

NAMES: Final = ("prefect", "mlflow")
_DUPLICATE: Final = {"42P04", "23505"}  # the database exists, or another process makes it concurrently


def prepare(name: str) -> None:
    """Make the database of a server if it is missing, and migrate MLflow's tables.

    Raises:
        PermanentError: the name is unknown, the database cannot be made, or the migration failed.
        UnavailableError: PostgreSQL is unavailable.
    """
    if name not in NAMES:
        raise PermanentError(f"NAME: expected one of {', '.join(NAMES)}, got {name!r}")
    _create(name)
    if name == "mlflow" and _has_tables(name):  # the server makes the tables of an empty database
        command = [sys.executable, "-m", "mlflow", "db", "upgrade", f"postgresql+psycopg2:///{name}"]
        ended = subprocess.run(command, check=False, capture_output=True, text=True)  # noqa: S603  our own command
        if ended.returncode != 0:
            last = (ended.stderr.strip().splitlines() or ["no output"])[-1]
            raise PermanentError(f"MLflow's tables cannot be migrated: {last}")


def _create(name: str) -> None:
    import psycopg2
    from psycopg2 import sql

    try:
        connection = psycopg2.connect(dbname="postgres", connect_timeout=30)
    except psycopg2.OperationalError as error:
        raise UnavailableError(f"PostgreSQL is unavailable: {str(error).strip()}") from None
    try:
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    except psycopg2.Error as error:
        if error.pgcode not in _DUPLICATE:
            raise PermanentError(f"the database {name} cannot be made: {str(error).strip()}") from None
    finally:
        connection.close()


def _has_tables(name: str) -> bool:
    import psycopg2

    connection = psycopg2.connect(dbname=name, connect_timeout=30)
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT to_regclass('public.alembic_version') IS NOT NULL")
            found = cursor.fetchone()
            return bool(found and found[0])
    finally:
        connection.close()


def main() -> int:
    """Run the command and return its exit code."""
    try:
        prepare(sys.argv[1] if len(sys.argv) > 1 else "")
    except EvergreenError as error:
        say(str(error), err=True)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
