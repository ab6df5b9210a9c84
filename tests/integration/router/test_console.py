"""The console in a real Chromium, on a real router."""

import json
import shutil
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from absa.ledger.routing import single
from absa.ledger.state import State
from absa.records.schema import iso, parse_iso
from absa.records.trainings import begin_training, write_training
from tests.homes import words_of_default_task
from tests.serving_replica import ITEM, RunningReplica, ab, free_port, until

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
MARKUP = "<img src=x onerror=document.title='run'>"
LINK = "<a href='http://127.0.0.1:9/prize'>prize</a>"
HOSTILE = (MARKUP, LINK, "2024", "=1+1", "&lt;b&gt;bold", "a\x1b[2J")  # aspects and segments that customers sent
PANELS = ("live", "traffic", "try", "experiment", "drift", "trainings", "insights", "cost", "ledger")
in_a_browser = pytest.mark.skipif(CHROMIUM is None, reason="needs Debian's chromium")


@pytest.fixture(scope="module")
def router(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningReplica]:
    """A router with an experiment between two versions, and a lake with a history."""
    links = json.dumps({"MLflow": "http://127.0.0.1:5000"})
    made = RunningReplica(tmp_path_factory.mktemp("console"), environment={"EVERGREEN_LINKS": links})
    made.build("1", seed=0)
    made.build("2", seed=4)
    write_history(made)
    try:
        made.start()
        made.append(ab("1", "2", 0.3))
        yield made
    finally:
        made.end()


def write_history(router: RunningReplica) -> None:
    """Two registrations, windows with verdicts and a retraining, looks at an experiment, insights, cost."""
    now = datetime.now(UTC)
    for number, version in enumerate(("1", "2")):
        digest = router.digests[version]
        training = {"budget_s": 60.0, "used_s": 48.0 + number, "rows_seen": 1_200}
        evidence = {"verdict": "PROMOTE", "reasons": [f"Version {version} is better."], "training": training}
        router.ledger.append(
            expected=number, actor="drift", action="register", state=State(),
            reason=f"version {version}: the gate says PROMOTE. {MARKUP}", versions={version: digest}, evidence=evidence,
        )  # fmt: skip
    runs = begin_training(now, allowed_s=600.0, budget_s=600.0, reason="night")
    failed = begin_training(now - timedelta(hours=9), allowed_s=60.0, budget_s=60.0, reason="drift")
    for training_state in (runs, failed.failed(now, f"the lake is away {MARKUP}")):
        write_training(router.lake, training_state)
    for hour, verdict in enumerate(("FRESH", "FRESH", "WATCH", "STALE")):
        start, end = now - timedelta(hours=5 - hour), now - timedelta(hours=4 - hour)
        figures = {"rows": 900, "labelled": 200, "pos_neg_f1": 0.8 - 0.1 * hour, "estimated_pos_neg_f1": 0.78}
        attempts = [{"number": 1, "at": iso(end), "state": "completed"}] if verdict == "STALE" else []
        record = {
            "window_start": iso(start), "window_end": iso(end), "verdict": verdict, "version": "1",
            "by_version": {"1": figures}, "reasons": [{"sentence": f"Window {hour} says so. {MARKUP} {LINK}"}],
            "action": "none", "action_reason": "nothing is due", "attempts": attempts, "report_uri": None,
        }  # fmt: skip
        router.lake.write(f"verdicts/{start:%Y%m%dT%H%M%SZ}_{end:%Y%m%dT%H%M%SZ}.r1.json", json.dumps(record).encode())
    looks = [{"at": iso(now - timedelta(minutes=9 - k)), "arms": {"2": decision(k)}} for k in range(3)]
    router.lake.write("experiments/e/3.json", json.dumps({"mode": "ab", **looks[-1], "looks": looks}).encode())
    row = {"segment": None, "aspect": "mobile app", "rows": 40, "share": 0.4, "low": 0.3, "high": 0.5}
    rows = [row, *({**row, "aspect": aspect, "rows": 30} for aspect in HOSTILE)]
    insights = {"window_start": iso(now), "window_end": iso(now), "rows": rows}
    router.lake.write("insights/current.json", json.dumps(insights).encode())
    cost = {
        "at": iso(now), "setup": {"model": "MiniLM-L6 int8", "host": "c7g.xlarge", "spot": False}, "profile": "daily",
        "usd_per_million_live": 0.0536, "usd_per_million_batch": 0.08, "usd_per_training": 0.121, "usd_per_month": 495,
    }  # fmt: skip
    router.lake.write("cost/current.json", json.dumps(cost).encode())


