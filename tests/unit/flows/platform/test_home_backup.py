"""Backup of a home that is written meanwhile, and its restore: nothing is torn, and the version answers as before."""

import json
import os
import shutil
import sqlite3
import tarfile
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest

from absa.adapters.lake_stores import FolderLake
from absa.errors import IntegrityError, NotFoundError, PermanentError
from absa.ledger.lifecycle import crowned
from absa.ledger.store import Ledger
from flows.batch.predict_text import predict_text
from flows.platform.host.home_backup import MANIFEST, HomeFiles, back_up, elsewhere
from flows.platform.host.home_restore import restore_home
from flows.platform.services import Services, build_services
from flows.platform.settings import Settings
from tests.toy_package import build_toy_package

AT = datetime(2026, 11, 30, 12, tzinfo=UTC)
TEXT = ("the app is great", "app")
SPOOL = Path("serving/replicas/r1/spool")


def services_of(home: Path) -> Services:
    return build_services(Settings(home=home), environment={}, embedded=True)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """Home with a champion, a registry, a Prefect database in WAL mode, a log that waits, and what no backup needs."""
    home = tmp_path / "home"
    services = services_of(home)
    digest = services.packages.put(build_toy_package(tmp_path / "package"))
    services.ledger.append(
        expected=0, actor="test", action="promote", reason="first", state=crowned("1"), versions={"1": digest},
        evidence={"n": 0},
    )  # fmt: skip
    (home / "secrets.json").touch(mode=0o600)
    os.utime(home / "secrets.json", (AT.timestamp(), AT.timestamp()))
    for name, mode in (("mlflow/mlflow.db", "delete"), ("prefect/prefect.db", "wal")):
        (home / name).parent.mkdir()
        with closing(sqlite3.connect(home / name)) as database:
            database.execute(f"pragma journal_mode={mode}")
            database.execute("create table pairs (left, right)")
            database.commit()
    for name in ("logs/router.log", "run/router.json", "models/x/model.onnx", "jobs/run-1/package/model.onnx"):
        (home / name).parent.mkdir(parents=True, exist_ok=True)
        (home / name).write_text("left out")
    (home / SPOOL / "ready").mkdir(parents=True)
    (home / SPOOL / "ready" / "predictions.a-1.log").write_text("waits")
    (home / "evergreen.toml").write_text('profile = "small"\n')
    return home


def saved(home: Path, into: Path) -> Path:
    back_up(home, into, now=AT, release="1.0")
    return into


class Writers:
    """Ledger, registry, Prefect and router of a running home, in threads."""

    def __init__(self, home: Path) -> None:
        self._home, self._stop, self.rounds = home, threading.Event(), 0
        self.threads = [threading.Thread(target=each) for each in (self._ledger, self._databases, self._log)]

    @contextmanager
    def running(self) -> Iterator[None]:
        for thread in self.threads:
            thread.start()
        while self.rounds < 3:
            self._stop.wait(0.01)
        yield
        self._stop.set()
        for thread in self.threads:
            thread.join()

    def _ledger(self) -> None:
        ledger = Ledger(FolderLake(self._home / "lake"))
        while not self._stop.is_set():
            head = ledger.head()
            assert head is not None
            evidence = {"n": head.number, "filler": "x" * 2_000}
            ledger.append(
                expected=head.number, actor="t", action="traffic", reason="r", state=head.state, evidence=evidence
            )
            self.rounds += 1

    def _databases(self) -> None:
        with (
            closing(sqlite3.connect(self._home / "mlflow/mlflow.db", timeout=30)) as first,
            closing(sqlite3.connect(self._home / "prefect/prefect.db", timeout=30)) as second,
        ):
            number = 0
            while not self._stop.is_set():
                number += 1
                for database in (first, second):
                    database.execute("insert into pairs values (?, null)", (number,))
                    database.execute("update pairs set right = left where left = ?", (number,))
                    database.commit()

    def _log(self) -> None:
        """Segments are closed, shipped under a key and removed, at a pace above any router's."""
        number, lake = 0, FolderLake(self._home / "lake")
        while not self._stop.wait(0.02):
            number += 1
            segment = self._home / SPOOL / "ready" / f"predictions.b-{number}.log"
            segment.write_text(str(number))
            self._stop.wait(0.02)
            lake.write(f"predictions/date=2026-11-30/hour=12/{number}.parquet", segment.read_bytes())
            segment.unlink()


