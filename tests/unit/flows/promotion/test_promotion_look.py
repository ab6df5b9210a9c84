"""Promotion look as a plain function: fakes for registry, evidence and checks, and a ledger in memory."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from absa.errors import ConflictError, IntegrityError, NotFoundError, PermanentError, UnavailableError
from absa.ledger.lifecycle import challenged, crowned, dropped, ramped, shadowed
from absa.ledger.record import Action, LedgerRecord, next_record
from absa.ledger.routing import single
from absa.ledger.state import State
from absa.ledger.store import Ledger
from absa.policies import ExperimentPolicy
from absa.records.layout import ledger_key
from flows.platform.services import Services, build_services
from flows.platform.settings import Settings
from flows.promotion.promotion_look import Trial, begin, look, promote_versions
from flows.promotion.promotion_request import PromotionRequest
from flows.promotion.running_experiment import RunningExperiment
from flows.promotion.take_over import take_over
from monitoring.experiments.ab_statistics import ExperimentAction, ExperimentDecision
from tests.fake_lakes import CountingLake, MemoryLake
from tests.stand_ins import FakeDeployments, FakeRegistry

START = datetime(2026, 11, 30, tzinfo=UTC)
VERSIONS = {version: version * 64 for version in "123"}
FIRST = crowned("1")
NAMED = challenged(FIRST, "2")
SHADOW = shadowed(NAMED)
HALF = ramped(SHADOW, 0.5)


@dataclass
class Clock:
    """Time that passes when a trial sleeps."""

    now: datetime = START

    def __call__(self) -> datetime:
        self.now += timedelta(milliseconds=1)
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)

    def monotonic(self) -> float:
        return self.now.timestamp()


@dataclass
class Evidence:
    """Judgements by version, given look by look; the last one stays."""

    decisions: dict[str, list[ExperimentAction]] = field(default_factory=dict)
    looks: int = 0

    def __call__(self, services: Services, run: RunningExperiment) -> Mapping[str, ExperimentDecision]:
        self.looks += 1
        plan = run.head.state.plan
        assert plan is not None
        return {
            arm.version: decided(self._next(arm.version), estimate=int(arm.version) / 100) for arm in plan.challengers
        }

    def _next(self, version: str) -> ExperimentAction:
        left = self.decisions.get(version, ["CONTINUE"])
        return left.pop(0) if len(left) > 1 else left[0]


def decided(decision: ExperimentAction, *, estimate: float = 0.1) -> ExperimentDecision:
    return ExperimentDecision(
        decision=decision, sentence=f"evidence says {decision}", estimate=estimate, low=0.05, high=0.15,
        exposure_champion=500, exposure_challenger=500, srm_p_value=1.0,
    )  # fmt: skip


@dataclass
class Operator:
    """Operator who has approved, or not yet."""

    approves: bool = False
    requests: int = 0
    withdrawn: bool = False

    def given(self) -> bool:
        self.requests += 1
        return self.approves

    def withdraw(self) -> None:
        self.withdrawn = True


def serves(_: Services, version: str, digest: str) -> dict[str, Any]:
    assert digest == VERSIONS[version]
    return {"rows": 3}


def costs(_: Services, champion: tuple[str, str], others: Sequence[tuple[str, str]]) -> dict[str, Any]:
    assert all(digest == VERSIONS[version] for version, digest in (champion, *others))
    return {version: {"rows": 64, "candidate_rows_per_s": 180.0, "champion_rows_per_s": 100.0} for version, _ in others}


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def services(tmp_path: Path, clock: Clock) -> Services:
    registry = FakeRegistry({version: {"gate": "PROMOTE"} for version in VERSIONS})
    settings = Settings(home=tmp_path, experiment=ExperimentPolicy(ramp=(0.05, 0.5), shadow_s=10, step_s=20))
    return build_services(settings, environment={}, registry=registry, lake=MemoryLake(), clock=clock)


def tell(services: Services, *states: State) -> None:
    for state in states:
        head = services.ledger.head()
        action: Action = "promote" if state.challenger is None else "traffic"
        services.ledger.append(
            expected=head.number if head else 0, actor="promote-flow", action=action, reason="before", state=state,
            versions=VERSIONS,
        )  # fmt: skip


def trial(services: Services, *versions: str, **more: Any) -> Trial:
    request = PromotionRequest(versions=versions or ("2",), revision=None)
    fakes = {"judge": Evidence(), "check": serves, "measure": costs}
    return Trial(**{"services": services, "request": request, **fakes, **more})


def run(services: Services, clock: Clock, *versions: str, **more: Any) -> LedgerRecord:
    """Promote as another process would: with a ledger that has read nothing yet."""
    fresh = replace(services, ledger=Ledger(services.lake, clock=clock))
    return promote_versions(trial(fresh, *versions, **more), sleep=clock.sleep, clock=clock.monotonic)


def told(services: Services) -> list[tuple[str, str]]:
    return [(record.action, record.reason) for record in services.ledger.follow()[1:]]


def test_challenger_goes_through_shadow_and_ramp(services: Services, clock: Clock) -> None:
    tell(services, FIRST)
    evidence = Evidence({"2": ["CONTINUE"] * 60 + ["PROMOTE"]})
    ended = run(services, clock, judge=evidence)
    assert (ended.action, ended.state) == ("promote", crowned("2"))
    assert told(services) == [
        ("challenge", "version 2 was named"),
        ("traffic", "the challenger scores unseen"),
        ("traffic", "ramp to 5%"),
        ("traffic", "ramp to 50%"),
        ("promote", "evidence says PROMOTE"),
    ]
    assert services.ledger.verify() == []
    kept = services.ledger.evidence(ended)
    assert (kept["decision"], kept["infra"]) == ("PROMOTE", {"rows": 3})


@pytest.mark.parametrize("decision", ["ROLL_BACK", "STOP_FOR_FUTILITY"])
def test_challenger_that_loses_is_rolled_back(services: Services, clock: Clock, decision: ExperimentAction) -> None:
    tell(services, FIRST)
    ended = run(services, clock, judge=Evidence({"2": ["CONTINUE", decision]}))
    assert (ended.action, ended.state, ended.reason) == ("rollback", FIRST, f"evidence says {decision}")
    assert services.ledger.evidence(ended)["decision"] == decision


def test_look_without_evidence_changes_nothing(services: Services) -> None:
    tell(services, FIRST, NAMED, HALF)
    evidence = Evidence()
    assert [look(trial(services, judge=evidence)) for _ in range(3)] == [None] * 3
    assert (evidence.looks, services.head().state) == (3, HALF)


def test_look_writes_who_looked_and_what_it_saw(services: Services) -> None:
    tell(services, FIRST, NAMED, SHADOW)
    look(trial(services, run_id="run-7"))
    assert services.lake.list("experiments/") == ["experiments/v1-vs-v2/3.json", "experiments/v1-vs-v2/watched.json"]
    assert b"run-7" in services.lake.read("experiments/v1-vs-v2/watched.json")


def test_experiment_start_leaves_a_sign_of_life(services: Services) -> None:
    """A run that is killed before its first look is named, so that its follower is found."""
    tell(services, FIRST, NAMED)
    assert look(trial(services, run_id="run-7")) is None
    assert services.lake.list("experiments/") == ["experiments/v1-vs-v2/watched.json"]


def test_losing_arm_leaves_the_other_one(services: Services, clock: Clock) -> None:
    tell(services, FIRST)
    evidence = Evidence({"2": ["CONTINUE", "ROLL_BACK"], "3": ["CONTINUE", "CONTINUE", "PROMOTE"]})
    ended = run(services, clock, "2", "3", judge=evidence)
    assert ended.state == crowned("3")
    states = [record.state for record in services.ledger.follow()]
    assert dropped(states[2], "2") in states


def test_best_of_several_winners_is_promoted(services: Services, clock: Clock) -> None:
    tell(services, FIRST)
    evidence = Evidence({"2": ["PROMOTE"], "3": ["PROMOTE"]})
    assert run(services, clock, "2", "3", judge=evidence).state == crowned("3")


class RacingLedger(Ledger):
    """Ledger in which another writer appends just before this one's third record."""

    raced = False

    def append(self, **new: Any) -> LedgerRecord:
        if new["expected"] == 3 and not self.raced:
            self.raced = True
            state, versions = self.follow()[-1].state, {"4": "4" * 64}
            other = {"actor": "train", "action": "register", "reason": "meanwhile", "state": state}
            super().append(expected=3, versions=versions, **other)
        return super().append(**new)


