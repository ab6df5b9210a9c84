"""Use case: make one version, or one per size of a ladder, inside a budget.

The steps are snapshot, train, judge, register, and record in the ledger. The sizes of a ladder are made one after
another, the largest first.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, TypeVar

from absa.errors import DeadlineMissedError, EvergreenError, PermanentError, UnavailableError
from absa.policies import RecipeName
from absa.task import ABSA, TaskSpec
from absa.training.recipes import RECIPES
from flows.platform.services import Services
from flows.training.candidate import MAX_TOKENS, Start, train_candidate
from flows.training.job_process import OnEvent, RunJob, run_job
from flows.training.judging import Candidate, Judging
from flows.training.registration import price_of, put_in_force, register_version
from flows.training.reserve import OVERRUN_SHARE, TIMES_FILE, Reserve, RunTime, fitting_ladder, ladder_share
from flows.training.run_progress import writer
from flows.training.teaching.lesson import Lesson, make_lesson
from flows.training.teaching.teachers import RunTeacher, run_teacher
from flows.training.training_snapshot import champion_of, describe_snapshot, take_snapshot, undecidable

if TYPE_CHECKING:
    from absa.data.snapshot import Manifest

_T = TypeVar("_T")


@dataclass(frozen=True, kw_only=True)
class TrainingRequest:
    """Request for one version.

    Attributes:
        budget_s: wall-clock budget of the whole run, in seconds.
        sources: files to ingest in addition to the feedback in the lake.
        reason: origin of the request.
        window: key of the window whose verdict requested it; None: no window did.
        base: base model to start from; None: the champion's weights, or the base of the settings.
        recipe: recipe of the training; None: the settings' own.
        teachers: folders or hub names of encoders that teach; none: the teachers of the settings.
        teacher_budget_s: seconds of each teacher, before the budget of the run; None: the value of the settings.
        unlabelled: files of inputs without labels for the teachers' answers.
        start_promotion: True if the caller starts the promotion of a new challenger.
    """

    budget_s: float
    sources: tuple[str, ...] = ()
    reason: str = "manual"
    window: str | None = None
    base: str | None = None
    recipe: RecipeName | None = None
    teachers: tuple[str, ...] = ()
    teacher_budget_s: float | None = None
    unlabelled: tuple[str, ...] = ()
    start_promotion: bool = False


@dataclass(frozen=True, kw_only=True)
class TrainedVersion:
    """Result of a training. `action` is crowned, challenged or kept; `f1` is the task's primary metric.

    Attributes:
        layers: number of layers of the version.
        size_mb: size of its package in MB.
        rows_per_s: rows per second of one thread on this machine.
        usd_per_million: US dollars per million predictions at that speed; None: not measured, or not priced.
        ladder: every version of a run with a ladder, including this one.
    """

    version: str
    verdict: str
    reasons: tuple[str, ...]
    snapshot: str
    f1: float
    champion_f1: float | None
    task: TaskSpec = ABSA
    budget_s: float
    used_s: float
    action: str
    layers: int | None = None
    size_mb: float | None = None
    rows_per_s: float | None = None
    usd_per_million: float | None = None
    ladder: tuple["TrainedVersion", ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return plain values for the result of a flow run."""
        task = self.task
        values = vars(self) | {
            "reasons": list(self.reasons), "task": task.name, "metric": task.metric,
            "ladder": [each.to_json() for each in self.ladder],
        }  # fmt: skip
        return values | ({"pos_neg_f1": self.f1} if task.is_default else {})


def size_line(version: Mapping[str, Any], metric: str) -> str:
    """Return the line of one size of a ladder, from the plain values of its version."""
    price, rows_per_s = version["usd_per_million"], version["rows_per_s"]
    return (
        f"{version['layers']} layers: version {version['version']}, {version['verdict']}, {version['action']}; "
        f"{metric} {version['f1']:.3f}, {version['size_mb']:.0f} MB"
        + ("" if rows_per_s is None else f", {rows_per_s:,.0f} rows/s")
        + ("" if price is None else f", US$ {price:.4f} per million predictions")
    )


