"""A PostgreSQL of Debian's packages for a test session: on loopback, with a password and over TLS alone, as RDS."""

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.serving_replica import free_port

PASSWORD = "only-on-loopback"


def binaries() -> Path:
    """Return the folder of initdb, pg_dump and their like; the test is skipped where PostgreSQL is not installed."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb")) or [Path(shutil.which("initdb") or "")]
    if not found[-1].is_file():
        pytest.skip("PostgreSQL is not installed (Debian's package postgresql)")
    return found[-1].parent


@contextmanager
def postgres() -> Iterator[dict[str, str]]:
    """libpq's variables of a running server; the test is skipped where PostgreSQL is not installed."""
    programs = binaries()
    root = Path(tempfile.mkdtemp(prefix="evergreen-pg-"))
    who = "postgres" if os.geteuid() == 0 else None  # the server refuses to run as root
    if who:
        shutil.chown(root, who)
    secret, data, port = root / "password", root / "data", free_port()
    secret.write_text(PASSWORD)
    secret.chmod(0o644)
    subprocess.run(
        [programs / "initdb", "-D", data, "-U", "evergreen", "-A", "scram-sha-256", "--pwfile", secret, "-N"],
        user=who, cwd="/", check=True, capture_output=True,
    )  # fmt: skip
    (data / "pg_hba.conf").write_text("hostssl all all 127.0.0.1/32 scram-sha-256\n")
    _certify(data, who)
    with (root / "log").open("wb") as log:
        server = subprocess.Popen(
            [programs / "postgres", "-D", data, "-h", "127.0.0.1", "-p", str(port), "-k", root, "-F", "-l"],
            user=who, cwd="/", stdout=log, stderr=log,
        )  # fmt: skip
    try:
        for _ in range(200):
            ready = [programs / "pg_isready", "-q", "-h", "127.0.0.1", "-p", str(port)]
            if subprocess.run(ready, check=False, timeout=10).returncode == 0:
                break
            try:
                server.wait(0.1)
            except subprocess.TimeoutExpired:
                continue
            raise AssertionError((root / "log").read_text())
        yield {"PGHOST": "127.0.0.1", "PGPORT": str(port), "PGUSER": "evergreen", "PGPASSWORD": PASSWORD}
    finally:
        server.send_signal(signal.SIGINT)  # ends what is still connected; SIGTERM would wait for it
        server.wait(60)
        shutil.rmtree(root, ignore_errors=True)


def _certify(data: Path, who: str | None) -> None:
    """A key and a certificate that the server signs for itself."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.now(UTC)
    certificate = x509.CertificateBuilder(name, name, key.public_key(), 1, now, now + timedelta(days=2)).sign(
        key, hashes.SHA256()
    )
    pem, none = serialization.Encoding.PEM, serialization.NoEncryption()
    (data / "server.crt").write_bytes(certificate.public_bytes(pem))
    (data / "server.key").write_bytes(key.private_bytes(pem, serialization.PrivateFormat.PKCS8, none))
    (data / "server.key").chmod(0o600)
    for each in ("server.crt", "server.key"):
        if who:
            shutil.chown(data / each, who)
