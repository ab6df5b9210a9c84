"""Contract of registry and tracking runs: one suite over the fakes and over MLflow on a SQLite file."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from absa.adapters.lake_stores import FolderLake
from absa.adapters.mlflow_files import MlflowFiles
from absa.errors import IntegrityError, NotFoundError, UnavailableError
from absa.ledger.lifecycle import challenged, crowned
from absa.ledger.record import LedgerRecord
from absa.ledger.state import State
from absa.ledger.store import Ledger
from absa.records.schema import SIDES
from flows.platform.ports import Registry, Runs
from tests.stand_ins import FakeRegistry, FakeRuns
from tests.toy_package import build_toy_package


@dataclass
class Backend:
    """Registry and runs of one kind.

    Attributes:
        registry: under test.
        runs: under test.
        status: returns the status of a run.
        move: moves an alias past the registry; None removes it.
        half_project: writes the hash of a head without its number, as a killed projection does.
    """

    registry: Registry
    runs: Runs
    status: Callable[[str], str]
    move: Callable[[str, str | None], None]
    half_project: Callable[[LedgerRecord], None]


def fake(_: Path) -> Backend:
    registry = FakeRegistry()
    runs = FakeRuns(registry)

    def half_project(head: LedgerRecord) -> None:
        assert registry.head is not None
        registry.head = (registry.head[0], head.hash)

    return Backend(
        registry,
        runs,
        lambda run_id: next(run.status for run in runs.kept if run.run_id == run_id),
        registry.set_alias,
        half_project,
    )


def mlflow(folder: Path) -> Backend:
    from mlflow.tracking import MlflowClient

    from absa.adapters.mlflow_client import HEAD_HASH, MODEL, MlflowRegistry, MlflowRuns

    files = MlflowFiles.of_home(folder, {})
    uri = files.database
    client: Any = MlflowClient(tracking_uri=uri, registry_uri=uri)

    def move(alias: str, version: str | None) -> None:
        if version is None:
            client.delete_registered_model_alias(MODEL, alias)
        else:
            client.set_registered_model_alias(MODEL, alias, version)

    return Backend(
        MlflowRegistry(files),
        MlflowRuns(files),
        lambda run_id: str(client.get_run(run_id).info.status),
        move,
        lambda head: client.set_registered_model_tag(MODEL, HEAD_HASH, head.hash),
    )


@pytest.fixture(scope="module", params=[fake, pytest.param(mlflow, marks=pytest.mark.slow)], ids=["fake", "mlflow"])
def backend(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Backend]:
    """Backend with two versions of the toy package, made by one run each; the tests share it, as its start is slow."""
    folder = tmp_path_factory.mktemp("backend")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", "")
        made: Backend = request.param(folder)
        made.runs.prepare()
        assert (made.registry.versions(), made.registry.aliases(), made.registry.anchor()) == ([], {}, None)
        for seed in range(2):
            package = build_toy_package(folder / f"toy-{seed}", seed=seed)
            with made.runs.open(f"run-{seed}", tags={"reason": "test"}) as run:
                run.params({"layers": 1, "unset": None})
                run.event({"event": "progress", "step": 1, "loss": 0.5, "epoch": 1.0, "lr": None})
                run.event({"event": "phase", "name": "judge"})
                run.metrics({"f1": 0.8, "unset": None})
                run.tags({"gate": "HOLD"})
                for side in SIDES:
                    run.dataset(None, digest="d" * 64, side=side, source=str(folder))
                run.files(package, into="pictures")
                assert run.register(package) == run.register(package) == str(seed + 1)
                assert [event["step"] for event in run.history] == [1]
            assert made.status(run.run_id) == "FINISHED"
        yield made
    if request.param is mlflow:
        import mlflow as library

        library.set_tracking_uri(None)


def test_versions_carry_the_digest_of_their_package(backend: Backend, tmp_path: Path) -> None:
    from absa.inference.package import package_digest

    assert backend.registry.versions() == ["1", "2"]
    assert backend.registry.tags("2")["digest"] == package_digest(build_toy_package(tmp_path / "toy", seed=1))


def test_tags_are_added_to_those_of_before(backend: Backend) -> None:
    before = backend.registry.tags("1")
    backend.registry.set_tags("1", {"gate": "PROMOTE"})
    backend.registry.set_tags("1", {"size_mb": "1"})
    assert backend.registry.tags("1") == {**before, "gate": "PROMOTE", "size_mb": "1"}


def test_unknown_version_has_no_tags(backend: Backend) -> None:
    with pytest.raises(NotFoundError):
        backend.registry.tags("9")


def test_download_returns_the_registered_package(backend: Backend, tmp_path: Path) -> None:
    package = build_toy_package(tmp_path / "toy", seed=1)
    found = backend.registry.download("2", tmp_path / "into")
    assert found.is_relative_to(tmp_path / "into")
    assert {file.name: file.read_bytes() for file in found.iterdir()} == {
        file.name: file.read_bytes() for file in package.iterdir()
    }
    with pytest.raises(NotFoundError):
        backend.registry.download("9", tmp_path / "into")


def test_failed_body_marks_the_run(backend: Backend, tmp_path: Path) -> None:
    with pytest.raises(IntegrityError), backend.runs.open("fails", tags={}) as run:
        run.register(tmp_path)
    assert backend.status(run.run_id) == "FAILED"
    assert backend.registry.versions() == ["1", "2"]


@pytest.mark.slow
def test_outage_keeps_the_error_of_the_body(tmp_path: Path) -> None:
    """MLflow that is unavailable when a failed run ends must not hide why the run failed."""
    backend, failure = mlflow(tmp_path), UnavailableError("the version could not be registered")
    with pytest.raises(UnavailableError) as raised, backend.runs.open("fails", tags={}) as run:
        (tmp_path / "mlflow.db").write_bytes(b"not a database")
        raise failure
    assert raised.value is failure
    with pytest.raises(UnavailableError, match="MLflow"):
        run.params({"layers": 1})


def test_aliases_follow_the_ledger(backend: Backend, tmp_path: Path) -> None:
    registry, ledger = backend.registry, Ledger(FolderLake(tmp_path / "lake"))

    def append(state: State) -> LedgerRecord:
        head = ledger.head()
        return ledger.append(
            expected=head.number if head else 0,
            actor="test",
            action="traffic",
            reason="r",
            state=state,
            versions={"1": "a" * 64, "2": "b" * 64},
        )

    first = append(crowned("1"))
    assert registry.project(first) == []  # no alias was moved by hand: they lagged
    second = append(challenged(crowned("1"), "2"))
    assert registry.project(second) == []
    assert registry.aliases() == {"champion": "1", "challenger": "2"}
    assert registry.anchor() == (second.number, second.hash)

    backend.move("champion", "2")
    backend.move("challenger", None)
    said = registry.project(second)
    assert len(said) == 2
    assert "champion was 2 in MLflow" in said[0]
    assert registry.aliases() == {"champion": "1", "challenger": "2"}
    assert registry.project(second) == []

    assert registry.project(first) == []  # an older head changes nothing
    assert registry.aliases() == {"champion": "1", "challenger": "2"}
    FolderLake(tmp_path / "lake").delete("ledger/0000000002.json")
    assert "the tail was cut" in ledger.verify(anchor=registry.anchor())[0]

    ledger = Ledger(FolderLake(tmp_path / "lake"))
    other = append(crowned("2"))  # a record in place of the one that was cut off
    assert "record 2 differs from the record that MLflow was set by" in registry.project(other)[-1]
    later = append(crowned("1"))
    assert registry.anchor() == (second.number, second.hash)
    assert "the tail was cut" in ledger.verify(anchor=registry.anchor())[0]
    backend.half_project(later)
    assert registry.project(later) == []
    assert registry.anchor() == (later.number, later.hash)