def test_lost_race_looks_again(services: Services, clock: Clock) -> None:
    tell(services, FIRST, NAMED, SHADOW)
    racing = trial(
        replace(services, ledger=RacingLedger(services.lake, clock=clock)), judge=Evidence({"2": ["PROMOTE"]})
    )
    with pytest.raises(ConflictError, match="at record 4, expected 3"):
        look(racing)
    ended = look(racing)
    assert ended is not None
    assert (ended.number, ended.state.champion, sorted(ended.versions)) == (5, "2", ["1", "2", "3", "4"])


def test_run_that_loses_a_race_goes_on(services: Services, clock: Clock) -> None:
    tell(services, FIRST, NAMED, SHADOW)
    racing = replace(services, ledger=RacingLedger(services.lake, clock=clock))
    evidence = Evidence({"2": ["PROMOTE"]})
    assert promote_versions(trial(racing, judge=evidence), sleep=clock.sleep, clock=clock.monotonic).number == 5
    assert evidence.looks == 2


class Killed(BaseException):
    """Death of the process."""


class MortalLedger(Ledger):
    """Ledger whose process dies right after a record is appended."""

    dies_after = 0

    def append(self, **new: Any) -> LedgerRecord:
        record = super().append(**new)
        if record.number == self.dies_after:
            raise Killed
        return record


