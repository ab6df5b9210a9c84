"""On a real Prefect server: a killed run keeps no other out, tasks are tried again by error class, pools are filled.

Every flow that needs a server alone is tested here, because its start takes longer than the tests.
"""

import itertools
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

import pyarrow.parquet as pq
import pytest
from prefect import flow
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.schedules import CronSchedule
from prefect.runtime import flow_run
from prefect.states import Cancelling, Completed, Pending, Running
from prefect.testing.utilities import prefect_test_harness

from absa.adapters.lake_stores import FolderLake
from absa.errors import InvalidDataError, PermanentError, UnavailableError
from absa.records.schema import Window
from absa.records.verdict import Verdict
from flows.batch.batch_flow import batch
from flows.deployments import deployments, ensure_pool, users_schedules, work
from flows.monitoring.attempts import GRACE_S, settle_attempts
from flows.monitoring.dead_runs import DeadRuns
from flows.platform.artifacts import task_run
from flows.platform.liveness import START_GRACE_S, leave_sign, this_host
from flows.platform.ports import DELAYS_S
from flows.platform.prefect_runs import MONITOR, SCHEDULED, TAG, TRAINING, PrefectDeployments
from flows.platform.settings import Settings
from flows.promotion.approval import OperatorApproval
from monitoring.verdicts import VerdictStore
from tests.toy_package import build_toy_package

START = datetime(2026, 11, 23, 10, tzinfo=UTC)
WINDOW = Window(start=START, end=START + timedelta(hours=1))
RUNS = PrefectDeployments()


def look_at(lake: FolderLake, host: str, at: datetime) -> Callable[[], list[str]]:
    """Return a worker's first look, at a time."""
    return DeadRuns(RUNS, lake, host=host, only_worker=True, now=lambda: at).look


@flow(name="retraining-that-is-killed")
def retraining() -> None:
    """Never runs here: its states are set as a worker would."""


@pytest.fixture(scope="module")
def client() -> Iterator[SyncPrefectClient]:
    with prefect_test_harness(server_startup_timeout=300), get_client(sync_client=True) as client:
        yield client


@pytest.fixture
def deployment(client: SyncPrefectClient) -> UUID:
    """One run at a time, others wait."""
    return client.create_deployment(
        flow_id=client.create_flow(retraining),
        name="one",
        concurrency_limit=1,
        concurrency_options={"collision_strategy": "ENQUEUE"},
    )


def begin(client: SyncPrefectClient, deployment: UUID, key: str) -> UUID:
    return client.create_flow_run_from_deployment(deployment, idempotency_key=key).id


@pytest.mark.parametrize("killed_in", ["PENDING", "RUNNING"])
def test_killed_run_frees_the_concurrency_limit(
    client: SyncPrefectClient, deployment: UUID, tmp_path: Path, killed_in: str
) -> None:
    store = VerdictStore(FolderLake(tmp_path))
    stale = Verdict(
        window=WINDOW, verdict="STALE", version="1", by_version={}, reasons=(), action="retrain", action_reason="",
        at=WINDOW.end,
    )  # fmt: skip
    begun = store.begin_attempt(store.record(stale), at=WINDOW.end)
    first = begin(client, deployment, f"{killed_in}-{begun.attempts[-1].key}")
    store.end_attempt(WINDOW, 1, "started", flow_run_id=str(first), at=WINDOW.end)
    assert client.set_flow_run_state(first, Pending()).state.is_pending()
    if killed_in == "RUNNING":
        assert client.set_flow_run_state(first, Running()).state.is_running()
    # ... and here its machine is taken: nobody sets another state

    waiting = begin(client, deployment, f"{killed_in}-waits")
    assert not client.set_flow_run_state(waiting, Pending()).state.is_pending(), "the limit of one holds"

    late = timedelta(seconds=900 + GRACE_S + 1)
    said = settle_attempts(store, RUNS.state, RUNS.crash, budget_s=900, now=datetime.now(UTC) + late)
    assert len(said) == 1
    found = RUNS.state(str(first))
    assert found is not None
    assert found.end == "failed"
    latest = store.latest(WINDOW)
    assert latest is not None
    assert latest.retraining_is_due

    second = begin(client, deployment, f"{killed_in}-{latest.next_attempt_key}")
    assert second != first
    assert client.set_flow_run_state(second, Pending()).state.is_pending()
    assert client.set_flow_run_state(second, Running()).state.is_running()
    RUNS.crash(str(second), "end of the test")


