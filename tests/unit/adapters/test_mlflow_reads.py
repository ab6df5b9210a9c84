"""MlflowRegistry with a server that never responds, and with storage that this process cannot use."""

import json
import socket
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from absa.adapters.kept_packages import KeptPackages
from absa.adapters.lake_stores import FolderLake
from absa.adapters.mlflow_client import MlflowRegistry
from absa.adapters.package_store import PackageStore
from absa.errors import UnavailableError
from tests.serving_replica import free_port

STORED = "s3://models/1"


class _Versions(BaseHTTPRequestHandler):
    """Reply to every request that the package is in S3."""

    def do_GET(self) -> None:
        body = json.dumps({"artifact_uri": STORED}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Print nothing."""


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch) -> Iterator[MlflowRegistry]:
    """Registry whose packages are in an S3 where nothing listens."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Versions)
    closed = f"http://127.0.0.1:{free_port()}"
    wanted = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "hidden", "AWS_MAX_ATTEMPTS": "1"}
    for name, value in {**wanted, "MLFLOW_S3_ENDPOINT_URL": closed}.items():
        monkeypatch.setenv(name, value)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield MlflowRegistry(f"http://127.0.0.1:{server.server_port}", environment={}, read_limit_s=60)
    server.shutdown()
    server.server_close()


def test_silent_registry_is_unavailable_within_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")  # what still waits ends with the server
    with socket.create_server(("127.0.0.1", 0)) as silent:
        registry = MlflowRegistry(f"http://127.0.0.1:{silent.getsockname()[1]}", environment={}, read_limit_s=0.5)
        registry._client()  # its import takes seconds
        for read in registry.aliases, registry.versions, registry.anchor, lambda: registry.tags("1"):
            began = time.monotonic()
            with pytest.raises(UnavailableError, match=r"did not answer within 0\.5 s"):
                read()
            assert time.monotonic() - began < 5


def test_users_timeout_limits_read(monkeypatch: pytest.MonkeyPatch) -> None:
    users = {"MLFLOW_HTTP_REQUEST_TIMEOUT": "1", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0"}
    for name, value in users.items():
        monkeypatch.setenv(name, value)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        registry = MlflowRegistry(f"http://127.0.0.1:{silent.getsockname()[1]}", environment=users, read_limit_s=0.01)
        with pytest.raises(UnavailableError, match="timeout"):
            registry.versions()


def test_storage_error_is_reported_as_a_sentence(registry: MlflowRegistry, tmp_path: Path) -> None:
    packages = KeptPackages(PackageStore(FolderLake(tmp_path / "lake")), tmp_path / "models", registry=registry)
    (sentence,) = packages.copy_missing({"1": "0" * 64})
    assert sentence.startswith("the package of version 1 is not in the lake: the package of version 1 cannot be")
    assert "EndpointConnectionError; give this process access to MLflow's artifacts" in sentence


def test_folder_error_is_no_missing_package(registry: MlflowRegistry, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(UnavailableError, match=r"cannot be downloaded .*: Not a directory"):
        registry.download("1", file / "below")
