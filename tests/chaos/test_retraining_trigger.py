"""A retraining run that is killed must not keep the next one out: on a real Prefect server of its own."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

import pytest
from prefect import flow
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.states import Pending, Running
from prefect.testing.utilities import prefect_test_harness

from absa.adapters.lake import FolderLake
from absa.schema import Window
from flows.attempts import GRACE_S, crash_run, run_state, settle_attempts
from flows.automations import NAME, ensure_automation
from monitoring.verdicts import Verdict, VerdictStore

START = datetime(2026, 11, 23, 10, tzinfo=UTC)
WINDOW = Window(start=START, end=START + timedelta(hours=1))


@flow(name="retraining-that-is-killed")
def retraining() -> None:
    """Never runs here: its states are set as a worker would."""


@pytest.fixture(scope="module")
def client() -> Iterator[SyncPrefectClient]:
    with prefect_test_harness(server_startup_timeout=120), get_client(sync_client=True) as client:
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
def test_a_killed_run_does_not_wedge_the_concurrency_limit(
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

    said = settle_attempts(
        store, run_state, crash_run, budget_s=900, now=WINDOW.end + timedelta(seconds=900 + GRACE_S + 1)
    )
    assert len(said) == 1
    found = run_state(str(first))
    assert found is not None
    assert found.end == "failed"
    latest = store.latest(WINDOW)
    assert latest is not None
    assert latest.retraining_is_due

    second = begin(client, deployment, f"{killed_in}-{latest.next_attempt_key}")
    assert second != first
    assert client.set_flow_run_state(second, Pending()).state.is_pending()
    assert client.set_flow_run_state(second, Running()).state.is_running()
    crash_run(str(second), "end of the test")


def test_the_automation_is_made_once(client: SyncPrefectClient) -> None:
    assert ensure_automation()
    assert not ensure_automation()
    assert [found.name for found in client.read_automations_by_name(NAME)] == [NAME]


def test_a_run_that_was_deleted_is_unknown(client: SyncPrefectClient) -> None:
    assert run_state("00000000-0000-0000-0000-000000000000") is None
