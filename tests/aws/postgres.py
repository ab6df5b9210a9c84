"""A PostgreSQL of Debian's packages for one test session, on loopback, with a password."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.serving_replica import free_port

PASSWORD = "only-on-loopback"


@contextmanager
def postgres() -> Iterator[dict[str, str]]:
    """libpq's variables of a running server; the test is skipped where PostgreSQL is not installed."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb")) or [Path(shutil.which("initdb") or "")]
    if not found[-1].is_file():
        pytest.skip("PostgreSQL is not installed (Debian's package postgresql)")
    binaries = found[-1].parent
    root = Path(tempfile.mkdtemp(prefix="evergreen-pg-"))
    who = "postgres" if os.geteuid() == 0 else None  # the server refuses to run as root
    if who:
        shutil.chown(root, who)
    secret, data, port = root / "password", root / "data", free_port()
    secret.write_text(PASSWORD)
    secret.chmod(0o644)
    subprocess.run(
        [binaries / "initdb", "-D", data, "-U", "evergreen", "-A", "scram-sha-256", "--pwfile", secret, "-N"],
        user=who, cwd="/", check=True, capture_output=True,
    )  # fmt: skip
    with (root / "log").open("wb") as log:
        server = subprocess.Popen(
            [binaries / "postgres", "-D", data, "-h", "127.0.0.1", "-p", str(port), "-k", root, "-F"],
            user=who, cwd="/", stdout=log, stderr=log,
        )  # fmt: skip
    try:
        for _ in range(200):
            ready = [binaries / "pg_isready", "-q", "-h", "127.0.0.1", "-p", str(port)]
            if subprocess.run(ready, check=False, timeout=10).returncode == 0:
                break
            try:
                server.wait(0.1)
            except subprocess.TimeoutExpired:
                continue
            raise AssertionError((root / "log").read_text())
        yield {"PGHOST": "127.0.0.1", "PGPORT": str(port), "PGUSER": "evergreen", "PGPASSWORD": PASSWORD}
    finally:
        server.terminate()
        server.wait(20)
        shutil.rmtree(root, ignore_errors=True)
