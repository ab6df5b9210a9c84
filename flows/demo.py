"""The demo: the whole loop in seven chapters, on real servers, with windows and ramp shortened by printed settings."""

import csv
import json
import os
import shutil
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final

from absa.data.bundled import ASSIGNMENT_CSV
from absa.data.simulate import PoolTraffic, SimulatedRequest
from absa.errors import EvergreenError, InvalidDataError, PermanentError, UnavailableError
from absa.labels import Label, sentiment
from absa.schema import Window, utc_now
from flows.customers import TrafficReport, send_traffic
from flows.doctor import examine
from flows.processes import bring_up, parts, take_down
from flows.router_client import RouterClient
from flows.settings import SETTINGS_FILE, Settings, write_whole
from flows.story import Story
from flows.stream import BundledStream, OwnStream, Stream
from flows.training import LATEST_EVENT
from flows.wiring import Services, wire

SCALES: Final = ("full", "tiny")
_STATE: Final = "demo.json"
_MONITOR_LIMIT_S: Final = 120.0


@dataclass(frozen=True, kw_only=True)
class DemoOptions:
    """What the user asked for."""

    scale: str = "full"
    data: Path | None = None
    drift: str | None = None
    keep: bool = True
    reset: bool = False

    @property
    def drifts(self) -> bool:
        """Whether the traffic will drift."""
        return self.drift != "none"


@dataclass(frozen=True, kw_only=True)
class Pace:
    """How the demo is shortened: settings that are printed, and the traffic of each chapter."""

    settings: dict[str, str]
    first_budget_s: float
    settle_s: float  # the last feedback of a window and the router's next shipment
    rate: float
    waiting_rate: float  # while the monitor looks
    healthy_windows: int
    healthy_is_reported: bool
    all_at_once: bool  # every part starts with the first ones, though the training then has less of the processor
    delay_scale: float  # multiplies the customers' delays before they say what was right
    healthy_s: float
    drifted_s: float
    experiment_s: float


PACES: Final = {
    "full": Pace(
        settings={
            "EVERGREEN_BUDGET_S": "90",
            "EVERGREEN_REPLAY": "0.25",
            "EVERGREEN_BEHAVIOUR_CASES": "30",
            "EVERGREEN_BEHAVIOUR_MARGIN": "1",
            "EVERGREEN_MAX_INT8_F1_LOSS": "0.03",
            "EVERGREEN_MAX_EPOCHS": "4",
            "EVERGREEN_WARM_LAYERS": "3",
            "EVERGREEN_EMBED_ROWS": "200",
            "EVERGREEN_RAMP": "0.25,0.5",
            "EVERGREEN_STEP_S": "4",
            "EVERGREEN_SHADOW_S": "4",
            "EVERGREEN_MIN_EXPOSURE": "150",
            "EVERGREEN_MAX_EXPERIMENT_S": "120",
            "EVERGREEN_COOLDOWN_S": "0",
            "EVERGREEN_SHIP_INTERVAL_S": "1",
            "EVERGREEN_REFERENCE_ROWS": "300",
            "EVERGREEN_SCHEDULE_MONITOR": "false",
        },
        first_budget_s=60.0,
        settle_s=2.5,
        rate=90.0,
        waiting_rate=40.0,
        healthy_windows=2,
        healthy_is_reported=True,
        all_at_once=False,
        delay_scale=1.0,
        healthy_s=3.5,
        drifted_s=18.0,
        experiment_s=130.0,
    ),
    "tiny": Pace(
        settings={
            "EVERGREEN_LAYERS": "1",
            "EVERGREEN_HIDDEN": "128",
            "EVERGREEN_LEARNING_RATE": "3e-3",
            "EVERGREEN_BATCH_TOKENS": "512",
            "EVERGREEN_BUDGET_S": "60",
            "EVERGREEN_REPLAY": "1",
            "EVERGREEN_MAX_EPOCHS": "3",
            "EVERGREEN_WARM_EPOCHS": "2",
            "EVERGREEN_EMBED_ROWS": "0",
            "EVERGREEN_RAMP": "0.5",
            "EVERGREEN_STEP_S": "2",
            "EVERGREEN_SHADOW_S": "1",
            "EVERGREEN_MIN_EXPOSURE": "100",
            "EVERGREEN_MIN_RECENT_ROWS": "60",
            "EVERGREEN_MIN_SLICE_ROWS": "1000",
            "EVERGREEN_ESTABLISHED_MARGIN": "0.05",
            "EVERGREEN_BEHAVIOUR_CASES": "10",
            "EVERGREEN_BEHAVIOUR_MARGIN": "1",
            "EVERGREEN_MAX_INT8_F1_LOSS": "0.1",
            "EVERGREEN_MAX_EXPERIMENT_S": "60",
            "EVERGREEN_COOLDOWN_S": "0",
            "EVERGREEN_SHIP_INTERVAL_S": "0.5",
            "EVERGREEN_REFERENCE_ROWS": "300",
            "EVERGREEN_SCHEDULE_MONITOR": "false",
        },
        first_budget_s=60.0,
        settle_s=1.2,
        rate=200.0,
        waiting_rate=100.0,
        healthy_windows=1,
        healthy_is_reported=False,
        all_at_once=True,
        delay_scale=0.2,
        healthy_s=2.0,
        drifted_s=3.0,
        experiment_s=90.0,
    ),
}


