"""Take the pictures of the product's pages beside a running demo: `make pictures`. Needs chromium on the path.

The demo runs in its own home, which is deleted afterwards. The picture of the console is taken while the A/B test runs
and the page shows at least two looks at it. The other pictures are taken when the demo has ended. The caption in
README.md describes the committed console.png: check the caption when the picture changes.
"""

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import httpx
from playwright.sync_api import Page, sync_playwright
from playwright.sync_api import TimeoutError as PageTimeoutError

from flows.platform.settings import Home, Settings

INTO: Final = Path(__file__).parent / "pictures"
_DEMO_S: Final = 1_800.0
_DRAWN_S: Final = 5.0  # for a page whose content does not change any more
_LOOKS: Final = 2  # a line in the chart needs two points
_REFRESHED_MS: Final = 15_000.0  # the console reads the router every two seconds
_SHOWS_LOOK: Final = """at => {
  const [chart] = document.getElementById('experiment-chart').data ?? [];
  return chart && chart.x.at(-1) >= at && document.getElementById('traffic-body').textContent.startsWith('Mode ab');
}"""


def take_pictures(into: Path) -> list[Path]:
    """Run the demo and write one picture per page into a folder.

    Raises:
        RuntimeError: chromium is missing, the demo ended before its last chapter, or the A/B test ended before the
            console showed it.
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
                _wait(demo, log, lambda: _mode(_console(home)) in {"shadow", "ab"}, "the experiment")
                page = _opened(browser.new_page(viewport={"width": 1280, "height": 1400}), home.url("router") + "/")
                look_at = _wait(demo, log, lambda: _look_at(_console(home)), f"{_LOOKS} looks at the A/B test")
                try:
                    page.wait_for_function(_SHOWS_LOOK, arg=look_at, timeout=_REFRESHED_MS)
                except PageTimeoutError as error:
                    raise RuntimeError("the A/B test ended before the console showed it: try again") from error
                console = _taken(page, into / "console.png")
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


def _console(home: Home) -> dict[str, Any] | None:
    """Return the content of the console; None before the router answers."""
    try:
        shown: dict[str, Any] = httpx.get(f"{home.url('router')}/v1/console", timeout=5.0).raise_for_status().json()
    except httpx.HTTPError:
        return None
    return shown


def _mode(shown: dict[str, Any] | None) -> str | None:
    return None if shown is None or shown["plan"] is None else str(shown["plan"]["mode"])


def _look_at(shown: dict[str, Any] | None) -> str | None:
    """Return the time of the newest look at the running A/B test; None if it has fewer than `_LOOKS`."""
    if shown is None or _mode(shown) != "ab":
        return None
    experiment = shown["chronicle"].get("experiment") or {"looks": []}
    times = [str(look["at"]) for look in experiment["looks"] if look["mode"] == "ab" and look["arms"]]
    return times[-1] if len(times) >= _LOOKS else None


def _wait(demo: "subprocess.Popen[bytes]", log: Path, reached: Callable[[], Any], what: str) -> Any:
    """Return the first true value of `reached`.

    Raises:
        RuntimeError: the demo ended, or took over `_DEMO_S` seconds.
    """
    ends = time.monotonic() + _DEMO_S
    while not (found := reached()):
        if demo.poll() is not None or time.monotonic() > ends:
            raise RuntimeError(f"the demo did not come to {what}:\n{_end(log)}")
        time.sleep(0.5)
    return found


def _end(log: Path) -> str:
    return "\n".join(log.read_text(encoding="utf-8").splitlines()[-20:])


def _opened(page: Page, address: str) -> Page:
    page.set_default_timeout(120_000)
    page.goto(address)
    return page


def _taken(page: Page, path: Path) -> Path:
    page.screenshot(path=path)
    page.close()
    return path


def _picture(page: Page, address: str, path: Path) -> Path:
    _opened(page, address).wait_for_timeout(1_000 * _DRAWN_S)
    return _taken(page, path)


if __name__ == "__main__":
    for each in take_pictures(INTO):
        print(each)  # noqa: T201  the result of the command
