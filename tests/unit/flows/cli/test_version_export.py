"""`evergreen export` copies what the ledger names, and overwrites nothing else."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from absa.errors import NotFoundError, PermanentError
from absa.inference.package import ModelPackage, load_package
from absa.ledger.lifecycle import crowned
from absa.ledger.record import LedgerRecord
from absa.ledger.state import State
from flows.cli.version_export import export_version
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
    with pytest.raises(PermanentError, match="holds no package"):
        export_version(services, None, tmp_path / "mine")  # type: ignore[arg-type]
    assert (tmp_path / "mine" / "thesis.txt").is_file()


def test_version_unknown_to_ledger_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="names no version 9"):
        export_version(Registered(tmp_path / "registry"), "9", tmp_path / "champion")  # type: ignore[arg-type]
    with pytest.raises(PermanentError, match="no champion"):
        export_version(Registered(tmp_path / "other", None), None, tmp_path / "champion")  # type: ignore[arg-type]
