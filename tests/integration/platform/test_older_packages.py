"""An installation of the previous release: its ledger names versions whose packages are in MLflow alone."""

from pathlib import Path

import mlflow
import pytest

from absa.adapters.mlflow_client import log_package
from absa.adapters.package_store import PackageStore
from absa.errors import NotFoundError
from absa.inference.package import package_digest
from absa.ledger.lifecycle import crowned
from flows.batch.score_batch import find_version
from flows.cli.ledger_commands import show_ledger
from flows.platform.services import Services, build_services
from flows.platform.settings import Settings
from serving.process.keeper import Keeper
from tests.toy_package import build_toy_package


@pytest.fixture(scope="module")
def tracking_uri(tmp_path_factory: pytest.TempPathFactory) -> str:
    """MLflow with two registered versions, as every release writes them."""
    folder = tmp_path_factory.mktemp("mlflow")
    uri, before = f"sqlite:///{folder / 'mlflow.db'}", mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(uri)
    experiment = mlflow.create_experiment("old", artifact_location=(folder / "artifacts").as_uri())
    for seed in range(2):
        with mlflow.start_run(experiment_id=experiment):
            log_package(build_toy_package(folder / str(seed), seed=seed), registered_model_name="absa")
    mlflow.set_tracking_uri(before)
    return uri


@pytest.fixture
def services(tmp_path: Path, tracking_uri: str) -> Services:
    made = build_services(Settings(home=tmp_path), environment={"MLFLOW_TRACKING_URI": tracking_uri})
    digests = {str(seed + 1): package_digest(build_toy_package(tmp_path / str(seed), seed=seed)) for seed in range(2)}
    for number, version in enumerate(digests):
        made.ledger.append(
            expected=number, actor="t", action="promote", reason="r", state=crowned(version), versions=digests
        )
    return made


def test_command_copies_packages_of_previous_release(services: Services, tmp_path: Path) -> None:
    keeper = Keeper(
        services.ledger, lake_uri=services.lake.uri, packages=PackageStore(services.lake),
        models=tmp_path / "serving", path=tmp_path / "state.json", clock=iter(range(0, 10_000, 100)).__next__,
    )  # fmt: skip
    keeper.step()
    digest = services.head().versions["2"]
    assert f"holds no package {digest}: `evergreen ledger packages`" in keeper.state.errors["2"]
    assert show_ledger(services, "packages", None).facts["sentences"] == [
        f"the package of version {version} was copied from MLflow into the lake" for version in "12"
    ]
    keeper.step()
    assert (keeper.state.errors, list(keeper.state.folders)) == ({}, [digest])
    assert show_ledger(services, "packages", None).lines == ("the lake has the package of every version",)


def test_batch_copies_the_package_it_scores_with(services: Services) -> None:
    package, version = find_version(services, "models:/absa/1")
    assert (package.digest, version) == (services.head().versions["1"], "1")
    assert PackageStore(services.lake).digests() == {package.digest}


def test_version_that_mlflow_lost_is_named(services: Services) -> None:
    with pytest.raises(NotFoundError, match="it is not in MLflow either"):
        services.packages.get("9", "0" * 64)