@pytest.mark.parametrize("number", [2, 3, 4, 5, 6])
def test_killed_run_is_continued_by_the_next(services: Services, clock: Clock, number: int) -> None:
    tell(services, FIRST)
    mortal = MortalLedger(services.lake, clock=clock)
    mortal.dies_after = number
    evidence = Evidence({"2": ["CONTINUE"] * 60 + ["PROMOTE"]})
    dying = trial(replace(services, ledger=mortal), judge=evidence)
    with pytest.raises(Killed):
        promote_versions(dying, sleep=clock.sleep, clock=clock.monotonic)
    ended = run(services, clock, judge=evidence)
    assert ended.state == crowned("2")
    assert [record.action for record in services.ledger.follow()] == [
        "promote", "challenge", "traffic", "traffic", "traffic", "promote",
    ]  # fmt: skip
    assert ended.number == 6


def test_second_run_reports_the_first_ones_end(services: Services, clock: Clock) -> None:
    tell(services, FIRST)
    ended = run(services, clock, judge=Evidence({"2": ["ROLL_BACK"]}))
    assert run(services, clock) == ended
    revision = services.head().number
    again = PromotionRequest(versions=("2",), revision=revision, again=True)
    assert run(services, clock, request=again, judge=Evidence({"2": ["PROMOTE"]})).state == crowned("2")


def test_request_that_waited_is_refused_as_outdated(services: Services, clock: Clock) -> None:
    """`promote 3` waits while version 2 is tried, and version 2 is promoted meanwhile."""
    tell(services, FIRST, NAMED, crowned("2"))
    waited = PromotionRequest(versions=("3",), revision=2)
    with pytest.raises(PermanentError, match="the promotion of version 3 is outdated"):
        run(services, clock, request=waited)
    served = PromotionRequest(versions=("2",), revision=2)
    assert run(services, clock, request=served) == services.head()


def test_challenger_replaced_meanwhile_ends_the_run(services: Services) -> None:
    tell(services, FIRST, NAMED, FIRST)
    with pytest.raises(PermanentError, match="no longer the challenger; reason in the ledger: before"):
        look(trial(services))


def test_ledger_without_champion_refuses_a_trial(services: Services) -> None:
    with pytest.raises(PermanentError, match="no champion to challenge"):
        begin(trial(services))


@pytest.mark.parametrize(
    ("versions", "check", "error"),
    [("3", serves, PermanentError), ("9", serves, PermanentError), ("2", None, IntegrityError)],
)
def test_version_that_may_not_serve_is_not_tried(
    services: Services, versions: str, check: Callable[..., dict[str, Any]] | None, error: type[Exception]
) -> None:
    def broken(*_: object) -> dict[str, Any]:
        raise IntegrityError("answers differ")

    tell(services, FIRST)
    services.registry.set_tags("3", {"gate": "REJECT"})
    with pytest.raises(error):
        begin(trial(services, versions, check=check or broken))
    assert services.head().number == 1


@pytest.mark.parametrize("error", [IntegrityError("answers differ"), NotFoundError("its package is lost")])
def test_winner_that_fails_its_check_is_dropped(services: Services, clock: Clock, error: Exception) -> None:
    """The first refusal is a decision in the ledger, so no follower repeats the check."""
    checks: list[str] = []

    def broken(_: Services, version: str, digest: str) -> dict[str, Any]:
        checks.append(version)
        raise error

    tell(services, FIRST, NAMED, HALF)
    ended = run(services, clock, judge=Evidence({"2": ["PROMOTE"]}), check=broken)
    assert (ended.action, ended.state, checks) == ("rollback", FIRST, ["2"])
    assert f"its check in a fresh process failed: {error}; `evergreen promote 2 --now` checks it again" in ended.reason
    kept = services.ledger.evidence(ended)
    assert (kept["decision"], kept["guard"], kept["grounds"]) == ("ROLL_BACK", "check", None)
    prefect = FakeDeployments()
    assert take_over(replace(services, deployments=prefect), clock() + timedelta(days=1)) == []


