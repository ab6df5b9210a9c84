"""Every client calls local addresses directly, whatever proxies the user's environment names."""

import contextlib
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from absa.client import Client
from absa.errors import UnavailableError
from absa.proxies import keep_local_direct
from flows.platform.processes import Part, Supervisor, answers, parts
from flows.platform.services import build_services
from flows.platform.settings import Settings, apply_environment
from tests.fake_proxy import Recorder, recording

NAMES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")
SOCKS = "socks5://user:hidden@127.0.0.1:1"


@pytest.fixture(autouse=True)
def no_proxies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*NAMES, *(name.lower() for name in NAMES), "EVERGREEN_UNUSABLE_PROXIES", "EVERGREEN_LAKE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("EVERGREEN_HOME", str(tmp_path / "home"))


@pytest.fixture
def server() -> Iterator[Recorder]:
    with recording() as recorder:
        yield recorder


@pytest.fixture
def proxy(monkeypatch: pytest.MonkeyPatch) -> Iterator[Recorder]:
    """A proxy for everything but a host of the user's own."""
    with recording() as recorder:
        for name in ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "ALL_PROXY"):
            monkeypatch.setenv(name, recorder.url)
        monkeypatch.setenv("NO_PROXY", "internal.example")
        monkeypatch.setenv("no_proxy", "build.example")
        yield recorder


def by_urllib(url: str) -> None:
    from urllib.request import build_opener  # `urlopen` keeps the proxies of its first call

    build_opener().open(url, timeout=5).close()


def by_httpx(url: str) -> None:
    import httpx

    httpx.get(url)


def by_requests(url: str) -> None:
    import requests

    requests.get(url, timeout=5)


def by_boto3(url: str) -> None:
    import boto3

    keys = {"aws_access_key_id": "k", "aws_secret_access_key": "s", "region_name": "eu-west-1"}
    boto3.client("s3", endpoint_url=url, **keys).head_object(Bucket="b", Key="k")


def by_prefect(url: str) -> None:
    from prefect.client.orchestration import SyncPrefectClient

    with SyncPrefectClient(api=f"{url}/api") as client:
        client.hello()


def by_mlflow(url: str) -> None:
    from mlflow import MlflowClient

    MlflowClient(tracking_uri=url).search_experiments()


def by_evidently(url: str) -> None:
    from evidently.ui.workspace import RemoteWorkspace

    RemoteWorkspace(url).list_projects()


def by_traces(url: str) -> None:
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

    OTLPSpanExporter(endpoint=f"{url}/v1/traces", timeout=5).export([])


def by_client(url: str) -> None:
    Client(url).is_ready()


CLIENTS = (
    by_urllib, by_httpx, by_requests, by_boto3, by_prefect, by_mlflow, by_evidently, by_traces, by_client,
    answers,
)  # fmt: skip


def called(client: Callable[[str], object], url: str) -> None:
    """Let a client call the address; an empty object is no answer that each of them understands."""
    with contextlib.suppress(Exception):
        client(url)


@pytest.mark.parametrize("client", CLIENTS)
def test_local_server_is_called_without_the_proxy(
    client: Callable[[str], object], server: Recorder, proxy: Recorder
) -> None:
    keep_local_direct(os.environ)
    called(client, server.url)
    assert proxy.seen == []
    assert server.seen != []


@pytest.mark.parametrize("client", CLIENTS)
def test_local_server_is_called_despite_a_socks_proxy(
    client: Callable[[str], object], server: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ALL_PROXY", SOCKS)
    monkeypatch.setenv("all_proxy", SOCKS)
    keep_local_direct(os.environ)
    called(client, server.url)
    assert server.seen != []


def test_other_hosts_still_use_the_proxy(proxy: Recorder) -> None:
    keep_local_direct(os.environ)
    for client in (by_urllib, by_httpx, by_requests):
        called(client, "http://outside.example/page")
    assert proxy.seen == ["GET http://outside.example/page"] * 3


def test_exemptions_of_the_user_stay_in_both_names(proxy: Recorder) -> None:
    keep_local_direct(os.environ, "10.1.2.3")
    expected = "internal.example,build.example,127.0.0.1,localhost,::1,10.1.2.3"
    assert (os.environ["NO_PROXY"], os.environ["no_proxy"]) == (expected, expected)
    keep_local_direct(os.environ, "10.1.2.3")
    assert os.environ["NO_PROXY"] == expected


@pytest.mark.parametrize("part", ["mlflow", "prefect", "router", "evidently", "deployments"])
def test_child_processes_call_local_servers_directly(part: str, server: Recorder, proxy: Recorder) -> None:
    settings = Settings.load()
    environment = parts(settings, apply_environment(settings))[part].environment
    program = "import sys, urllib.request, httpx, requests; [get(sys.argv[1]) for get in "
    program += "(urllib.request.urlopen, httpx.get, requests.get)]"
    child = [sys.executable, "-c", program, server.url]
    ended = subprocess.run(child, env=dict(environment), capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 0, ended.stderr
    assert (len(server.seen), proxy.seen) == (3, [])


def test_start_waits_for_part_not_proxy(proxy: Recorder, server: Recorder) -> None:
    settings = Settings.load()
    environment = apply_environment(settings)
    sleeps = (sys.executable, "-c", "import time; time.sleep(60)")
    part = Part(name="mlflow", command=sleeps, environment=environment, ready_url=f"{server.url}/health")
    supervisor = Supervisor(settings)
    try:
        supervisor.start(part)
        supervisor.wait([part], timeout_s=10)
    finally:
        supervisor.stop("mlflow")
    assert (server.seen, proxy.seen) == (["GET /health"], [])


@pytest.mark.parametrize("proxy_url", [SOCKS, "socks://127.0.0.1:1", "socks4://127.0.0.1:1", "http://a:b:c"])
def test_remote_server_behind_an_unusable_proxy_is_named(proxy_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALL_PROXY", proxy_url)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://mlflow.example")
    settings = Settings.load()
    services = build_services(settings)
    calls: tuple[Callable[[], object], ...] = (
        lambda: Client("http://router.example"),
        services.registry.aliases,
    )
    for call in calls:
        with pytest.raises(UnavailableError, match=r"\.example cannot be reached through ALL_PROXY=") as refused:
            call()
        assert "hidden" not in str(refused.value)
        assert "NO_PROXY" in str(refused.value)
    monkeypatch.setenv("NO_PROXY", "router.example")
    Client("http://router.example")


def test_command_needs_no_usable_proxy_for_local_servers(tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    environment = os.environ | {"ALL_PROXY": SOCKS, "EVERGREEN_HOME": str(tmp_path / "home")}
    environment |= {"MLFLOW_TRACKING_URI": "http://127.0.0.1:9", "PREFECT_API_URL": "http://127.0.0.1:9/api"}
    for words, code in (("status",), 0), (("predict", "the app is fine", "app"), 1), (("monitor",), 3):
        command = [sys.executable, "-m", "flows.cli", *words]
        ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=100, check=False)
        assert (ended.returncode, "Traceback" in ended.stderr, "socks" in ended.stderr) == (code, False, False)