@dataclass
class _Progress:
    """What a demo remembers between two starts."""

    done: list[int] = field(default_factory=list)
    first: str | None = None  # the version that chapter 2 made
    second: str | None = None
    first_answer_s: float | None = None
    verdicts: list[str] = field(default_factory=list)

    @classmethod
    def load(cls, file: Path) -> "_Progress":
        return cls(**json.loads(file.read_text())) if file.exists() else cls()

    def save(self, file: Path) -> None:
        write_whole(file, json.dumps(vars(self), indent=1))


class _ChapterError(Exception):
    """A chapter failed: its number and log."""

    def __init__(self, number: int, log: Path) -> None:
        super().__init__(number, log)
        self.number, self.log = number, log


class Demo:
    """One run of the story."""

    def __init__(self, options: DemoOptions) -> None:
        self.options = options
        self.pace = PACES[options.scale]
        self.story = Story()
        self.services: Services = _shortened(self.pace, options)
        self.state_file = self.services.home.folder() / _STATE
        self.state = _Progress.load(self.state_file)
        self.router = RouterClient(self.services.router_url, predict_key=self.services.settings.predict_key)
        drift_file = None if options.drift in {None, "none"} else Path(str(options.drift))
        self.stream: Stream = OwnStream(options.data, drift_file) if options.data else BundledStream()
        self._customers: PoolTraffic | None = None
        self._judging: _Background | None = None

    # the story

    def run(self) -> None:
        """Tell every chapter that is not done yet."""
        self._open()
        chapters: list[tuple[int, str, Callable[[], None]]] = [
            (1, "Start MLflow, Prefect and the router on this machine.", self._start),
            (2, "Ingest customer feedback and train version 1 inside a budget.", self._train_first),
            (3, "Version 1 passed the gate and is champion: it answers.", self._first_answers),
            (4, "Customers write, the router answers, the monitor looks at every window.", self._healthy),
            (5, self._drift_sentence(), self._drifted),
            (6, "A retraining learns from the new labels inside its budget.", self._retrain),
            (7, "The challenger proves itself on live traffic and is promoted.", self._experiment),
        ]
        for number, sentence, tell in chapters:
            if number > 1 and number in self.state.done:
                continue
            with self._logged(number), self.story.chapter(number, sentence):
                tell()
            self.state.done = sorted({*self.state.done, number})
            self.state.save(self.state_file)
        self._end()

    def _open(self) -> None:
        told = [number for number in self.state.done if number > 1]
        if len(told) == 6:
            self.story.line("This demo ran to its end before. The servers come back; RESET=1 tells it from the start.")
        elif told:
            self.story.line(f"Going on after chapter {max(told)}. RESET=1 tells it from the start.")
        else:
            self.story.line("Evergreen keeps a deployed text classifier fresh. This is its whole loop, on real parts.")
        said = self.pace.settings.items()
        shortened = ", ".join(f"{name.removeprefix('EVERGREEN_').lower()}={value}" for name, value in said)
        self.story.line(f"Shortened for the demo by settings, the clock is real: {shortened}")
        problems = [finding for finding in examine(self.services.settings) if not finding.ok]
        if problems:
            raise PermanentError("; ".join(problem.sentence for problem in problems))

    @contextmanager
    def _logged(self, number: int) -> Iterator[None]:
        log = self.services.home.folder("logs") / "demo.log"
        try:
            yield
        except (EvergreenError, OSError, subprocess.SubprocessError, ValueError, KeyError) as error:
            with log.open("a") as file:
                file.write(f"{utc_now().isoformat()} chapter {number}\n{traceback.format_exc()}\n")
            raise _ChapterError(number, log) from error

    # chapters

    def _start(self) -> None:
        services = self.services
        names = ["mlflow", "prefect", "router"]  # the others start after the first answer
        everything = parts(services.settings, services.environment)
        done = threading.Event()

        def tick() -> None:
            began = time.monotonic()
            while not done.wait(0.2):
                self.story.progress(min(0.95, (time.monotonic() - began) / 20.0), "starting")

        ticker = threading.Thread(target=tick, daemon=True)
        ticker.start()
        try:
            bring_up(services.settings, services.environment, ["mlflow", "prefect"])
            if self.state.done:
                bring_up(services.settings, services.environment)
            elif self.pace.all_at_once:
                bring_up(services.settings, services.environment, wait=False)
            bring_up(services.settings, services.environment, names, wait=False)  # they come up while version 1 trains
        finally:
            done.set()
            ticker.join()
        for name in names:
            self.story.link(name, str(everything[name].page))

    def _train_first(self) -> None:
        head = self.services.ledger.head()
        if head is None or head.state.champion is None:
            self._train_in_process()
            head = self.services.head()
        self.state.first = head.state.champion
        if self.state.first is None:
            raise PermanentError(f"the gate did not let version 1 pass: {head.reason}")
        tags = self.services.reader.version(self.state.first).tags
        self.story.fact(
            f"version {self.state.first}: pos/neg F1 {float(tags['pos_neg_f1']):.3f} on the test side, "
            f"{float(tags['size_mb']):.0f} MB, {float(tags['latency_ms_p50']):.1f} ms a row; gate: {tags['gate']}"
        )
        self.story.link("the model", f"{self.services.home.url('mlflow')}/#/models/absa/versions/{self.state.first}")

    def _train_in_process(self) -> None:
        """`evergreen train` in a process of its own, its words in a log, its progress shown here."""
        log = self.services.home.folder("logs") / "train.log"
        folder = self.services.home.folder("demo")
        source = self.stream.write_ingest(folder / "feedback.csv")
        command = [sys.executable, "-m", "flows.cli", "train", str(source), "--reason", "first"]
        command += ["--budget", f"{self.pace.first_budget_s:.0f}"]
        began = time.time()
        with log.open("ab") as file:
            child = subprocess.Popen(command, stdout=file, stderr=file, env=dict(self.services.environment))  # noqa: S603
            try:
                while child.poll() is None:
                    self._show_training(began, self.pace.first_budget_s)
                    time.sleep(0.25)
            finally:
                if child.poll() is None:
                    child.terminate()
                    child.wait()
        if child.returncode != 0:
            raise PermanentError(f"training failed: {_last_line(log)}")

    def _show_training(self, began: float, budget_s: float) -> None:
        file = self.services.home.folder("jobs") / LATEST_EVENT
        share = (time.time() - began) / budget_s
        text = "preparing"
        if file.exists() and file.stat().st_mtime > began:
            event = json.loads(file.read_text())
            if event.get("event") == "progress":
                text = (
                    f"epoch {event['epoch']:.1f}, loss {event['loss']:.2f}, {event['tokens_per_s']:.0f} tokens/s, "
                    f"{event['remaining_s']:.0f} s left to train"
                )
            elif event.get("event") in {"phase", "done"}:
                text = str(event.get("name", "judging and registering"))
        self.story.progress(share, text)

    def _first_answers(self) -> None:
        bring_up(self.services.settings, self.services.environment, ["router"])
        self._wait_for_version(str(self.state.first))
        self._ask_five()
        if self.state.first_answer_s is None:
            self.state.first_answer_s = self.story.elapsed_s()
        self.story.fact(f"first answer {self.state.first_answer_s:.0f} s after the start")
        bring_up(self.services.settings, self.services.environment, wait=False)
        self.story.link("the console", f"{self.services.router_url}/")

    def _ask_five(self) -> None:
        for text, aspect, label in assignment():
            answer = self.router.predict(text, aspect)
            mark = "right" if answer["label"] == label else f"WRONG, it is {sentiment(label)}"
            self.story.fact(f"{answer['sentiment']:<9} {mark:<22} {text} | {aspect}")

    def _healthy(self) -> None:
        """The first window makes the reference, others are held against it; the last verdict comes a chapter later."""
        bring_up(self.services.settings, self.services.environment)
        self.story.link("reports", self.services.home.url("evidently"))
        report = self.pace.healthy_is_reported
        for number in range(1, self.pace.healthy_windows + 1):
            window = self._traffic(self.pace.healthy_s, f"healthy traffic, window {number}")
            self._tell_healthy()
            self._judging = _Background(partial(self._judge, window, retrain=False, report=report))

    def _drift_sentence(self) -> str:
        if not self.options.drifts:
            return "The same customers go on: nothing drifts (DRIFT=none)."
        return f"The traffic drifts: {self.stream.drift_sentence}"

    def _drifted(self) -> None:
        drifts = self.options.drifts
        for attempt in (1, 2):
            kind = "drifted traffic" if drifts else "healthy traffic"
            window = self._traffic(self.pace.drifted_s, kind, drift=drifts)
            verdict = self._judge_meanwhile(window, drifts=drifts)
            self._say_verdict(verdict)
            if verdict["action"] == "retrain" or (not drifts and attempt == 1 and verdict["verdict"] != "STALE"):
                return
        if drifts:
            raise PermanentError("the drift was not called stale in two windows; see the reports")
        raise PermanentError("traffic without drift was called stale: that is a false alarm")

    def _judge_meanwhile(self, window: Window, *, drifts: bool) -> dict[str, Any]:
        """The monitor's verdict over a window. The customers do not wait for it: they write on, and label."""

        def judge() -> dict[str, Any]:
            self._tell_healthy()
            return self._judge(window, retrain=True)

        judging = _Background(judge)
        said = "the same traffic while the monitor looks"
        self._traffic(_MONITOR_LIMIT_S, said, drift=drifts, rate=self.pace.waiting_rate, stop=judging.is_over)
        return judging.result()

    def _tell_healthy(self) -> None:
        """The verdict over the healthy window, which was judged while traffic went on."""
        if self._judging is None:
            return
        healthy, self._judging = self._judging.result(), None
        self.story.fact("the healthy window, judged meanwhile:")
        self._say_verdict(healthy)
        if healthy["verdict"] == "STALE":
            raise PermanentError("healthy traffic was called stale: a false alarm; start again with RESET=1")

    def _retrain(self) -> None:
        if not self.options.drifts:
            self.story.fact("nothing is stale, so nothing is retrained")
            return
        began = time.time()
        limit_s = self.services.settings.budget_s + 60.0
        while time.time() - began < limit_s:
            head = self.services.head()
            if head.state.challenger is not None or head.state.champion != self.state.first:
                self.state.second = head.state.challenger or head.state.champion
                tags = self.services.reader.version(str(self.state.second)).tags
                self.story.fact(
                    f"version {self.state.second}: pos/neg F1 {float(tags['pos_neg_f1']):.3f} on its test side; "
                    f"gate: {tags['gate']}"
                )
                self.story.link("the run", f"{self.services.home.url('prefect')}/runs")
                return
            rejected = [record for record in self._since_first() if record.action == "register"]
            if rejected:
                raise PermanentError(f"the gate held the new version back: {rejected[-1].reason}")
            self._attempt_failed()
            self._show_training(began, self.services.settings.budget_s)
            time.sleep(0.5)
        raise UnavailableError(f"no challenger after {limit_s:.0f} s; the run's log is in Prefect")

    def _attempt_failed(self) -> None:
        """Raise what made the retraining fail, as its verdict record says."""
        from monitoring.verdicts import VerdictStore

        verdict = VerdictStore(self.services.lake).latest()
        if verdict is not None and verdict.attempts and verdict.attempts[-1].state == "failed":
            raise PermanentError(f"the retraining failed: {verdict.attempts[-1].detail}")

    def _since_first(self) -> list[Any]:
        records = self.services.ledger.records()
        crowned = max((r.number for r in records if r.action == "promote"), default=0)
        settled = [r for r in records if r.number > crowned]
        # a register record is followed by its challenge record at once; alone it means that the gate said no
        return settled if settled and time.time() - settled[-1].at.timestamp() > 10.0 else []

    def _experiment(self) -> None:
        if not self.options.drifts:
            self.story.fact("nothing to promote: version 1 stays champion")
            return
        second = str(self.state.second)

        def over() -> bool:
            return self.services.head().state.challenger is None

        def say(report: TrafficReport) -> str:
            plan = self.services.head().state.plan
            share = plan.challengers[0].share if plan and plan.challengers else 0.0
            right = "  ".join(
                f"{arm} v{version} {correct:.0%} right of {report.served[arm, version]}"
                for (arm, version), correct in sorted(report.accuracy().items())
            )
            return f"{plan.mode if plan else ''} {share:.0%} to the challenger; {right}"

        self._traffic(self.pace.experiment_s, say, drift=True, stop=over)
        head = self.services.head()
        if head.state.champion != second:
            raise PermanentError(f"version {second} did not win: {head.reason}")
        self._wait_for_version(second)
        for record in self.services.ledger.records():
            if second in (record.state.challenger, record.state.champion):
                self.story.fact(f"ledger {record.number}: {record.action:<9} {record.reason}")
        self.story.link("the aliases", f"{self.services.home.url('mlflow')}/#/models/absa")

    # parts of chapters

    def _traffic(
        self,
        duration_s: float,
        text: str | Callable[[TrafficReport], str],
        *,
        drift: bool = False,
        rate: float | None = None,
        stop: Callable[[], bool] = lambda: False,
    ) -> Window:
        """Send traffic and give the window of event time that it filled."""
        start = utc_now()
        began = time.monotonic()
        shown = 0.0
        stopped = False

        def show(report: TrafficReport) -> None:
            nonlocal shown, stopped
            if time.monotonic() - shown < 0.5:
                return
            shown = time.monotonic()
            stopped = stop()
            said = (
                text(report)
                if callable(text)
                else f"{text}: {report.answered} answered, {report.share_right:.0%} right"
            )
            self.story.progress((time.monotonic() - began) / duration_s, said)

        report = send_traffic(
            self.customers(drift=drift),
            url=self.services.router_url,
            feedback_key=self.services.home.secrets()["feedback_key"],
            predict_key=self.services.settings.predict_key,
            rate=rate or self.pace.rate,
            duration_s=duration_s,
            delay_scale=self.pace.delay_scale,
            on_tick=show,
            stop=lambda: stopped,
        )
        end = utc_now()
        arms = ", ".join(
            f"{arm} v{version} {share:.0%} right of {report.served[arm, version]}"
            for (arm, version), share in sorted(report.accuracy().items())
        )
        self.story.fact(f"{report.answered} answered ({arms}), {report.feedback} told what was right")
        if report.failed:
            self.story.fact("failed: " + ", ".join(f"{why} × {count}" for why, count in report.failed.most_common(3)))
        return Window(start=start, end=end)

    def customers(self, *, drift: bool) -> PoolTraffic:
        """The one stream of this demo, switched: its texts never repeat and were never ingested."""
        if self._customers is None:
            self._customers = self.stream.customers(self.services)
        self._customers.switch(self.stream.drift() if drift else None)
        return self._customers

    def _judge(self, window: Window, *, retrain: bool, report: bool = True) -> dict[str, Any]:
        """Run the monitor deployment for a window and give its verdict record."""
        from prefect.deployments import run_deployment

        from monitoring.verdicts import VerdictStore

        time.sleep(self.pace.settle_s)
        _wait_for_deployment("monitor/monitor")
        run: Any = run_deployment(
            "monitor/monitor",
            parameters={"window": window.key, "retrain": retrain, "report": report},
            timeout=_MONITOR_LIMIT_S,
            poll_interval=0.5,
            as_subflow=False,
        )
        found = VerdictStore(self.services.lake).latest(window)
        if found is None:
            page = f"{self.services.home.url('prefect')}/runs/flow-run/{run.id}"
            raise UnavailableError(
                f"the monitor gave no verdict ({run.state.name if run.state else 'no state'}): {page}"
            )
        self.state.verdicts.append(found.verdict)
        sentence = found.reasons[0].sentence if found.reasons else found.action_reason
        return {
            "verdict": found.verdict,
            "action": found.action,
            "sentence": sentence,
            "action_reason": found.action_reason,
            "report": found.report_uri,
        }

    def _say_verdict(self, verdict: dict[str, Any]) -> None:
        self.story.fact(f"verdict {verdict['verdict']}: {verdict['sentence']}")
        if verdict["action"] != "none":
            self.story.fact(f"action {verdict['action']}: {verdict['action_reason']}")
        if verdict["report"]:
            self.story.link("report", str(verdict["report"]))

    def _wait_for_version(self, version: str, *, timeout_s: float = 30.0) -> None:
        """Wait until the router serves a version alone."""
        ends = time.monotonic() + timeout_s
        text, aspect, _ = assignment()[0]
        while time.monotonic() < ends:
            if self.router.is_ready() and self.router.predict(text, aspect)["model_version"] == version:
                return
            time.sleep(0.2)
        raise UnavailableError(f"the router does not serve version {version} after {timeout_s:.0f} s")

    def _end(self) -> None:
        self.story.line()
        self.story.line(f"The end, after {self.story.elapsed_s():.0f} s. The assignment's five sentences now:")
        self._ask_five()
        if self.state.second is not None:
            self._side_by_side()
        url = self.services.router_url
        self.story.line()
        self.story.line("Four commands that work as they stand, in this folder:")
        body = '{"text": "i love notion, but the mobile app is slow", "aspect": "mobile app"}'
        self.story.line(f"  curl -s {url}/v1/predict -H 'Content-Type: application/json' -d '{body}'")
        self.story.line("  .venv/bin/evergreen simulate --drift vocabulary --seconds 20")
        self.story.line("  .venv/bin/evergreen status")
        self.story.line("  .venv/bin/evergreen rollback")

    def _side_by_side(self) -> None:
        from absa.inference.engine import Engine

        head = self.services.head()
        versions = [str(self.state.first), str(self.state.second)]
        engines = [Engine.load(self.services.package(v, head.versions[v])) for v in versions]
        self.story.line()
        self.story.line(f"Drifted sentences, version {versions[0]} beside version {versions[1]}:")
        customers = self.customers(drift=True)
        shown: list[SimulatedRequest] = []
        while len(shown) < 8:
            request = next(customers)
            if request.drifted and request.true_label != Label.NEUTRAL and len(request.text) <= 90:
                shown.append(request)
        pairs = [(request.text, request.aspect) for request in shown]
        guesses = [engine.score(pairs).argmax(axis=1) for engine in engines]
        self.story.line(f"  {'truth':<9} {'v' + versions[0]:<9} {'v' + versions[1]:<9} text | aspect")
        for request, old, new in zip(shown, *guesses, strict=True):
            words = f"{sentiment(request.true_label):<9} {sentiment(int(old)):<9} {sentiment(int(new)):<9}"
            self.story.line(f"  {words} {request.text} | {request.aspect}")