def test_backup_of_a_written_home_is_whole(home: Path, tmp_path: Path) -> None:
    writers = Writers(home)
    with writers.running():
        backup = saved(home, tmp_path / "backup.tar")
    restored = tmp_path / "restored"
    found = restore_home(backup, restored)
    assert found.ledger_problems == ()
    assert found.ledger_records > 3
    ledger = Ledger(FolderLake(restored / "lake"))
    assert all("n" in ledger.evidence(record) for record in ledger.follow())
    for name in ("mlflow/mlflow.db", "prefect/prefect.db"):
        with closing(sqlite3.connect(restored / name)) as database:
            assert database.execute("pragma integrity_check").fetchone() == ("ok",)
            assert database.execute("select count(*) from pairs where right is null").fetchone() == (0,)
            assert database.execute("select count(*) from pairs").fetchone()[0] > 0
    shipped = {int(path.stem) for path in (restored / "lake/predictions").rglob("*.parquet")}
    waiting = {int(path.read_text()) for path in (restored / SPOOL).rglob("predictions.b-*.log")}
    assert shipped | waiting == set(range(1, len(shipped | waiting) + 1))
    assert len(waiting - shipped) <= 1


class Shipping(HomeFiles):
    """Home whose router ships a segment just after the log was listed, twice."""

    left, after = 2, "serving/"

    def names(self, folder: str = "") -> list[str]:
        found = super().names(folder)
        if folder.startswith(self.after) and self.left:
            self.left -= 1
            segment = next((self.root / SPOOL).rglob("*.log"))
            FolderLake(self.root / "lake").write(f"predictions/{segment.stem}.parquet", segment.read_bytes())
            segment.unlink()
            (segment.parent / f"predictions.b-{self.left}.log").write_text("next")
        return found


class ShippingLater(Shipping):
    """Home whose router ships just after the lake was listed."""

    after = "lake/outcomes/"


@pytest.mark.parametrize("files", [Shipping, ShippingLater])
def test_segment_shipped_meanwhile_is_there_once(home: Path, tmp_path: Path, files: type[HomeFiles]) -> None:
    back_up(home, tmp_path / "backup.tar", now=AT, release="1.0", files=files)
    restore_home(tmp_path / "backup.tar", tmp_path / "restored")
    shipped = {path.stem for path in (tmp_path / "restored/lake/predictions").iterdir()}
    waiting = {path.stem for path in (tmp_path / "restored" / SPOOL).rglob("*.log")}
    assert (shipped, waiting) == ({"predictions.a-1", "predictions.b-1"}, {"predictions.b-0"})


class Appending(HomeFiles):
    """Home whose ledger grows after each listing."""

    def ledger(self) -> list[str]:
        return self._then_appended(super().ledger())

    def others(self) -> list[str]:
        return self._then_appended(super().others())

    def _then_appended(self, found: list[str]) -> list[str]:
        ledger = Ledger(FolderLake(self.root / "lake"))
        head = ledger.head()
        assert head is not None
        evidence = {"after": head.number}
        ledger.append(
            expected=head.number, actor="t", action="traffic", reason="r", state=head.state, evidence=evidence
        )
        return found


def test_record_written_meanwhile_has_its_evidence(home: Path, tmp_path: Path) -> None:
    back_up(home, tmp_path / "backup.tar", now=AT, release="1.0", files=Appending)
    assert restore_home(tmp_path / "backup.tar", tmp_path / "restored").ledger_records == 1
    ledger = Ledger(FolderLake(tmp_path / "restored/lake"))
    assert [bool(ledger.evidence(record)) for record in ledger.follow()] == [True]