def test_start_waits_for_deployment_that_registers(client: SyncPrefectClient) -> None:
    name = "retraining-that-is-killed/late"
    with pytest.raises(UnavailableError, match=r"has no deployment .*/late: `evergreen up` registers it"):
        PrefectDeployments(registered_within_s=0.0).start(name, {})
    registers = threading.Timer(1.0, lambda: retraining.to_deployment("late").apply())
    registers.start()
    run = RUNS.start(name, {})
    registers.join()
    RUNS.crash(run, "end of the test")


def test_deleted_run_is_unknown(client: SyncPrefectClient) -> None:
    assert RUNS.state("00000000-0000-0000-0000-000000000000") is None


@pytest.mark.parametrize(
    ("error", "tries"),
    [(UnavailableError("MLflow is away"), 1 + len(DELAYS_S)), (InvalidDataError("row 3 is empty"), 1)],
)
def test_step_is_repeated_after_transient_errors(
    client: SyncPrefectClient, monkeypatch: pytest.MonkeyPatch, error: Exception, tries: int
) -> None:
    monkeypatch.setattr("flows.platform.artifacts.DELAYS_S", (0.0, 0.0, 0.0))
    tried = []

    def fails() -> None:
        tried.append(1)
        raise error

    @flow
    def only_this() -> None:
        task_run("fails", fails, again=True)

    with pytest.raises(type(error)):
        only_this()
    assert len(tried) == tries


