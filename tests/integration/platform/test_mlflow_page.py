"""MLflow's pages in a real Chromium, its server started as the product starts it."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import mlflow
import pytest

from absa.adapters.mlflow_client import log_package
from flows.platform.processes import bring_up, take_down
from flows.platform.settings import Settings, apply_environment
from tests.serving_replica import until
from tests.toy_package import build_toy_package

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs Debian's chromium")


@pytest.fixture(scope="module")
def mlflow_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of a running MLflow server with an empty home."""
    settings = Settings(home=tmp_path_factory.mktemp("home"))
    with pytest.MonkeyPatch.context() as patch:
        for name in ("EVERGREEN_MLFLOW_PORT", "MLFLOW_TRACKING_URI", "MLFLOW_DISABLE_TELEMETRY", "DO_NOT_TRACK"):
            patch.delenv(name, raising=False)
        (part,) = bring_up(settings, apply_environment(settings), ["mlflow"])
        try:
            yield str(part.page)
        finally:
            take_down(settings)


@pytest.fixture(scope="module")
def page(mlflow_url: str) -> Iterator[Any]:
    """A new reader's page."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page()
        page.set_default_timeout(120_000)  # the default of 30 s is too short when other processes hold every core
        yield page
        browser.close()


@contextmanager
def tracked_at(url: str) -> Iterator[None]:
    """Track and register at a server."""
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(url)
    try:
        yield
    finally:
        mlflow.set_tracking_uri(before)


def body(page: Any, address: str, shown: str) -> str:
    """Return the text of a page once it shows a given one."""
    page.goto(address)
    until(lambda: shown in page.inner_text("body"), what=shown)
    return str(page.inner_text("body"))


def test_mlflow_start_page_claims_no_usage_data(mlflow_url: str, page: Any) -> None:
    text = body(page, f"{mlflow_url}/#/experiments", "Experiments").casefold()
    assert "usage data" not in text
    assert "telemetry" not in text


def test_mlflow_opens_on_registered_model(mlflow_url: str, page: Any, tmp_path: Path) -> None:
    """An empty registry opens the list; one registered model opens itself, with the note about its button Promote."""
    page.goto("about:blank")  # the address of another test differs in its hash alone, and is no new page
    page.goto(mlflow_url)
    until(lambda: page.evaluate("location.hash") == "#/models", what="the list of models")
    with tracked_at(mlflow_url), mlflow.start_run(experiment_id="0"):  # another test may have chosen one
        log_package(build_toy_package(tmp_path), registered_model_name="tickets")
    page.goto("about:blank")
    text = body(page, mlflow_url, "changes nothing that answers")
    assert page.evaluate("location.hash") == "#/models/tickets"
    assert "evergreen promote VERSION" in text


def test_mlflow_settings_page_shows_telemetry_off(mlflow_url: str, page: Any) -> None:
    lines = body(page, f"{mlflow_url}/#/settings/general", "Enable telemetry").splitlines()
    assert "Off" in lines
    assert "On" not in lines


def test_mlflow_server_tells_pages_to_send_nothing(mlflow_url: str) -> None:
    told = httpx.get(f"{mlflow_url}/ajax-api/3.0/mlflow/ui-telemetry").json()
    assert told["disable_ui_telemetry"] is True
