"""`evergreen pretrain` makes a base once, and `train --encoder` finds it by what was printed."""

import csv
from pathlib import Path

import pytest
import torch

from absa.errors import InvalidDataError, NotFoundError
from absa.modeling.architecture import Architecture, PairClassifier
from absa.modeling.bases import TOKENIZER, find_base, save_weights
from absa.policies import TrainingRecipe
from flows.cli.base_commands import make_base, named_base
from flows.platform.services import Services, build_services
from flows.platform.settings import Settings
from tests.conftest import labelled_rows


@pytest.fixture
def services(tmp_path: Path) -> Services:
    """Services whose base model is one narrow layer."""
    torch.manual_seed(0)
    sizes = Architecture(layers=1, hidden=32, heads=1, intermediate=64, vocabulary=30_522)
    save_weights(PairClassifier(sizes), (find_base("minilm-l6") / TOKENIZER).read_text(), tmp_path / "start")
    settings = Settings(home=tmp_path / "home", training=TrainingRecipe(base_model=str(tmp_path / "start")))
    return build_services(settings, environment={})


def write(folder: Path, *counts: int) -> Path:
    folder.mkdir(exist_ok=True)
    for number, count in enumerate(counts):
        rows = labelled_rows(count, seed=number)
        with (folder / f"{number}.csv").open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, ["text", "aspect", "label"])
            writer.writeheader()
            writer.writerows(rows)
    return folder


def test_folder_of_files_makes_one_base(services: Services, tmp_path: Path) -> None:
    folder = write(tmp_path / "labels", 30, 20)
    said: list[str] = []
    base, made = make_base(services, str(folder), epochs=1, budget_s=None, on_progress=said.append)
    assert (base, False) == make_base(services, str(folder), epochs=1, budget_s=None)
    assert made
    assert said[0].startswith("48 rows: ")
    digest = base.name
    for name in (digest, digest[:6], str(services.home.folder("bases") / digest)):
        assert Path(named_base(services, name)).name == digest


def test_the_packaged_base_keeps_its_name(services: Services) -> None:
    assert named_base(services, "minilm-l6") == "minilm-l6"


def test_unknown_base_is_named_beside_known_ones(services: Services, tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="none yet"):
        named_base(services, str(tmp_path / "nowhere"))


def test_a_folder_without_labelled_files_says_so(services: Services, tmp_path: Path) -> None:
    with pytest.raises(InvalidDataError, match="holds no file"):
        make_base(services, str(write(tmp_path / "empty")), epochs=1, budget_s=None)