class _Background:
    """A call in a thread; `result` waits for it and raises what it raised."""

    def __init__(self, call: Callable[[], dict[str, Any]]) -> None:
        self._found: dict[str, Any] | BaseException | None = None

        def work() -> None:
            try:
                self._found = call()
            except BaseException as error:  # handed on by result()
                self._found = error

        self._thread = threading.Thread(target=work, daemon=True)
        self._thread.start()

    def is_over(self) -> bool:
        """Whether `result` gives at once."""
        return not self._thread.is_alive()

    def result(self) -> dict[str, Any]:
        self._thread.join()
        if isinstance(self._found, BaseException):
            raise self._found
        if self._found is None:
            raise UnavailableError("the background call gave nothing")
        return self._found


def _wait_for_deployment(name: str, *, timeout_s: float = 60.0) -> None:
    """Wait until Prefect knows a deployment: its process has registered it since it was started."""
    from prefect.client.orchestration import get_client
    from prefect.exceptions import ObjectNotFound

    ends = time.monotonic() + timeout_s
    with get_client(sync_client=True) as client:
        while time.monotonic() < ends:
            try:
                client.read_deployment_by_name(name)
            except ObjectNotFound:
                time.sleep(0.3)
            else:
                return
    raise UnavailableError(f"Prefect has no deployment {name} after {timeout_s:.0f} s; see deployments.log")