def decision(look: int) -> dict[str, Any]:
    return {
        "decision": "CONTINUE", "sentence": "Not known yet.", "estimate": 0.02 * look, "low": -0.1, "high": 0.2,
        "exposure_champion": 10, "exposure_challenger": 10,
    }  # fmt: skip


def open_page(browser: Any, **options: Any) -> Any:
    """Return a new page that waits longer than the default 30 s, because other processes may hold every core."""
    page = browser.new_page(**options)
    page.set_default_timeout(120_000)
    return page


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        made = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield made
        made.close()


@pytest.fixture
def said(browser: Any) -> Iterator[tuple[Any, list[str]]]:
    """A page of its own, and what its console said."""
    page = open_page(browser, viewport={"width": 1280, "height": 900})
    words: list[str] = []
    page.on("console", lambda message: words.append(message.text) if message.type in {"error", "warning"} else None)
    page.on("pageerror", lambda error: words.append(str(error)))
    yield page, words
    page.close()


def shows(page: Any, condition: str) -> None:
    """Wait until an expression is true in the page. Playwright's own wait needs eval, which the page forbids."""
    until(lambda: page.evaluate(f"Boolean({condition})"), what=condition)


class Customers:
    """Somebody who asks all the time."""

    def __init__(self, url: str) -> None:
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._ask, args=(url,))

    def _ask(self, url: str) -> None:
        with httpx.Client(base_url=url) as client:
            while not self._ended.wait(0.02):
                client.post("/v1/predict", json={**ITEM, "unit_id": "acct-1"})

    def __enter__(self) -> "Customers":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()


@in_a_browser
def test_panels_show_state_of_lake_and_workers(router: RunningReplica, said: tuple[Any, list[str]]) -> None:
    page, words = said
    with Customers(router.url):
        page.goto(router.url)
        shows(page, "document.querySelector('#live-table tbody tr')")
        shows(page, "document.querySelector('#ledger-table tbody tr')")
        shows(page, "parseFloat(document.querySelector('#live-figures dd').textContent) > 0")
    text = {name: page.locator(f"#{name}").inner_text() for name in PANELS}
    assert "version 1" in page.locator("#summary").inner_text()
    assert "challenger" in text["traffic"] and "30" in text["traffic"]
    assert "Running: e." in text["experiment"] and "Not known yet." in text["experiment"]
    assert "STALE" in text["drift"] and "Window 3 says so." in text["drift"]
    assert "48" in text["trainings"] and "PROMOTE" in text["trainings"]
    assert "requested by night" in text["trainings"] and "the lake is away" in text["trainings"]
    assert "mobile app" in page.locator("#insights-chart").text_content()
    assert "0.0536" in text["cost"] and "MiniLM-L6 int8" in text["cost"]
    assert "the gate says PROMOTE." in text["ledger"]
    assert page.locator("#links a").all_inner_texts() == ["MLflow", "API"]
    for chart in ("live-chart", "experiment-chart", "drift-chart", "insights-chart"):
        assert page.locator(f"#{chart} .main-svg").count() > 0
    assert words == []
    for panel in ("drift", "ledger"):
        assert MARKUP in text[panel]
    assert page.locator("img").count() == 0
    assert page.title() != "run"


@in_a_browser
def test_console_chart_labels_show_markup_as_text(router: RunningReplica, said: tuple[Any, list[str]]) -> None:
    page, words = said
    page.goto(router.url)
    shows(page, "document.querySelectorAll('#insights-chart .ytick').length")
    labels = page.locator("#insights-chart .ytick").all_text_contents()
    assert [label.replace("\xa0", " ") for label in labels] == [
        "mobile app", MARKUP, f"{LINK[:39]}…", "2024", "=1+1", "&lt;b&gt;bold", "a [2J",
    ]  # fmt: skip
    for chart in ("live-chart", "experiment-chart", "drift-chart", "insights-chart"):
        assert page.locator(f"#{chart} :is(a, b, img)").count() == 0
    assert words == []


