"""Use case of training, with a toy package and fakes of MLflow and of the training process."""

import csv
import json
import shutil
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import pytest

from absa.adapters.lake_stores import FolderLake
from absa.data.ingest import ingest
from absa.data.recent_split import labels_for_gate
from absa.errors import DeadlineMissedError, PermanentError, UnavailableError
from absa.ledger.lifecycle import crowned
from absa.ledger.record import LedgerRecord
from absa.ledger.store import Ledger
from absa.packaging.numbered import NumberedPackages
from absa.policies import GatePolicy, TrainingRecipe
from absa.records.schema import Window
from flows.platform.ports import run_step
from flows.platform.prefect_runs import SCHEDULED
from flows.platform.services import Services, build_services
from flows.platform.settings import Settings
from flows.training.candidate import Start, start_of
from flows.training.job_process import JobResult, OnEvent, RunJob
from flows.training.judging import Judging
from flows.training.requested_training import run_training, train_as_requested
from flows.training.reserve import TIMES_FILE
from flows.training.run_progress import read_progress
from flows.training.train_version import TrainedVersion, TrainingRequest, train_version
from flows.training.training_snapshot import labels_since_champion
from monitoring.verdicts import VerdictStore
from tests.stand_ins import FakeDeployments, FakeRegistry, FakeRuns, stale
from tests.toy_package import WORDS, build_toy_package

T = TypeVar("T")
PARITY = {"rows": 50, "labels_equal": 1.0, "f1_fp32": 0.8, "f1_int8": 0.8}
DIGITS = ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
PHRASES = ("terrible", "a tool", "great")
BUDGET_S = 60.0
START = datetime(2026, 11, 23, 10, tzinfo=UTC)
WINDOW = Window(start=START, end=START + timedelta(hours=1))


class Clock:
    """Time that passes only when told."""

    def __init__(self) -> None:
        self.now = datetime.now(UTC) + timedelta(seconds=1)

    def __call__(self) -> datetime:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)


@dataclass
class Job:
    """Training process that takes its time, then packages a toy. `forgets` names words without a sentiment.

    `forgets_small` has the words of students with so many layers, `fails` what their process raises.
    """

    clock: Clock
    toys: Callable[..., Path]
    takes_s: float = 20.0
    forgets: Collection[str] = ()
    forgets_small: dict[int, Collection[str]] = field(default_factory=dict)
    fails: dict[int, Exception] = field(default_factory=dict)
    settings: list[dict[str, Any]] = field(default_factory=list)

    def __call__(
        self,
        folder: Path,
        *,
        ends_at: float,
        environment: Mapping[str, str],
        on_event: OnEvent,
        overrun_s: float = 0.0,
        least_after_s: Callable[[], float] = lambda: 0.0,
    ) -> JobResult:
        on_event({"event": "phase", "name": "train"})
        on_event({"event": "progress", "step": 1, "epoch": 1.0, "loss": 0.5, "lr": 0.1, "tokens_per_s": 10.0})
        left_s = ends_at + overrun_s - self.clock().timestamp()
        self.clock.advance(max(0.0, min(self.takes_s, left_s)))
        if left_s < self.takes_s:
            raise DeadlineMissedError("the time ended before a first package was complete")
        described = json.loads((folder / "job.json").read_text())
        self.settings.append(described["settings"])
        layers = self.settings[-1].get("layers", 0)
        if layers in self.fails:
            raise self.fails[layers]
        packages = NumberedPackages(folder)
        with packages.next() as (made, facts):
            shutil.copytree(self.toys(self.forgets_small.get(layers, self.forgets), layers), made / "package")
            config = json.loads((made / "package" / "config.json").read_text())
            config |= {"snapshot": described["snapshot"], "run": described["run"]}
            (made / "package" / "config.json").write_text(json.dumps(config))
            (made / "weights").mkdir()
            for name in ("config.json", "model.safetensors"):
                (made / "weights" / name).write_text("{}")
            shutil.copy(made / "package" / "tokenizer.json", made / "weights")
            facts |= {"rows": 480, "parity": PARITY}
        on_event({"event": "phase", "name": "export"})
        done = packages.settle()
        assert done is not None
        return JobResult(folder=folder, done=done, starts=1)