def train_version(
    services: Services,
    request: TrainingRequest,
    *,
    on_event: OnEvent = lambda _: None,
    job: RunJob = run_job,
    judging: Callable[..., Judging] = Judging,
    teacher: RunTeacher = run_teacher,
) -> TrainedVersion:
    """Make one version inside a budget that starts now, or when the teachers of the recipe have answered.

    The run is planned to end before its deadline with a version: the newest complete package is judged and registered.
    The run is late if the load of the machine rises much after it was measured. Without a champion the run may overrun
    by a quarter of its budget, which an event announces. A complete package is always registered. The ledger's evidence
    has the window, and whether the caller starts the promotion, so that another process can continue after a kill. If a
    step fails after the version is in the ledger, an event announces the failure, and the training has succeeded.

    With a ladder the budget is divided among the sizes for which it is long enough. The sizes share snapshot and
    teachers, and each becomes a version. A smaller version replaces the challenger of its run only if it is not worse
    and cheaper. If a smaller size fails, an event announces the failure; the larger versions stay.

    Args:
        services: ports.
        request: request to train.
        on_event: receives the run's events.
        job: trains and packages; by default in a separate process.
        judging: makes the judge of the run's packages.
        teacher: runs a teacher's process.

    Returns:
        The version; of a ladder the new challenger, else the new champion, else the largest.

    Raises:
        DeadlineMissedError: the budget is too short for one step and one package; the message names a sufficient one.
        InvalidDataError: a source cannot be read.
        UnavailableError: MLflow or the lake is unavailable.
    """
    lesson = _lesson(services, request, on_event, teacher)
    jobs, started, budget_s = services.home.folder("jobs"), services.clock().timestamp(), request.budget_s
    write = writer(jobs, started=started, ends_at=started + budget_s)

    def tell(event: Mapping[str, Any]) -> None:
        write(event)
        on_event(event)

    maker = _Maker(services, request, tell, job, judging, lesson)
    try:
        return _make_sizes(maker, started=started)
    finally:
        write({"event": "phase", "name": "done"})  # for `evergreen status`


def _make_sizes(maker: "_Maker", *, started: float) -> TrainedVersion:
    """Make the size of the settings, or the sizes of the ladder that fit the budget, from `started` (epoch seconds)."""
    services, budget_s, tell = maker.services, maker.request.budget_s, maker.tell
    policy = services.settings.training
    if not policy.ladder:
        return maker.make(policy.layers, budget_s)
    maker.tags["ladder"] = f"{services.clock():%Y%m%d-%H%M%S}"
    times = services.home.folder("jobs") / TIMES_FILE
    least_s = Reserve(times, budget_s=budget_s).least_run_s()
    sizes = fitting_ladder(policy.ladder, budget_s=budget_s, least_s=least_s)
    if left_out := ", ".join(str(size) for size in policy.ladder[len(sizes) :]):
        tell({"event": "note", "sentence": f"a budget of {budget_s:.0f} s leaves no time here for {left_out} layers"})
    for at, layers in enumerate(sizes):
        left_s = started + budget_s - services.clock().timestamp()
        try:
            maker.make(layers, left_s * ladder_share(sizes[at:]))
        except EvergreenError as error:
            if not maker.made:
                raise
            tell({"event": "note", "sentence": f"there is no version of {layers} layers: {error}"})
    used_s = services.clock().timestamp() - started
    return replace(maker.chosen(), budget_s=budget_s, used_s=used_s, ladder=tuple(maker.made))