@in_a_browser
def test_text_is_answered_by_both_versions(router: RunningReplica, said: tuple[Any, list[str]]) -> None:
    page, words = said
    page.goto(router.url)
    page.get_by_role("textbox", name="Text", exact=True).fill(ITEM["text"])
    page.get_by_label("Aspect, a phrase of the text").fill(ITEM["aspect"])
    page.get_by_role("button").click()
    shows(page, "document.querySelectorAll('#try-answer tbody tr').length == 2")
    first, second = page.locator("#try-answer tbody tr").all_inner_texts()
    assert first.split("\t")[:3] == ["champion", "1", "positive"]
    assert second.split("\t")[:2] == ["challenger", "2"]
    page.get_by_label("Aspect, a phrase of the text").fill("telephone")
    page.get_by_role("button").click()
    shows(page, "document.querySelector('#try-answer .bad')?.textContent.includes('aspect')")
    assert [word for word in words if "422" not in word] == []  # Chromium reports every refused request itself


@in_a_browser
def test_console_of_plain_text_names_no_aspect(router: RunningReplica, said: tuple[Any, list[str]]) -> None:
    page, words = said
    until(lambda: router.client.get("/v1/console").json()["chronicle"].get("ledger"), what="the chronicle")
    answered = router.client.get("/v1/console").json()
    task = {**answered["task"], "labels": ["billing", "bug"], "phrase": None, "metric_name": "F1"}
    opinion = {"arm": "champion", "version": "1", "label": 1, "name": "bug", "scores": [0.2, 0.8], "truncated": True}
    asked: list[Any] = []

    def compare(route: Any) -> None:
        asked.append(route.request.post_data_json)
        route.fulfill(json={"versions": [opinion]})

    page.route("**/v1/console", lambda route: route.fulfill(json={**answered, "task": task}))
    page.route("**/v1/compare", compare)
    page.goto(router.url)
    shows(page, "document.querySelector('#ledger-table tbody tr')")
    page.get_by_role("textbox", name="Text", exact=True).fill("the bill is wrong")
    page.get_by_role("button").click()
    shows(page, "document.querySelectorAll('#try-answer tbody tr').length == 1")
    assert asked == [{"text": "the bill is wrong"}]
    assert page.locator("#try-answer th").all_inner_texts()[2:] == ["Label", "billing", "bug"]
    assert not page.locator("#insights").is_visible()
    assert words_of_default_task(page.locator("body").inner_text()) == []
    assert words == []


@in_a_browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_console_works_without_eyes_or_mouse(router: RunningReplica, browser: Any, scheme: str) -> None:
    from axe_playwright_python.sync_playwright import Axe

    page = open_page(browser, viewport={"width": 390, "height": 844}, color_scheme=scheme)
    page.goto(router.url)
    shows(page, "document.querySelector('#ledger-table tbody tr')")
    found = Axe().run(page)
    assert found.violations_count == 0, found.generate_report()
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")  # nothing sticks out of a phone
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the panels"
    page.close()


@in_a_browser
def test_empty_console_names_missing_parts(tmp_path: Path, said: tuple[Any, list[str]]) -> None:
    page, _ = said
    empty = RunningReplica(tmp_path)
    try:
        empty.start()
        page.goto(empty.url)
        shows(page, "document.querySelector('#ledger .empty')")
        assert page.locator("#summary").inner_text() == "No champion yet"
        assert page.locator(".empty").count() >= len(PANELS) - 2
        assert page.locator("#cost").is_hidden()  # no `evergreen cost` was run
        empty.stop()
        shows(page, "!document.querySelector('#notice').hidden")
        assert "is unavailable" in page.locator("#notice").inner_text()
    finally:
        empty.end()


