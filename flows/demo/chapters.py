"""Seven chapters of the demo. A demo that starts again skips finished chapters."""

import json
import subprocess
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

from absa.client import Client
from absa.config_file import DEMO_STATE
from absa.data.bundled import BUNDLED
from absa.data.traffic.pool_traffic import PoolTraffic, SimulatedRequest
from absa.errors import EvergreenError, PermanentError, UnavailableError
from absa.ledger.record import LedgerRecord
from absa.records.files import write_whole
from absa.records.schema import Window, utc_now
from absa.task import ABSA, TaskSpec
from flows.demo.customer_stream import BundledStream, OwnStream, Stream
from flows.demo.customers import TrafficReport, send_traffic
from flows.demo.first_training import show_training, train_in_process
from flows.demo.monitor_runs import (
    LATE_S,
    MONITOR_LIMIT_S,
    Background,
    retrain_again,
    retraining_is_pending,
    run_monitor,
)
from flows.demo.own_command import own_command
from flows.demo.pace import SLOW, DemoOptions, Pace
from flows.demo.story import Story
from flows.platform.doctor import examine
from flows.platform.processes import bring_up, parts
from flows.platform.services import Services

if TYPE_CHECKING:
    from absa.records.verdict import Verdict

_TASK: Final = "TASK="
_SWAP_LIMIT_S: Final = 120.0  # for the router to load a version on a busy machine
_LOOK_S: Final = 5.0  # between two checks for dead servers and runs
_HELD_BACK: Final = 2  # versions that the gate may hold before the demo fails


@dataclass
class _Progress:
    """State of a demo that is kept between two starts."""

    done: list[int] = field(default_factory=list)
    first: str | None = None  # version that chapter 2 made
    second: str | None = None
    held: int = 0  # number of the last ledger record of a version that the gate held
    first_answer_s: float | None = None
    data: str | None = None  # file that version 1 learned from; empty: the bundled rows; None: an earlier release ran

    @classmethod
    def load(cls, file: Path) -> "_Progress":
        told = json.loads(file.read_text()) if file.exists() else {}
        return cls(**{name: value for name, value in told.items() if name in cls.__dataclass_fields__})

    def save(self, file: Path) -> None:
        write_whole(file, json.dumps(vars(self), indent=1))


class ChapterError(Exception):
    """Failure of a chapter, with its number and log."""

    def __init__(self, number: int, log: Path) -> None:
        super().__init__(number, log)
        self.number, self.log = number, log