@dataclass
class _Maker:
    """Maker of the versions of a run. `challenger` is the newest challenger of this run, with its version."""

    services: Services
    request: TrainingRequest
    tell: OnEvent
    job: RunJob
    judging: Callable[..., Judging]
    lesson: Lesson | None
    manifest: "Manifest | None" = None
    larger: Start | None = None
    challenger: tuple[str, Candidate] | None = None
    made: list[TrainedVersion] = field(default_factory=list)
    tags: dict[str, str] = field(default_factory=dict)

    def chosen(self) -> TrainedVersion:
        """Return the run's challenger, else its champion, else its largest version."""
        for action in ("challenged", "crowned"):
            if found := [each for each in self.made if each.action == action]:
                return found[-1]
        return self.made[0]

    def make(self, layers: int | None, budget_s: float) -> TrainedVersion:
        """Make the version of a size in its part of the run's budget, in seconds. See `train_version`."""
        services, request = self.services, self.request
        head = services.ledger.head()
        first = champion_of(head) is None
        run_time = RunTime.start(services.clock, budget_s, overrun_s=OVERRUN_SHARE * budget_s if first else 0.0)
        reserve = Reserve(services.home.folder("jobs") / TIMES_FILE, budget_s=budget_s)
        after_training = AfterTraining(run_time.now)

        def tell(event: Mapping[str, Any]) -> None:
            after_training(event)
            self.tell(event)

        if first:
            sentence = (
                "there is no champion yet: on a busy machine this first training may take up to "
                f"{run_time.overrun_s:.0f} s longer than its budget of {budget_s:.0f} s"
            )
            tell({"event": "note", "sentence": sentence})
        tags = {"reason": request.reason, **({"window": request.window} if request.window else {}), **self.tags}
        name = f"{request.reason}-{services.clock():%H%M%S}" + (f"-{layers}-layers" if self.tags else "")
        after_ledger = _AfterLedger(tell)
        manifest = self._snapshot()  # first, because no run is opened without data
        tell({"event": "phase", "name": "snapshot", "rows": manifest.total_rows})
        with after_ledger, services.runs.open(name, tags=tags) as run:
            describe_snapshot(services, run, manifest)
            judge = self.judging(services, manifest, head, budget_s=budget_s, reserve=reserve)
            self._require_rows(manifest, judge)
            try:
                done = services.steps(
                    "train",
                    lambda: train_candidate(
                        services, run, manifest, head,
                        run_time=run_time, reserve=reserve, judging=judge, base=request.base, recipe=request.recipe,
                        layers=layers, larger=self.larger, lesson=self.lesson, on_event=tell, job=self.job,
                    ),
                )  # fmt: skip
            except DeadlineMissedError as error:
                enough_s = reserve.sufficient_budget_s(run_time.used_s) * request.budget_s / budget_s
                raise DeadlineMissedError(
                    f"a budget of {budget_s:.0f} s is too short here for one training step and one package, so nothing "
                    f"was registered; --budget {enough_s:.0f} would be enough"
                ) from error
            tell({"event": "phase", "name": "judge"})
            candidate = services.steps("judge", lambda: judge.judge(run, done, run_time=run_time), again=True)
            tell({"event": "phase", "name": "gate", "verdict": candidate.decision.verdict})
            version, registering_s = services.steps(
                "register",
                lambda: _timed(
                    lambda: register_version(services, run, manifest, candidate, budget_s, self.tags), run_time.now
                ),
                again=True,
            )
            training = {
                "budget_s": budget_s,
                "used_s": round(run_time.used_s, 1),
                "rows_seen": done.done["rows"],
                "window": request.window,
                "start_promotion": request.start_promotion,
            }
            behind = None
            if self.challenger is not None and candidate.decision.verdict == "PROMOTE":
                leader, judged = self.challenger
                behind = judge.stays_behind(candidate, judged, name=f"version {leader}")
            action, recording_s = services.steps(
                "put-in-force",
                lambda: _timed(
                    lambda: put_in_force(services, version, candidate, training, actor=request.reason, behind=behind),
                    run_time.now,
                ),
                again=True,
            )
            after_ledger.recorded = version
            used_s = run_time.used_s
            with after_ledger:  # so that the tracking run ends as FINISHED
                reserve.record("register", registering_s + recording_s)
                run.metrics(
                    {
                        "used_s": used_s,
                        "budget_used_share": used_s / budget_s,
                        "overrun_s": max(0.0, used_s - budget_s),
                        "after_training_s": after_training.seconds,
                    }
                )
        evidence, config = candidate.evidence, candidate.package.config
        trained = TrainedVersion(
            version=version,
            verdict=candidate.decision.verdict,
            reasons=((behind,) if behind else ()) + candidate.decision.reasons,
            snapshot=manifest.digest,
            f1=candidate.metrics.f1,
            champion_f1=None if evidence.baseline else evidence.overall.champion.f1,
            task=evidence.task,
            budget_s=budget_s,
            used_s=used_s,
            action=action,
            layers=config.layers,
            size_mb=candidate.package.size_mb,
            rows_per_s=candidate.rows_per_s,
            usd_per_million=price_of(services, candidate.rows_per_s),
        )
        if action == "challenged":
            self.challenger = version, candidate
            self.made = [replace(each, action="kept") if each.action == action else each for each in self.made]
        self.made.append(trained)
        self.larger = Start(folder=candidate.job.weights, base=config.base_model, layers=config.layers)
        return trained

    def _require_rows(self, manifest: "Manifest", judge: Judging) -> None:
        """Announce that the gate has too few rows to decide; refuse a training that a window requested."""
        lacks = None if self.made else undecidable(self.services, manifest, judge.since)
        if lacks is not None and self.request.window is not None:
            raise PermanentError(f"no training was started, because its gate could only HOLD: {lacks}")
        if lacks is not None:
            self.tell({"event": "note", "sentence": f"the gate can only HOLD unless the version is cheaper: {lacks}"})

    def _snapshot(self) -> "Manifest":
        """Return the snapshot of the run: the snapshot of its lesson, else a new one, which is taken once."""
        if self.manifest is None:
            self.manifest = self.lesson.manifest if self.lesson else _snapshot(self.services, self.request)
        return self.manifest


