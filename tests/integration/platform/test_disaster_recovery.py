"""The runbook's disaster recovery: lake and ledger back from S3's versions, the registry back from a dump."""

import os
import subprocess
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from absa.adapters.lake_stores import S3Lake
from absa.ledger.lifecycle import challenged, crowned
from absa.ledger.record import LedgerRecord
from absa.ledger.state import State
from absa.ledger.store import Ledger
from infra.restore import main, restore
from tests.aws.account import OPERATOR, account
from tests.aws.postgres import binaries, postgres
from tests.aws.template import REGION


@pytest.fixture(scope="module")
def s3() -> Iterator[Any]:
    with account({}) as owned:
        client = owned.client("s3")
        client.create_bucket(Bucket="lake", CreateBucketConfiguration={"LocationConstraint": REGION})
        client.put_bucket_versioning(Bucket="lake", VersioningConfiguration={"Status": "Enabled"})
        client.url = owned.url
        yield client


def _append(ledger: Ledger, state: State) -> LedgerRecord:
    head = ledger.head()
    return ledger.append(
        expected=head.number if head else 0, actor="test", action="traffic", reason="r", state=state,
        versions={"1": "a" * 64, "2": "b" * 64},
    )  # fmt: skip


def _contents(lake: S3Lake) -> dict[str, bytes]:
    return {key: lake.read(key) for key in lake.list("")}


def _now() -> datetime:
    """A time that what was written before lies before and what follows after; S3 counts whole seconds."""
    now_s = time.time()
    time.sleep(1.01 - now_s % 1)
    return datetime.fromtimestamp(int(now_s) + 0.999, UTC)


def test_restored_lake_equals_lake_before_damage(s3: Any) -> None:
    lake = S3Lake("s3://lake/one", s3)
    ledger = Ledger(lake)
    _append(ledger, crowned("1"))
    _append(ledger, challenged(crowned("1"), "2"))
    lake.write("predictions/date=2026-11-01/hour=00/r-1.parquet", b"rows")
    before, at = _contents(lake), _now()
    for key in lake.list("ledger/"):
        lake.delete(key)
    lake.write("predictions/date=2026-11-01/hour=00/r-1.parquet", b"rubbish")
    lake.write("predictions/stray", b"rubbish")
    assert len(restore(s3, "s3://lake/one/", at)) == 2 + 1 + 1
    assert _contents(lake) == before
    assert ledger.verify() == []
    assert restore(s3, "s3://lake/one/", datetime.now(UTC)) == []


def test_newer_files_may_stay_after_restore(s3: Any) -> None:
    lake = S3Lake("s3://lake/two", s3)
    lake.write("lost", b"1")
    at = _now()
    lake.delete("lost")
    lake.write("new", b"2")
    assert len(restore(s3, "s3://lake/two/", at, dry_run=True)) == 2
    assert _contents(lake) == {"new": b"2"}
    restore(s3, "s3://lake/two/", at, keep_new=True)
    assert _contents(lake) == {"lost": b"1", "new": b"2"}


def test_command_prints_result_and_refuses_wrong_word(
    s3: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    S3Lake("s3://lake/three", s3).write("k", b"1")
    at = _now()
    S3Lake("s3://lake/three", s3).delete("k")
    for name, value in (("AWS_ENDPOINT_URL", s3.url), ("AWS_ACCESS_KEY_ID", OPERATOR), ("AWS_SECRET_ACCESS_KEY", "s")):
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AWS_DEFAULT_REGION", REGION)
    monkeypatch.setattr("boto3.DEFAULT_SESSION", None)  # it may hold the keys of an earlier test
    assert main(["s3://lake/three/", "--at", at.isoformat()]) == 0
    assert capsys.readouterr().out.splitlines() == ["back  three/k", "1 keys changed"]
    for words in (
        ["lake", "--at", at.isoformat()],
        ["s3://lake/x", "--at", "yesterday"],
        ["s3://no/x", "--at", "2026-11-01"],
    ):
        assert main(words) == 1
        assert len(capsys.readouterr().err.splitlines()) == 1


def test_registry_from_older_dump_follows_ledger(s3: Any, tmp_path: Path) -> None:
    pytest.importorskip("psycopg2", reason="psycopg2-binary is not installed")
    from mlflow.tracking import MlflowClient

    from absa.adapters.mlflow_client import MlflowRegistry
    from flows.platform.databases import prepare

    ledger = Ledger(S3Lake("s3://lake/four", s3))
    with postgres() as variables, pytest.MonkeyPatch.context() as patch:
        for name, value in variables.items():
            patch.setenv(name, value)
        prepare("mlflow")
        uri = "postgresql+psycopg2:///mlflow"
        client = MlflowClient(tracking_uri=uri, registry_uri=uri)
        client.create_registered_model("absa")
        for _ in range(2):
            client.create_model_version("absa", source=str(tmp_path))
        registry = MlflowRegistry(uri)
        registry.project(_append(ledger, crowned("1")))
        dump = tmp_path / "mlflow.dump"
        _postgres("pg_dump", "--format=custom", f"--file={dump}", "mlflow")
        last = _append(ledger, challenged(crowned("1"), "2"))  # after the backup
        registry.project(last)
        client._get_registry_client().store._dispose_engine()
        _postgres("dropdb", "--force", "mlflow")
        prepare("mlflow")
        _postgres("pg_restore", "--dbname=mlflow", str(dump))
        prepare("mlflow")
        restored = MlflowRegistry(uri)
        assert restored.versions() == ["1", "2"]
        assert restored.aliases() == {"champion": "1"}
        assert restored.project(last) == []
        assert restored.aliases() == {"champion": "1", "challenger": "2"}
        assert ledger.verify(anchor=restored.anchor()) == []


def _postgres(command: str, *arguments: str) -> None:
    subprocess.run([str(binaries() / command), *arguments], env=dict(os.environ), check=True, capture_output=True)