def test_restored_version_answers_as_before(home: Path, tmp_path: Path) -> None:
    before = predict_text(services_of(home), *TEXT)
    restore_home(saved(home, tmp_path / "backup.tar"), tmp_path / "restored")
    shutil.rmtree(home)
    assert predict_text(services_of(tmp_path / "restored"), *TEXT) == before


def test_backup_leaves_out_what_is_made_again(home: Path, tmp_path: Path) -> None:
    restored = tmp_path / "restored"
    restored.mkdir()  # empty: a new volume
    restore_home(saved(home, tmp_path / "backup.tar"), restored)
    assert {path.name for path in restored.iterdir()} == {
        "evergreen.toml", "lake", "mlflow", "prefect", "secrets.json", "serving",
    }  # fmt: skip
    assert (restored / "secrets.json").stat().st_mode & 0o777 == 0o600
    assert (restored / SPOOL / "ready" / "predictions.a-1.log").read_text() == "waits"
    assert (restored / "secrets.json").stat().st_mtime == AT.timestamp()
    assert (tmp_path / "backup.tar").stat().st_mode & 0o077 == 0


def test_home_that_is_not_empty_is_refused(home: Path, tmp_path: Path) -> None:
    backup = saved(home, tmp_path / "backup.tar")
    with pytest.raises(PermanentError, match="is not empty: set EVERGREEN_HOME"):
        restore_home(backup, home)
    assert predict_text(services_of(home), *TEXT).version == "1"


def cut(backup: Path) -> None:
    backup.write_bytes(backup.read_bytes()[:-20_480])


def damage(backup: Path) -> None:
    content = backup.read_bytes()
    backup.write_bytes(content.replace(b"profile", b"prifole", 1))


def no_archive(backup: Path) -> None:
    backup.write_text("something else")


@pytest.mark.parametrize("change", [cut, damage, no_archive])
def test_damaged_backup_restores_nothing(home: Path, tmp_path: Path, change: Callable[[Path], None]) -> None:
    backup = saved(home, tmp_path / "backup.tar")
    change(backup)
    with pytest.raises(IntegrityError):
        restore_home(backup, tmp_path / "restored")
    assert list((tmp_path / "restored").iterdir()) == []


def test_archive_with_a_path_outside_is_refused(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "evil.tar", "w") as archive:
        archive.addfile(tarfile.TarInfo("../outside"))
    with pytest.raises(PermanentError, match="so it is not a backup"):
        restore_home(tmp_path / "evil.tar", tmp_path / "restored")
    assert not (tmp_path / "outside").exists()


def test_backup_of_newer_release_is_refused(home: Path, tmp_path: Path) -> None:
    backup = saved(home, tmp_path / "backup.tar")
    with tarfile.open(backup) as archive:
        source = archive.extractfile(MANIFEST)
        assert source is not None
        manifest = json.loads(source.read())
    newer = json.dumps({**manifest, "format": 2, "release": "9.0"}, indent=1)
    backup.write_bytes(backup.read_bytes().replace(json.dumps(manifest, indent=1).encode(), newer.encode()))
    with pytest.raises(PermanentError, match="format 2, expected at most 1: restore it with release 9"):
        restore_home(backup, tmp_path / "restored")


def test_missing_home_and_bad_target_are_refused(home: Path, tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="there is no home"):
        saved(tmp_path / "none", tmp_path / "backup.tar")
    for into in (saved(home, tmp_path / "backup.tar"), home / "backup.tar"):
        with pytest.raises(PermanentError, match="expected a new file outside of the home"):
            saved(home, into)


def test_stores_elsewhere_are_named(tmp_path: Path) -> None:
    variables = {"MLFLOW_BACKEND_STORE_URI": "postgresql://db/mlflow"}
    said = list(elsewhere("s3://bucket/lake", tmp_path / "evergreen.toml", tmp_path / "home", variables))
    assert [sentence.split()[0] for sentence in said] == [
        "the",
        "MLFLOW_BACKEND_STORE_URI",
        str(tmp_path / "evergreen.toml"),
    ]
    assert list(elsewhere(None, tmp_path / "home/evergreen.toml", tmp_path / "home", {})) == []