def assignment() -> list[tuple[str, str, int]]:
    """The five sentences of the assignment: text, aspect, label."""
    with ASSIGNMENT_CSV.open(encoding="utf-8", newline="") as file:
        return [(row["text"], row["aspect"], int(row["label"])) for row in csv.DictReader(file)]


def _last_line(log: Path) -> str:
    lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return lines[-1] if lines else f"see {log}"


def _shortened(pace: Pace, options: DemoOptions) -> Services:
    """Write the demo's settings into the home folder, where every process of the platform reads them."""
    home = Settings.load().root
    home.mkdir(parents=True, exist_ok=True)
    lines = [f"{name}={value}" for name, value in pace.settings.items()]
    write_whole(home / SETTINGS_FILE, f"# written by the demo ({options.scale})\n" + "\n".join(lines) + "\n")
    return wire(Settings.load())


def _forget(settings: Settings) -> None:
    """Remove what an earlier demo left; only names that are ours."""
    take_down(settings)
    ours = ("lake", "mlflow", "prefect", "evidently", "serving", "models", "jobs", "run", "logs", "demo")
    for name in ours:
        shutil.rmtree(settings.root / name, ignore_errors=True)
    for name in (_STATE, SETTINGS_FILE, "ports.json"):
        (settings.root / name).unlink(missing_ok=True)


