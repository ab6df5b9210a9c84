"""Take the pictures of the product's pages beside a running demo: `make pictures`. Needs chromium on the path.

The demo runs in a home of its own, which is deleted afterwards. The console is taken while the A/B test runs, the other
pages when the demo has ended.
"""

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Final

import httpx
from playwright.sync_api import Page, sync_playwright

from flows.platform.settings import Home, Settings

INTO: Final = Path(__file__).parent / "pictures"
_SHOWN_S: Final = 12.0  # an experiment gets some outcomes, and a page draws its charts
_DEMO_S: Final = 1_800.0


def take_pictures(into: Path) -> list[Path]:
    """Run the demo and write one picture per page into a folder.

    Raises:
        RuntimeError: chromium is missing, or the demo ended before its last chapter.
    """
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        raise RuntimeError("chromium is not on the path; install it, on Debian with: apt install chromium")
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        home = Home(Settings(home=Path(folder) / "home"))
        log = Path(folder) / "demo.log"
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        environment = {name: value for name, value in os.environ.items() if not name.startswith("EVERGREEN_")}
        with (
            log.open("w", encoding="utf-8") as told,
            subprocess.Popen(
                [sys.executable, "-m", "flows.cli", "demo"],
                env=environment | {"EVERGREEN_HOME": str(home.root)}, stdout=told, stderr=subprocess.STDOUT,
            ) as demo,
        ):  # fmt: skip
            try:
                _wait(demo, log, lambda: _mode(home) == "ab", "the A/B test")
                console = _picture(browser.new_page(viewport={"width": 1280, "height": 1400}), home.url("router") + "/",
                                   into / "console.png", wait_s=_SHOWN_S)  # fmt: skip
                _wait(demo, log, lambda: "Ctrl-C stops it" in log.read_text(encoding="utf-8"), "the last chapter")
                found = re.search(r"http://[\d.:]+/projects/[0-9a-f-]+", log.read_text(encoding="utf-8"))
                if found is None:
                    raise RuntimeError(f"the demo printed no report of Evidently:\n{_end(log)}")
                wide = {"width": 1280, "height": 860}
                return [console] + [
                    _picture(browser.new_page(viewport=size), address, into / f"{name}.png")
                    for name, address, size in (
                        ("evidently", found[0], {"width": 1300, "height": 1660}),
                        ("prefect", f"{home.url('prefect')}/deployments", wide),
                        ("mlflow", f"{home.url('mlflow')}/#/models/absa", wide),
                        ("api", f"{home.url('router')}/docs", wide),
                    )
                ]
            finally:
                demo.send_signal(signal.SIGINT)


def _mode(home: Home) -> str | None:
    try:
        active: dict[str, Any] = httpx.get(f"{home.url('router')}/v1/traffic", timeout=5.0).raise_for_status().json()
    except httpx.HTTPError:  # it does not run yet, or has no plan
        return None
    return str(active["plan"]["mode"])


def _wait(demo: "subprocess.Popen[bytes]", log: Path, reached: Any, what: str) -> None:
    ends = time.monotonic() + _DEMO_S
    while not reached():
        if demo.poll() is not None or time.monotonic() > ends:
            raise RuntimeError(f"the demo did not come to {what}:\n{_end(log)}")
        time.sleep(0.5)


def _end(log: Path) -> str:
    return "\n".join(log.read_text(encoding="utf-8").splitlines()[-20:])


def _picture(page: Page, address: str, path: Path, *, wait_s: float = 5.0) -> Path:
    page.set_default_timeout(120_000)
    page.goto(address)
    page.wait_for_timeout(1_000 * wait_s)
    page.screenshot(path=path)
    page.close()
    return path


if __name__ == "__main__":
    for each in take_pictures(INTO):
        print(each)  # noqa: T201  the result of the command