@in_a_browser
def test_figures_change_without_charts(router: RunningReplica, browser: Any) -> None:
    page = open_page(browser)
    page.route("**/plotly-basic.min.js", lambda route: route.abort())
    asked = "parseFloat(document.querySelector('#live-figures dd')?.textContent)"
    with Customers(router.url):
        page.goto(router.url)
        shows(page, f"{asked} > 0")
    shows(page, f"{asked} === 0")
    shows(page, "document.querySelector('#ledger-table tbody tr')")
    assert "version 1" in page.locator("#summary").inner_text()
    assert "STALE" in page.locator("#drift-sentence").inner_text()
    assert "charts could not be loaded" in page.locator("#notice").inner_text()
    page.close()


@in_a_browser
def test_undrawable_answer_is_noticed_once(router: RunningReplica, browser: Any) -> None:
    page = open_page(browser)
    page.route("**/v1/console", lambda route: route.fulfill(json={"chronicle": {}, "links": {}, "live": None}))
    page.goto(router.url)
    shows(page, "document.querySelector('#notice').textContent.includes('could not be drawn')")
    page.unroute("**/v1/console")
    shows(page, "document.querySelector('#notice').hidden")
    shows(page, "document.querySelector('#ledger-table tbody tr')")
    page.close()


@in_a_browser
def test_tables_and_charts_show_utc_everywhere(router: RunningReplica, browser: Any) -> None:
    page = open_page(browser, timezone_id="Asia/Tokyo", locale="en-GB")
    page.goto(router.url)
    shows(page, "document.querySelector('#ledger-table tbody tr')")
    shows(page, "document.querySelector('#live-chart').data?.[0].x.length > 1")
    oldest = parse_iso(router.client.get("/v1/console").json()["chronicle"]["ledger"][-1]["at"])
    when = page.locator("#ledger-table tbody tr:last-child td.time").inner_text()
    assert when == f"{oldest:%d/%m/%Y, %H:%M:%S} UTC"
    drawn_until = page.evaluate("document.querySelector('#live-chart').layout.xaxis.range[1]")
    assert abs(datetime.fromisoformat(drawn_until).replace(tzinfo=UTC) - datetime.now(UTC)) < timedelta(hours=1)
    for chart in ("live-chart", "experiment-chart", "drift-chart"):
        assert page.locator(f"#{chart} .xtitle").text_content() == "UTC"
    page.close()


def test_a_comparison_is_neither_logged_nor_counted(router: RunningReplica) -> None:
    def asked() -> int:
        arms = router.client.get("/v1/console").json()["live"]["arms"]
        return sum(arm["ok"] + arm["error"] + arm["shed"] + arm["timeout"] for arm in arms)

    text = "a text that is compared alone, app"
    before = until(lambda: asked() + 1) - 1
    answers = router.client.post("/v1/compare", json={"text": text, "aspect": "app"}).json()["versions"]
    assert [(each["arm"], each["version"]) for each in answers] == [("champion", "1"), ("challenger", "2")]
    assert [each["truncated"] for each in answers] == [False, False]
    logged = router.client.post("/v1/predict", json={"text": "the app, logged", "aspect": "app"}).json()["request_id"]
    rows = until(lambda: [row for row in router.rows() if row["request_id"] == logged] and router.rows())
    assert text not in {row["text"] for row in rows}
    until(lambda: asked() == before + 1, what="one counted prediction")


def test_console_on_own_port_needs_key(tmp_path: Path) -> None:
    admin = free_port()
    environment = {"EVERGREEN_ADMIN_PORT": str(admin), "EVERGREEN_PREDICT_KEY": "key"}
    router = RunningReplica(tmp_path, environment=environment)
    try:
        router.build("1", seed=0)
        router.start()
        admin_url = f"http://127.0.0.1:{admin}"
        for path in ("/", "/console/console.js", "/v1/console"):
            assert router.client.get(path).status_code == 404
            assert httpx.get(admin_url + path).status_code == 200
        assert router.client.post("/v1/compare", json=ITEM).status_code == 404
        router.append(single("1", salt="s"), ready=False)
        until(lambda: httpx.post(f"{admin_url}/v1/compare", json=ITEM, headers={"X-API-Key": "key"}).status_code == 200)
        assert httpx.post(f"{admin_url}/v1/compare", json=ITEM).status_code == 401
        assert httpx.get(f"{admin_url}/console/../settings.py").status_code == 404
        assert httpx.get(f"{admin_url}/console/nothing.js").status_code == 404
    finally:
        router.end()