def test_second_winner_follows_one_that_fails_its_check(services: Services, clock: Clock) -> None:
    def check(services: Services, version: str, digest: str) -> dict[str, Any]:
        if version == "3" and services.head().state.plan != single("1"):
            raise IntegrityError("answers differ")
        return serves(services, version, digest)

    tell(services, FIRST)
    ended = run(services, clock, "2", "3", judge=Evidence({"2": ["PROMOTE"], "3": ["PROMOTE"]}), check=check)
    assert ended.state == crowned("2")


def test_check_without_a_lake_is_repeated(services: Services, clock: Clock) -> None:
    fails = outage(3)

    def check(services: Services, version: str, digest: str) -> dict[str, Any]:
        if next(fails):
            raise UnavailableError("the lake is unavailable")
        return serves(services, version, digest)

    tell(services, FIRST, NAMED, HALF)
    assert run(services, clock, judge=Evidence({"2": ["PROMOTE"]}), check=check).state == crowned("2")


def test_promotion_waits_for_the_operator(services: Services) -> None:
    tell(services, FIRST, NAMED, HALF)
    operator = Operator()
    winning = trial(services, judge=Evidence({"2": ["PROMOTE"]}), approval=operator)
    assert [look(winning) for _ in range(3)] == [None] * 3
    assert (services.head().number, operator.requests) == (3, 3)
    operator.approves = True
    ended = look(winning)
    assert ended is not None
    assert (ended.action, ended.state) == ("promote", crowned("2"))


def test_guardrail_does_not_wait_for_the_operator(services: Services) -> None:
    tell(services, FIRST, NAMED, HALF)
    operator = Operator()
    evidence = Evidence({"2": ["PROMOTE", "ROLL_BACK"]})
    assert look(trial(services, judge=evidence, approval=operator)) is None
    ended = look(trial(services, judge=evidence, approval=operator))
    assert ended is not None
    assert (ended.action, ended.state, operator.withdrawn) == ("rollback", FIRST, True)


def outage(failures: int) -> Iterator[bool]:
    yield from [True] * failures
    while True:
        yield False


@pytest.mark.parametrize(("failures", "survives"), [(3, True), (2000, False)])
def test_unavailable_lake_is_waited_for(services: Services, clock: Clock, failures: int, survives: bool) -> None:
    tell(services, FIRST, NAMED, HALF)
    evidence, fails = Evidence({"2": ["PROMOTE"]}), outage(failures)

    def judge(services: Services, run: RunningExperiment) -> Mapping[str, ExperimentDecision]:
        if next(fails):
            raise UnavailableError("the lake is unavailable")
        return evidence(services, run)

    before = clock.monotonic()
    if survives:
        assert run(services, clock, judge=judge).state == crowned("2")
    else:
        with pytest.raises(UnavailableError):
            run(services, clock, judge=judge)
        assert 1800 < clock.monotonic() - before < 1900


def long_ledger(lake: MemoryLake, records: int) -> None:
    """Ledger of so many records that ends with version 2 in shadow; only its numbers differ."""
    made = next_record(
        None, at=START, actor="promote-flow", action="traffic", reason="before", state=FIRST, versions=VERSIONS,
        evidence_digest=None,
    )  # fmt: skip
    for number in range(1, records):
        lake.kept[ledger_key(number)] = (
            made.to_bytes()
            if number == 1
            else lake.kept[ledger_key(1)].replace(b'"number":1,', b'"number":%d,' % number)
        )
    last = replace(made, number=records, state=SHADOW)
    lake.kept[ledger_key(records)] = last.to_bytes()


def test_look_reads_only_what_is_new(services: Services, clock: Clock) -> None:
    lake = MemoryLake()
    long_ledger(lake, 10_000)
    counting = CountingLake(lake)
    counted = replace(services, lake=counting, ledger=Ledger(counting, clock=clock))
    looking = trial(counted)
    look(looking)
    first = counting.taken()
    assert (first["list"], first["read"]) == (1, 10_001)  # the history, and the last look at the evidence
    look(looking)
    assert counting.taken() == {"exists": 1, "read": 1, "write": 1}
    other = Ledger(lake, clock=clock)
    other.append(expected=10_000, actor="train", action="register", reason="new", state=SHADOW)
    look(looking)
    assert counting.taken() == {"exists": 2, "read": 2, "write": 2}


def test_missing_registry_version_is_named(services: Services) -> None:
    tell(services, FIRST)
    gone = replace(services, registry=FakeRegistry({"1": {}}))
    with pytest.raises(NotFoundError, match="version 2"):
        begin(trial(gone))