class Demo:
    """One run of the demo.

    Raises:
        PermanentError: an earlier run of this demo had other rows.
    """

    def __init__(self, options: DemoOptions, pace: Pace, services: Services, *, slowdown: float = 1.0) -> None:
        self.options, self.pace, self.slowdown = options, pace, slowdown
        self.story = Story()
        self.services = services
        self.state_file = self.services.home.folder() / DEMO_STATE
        self.state = _Progress.load(self.state_file)
        self._must_have_begun_with(_rows_of(options))
        self.sample = BUNDLED[options.task]
        key = self.services.settings.predict_key
        self.router = Client(
            self.services.router_url, predict_key=None if key is None else key.get_secret_value(), patience_s=0
        )
        drift_file = None if options.drift in {None, "none"} else Path(str(options.drift))
        self.stream: Stream = (
            OwnStream(options.data, drift_file, services.settings.data) if options.data else BundledStream(self.sample)
        )
        self._customers: PoolTraffic | None = None
        self._judging: Background | None = None

    def _must_have_begun_with(self, data: str) -> None:
        """Refuse other rows than those of the earlier run: version 1 was trained on its rows."""
        if self.state.data is None and 2 not in self.state.done:
            self.state.data = data
        if self.state.data not in {None, data}:
            begun = f"DATA={self.state.data}" if self.state.data else "the bundled rows, without DATA"
            begun = self.state.data if self.state.data and self.state.data.startswith(_TASK) else begun
            raise PermanentError(
                f"this demo began with {begun}: give the same rows, or start again with --reset (make demo RESET=1)"
            )

    # the story

    def run(self) -> None:
        """Run every chapter that is not done yet."""
        self._open()
        chapters: list[tuple[int, str, Callable[[], None]]] = [
            (1, "Start MLflow, Prefect and the router on this machine.", self._start),
            (2, "Ingest customer feedback and train version 1 inside a budget.", self._train_first),
            (3, "Version 1 is champion: it answers.", self._first_answers),
            (4, "Customers write, the router answers, the monitor judges every window.", self._healthy),
            (5, self._drift_sentence(), self._drifted),
            (6, "A retraining learns from the new labels inside its budget.", self._retrain),
            (7, "The challenger wins an A/B test on live traffic and becomes champion.", self._experiment),
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
            self.story.line(
                "This demo is complete. Its servers start again. To repeat the demo, add --reset (make: RESET=1)."
            )
        elif told:
            self.story.line(
                f"The demo continues after chapter {max(told)}. To start it again, add --reset (make: RESET=1)."
            )
        else:
            self.story.line(
                "Evergreen keeps a deployed text classifier fresh. This is the whole loop, on real servers."
            )
        if self.slowdown > SLOW:
            self.story.line(
                f"This machine is slow or busy: a training takes about {self.slowdown:.1f} times as long as this demo "
                "expects, so trainings get larger budgets."
            )
        self.story.line(
            f"The demo is short because of these settings (profile {self.pace.profile}); its clock is real: "
            f"{self.pace.changes()}"
        )
        problems = [finding for finding in examine(self.services.settings, ports=False) if not finding.ok]
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
            raise ChapterError(number, log) from error

    # chapters

    def _start(self) -> None:
        services = self.services
        names = ["mlflow", "prefect", "router"]  # the other parts start after the first answer
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
            # version 1 trains while the router starts
            bring_up(services.settings, services.environment, names, wait=False)
        finally:
            done.set()
            ticker.join()
        for name in names:
            self.story.link(name, str(everything[name].page))

    def _train_first(self) -> None:
        head = self.services.ledger.head()
        if head is None or head.state.champion is None:
            train_in_process(self.services, self.story, self.stream, budget_s=self.pace.first_budget_s)
            head = self.services.head()
        self.state.first = head.state.champion
        if self.state.first is None:
            raise PermanentError(f"the gate rejected version 1: {head.reason}")
        tags = self.services.registry.tags(self.state.first)
        self.story.fact(
            f"version {self.state.first}: {self._task.metric_name} {float(tags['f1']):.3f} on the test split, "
            f"{float(tags['size_mb']):.0f} MB, {float(tags['latency_ms_p50']):.1f} ms a row; gate: {tags['gate']}"
        )
        self.story.link(
            "the model", f"{self.services.home.url('mlflow')}/#/models/{self._task.name}/versions/{self.state.first}"
        )

    def _first_answers(self) -> None:
        bring_up(self.services.settings, self.services.environment, ["router"])
        self._wait_for_version(str(self.state.first))
        self._ask_shown()
        if self.state.first_answer_s is None:
            self.state.first_answer_s = self.story.elapsed_s()
        self.story.fact(f"first answer {self.state.first_answer_s:.0f} s after the start")
        bring_up(self.services.settings, self.services.environment, wait=False)
        self.story.link("the console", f"{self.services.router_url}/")

    @property
    def _task(self) -> TaskSpec:
        return self.services.settings.task

    def _ask_shown(self) -> None:
        if not self._shown:
            self.story.fact("(no example sentences: the rows are yours)")
        wide = max(map(len, self._task.labels))
        for text, aspect, label in self._shown:
            answer = self.router.predict(text, aspect)
            mark = "right" if answer["label"] == label else f"WRONG, it is {self._task.labels[label]}"
            self.story.fact(f"{answer['name']:<{wide}} {mark:<{wide + 14}} {_line(text, aspect)}")

    @property
    def _shown(self) -> tuple[tuple[str, str | None, int], ...]:
        """Bundled rows with a known answer; none for another task."""
        return self.sample.shown if self._task == self.sample.task else ()

    def _healthy(self) -> None:
        """Send healthy traffic. The first window becomes the reference; the next chapter shows the last verdict."""
        bring_up(self.services.settings, self.services.environment)
        self.story.link("reports", self.services.home.url("evidently"))
        report = self.pace.healthy_is_reported
        for number in range(1, self.pace.healthy_windows + 1):
            window = self._traffic(self.pace.healthy_s, f"healthy traffic, window {number}")
            self._tell_healthy()
            self._judging = Background(partial(self._judge, window, retrain=False, report=report))

    def _drift_sentence(self) -> str:
        if not self.options.drifts:
            return "The traffic continues without drift (DRIFT=none)."
        return f"The traffic drifts: {self.stream.drift_sentence}"

    def _drifted(self) -> None:
        drifts = self.options.drifts
        if drifts and (retraining_is_pending(self.services) or self._newer_version()):
            self.story.fact("the monitor required a retraining before the demo was interrupted")
            return
        self._until_stale() if drifts else self._undisturbed()

    def _undisturbed(self) -> None:
        window = self._traffic(self.pace.drifted_s, "healthy traffic")
        verdict = self._judge_meanwhile(window, drifts=False)
        self._say_verdict(verdict)
        if verdict.verdict == "STALE":
            raise PermanentError(
                "false alarm: traffic without drift had the verdict STALE; start again with --reset (make demo RESET=1)"
            )

    def _until_stale(self) -> None:
        """Send drifted traffic until the monitor requires a retraining, for at most two windows.

        Raises:
            PermanentError: the monitor required none.
        """
        for _ in range(2):
            verdict = self._judge_meanwhile(
                self._traffic(self.pace.drifted_s, "drifted traffic", drift=True), drifts=True
            )
            self._say_verdict(verdict)
            asked = verdict.action == "retrain" or retraining_is_pending(self.services)
            if verdict.verdict == "STALE" and asked:
                return
        raise PermanentError("the monitor required no retraining in two drifted windows: see its reports")

    def _judge_meanwhile(self, window: Window, *, drifts: bool) -> "Verdict":
        """Return the monitor's verdict on a window. Meanwhile the customers continue to send requests and feedback."""

        def judge() -> "Verdict":
            self._tell_healthy()
            return self._judge(window, retrain=True)

        judging = Background(judge)
        said = "the same traffic while the monitor judges"
        self._traffic(MONITOR_LIMIT_S, said, drift=drifts, rate=self.pace.waiting_rate, stop=judging.is_over)
        return judging.result()

    def _tell_healthy(self) -> None:
        """Show the verdict on the healthy window, which the monitor judged while the traffic continued."""
        if self._judging is None:
            return
        healthy, self._judging = self._judging.result(), None
        self.story.fact("the earlier healthy window:")
        self._say_verdict(healthy)
        if healthy.verdict == "STALE":
            raise PermanentError(
                "false alarm: healthy traffic had the verdict STALE; start again with --reset (make demo RESET=1)"
            )

    def _retrain(self) -> None:
        if not self.options.drifts:
            self.story.fact("no window is STALE, so there is no retraining")
            return
        for attempt in range(_HELD_BACK + 1):
            held = self._await_version()
            if held is None:
                self.state.done = sorted({*self.state.done, 5})
                return
            self._drift_anew()
            self.story.fact(f"the gate did not promote the new version: {held}")
            if attempt < _HELD_BACK:
                self.story.fact("the traffic continues, and the monitor judges another window")
                self._until_stale()
        raise PermanentError(f"the gate promoted none of {_HELD_BACK + 1} versions; the last: {held}")

    def _await_version(self) -> str | None:
        """Wait until the retraining has ended.

        Returns:
            None if the gate promoted its version; otherwise the gate's reason.

        Raises:
            UnavailableError: the retraining made no version in time.
        """
        began, looked = time.time(), 0.0
        stale_at = self.services.head().at.timestamp()  # the retraining may have started before this chapter
        limit_s = self.services.settings.budget_s + 2 * LATE_S * self.slowdown
        while time.time() - began < limit_s:
            self.state.second = self._newer_version()
            if self.state.second is not None:
                tags = self.services.registry.tags(self.state.second)
                self.story.fact(
                    f"version {self.state.second}: {self._task.metric_name} {float(tags['f1']):.3f} on the test split; "
                    f"gate: {tags['gate']}"
                )
                self.story.link("the run", f"{self.services.home.url('prefect')}/runs")
                return None
            settled = [record for record in self._since_first() if record.number > self.state.held]
            rejected = [record for record in settled if record.action == "register"]
            if rejected:
                self.state.held = rejected[-1].number
                return rejected[-1].reason
            if time.time() - looked > _LOOK_S:
                began = time.time() if self._look_after_the_retraining() else began
                looked = time.time()
            show_training(self.services, self.story, stale_at)
            time.sleep(0.5)
        raise UnavailableError(
            f"the retraining made no version within {limit_s:.0f} s: see the log of its run in Prefect"
        )

    def _newer_version(self) -> str | None:
        """Return the challenger, or the champion if it is not the first version any more; otherwise None."""
        state = self.services.head().state
        return state.challenger or (state.champion if state.champion != self.state.first else None)

    def _look_after_the_retraining(self) -> bool:
        """Start dead servers and a failed retraining again. Return True if another attempt started."""
        try:
            bring_up(self.services.settings, self.services.environment)
            said = retrain_again(self.services)
        except UnavailableError:
            return False  # a server died between two checks; the next check starts it
        except PermanentError:
            self._drift_anew()
            raise
        if said is not None:
            self.story.fact(said)
        return said is not None

    def _drift_anew(self) -> None:
        """Save that the next start repeats the demo from chapter 5 on, with drifted traffic."""
        self.state.done = [number for number in self.state.done if number < 5]
        self.state.save(self.state_file)

    def _since_first(self) -> list[LedgerRecord]:
        records = self.services.ledger.follow()
        crowned = max((r.number for r in records if r.action == "promote"), default=0)
        settled = [r for r in records if r.number > crowned]
        # a challenge record follows a register record at once; without it, the gate did not promote the version
        return settled if settled and time.time() - settled[-1].at.timestamp() > 10.0 else []

    def _experiment(self) -> None:
        if not self.options.drifts:
            self.story.fact("there is no challenger: version 1 stays champion")
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
            raise PermanentError(f"version {second} did not become champion: {head.reason}")
        self._wait_for_version(second)
        for record in self.services.ledger.follow():
            if second in (record.state.challenger, record.state.champion):
                self.story.fact(f"ledger {record.number}: {record.action:<9} {record.reason}")
        self.story.link("the aliases", f"{self.services.home.url('mlflow')}/#/models/{self._task.name}")

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
        """Send traffic and return the window of event time that it took."""
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
            feedback_key=self.services.home.feedback_key(),
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
        self.story.fact(f"{report.answered} answered ({arms}), {report.feedback} with feedback")
        if report.failed:
            self.story.fact("failed: " + ", ".join(f"{why} × {count}" for why, count in report.failed.most_common(3)))
        return Window(start=start, end=end)

    def customers(self, *, drift: bool) -> PoolTraffic:
        """Return the stream of this demo with or without drift. A stream repeats no text, and has no ingested text."""
        if self._customers is None:
            self._customers = self.stream.customers(self.services)
        self._customers.switch(self.stream.drift() if drift else None)
        return self._customers

    def _judge(self, window: Window, *, retrain: bool, report: bool = True) -> "Verdict":
        time.sleep(self.pace.settle_s)
        return run_monitor(self.services, window, retrain=retrain, report=report)

    def _say_verdict(self, verdict: "Verdict") -> None:
        sentence = verdict.reasons[0].sentence if verdict.reasons else verdict.action_reason
        self.story.fact(f"verdict {verdict.verdict}: {sentence}")
        if verdict.action != "none":
            self.story.fact(f"action {verdict.action}: {verdict.action_reason}")
        if verdict.report_uri:
            self.story.link("report", verdict.report_uri)

    def _wait_for_version(self, version: str) -> None:
        """Wait until the router serves a version.

        Raises:
            UnavailableError: the router does not serve it in time.
        """
        ends = time.monotonic() + _SWAP_LIMIT_S
        phrase = None if self._task.phrase is None else "app"
        while time.monotonic() < ends:
            if self.router.is_ready() and self.router.predict("the app is fine", phrase)["model_version"] == version:
                return
            time.sleep(0.2)
        raise UnavailableError(f"the router did not serve version {version} within {_SWAP_LIMIT_S:.0f} s")

    def _end(self) -> None:
        self.story.line()
        self.story.line(f"End of the demo, after {self.story.elapsed_s():.0f} s. The sentences of chapter 3 now:")
        self._ask_shown()
        if self.state.second is not None:
            self._side_by_side()
        url = self.services.router_url
        self.story.line()
        after = "" if self.options.keep else f" after `{own_command('up')}`"
        self.story.line(f"Commands that you can run in this folder{after}:")
        phrase = {} if self._task.phrase is None else {self._task.phrase: "mobile app"}
        body = json.dumps({"text": "i love notion, but the mobile app is slow"} | phrase)
        self.story.line(f"  curl -s {url}/v1/predict -H 'Content-Type: application/json' -d '{body}'")
        if any(sample.task == self._task for sample in BUNDLED.values()):
            self.story.line(f"  {own_command('simulate', '--drift', 'vocabulary', '--seconds', '20')}")
        self.story.line(f"  {own_command('status')}")
        self.story.line(f"  {own_command('rollback')}")

    def _side_by_side(self) -> None:
        from absa.inference.engine import Engine

        head = self.services.head()
        versions = [str(self.state.first), str(self.state.second)]
        engines = [Engine.load(self.services.packages.get(v, head.versions[v])) for v in versions]
        self.story.line()
        self.story.line(f"Drifted sentences, with the answers of versions {versions[0]} and {versions[1]}:")
        customers = self.customers(drift=True)
        shown: list[SimulatedRequest] = []
        while len(shown) < 8:
            request = next(customers)
            if request.drifted and request.true_label in self._task.evaluated_numbers and len(request.text) <= 90:
                shown.append(request)
        pairs = [(request.text, request.aspect) for request in shown]
        guesses = [engine.score(pairs).argmax(axis=1) for engine in engines]
        wide = max(map(len, self._task.labels))
        heads = ("truth", f"v{versions[0]}", f"v{versions[1]}")
        self.story.line("  " + " ".join(f"{head:<{wide}}" for head in (*heads, _line("text", self._task.phrase))))
        for request, old, new in zip(shown, *guesses, strict=True):
            named = [self._task.labels[int(label)] for label in (request.true_label, old, new)]
            words = " ".join(f"{name:<{wide}}" for name in named)
            self.story.line(f"  {words} {_line(request.text, request.aspect)}")


def _line(text: str, phrase: str | None) -> str:
    return text if phrase is None else f"{text} | {phrase}"


def _rows_of(options: DemoOptions) -> str:
    """Return the name of a demo's rows for its state; empty for the default rows."""
    if options.data:
        return str(options.data.absolute())
    return "" if options.task == ABSA.name else f"{_TASK}{options.task}"