def run_demo(options: DemoOptions) -> int:
    """Tell the story; gives the exit code.

    Raises:
        PermanentError: an unknown scale, or a machine that the doctor turns down.
        InvalidDataError: DATA or DRIFT cannot be read.
    """
    if options.scale not in SCALES:
        raise PermanentError(f"SCALE must be one of {', '.join(SCALES)}, got {options.scale!r}")
    for path in (options.data, Path(options.drift) if options.drift not in {None, "none"} else None):
        if path is not None and not path.is_file():
            raise InvalidDataError(f"{path} does not exist: name a CSV file with text, aspect and label")
    if options.reset:
        _forget(Settings.load())
    demo = Demo(options)
    code = 0
    try:
        demo.run()
        if options.keep:
            _stay(demo.story)
    except _ChapterError as error:
        demo.story.line()
        demo.story.line(f"Chapter {error.number} failed: {error.__cause__}")
        demo.story.line(f"Log: {error.log}   Again: make demo{_again(options)}")
        code = 1
    except KeyboardInterrupt:
        demo.story.line()
        code = 130
    finally:
        stopped = take_down(demo.services.settings)
        demo.story.line()
        demo.story.line(
            f"Stopped {', '.join(stopped) or 'nothing'}. Models, lake and ledger stay in {_relative(demo)}; "
            "`.venv/bin/evergreen up` brings everything back."
        )
    return 0 if code == 130 and len(demo.state.done) == 7 else code


def _stay(story: Story) -> None:
    story.line()
    story.line("Everything stays up. Ctrl-C stops it.")
    try:
        while True:
            time.sleep(3600)
    except KeyboardInterrupt:
        return


def _again(options: DemoOptions) -> str:
    words = [f"SCALE={options.scale}"] if options.scale != "full" else []
    words += [f"DATA={options.data}"] if options.data else []
    words += [f"DRIFT={options.drift}"] if options.drift else []
    words += [] if options.keep else ["KEEP=0"]
    return "".join(f" {word}" for word in words)


def _relative(demo: Demo) -> str:
    return os.path.relpath(demo.services.settings.root)