def _snapshot(services: Services, request: TrainingRequest) -> "Manifest":
    return services.steps("snapshot", lambda: take_snapshot(services, request.sources), again=True)


def _lesson(services: Services, request: TrainingRequest, on_event: OnEvent, run: RunTeacher) -> Lesson | None:
    """Return the teachers' answers, made before the budget starts; None for a recipe without teachers."""
    recipe = RECIPES[request.recipe or services.settings.training.recipe]
    if not recipe.teacher_weight:
        if request.teachers or request.unlabelled:
            raise PermanentError("teachers and inputs without labels need the recipe distilled: set --recipe distilled")
        return None
    manifest, started = _snapshot(services, request), services.clock().timestamp()
    policy = services.settings.training
    names = request.teachers or policy.teacher_names
    budget_s = policy.teacher_budget_s if request.teacher_budget_s is None else request.teacher_budget_s
    write = writer(services.home.folder("jobs"), started=started, ends_at=started + len(names) * budget_s)

    def tell(event: Mapping[str, Any]) -> None:
        write(event)
        on_event(event)

    return services.steps(
        "teach",
        lambda: make_lesson(
            services, manifest, teachers=names, budget_s=budget_s, files=request.unlabelled,
            max_tokens=MAX_TOKENS, on_event=tell, run=run,
        ),
    )  # fmt: skip


def _timed(action: Callable[[], _T], now: Callable[[], float]) -> tuple[_T, float]:
    """Return the result of an action and its seconds; of a repeated step only the successful attempt counts."""
    started = now()
    return action(), now() - started


class _AfterLedger:
    """Context that announces an outage instead of raising it, once the ledger has recorded the version."""

    def __init__(self, tell: OnEvent) -> None:
        self._tell = tell
        self.recorded: str | None = None

    def __enter__(self) -> None:
        pass

    def __exit__(self, _: object, error: BaseException | None, __: object) -> bool:
        if self.recorded is None or not isinstance(error, UnavailableError | OSError):
            return False
        sentence = f"version {self.recorded} is in the ledger, but its last figures could not be stored: {error}"
        self._tell({"event": "note", "sentence": sentence})
        return True


class AfterTraining:
    """Listener that measures the time since the training itself ended."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now, self._ended = now, now()

    def __call__(self, event: Mapping[str, Any]) -> None:
        """Record the time of events of training and export."""
        if event.get("event") in {"progress", "phase"} and event.get("name", "train") in {"train", "export"}:
            self._ended = self._now()

    @property
    def seconds(self) -> float:
        """Seconds since the training ended."""
        return self._now() - self._ended
