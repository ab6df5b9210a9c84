"""An XLM-R through the whole product: trained, packaged, judged, served by a router, and trained further."""

import csv
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from absa.adapters.package_store import PackageStore
from absa.inference.engine import Engine
from absa.inference.package import load_package
from absa.ledger.routing import single
from absa.packaging.validate import validate_package
from absa.policies import GatePolicy, TrainingRecipe
from flows.platform.services import build_services
from flows.platform.settings import Settings
from flows.training.judging import Judging
from flows.training.train_version import TrainedVersion, TrainingRequest, train_version
from tests.conftest import job_here, labelled_rows
from tests.serving_replica import RunningReplica
from tests.stand_ins import FakeRegistry, FakeRuns
from tests.tiny_encoders import save_family


class World:
    """A home whose base model is a tiny XLM-R."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.registry = folder, FakeRegistry()
        save_family("xlm-roberta", folder / "tiny-xlm-r")
        self._runs = FakeRuns(self.registry)

    def train(self, seed: int) -> TrainedVersion:
        """Train a version on rows that are ingested first."""
        file = self.folder / f"{seed}.csv"
        with file.open("w", encoding="utf-8", newline="") as out:
            rows = labelled_rows(300, seed=seed)
            writer = csv.DictWriter(out, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
        request = TrainingRequest(budget_s=120.0, sources=(str(file),))
        judging = partial(Judging, validate=lambda _: 100.0, draw=lambda *_: None)
        return train_version(self.services, request, job=job_here, judging=judging)

    @property
    def services(self) -> Any:
        """Services of the home."""
        recipe = TrainingRecipe(base_model=str(self.folder / "tiny-xlm-r"), learning_rate=2e-3)
        gate = GatePolicy(min_recent_rows=20, min_rows=20, behaviour_cases=6, max_ece=1.0)
        settings = Settings(home=self.folder / "home", training=recipe, gate=gate)
        return build_services(settings, environment={}, registry=self.registry, runs=self._runs)

    def package(self, version: str) -> Path:
        """Return the folder of a version's package."""
        return Path(self.services.packages.get(version, self.registry.tags(version)["digest"]).folder)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("encoder")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_HOME", str(folder / "cache"))
        made = World(folder)
        made.train(1)
        yield made


def test_version_of_any_encoder_is_registered(world: World) -> None:
    package = load_package(world.package("1"), expected_digest=world.registry.tags("1")["digest"])
    assert (package.config.base_model, package.config.layers, package.config.hidden) == ("tiny-xlm-r", 2, 64)
    assert validate_package(package.folder, expected_digest=package.digest).rows > 0  # without transformers and torch


def test_router_answers_as_engine_of_any_encoder(world: World, tmp_path: Path) -> None:
    pairs = [(str(row["text"]), str(row["aspect"])) for row in labelled_rows(12, seed=7)]
    replica = RunningReplica(tmp_path, workers=1)
    replica.digests["1"] = PackageStore(replica.lake).put(world.package("1"))
    try:
        replica.start()
        replica.append(single("1", salt="s"))
        body = {"instances": [{"text": text, "aspect": aspect} for text, aspect in pairs]}
        answers = replica.client.post("/v1/predict", json=body).json()["predictions"]
    finally:
        replica.end()
    expected = Engine.load(world.package("1")).score(pairs)
    assert np.allclose([each["scores"] for each in answers], expected, atol=1e-3)
    assert [each["label"] for each in answers] == expected.argmax(1).tolist()


def test_retraining_goes_on_from_weights_of_any_encoder(world: World) -> None:
    assert world.train(2).version == "2"
    config = load_package(world.package("2")).config
    assert config.base_model == "tiny-xlm-r"
    assert Path(config.training["warm_start"]).name == "weights"