@dataclass
class Steps:
    """Runs steps without a pause; `before` and `after` run beside those of their name."""

    before: dict[str, Callable[[], object]] = field(default_factory=dict)
    after: dict[str, Callable[[], object]] = field(default_factory=dict)

    def __call__(self, name: str, action: Callable[[], T], *, again: bool = False) -> T:
        def run() -> T:
            self.before.get(name, lambda: None)()
            return action()

        result = run_step(name, run, again=again, delays_s=(0.0, 0.0, 0.0))
        self.after.get(name, lambda: None)()
        return result


@dataclass
class World:
    """A home with 600 rows to learn from."""

    services: Services
    registry: FakeRegistry
    runs: FakeRuns
    clock: Clock
    steps: Steps
    job: Job
    events: list[Mapping[str, Any]] = field(default_factory=list)
    run_job: RunJob | None = None
    budget_s: float = BUDGET_S

    def train(self, **request: Any) -> TrainedVersion:
        judging = partial(Judging, validate=lambda _: 100.0, draw=lambda *_: None, measure=rates)
        return train_version(
            self.services,
            TrainingRequest(**{"budget_s": self.budget_s, **request}),
            on_event=self.events.append,
            job=self.run_job or self.job,
            judging=judging,
        )

    @property
    def records(self) -> list[LedgerRecord]:
        return list(self.services.ledger.follow())

    def evidence(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(
            self.services.lake.read(f"evidence/{self.services.head().evidence_digest}.json")
        )
        return found

    def serve(self, snapshot: str, *, forgets: Collection[str] = ()) -> None:
        """Make a version that learnt from a snapshot champion."""
        folder = self.services.home.folder("champion")
        shutil.copytree(self.job.toys(forgets), folder, dirs_exist_ok=True)
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps({**config, "snapshot": snapshot, "run": "run-0"}))
        digest = self.services.packages.put(folder)
        self.registry.kept["1"] = {"digest": digest}
        self.services.ledger.append(
            expected=0, actor="test", action="promote", reason="first", state=crowned("1"), versions={"1": digest}
        )


def rates(scorers: Sequence[Any], pairs: Sequence[Any]) -> list[float]:
    """Rows per second by layers."""
    return [1200.0 / (1 + score.__self__.package.config.layers) for score in scorers]


def write_rows(file: Path, numbers: range) -> Path:
    with file.open("w", newline="", encoding="utf-8") as out:
        write = csv.writer(out).writerow
        write(("text", "aspect", "label"))
        for number in numbers:
            words = " ".join(DIGITS[int(digit)] for digit in str(number))
            write((f"the app is {PHRASES[number % 3]} {words}", "app", number % 3))
    return file