def test_deployment_flow_scores_and_leaves_artifacts(
    client: SyncPrefectClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("EVERGREEN_LAKE", "MLFLOW_TRACKING_URI"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("EVERGREEN_HOME", str(tmp_path / "home"))
    given, package = tmp_path / "rows.csv", build_toy_package(tmp_path / "package")
    rows = (f"the app is great {k},{'parcel' if k < 2 else 'app'}" for k in range(40))  # two name an aspect not in it
    given.write_text("\n".join(["text,aspect", *rows]) + "\n")
    found = batch(str(given), str(tmp_path / "out"), model=str(package), workers=0)
    assert (found["rows"], found["quarantined"], found["already_done"]) == (38, {"aspect_not_in_text": 2}, False)
    assert batch(str(given), str(tmp_path / "out"), model=str(package), workers=0)["already_done"]
    artifacts = client.read_artifacts()
    tables = [each for each in artifacts if each.key == "batch-result"]
    assert len(tables) == 2
    assert all("rows scored" in str(each.data) and "share positive" in str(each.data) for each in tables)
    assert {each.data for each in artifacts if each.key == "batch-progress"} == {100.0}
    assert pq.read_table(tmp_path / "out" / "part-000000.parquet").num_rows == 38


def test_ecs_pool_gets_deployments_and_variables(client: SyncPrefectClient, capsys: pytest.CaptureFixture[str]) -> None:
    variables = {"cluster": "evergreen", "image": "platform:1"}
    settings = Settings(work_pool="on-ecs", work_pool_type="ecs", work_pool_variables=variables)
    work(settings)  # prefect-aws is not here: it says where the worker can run
    assert "prefect-aws is installed" in capsys.readouterr().out
    pool = client.read_work_pool("on-ecs")
    defaults = pool.base_job_template["variables"]["properties"]
    assert (pool.type, defaults["cluster"]["default"], defaults["image"]["default"]) == (
        "ecs",
        "evergreen",
        "platform:1",
    )
    modules = {
        "continuous-training": "training.training_flow",
        "monitor": "monitoring.monitor_flow",
        "promote": "promotion.promote_flow",
        "batch": "batch.batch_flow",
    }
    for name, module in modules.items():
        found = client.read_deployment_by_name(f"{name}/{name}")
        assert found.work_pool_name == "on-ecs"
        assert found.entrypoint == f"flows.{module}.{name.replace('-', '_')}"
        assert not found.pull_steps


def test_pool_variables_follow_the_settings(client: SyncPrefectClient) -> None:
    for folder in ("/a", "/b"):
        ensure_pool(Settings(work_pool="here", work_pool_variables={"working_dir": folder}))
    properties = client.read_work_pool("here").base_job_template["variables"]["properties"]
    assert properties["working_dir"]["default"] == "/b"
    with pytest.raises(PermanentError, match="no variable wages"):
        ensure_pool(Settings(work_pool="here", work_pool_variables={"wages": 3}))
    with pytest.raises(PermanentError, match="is of type process"):
        ensure_pool(Settings(work_pool="here", work_pool_type="ecs"))


def test_run_that_waits_for_approval_is_paused(client: SyncPrefectClient) -> None:
    ticks = itertools.count(step=5.0)

    @flow
    def asks() -> list[bool]:
        run = str(flow_run.get_id())
        approval = OperatorApproval(RUNS, run, timeout_s=60, clock=lambda: next(ticks))
        said = [approval.given(), approval.given()]
        state = client.read_flow_run(UUID(run)).state
        assert state is not None
        assert state.is_paused()
        RUNS.resume(run)
        return [*said, approval.given()]

    assert asks() == [False, False, True]


def test_deployments_without_pool_run_in_their_process() -> None:
    assert {each.work_pool_name for each in deployments(Settings())} == {None}


def test_users_schedule_survives_next_start(client: SyncPrefectClient) -> None:
    def start(training: str) -> set[tuple[str, bool]]:
        settings = Settings(schedule_training=training)
        for each in deployments(settings, users_schedules(settings)):
            each.apply()
        found = client.read_deployment_by_name(TRAINING).schedules
        return {(each.schedule.cron, each.parameters.get("reason") == SCHEDULED) for each in found}

    assert start("nightly") == {("0 2 * * *", True)}
    training = client.read_deployment_by_name(TRAINING)
    client.create_deployment_schedules(training.id, [(CronSchedule(cron="30 5 * * *"), True)])
    for _ in range(2):
        assert start("weekly") == {("0 2 * * 0", True), ("30 5 * * *", False)}
    assert start("never") == {("30 5 * * *", False)}
    (monitor,) = client.read_deployment_by_name(MONITOR).schedules
    assert monitor.schedule.interval == timedelta(hours=1)


@pytest.fixture
def platforms_own(client: SyncPrefectClient) -> UUID:
    """A deployment of the platform, with one run at a time."""
    return client.create_deployment(
        flow_id=client.create_flow(retraining),
        name="of-the-platform",
        concurrency_limit=1,
        concurrency_options={"collision_strategy": "ENQUEUE"},
        tags=[TAG],
    )


def taken(client: SyncPrefectClient, deployment: UUID) -> int:
    limit = client.read_deployment(deployment).global_concurrency_limit
    assert limit is not None
    return limit.active_slots


@pytest.mark.parametrize("killed_in", ["PENDING", "RUNNING", "CANCELLING"])
def test_dead_run_frees_its_slot_on_prefect(
    client: SyncPrefectClient, platforms_own: UUID, tmp_path: Path, killed_in: str
) -> None:
    first = begin(client, platforms_own, f"dead-{killed_in}")
    for state in (Pending(), Running(), Cancelling()):
        assert client.set_flow_run_state(first, state).status.value == "ACCEPT"
        if state.type.value == killed_in:
            break
    waiting = begin(client, platforms_own, f"waits-for-{killed_in}")
    assert not client.set_flow_run_state(waiting, Pending()).state.is_pending(), "the limit of one holds"

    later = datetime.now(UTC) + timedelta(seconds=START_GRACE_S)
    look = look_at(FolderLake(tmp_path), "here", later)
    assert len(look()) == 1
    ended = client.read_flow_run(first).state
    assert ended is not None
    assert ended.type.value == ("CANCELLED" if killed_in == "CANCELLING" else "CRASHED")
    assert ended.message is not None
    assert "no other worker serves its deployment" in ended.message
    assert client.set_flow_run_state(waiting, Pending()).state.is_pending()
    assert client.set_flow_run_state(waiting, Completed(), force=True).status.value == "ACCEPT"


def test_expired_lease_frees_its_slot_once(client: SyncPrefectClient, platforms_own: UUID, tmp_path: Path) -> None:
    """Prefect frees a slot when its lease runs out, and again when the run crashes: by then it is another run's."""
    dead = begin(client, platforms_own, "lease-runs-out")
    for state in (Pending(), Running()):
        client.set_flow_run_state(dead, state)
    held = client.read_flow_run(dead).state
    assert held is not None
    lease = held.state_details.deployment_concurrency_lease_id
    assert lease is not None
    client.release_concurrency_slots_with_lease(lease)  # as Prefect does when it has run out
    alive = begin(client, platforms_own, "takes-the-slot")
    for state in (Pending(), Running()):
        client.set_flow_run_state(alive, state)
    assert taken(client, platforms_own) == 1
    later = datetime.now(UTC) + timedelta(seconds=START_GRACE_S)
    lake = FolderLake(tmp_path)
    leave_sign(lake, str(alive))
    look = look_at(lake, this_host(), later)
    assert any("0 slots were taken, 1 runs are unfinished; corrected" in sentence for sentence in look())
    assert taken(client, platforms_own) == 1
    RUNS.crash(str(alive), "end of the test")
