"""`evergreen export` copies what the ledger names, and overwrites nothing else."""

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from absa.errors import NotFoundError, PermanentError
from absa.inference.package import ModelPackage, load_package
from absa.ledger.lifecycle import crowned
from absa.ledger.record import LedgerRecord
from absa.ledger.state import State
from absa.modeling.architecture import Architecture, PairClassifier
from absa.modeling.bases import TOKENIZER, find_base, save_weights
from absa.records.layout import weights_folder
from absa.task import TaskSpec
from flows.cli.version_export import export_for_transformers, export_version
from flows.platform.services import Services, build_services
from flows.platform.settings import Settings
from tests.stand_ins import FakeRegistry
from tests.toy_package import build_toy_package


class Registered:
    """Services of one registered version."""

    def __init__(self, folder: Path, champion: str | None = "1") -> None:
        self.known = load_package(build_toy_package(folder))
        self.state = crowned(champion) if champion else State()

    def head(self) -> LedgerRecord:
        return LedgerRecord(
            number=1, at=datetime(2026, 11, 30, tzinfo=UTC), actor="t", action="promote", reason="r", state=self.state,
            versions={"1": self.known.digest},
        )  # fmt: skip

    @property
    def packages(self) -> "Registered":
        return self

    def get(self, version: str, digest: str) -> ModelPackage:
        assert (version, digest) == ("1", self.known.digest)
        return self.known


def test_the_champion_is_put_where_the_script_looks(tmp_path: Path) -> None:
    services = Registered(tmp_path / "registry")
    for _ in range(2):
        assert export_version(services, None, tmp_path / "champion") == "1"  # type: ignore[arg-type]
        assert load_package(tmp_path / "champion").digest == services.known.digest
    assert sorted(path.name for path in tmp_path.iterdir()) == ["champion", "registry"]


def test_what_is_no_package_is_left_alone(tmp_path: Path) -> None:
    services = Registered(tmp_path / "registry")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    with pytest.raises(PermanentError, match="has no package"):
        export_version(services, None, tmp_path / "mine")  # type: ignore[arg-type]
    assert (tmp_path / "mine" / "thesis.txt").is_file()


def test_version_unknown_to_ledger_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="version 9 is not in the newest ledger record"):
        export_version(Registered(tmp_path / "registry"), "9", tmp_path / "champion")  # type: ignore[arg-type]
    with pytest.raises(PermanentError, match="no champion"):
        export_version(Registered(tmp_path / "other", None), None, tmp_path / "champion")  # type: ignore[arg-type]


TICKETS = TaskSpec(name="tickets", input="text", labels=("billing", "bug", "praise"))


@pytest.fixture
def tickets(tmp_path: Path) -> Services:
    """Version 1 of a plain-text task, whose weights were kept by its run."""
    services = build_services(Settings(home=tmp_path / "home"), environment={}, registry=FakeRegistry())
    built = build_toy_package(tmp_path / "built", task=TICKETS)
    config = json.loads((built / "config.json").read_text())
    (built / "config.json").write_text(json.dumps({**config, "run": "r1"}))
    tokenizer_json = (find_base("minilm-l6") / TOKENIZER).read_text(encoding="utf-8")
    (built / "tokenizer.json").write_text(tokenizer_json)
    digests = {"1": services.packages.put(built)}
    services.ledger.append(expected=0, actor="t", action="promote", reason="r", state=crowned("1"), versions=digests)
    sizes = Architecture(layers=1, hidden=32, heads=2, intermediate=32, vocabulary=30_522, positions=128)
    save_weights(PairClassifier(sizes, task=TICKETS), tokenizer_json, tmp_path / "weights")
    for file in (tmp_path / "weights").iterdir():
        services.lake.write(weights_folder("r1") + file.name, file.read_bytes())
    return services


def test_plain_text_version_is_exported_for_transformers(tickets: Services, tmp_path: Path) -> None:
    for _ in range(2):
        assert export_for_transformers(tickets, None, tmp_path / "out") == "1"
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert config["id2label"] == {"0": "billing", "1": "bug", "2": "praise"}
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".out")] == []


def test_export_without_kept_weights_is_refused(tickets: Services, tmp_path: Path) -> None:
    tickets.lake.delete(f"{weights_folder('r1')}config.json")
    with pytest.raises(NotFoundError, match="fp32 weights of version 1 are not in the lake"):
        export_for_transformers(tickets, None, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_export_leaves_other_folder_alone(tickets: Services, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    with pytest.raises(PermanentError, match="has no export"):
        export_for_transformers(tickets, None, tmp_path / "mine")