@pytest.fixture(scope="module")
def toys(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    made: dict[tuple[frozenset[str], int], Path] = {}

    def toy(forgets: Collection[str], layers: int = 0) -> Path:
        key = frozenset(forgets), layers
        if key not in made:
            folder = build_toy_package(tmp_path_factory.mktemp("toy"), forgets=forgets, layers=layers)
            calibration = json.loads((folder / "calibration.json").read_text())
            (folder / "calibration.json").write_text(
                json.dumps({**calibration, "temperature": 0.1})
            )  # as sure as right
            made[key] = folder
        return made[key]

    return toy


@pytest.fixture(scope="module")
def ingested(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Lake with a snapshot."""
    folder = tmp_path_factory.mktemp("lake")
    ingest(FolderLake(folder / "lake"), [str(write_rows(folder / "rows.csv", range(600)))], processes=1)
    return folder / "lake"


@pytest.fixture
def world(tmp_path: Path, ingested: Path, toys: Callable[..., Path]) -> World:
    shutil.copytree(ingested, tmp_path / "lake")
    clock, registry, steps = Clock(), FakeRegistry(), Steps()
    runs = FakeRuns(registry)
    settings = Settings(home=tmp_path, gate=GatePolicy(min_recent_rows=20, behaviour_cases=12))
    services = build_services(settings, environment={}, registry=registry, runs=runs, clock=clock, steps=steps)
    return World(services, registry, runs, clock, steps, Job(clock, toys))


@pytest.fixture
def ladder(world: World) -> World:
    """The same home, whose runs make students of six and of three layers."""
    settings = world.services.settings.model_copy(update={"training": TrainingRecipe(ladder=(6, 3))})
    world.services = replace(world.services, settings=settings)
    world.budget_s = 110.0
    return world


def newest(world: World) -> str:
    from absa.data.snapshot import latest_manifest

    manifest = latest_manifest(world.services.lake)
    assert manifest is not None
    return manifest.digest


def test_first_version_becomes_champion(world: World) -> None:
    outcome = world.train(window="w", start_promotion=True)
    assert (outcome.version, outcome.verdict, outcome.action) == ("1", "PROMOTE", "crowned")
    assert outcome.champion_f1 is None
    assert [record.action for record in world.records] == ["register", "promote"]
    assert world.registry.aliases() == {"champion": "1"}
    training = world.evidence()["training"]
    assert training == {
        "budget_s": BUDGET_S, "used_s": 20.0, "rows_seen": 480, "window": "w", "start_promotion": True,
        "version": "1",
    }  # fmt: skip
    (run,) = world.runs.kept
    assert (run.status, run.marks["window"], run.marks["gate"]) == ("FINISHED", "w", "PROMOTE")
    assert run.sides == ["train", "validation", "test"]
    assert run.figures["used_s"] == 20.0
    tags = world.registry.tags("1")
    assert (tags["run"], tags["snapshot"], tags["gate"]) == ("run-1", newest(world), "PROMOTE")
    assert "may take up to 15 s longer" in world.events[0]["sentence"]
    assert world.services.packages.get("1", tags["digest"]).digest == tags["digest"]
    assert phase_now(world) == "finishing"


def phase_now(world: World) -> str:
    """Phase that `evergreen status` reads; `finishing` counts as ended."""
    found = read_progress(world.services.home.folder("jobs"), since=0.0)
    assert found is not None
    return found.phase


def test_better_version_becomes_challenger(world: World, tmp_path: Path) -> None:
    world.serve(newest(world), forgets=WORDS)
    outcome = world.train(sources=(str(write_rows(tmp_path / "new.csv", range(600, 1200))),))
    assert (outcome.verdict, outcome.action) == ("PROMOTE", "challenged")
    assert outcome.champion_f1 == 0.0
    assert world.services.head().state.challenger == outcome.version == "2"
    assert world.registry.aliases() == {"champion": "1", "challenger": "2"}


def test_no_recent_rows_keep_the_champion(world: World) -> None:
    world.serve(newest(world))
    outcome = world.train()
    assert (outcome.verdict, outcome.action) == ("HOLD", "kept")
    assert "0 recent test rows, 20 are needed" in outcome.reasons[0]
    assert world.services.head().state == crowned("1")
    assert world.services.head().versions.keys() == {"1", "2"}


def test_rejected_version_is_kept_unserved(world: World) -> None:
    world.job.forgets = WORDS
    outcome = world.train()
    assert (outcome.verdict, outcome.action) == ("REJECT", "kept")
    assert [record.action for record in world.records] == ["register"]
    assert world.registry.aliases() == {}
    assert world.registry.tags("1")["gate"] == "REJECT"


def test_first_version_on_hold_serves_with_warning(world: World, tmp_path: Path) -> None:
    few = build_services(
        Settings(home=tmp_path / "few"), environment={}, registry=world.registry, runs=world.runs, clock=world.clock
    )
    world.services = few
    outcome = world.train(sources=(str(write_rows(tmp_path / "few.csv", range(120))),))
    assert (outcome.verdict, outcome.action) == ("HOLD", "crowned")
    assert few.head().reason.startswith("Warning: the gate's verdict is HOLD (There are ")


def test_training_without_data_reports_the_first_command(world: World, tmp_path: Path) -> None:
    shutil.rmtree(tmp_path / "lake")
    with pytest.raises(PermanentError, match="run `evergreen init FILE` first"):
        world.train()
    assert world.runs.kept == []


@pytest.mark.parametrize("phase", ["snapshot", "train"])
def test_deadline_before_a_package_registers_nothing(world: World, phase: str) -> None:
    if phase == "snapshot":
        world.steps.after["snapshot"] = lambda: world.clock.advance(80.0)
    else:
        world.job.takes_s = 80.0
    with pytest.raises(DeadlineMissedError, match=r"a budget of 60 s is too short .* --budget \d+ would be enough"):
        world.train()
    assert (world.records, world.registry.versions()) == ([], [])
    assert (world.runs.kept[0].status, phase_now(world)) == ("FAILED", "finishing")


@pytest.mark.parametrize("phase", ["judge", "register"])
def test_deadline_after_a_package_registers_it(world: World, phase: str) -> None:
    world.steps.before[phase] = lambda: world.clock.advance(70.0)
    outcome = world.train()
    assert (outcome.version, outcome.used_s) == ("1", 90.0)
    assert world.services.head().state == crowned("1")
    (run,) = world.runs.kept
    assert run.figures["overrun_s"] == 30.0
    assert run.parameters["behaviour_cases"] == (10 if phase == "judge" else 12)


def test_mlflow_down_at_start_trains_nothing(world: World) -> None:
    world.runs.away = True
    with pytest.raises(UnavailableError, match="nothing was trained; run it again"):
        world.train()
    assert world.records == []


def test_failed_registration_changes_nothing(world: World) -> None:
    world.serve(newest(world))
    world.steps.before["register"] = lambda: setattr(world.registry, "away", True)
    with pytest.raises(UnavailableError, match=r"could not be registered.*`evergreen up`.*train again") as failed:
        world.train()
    package = Path(str(failed.value).rpartition(" ")[2])
    assert (package / "model.onnx").is_file()
    world.registry.away = False
    assert len(world.records) == 1
    assert world.registry.versions() == ["1"]


def test_short_outage_after_the_job_costs_nothing(world: World) -> None:
    job = world.job

    def outage(folder: Path, **options: Any) -> JobResult:
        result = job(folder, **options)
        world.registry.fails = {"params"}
        return result

    world.run_job = outage
    assert world.train().version == "1"
    assert world.registry.fails == set()
    assert world.runs.kept[0].parameters["rows"] == 480


@pytest.mark.parametrize("call", ["register", "set_tags"])
def test_repeated_registration_makes_one_version(world: World, call: str) -> None:
    world.registry.fails = {call}
    assert world.train().version == "1"
    assert world.registry.fails == set()
    assert world.registry.versions() == ["1"]
    assert world.registry.tags("1")["gate"] == "PROMOTE"


def test_retraining_that_can_only_hold_is_not_started(world: World) -> None:
    world.serve(newest(world))
    with pytest.raises(PermanentError, match=r"0 recent test rows, the gate needs 20: .*, 52 labels since"):
        world.train(window=WINDOW.key)
    assert [each["name"] for each in world.events if each["event"] == "phase"] == ["snapshot"]
    world.train()  # by an operator: a version that is cheaper may be promoted all the same
    assert any("the gate can only HOLD" in each.get("sentence", "") for each in world.events)


def test_scheduled_training_waits_for_labels(world: World) -> None:
    world.serve(newest(world))
    done = run_training(world.services, TrainingRequest(budget_s=BUDGET_S, reason=SCHEDULED), flow_run_id=None)
    assert done["action"] == "skipped"
    assert done["reason"].startswith("52 labels are missing: 0 of 52 came since the champion's snapshot")
    assert (world.events, world.runs.kept) == ([], [])


def test_fewest_labels_give_gate_enough_test_rows(world: World, tmp_path: Path) -> None:
    world.serve(newest(world))
    labels = labels_for_gate(20)
    assert (labels, labels_since_champion(world.services)) == (52, 0)
    outcome = world.train(window=WINDOW.key, sources=(str(write_rows(tmp_path / "new.csv", range(600, 600 + labels))),))
    assert labels_since_champion(world.services) == labels
    evidence = world.evidence()
    assert (outcome.version, "test rows, 20 are needed" in " ".join(evidence["reasons"])) == ("2", False)


def test_reserve_counts_no_pause_between_attempts(world: World) -> None:
    world.registry.fails = {"register"}
    world.steps.before["register"] = lambda: world.clock.advance(10.0)
    assert world.train().used_s == 40.0
    times = json.loads((world.services.home.folder("jobs") / TIMES_FILE).read_text())
    assert times["register"] == 0.0


@pytest.mark.parametrize(("call", "status"), [("used_s", "FINISHED"), ("end_run", "RUNNING")])
def test_outage_after_the_ledger_completes_training(world: World, tmp_path: Path, call: str, status: str) -> None:
    """MLflow is away for the run's last figures, or for its end: the window has its version and the promotion."""
    world.serve(newest(world), forgets=WORDS)
    deployments, store = FakeDeployments(), VerdictStore(world.services.lake)
    world.services = replace(world.services, deployments=deployments)
    store.begin_attempt(store.record(stale(WINDOW)), flow_run_id="run-1", at=WINDOW.end)
    world.registry.fails = {call}
    request = TrainingRequest(
        budget_s=BUDGET_S,
        window=WINDOW.key,
        sources=(str(write_rows(tmp_path / "new.csv", range(600, 1200))),),
        start_promotion=True,
    )
    outcome = train_as_requested(
        world.services, request, flow_run_id="run-1", train=lambda _, asked, **__: world.train(**vars(asked))
    )
    assert (outcome.version, outcome.action, world.registry.fails) == ("2", "challenged", set())
    assert world.runs.kept[0].status == status
    assert "version 2 is in the ledger" in world.events[-1]["sentence"]
    latest = store.latest(WINDOW)
    assert latest is not None
    assert [attempt.state for attempt in latest.attempts] == ["completed"]
    assert [key for _, _, key in deployments.started] == ["promote-2"]


def test_outage_before_the_ledger_fails_training(world: World) -> None:
    world.steps.before["put-in-force"] = away
    with pytest.raises(UnavailableError, match="the lake is away"):
        world.train()
    assert (world.records, world.runs.kept[0].status) == ([], "FAILED")


def away() -> None:
    raise UnavailableError("the lake is away")


def test_lost_race_looks_again(world: World) -> None:
    """Another training makes its version champion between this one's look at the ledger and its append."""
    world.serve(newest(world))
    ledger = RacingLedger(world.services.lake)
    world.services = replace(world.services, ledger=ledger)
    outcome = world.train()
    assert outcome.version == "2"
    assert ledger.lost == 1
    assert [record.action for record in world.records] == ["promote", "rollback", "register"]
    assert world.services.ledger.verify() == []


class RacingLedger(Ledger):
    """Ledger in which another writer is faster, once."""

    lost = 0

    def append(self, *, expected: int, **record: Any) -> LedgerRecord:
        if self.lost == 0:
            self.lost += 1
            super().append(
                expected=expected, actor="person", action="rollback", reason="complaints", state=crowned("1")
            )
        return super().append(expected=expected, **record)


class Killed(BaseException):
    """SIGKILL."""


def killed() -> None:
    raise Killed


def test_version_of_a_killed_run_is_recorded_later(world: World) -> None:
    """Killed between registration and ledger: the version serves nothing, and the next run's ledger step adds it."""
    world.serve(newest(world))
    world.steps.before["put-in-force"] = killed
    with pytest.raises(Killed):
        world.train()
    assert (world.registry.versions(), len(world.records)) == (["1", "2"], 1)
    assert world.registry.aliases() == {}
    world.steps.before.clear()
    assert world.train().version == "3"
    assert world.services.head().versions.keys() == {"1", "2", "3"}
    assert [record.action for record in world.records] == ["promote", "register", "register"]
    assert "version 2: the gate's verdict is HOLD. Its training did not record it." in world.records[1].reason
    assert world.registry.aliases() == {"champion": "1"}


def test_repeated_ledger_step_appends_what_is_missing(world: World) -> None:
    """Killed between the records `register` and `promote`: a repeated step appends the missing one."""
    ledger = KilledLedger(world.services.lake)
    world.services = replace(world.services, ledger=ledger)
    assert world.train().action == "crowned"
    assert [record.action for record in world.records] == ["register", "promote"]
    assert world.registry.versions() == ["1"]


class KilledLedger(Ledger):
    """Ledger whose lake is unavailable for the first promotion."""

    tries = 0

    def append(self, *, action: Any, **record: Any) -> LedgerRecord:
        if action == "promote":
            self.tries += 1
            if self.tries == 1:
                raise UnavailableError("the lake is unavailable")
        return super().append(action=action, **record)


def test_named_recipe_reaches_the_training_process(world: World) -> None:
    world.train(recipe="best")
    (described,) = world.services.home.root.glob("jobs/*/job.json")
    settings = json.loads(described.read_text())["settings"]
    assert (settings["r_drop"], settings["dropout"], settings["max_epochs"]) == (1.0, 0.1, 4.0)


def test_ladder_challenges_with_the_cheaper_size(ladder: World) -> None:
    """The six layers become the first champion, and three of them are as right in less time."""
    outcome = ladder.train()
    assert (outcome.version, outcome.verdict, outcome.action) == ("2", "PROMOTE", "challenged")
    assert outcome.reasons[0].startswith("Not worse and cheaper")
    assert (outcome.budget_s, outcome.used_s) == (110.0, 40.0)
    assert [(each.version, each.layers, each.action) for each in outcome.ladder] == [
        ("1", 6, "crowned"), ("2", 3, "challenged"),
    ]  # fmt: skip
    six, three = ladder.job.settings
    assert (six["layers"], six["max_epochs"], "warm_start" in six) == (6, 4.0, False)
    assert (three["layers"], three["max_epochs"]) == (3, 4.0)
    assert Path(three["warm_start"]) == ladder.services.home.folder("jobs", "run-1") / "weights"


def test_ladder_shows_its_versions_side_by_side(ladder: World) -> None:
    outcome = ladder.train()
    tags = [ladder.registry.tags(version) for version in ("1", "2")]
    assert len({each["ladder"] for each in tags} | {run.marks["ladder"] for run in ladder.runs.kept}) == 1
    assert [each["student"] for each in tags] == ["L6-3", "L3-3"]
    assert [float(each["budget_s"]) for each in tags] == [70.0, 90.0]
    assert float(tags[0]["usd_per_million"]) > float(tags[1]["usd_per_million"]) > 0
    for run, each in zip(ladder.runs.kept, outcome.ladder, strict=True):
        assert run.figures["usd_per_million"] == each.usd_per_million
        assert run.figures["rows_per_s"] == each.rows_per_s
        assert run.figures["size_mb"] == each.size_mb


@pytest.mark.parametrize(("forgets", "challenger"), [((), "3"), (("great",), "2")])
def test_smaller_size_replaces_an_equal_challenger(
    ladder: World, tmp_path: Path, forgets: Collection[str], challenger: str
) -> None:
    """Both sizes are better than the champion; three layers that are worse than six leave them the place."""
    ladder.serve(newest(ladder), forgets=WORDS)
    ladder.job.forgets_small[3] = forgets
    outcome = ladder.train(sources=(str(write_rows(tmp_path / "new.csv", range(600, 1200))),))
    assert (outcome.version, outcome.action) == (challenger, "challenged")
    assert [each.verdict for each in outcome.ladder] == ["PROMOTE", "PROMOTE"]
    assert [each.action for each in outcome.ladder].count("challenged") == 1
    assert ladder.services.head().state.challenger == challenger
    if forgets:
        assert outcome.ladder[1].reasons[0].startswith("It does not replace version 2. pos/neg F1 changes by -")
        assert "It does not replace version 2." in ladder.records[-1].reason


@pytest.mark.parametrize(
    ("layers", "champion", "larger", "expected"),
    [
        (None, None, None, None),
        (None, 3, None, 3),
        (6, 3, None, None),
        (6, 6, None, 6),
        (3, 6, None, 6),
        (3, 3, 6, 3),
        (3, 2, 6, 6),
    ],
)
def test_student_starts_from_the_nearest_weights(
    layers: int | None, champion: int | None, larger: int | None, expected: int | None
) -> None:
    def weights(number: int | None) -> Start | None:
        return None if number is None else Start(folder=Path(f"{number}"), base="base", layers=number)

    found = start_of(layers, weights(champion), weights(larger))
    assert (found and found.layers) == expected


def test_smaller_size_that_fails_leaves_the_larger(ladder: World) -> None:
    ladder.job.fails[3] = DeadlineMissedError("the time ended before a first package was complete")
    outcome = ladder.train()
    assert (outcome.version, outcome.action, len(outcome.ladder)) == ("1", "crowned", 1)
    assert [run.status for run in ladder.runs.kept] == ["FINISHED", "FAILED"]
    assert ladder.events[-1]["sentence"].startswith("there is no version of 3 layers: a budget of 90 s is too short")


def test_short_budget_leaves_out_small_sizes(ladder: World) -> None:
    outcome = ladder.train(budget_s=60.0)
    assert [each.layers for each in outcome.ladder] == [6]
    assert ladder.events[0]["sentence"] == "a budget of 60 s leaves no time here for 3 layers"
