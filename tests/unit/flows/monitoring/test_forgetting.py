"""The command that forgets: lake, home and the versions' tags."""

import json
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import SecretStr

from absa.adapters.lake_stores import FolderLake
from absa.config_file import REFUSED_ROWS
from absa.data.ingest import ingest
from absa.errors import ConflictError, PermanentError, UnavailableError
from absa.records.identifiers import unit_hash
from absa.records.layout import prediction_prefix
from absa.records.schema import Window, utc_now
from absa.records.tables import PREDICTIONS, write_parquet
from absa.records.verdict import Verdict
from flows.monitoring.attempts import GRACE_S, WAIT_S
from flows.monitoring.forgetting import FORGOTTEN, forget, retain
from flows.platform.settings import Home, Settings
from monitoring.verdicts import VerdictStore
from tests.stand_ins import stale

SECRET = b"unit-secret"


class Registry:
    """Two versions; the first one learnt from the snapshot."""

    def __init__(self, snapshot: str) -> None:
        self.kept = {"1": {"snapshot": snapshot}, "2": {"snapshot": "another"}}
        self.away = False

    def versions(self) -> list[str]:
        if self.away:
            raise UnavailableError("MLflow does not answer")
        return list(self.kept)

    def tags(self, version: str) -> dict[str, str]:
        return self.kept[version]

    def set_tags(self, version: str, tags: dict[str, str]) -> None:
        self.kept[version] |= tags


@pytest.fixture
def services(tmp_path: Path) -> Any:
    """A home whose customer acct-42 asked once, was learnt from, and stands in a training's files."""
    lake = FolderLake(tmp_path / "lake")
    row = {
        "schema_version": 1, "request_id": "id-1", "at": utc_now(), "unit_hash": unit_hash("acct-42", SECRET),
        "unit_given": True, "text": "the canary sings well", "aspect": "canary", "shadow": False,
        "scores": [0.1, 0.2, 0.7],
    }  # fmt: skip
    write_parquet(lake, f"{prediction_prefix(row['at'])}r.parquet", pa.Table.from_pylist([row], schema=PREDICTIONS))
    file = tmp_path / "labels.csv"
    file.write_text("text,aspect,label\nThe canary sings well,canary,2\nthe app is slow,app,0\n", encoding="utf-8")
    manifest = ingest(lake, [file])
    file.unlink()
    settings = Settings(home=tmp_path, retention_days=1e-9, secret=SecretStr(SECRET.decode()))
    home = Home(settings)
    job = home.folder("jobs", "run-1")
    (job / "job.json").write_text(json.dumps({"snapshot": manifest.digest}), encoding="utf-8")
    (job / "train.jsonl").write_text('{"text": "The canary sings well"}\n', encoding="utf-8")
    (tmp_path / REFUSED_ROWS).write_text("reason,text\nlabel,the canary sings\n", encoding="utf-8")
    return SimpleNamespace(lake=lake, home=home, settings=settings, environment={}, registry=Registry(manifest.digest))


def retraining(services: Any, *, age_s: float) -> Verdict:
    """An attempt that a verdict asked for has begun so long ago."""
    store, at = VerdictStore(services.lake), utc_now() - timedelta(seconds=age_s)
    window = Window(start=at - timedelta(hours=1), end=at)
    return store.begin_attempt(store.record(stale(window)), at=at)


def words_of(path: Path) -> str:
    """Return the rows of a file of any form."""
    if path.suffix == ".parquet":
        return str(pq.read_table(path, partitioning=None).to_pylist()).lower()
    return path.read_text(encoding="utf-8").lower()


def test_forgotten_unit_leaves_lake_home_and_tags_versions(services: Any, tmp_path: Path) -> None:
    said = forget(services, unit="acct-42")
    assert said[0].startswith("forgotten: 1 predictions, 0 labels, 1 examples in 1 snapshots")
    assert "version 1" in said[1]
    assert FORGOTTEN in services.registry.kept["1"]
    assert FORGOTTEN not in services.registry.kept["2"]
    assert [path for path in tmp_path.rglob("*") if path.is_file() and "canary" in words_of(path)] == []


def test_forgetting_works_with_registry_down(services: Any) -> None:
    services.registry.away = True
    said = forget(services, unit="acct-42")
    assert services.lake.list("predictions/") == []
    assert "not every version is tagged" in said[1]
    services.registry.away = False
    assert "version 1" in forget(services, unit="acct-42")[1]


def test_version_registered_after_forgetting_is_tagged_next(services: Any) -> None:
    learnt = services.registry.kept.pop("1")
    forget(services, unit="acct-42")
    services.registry.kept["3"] = learnt
    forget(services, days=1.0)
    assert FORGOTTEN in services.registry.kept["3"]
    tag = services.registry.kept["3"][FORGOTTEN]
    assert len(forget(services, days=1.0)) == 1
    assert services.registry.kept["3"][FORGOTTEN] == tag


@pytest.mark.parametrize("age_s", [5.0, WAIT_S])  # one that waited for its turn may have begun just now
def test_forgetting_waits_for_running_retraining(services: Any, age_s: float) -> None:
    begun = retraining(services, age_s=age_s)
    kept = {key: services.lake.read(key) for key in services.lake.list("")}
    with pytest.raises(ConflictError, match="forget again"):
        forget(services, unit="acct-42")
    assert len(retain(services)) == 1
    assert {key: services.lake.read(key) for key in services.lake.list("")} == kept
    VerdictStore(services.lake).end_attempt(begun.window, 1, "completed")
    assert "1 predictions" in retain(services)[0]


def test_dead_attempt_does_not_block_forgetting(services: Any) -> None:
    retraining(services, age_s=WAIT_S + services.settings.budget_s + GRACE_S + 60.0)
    assert "1 predictions" in forget(services, unit="acct-42")[0]


def test_without_a_retention_nothing_is_forgotten(services: Any) -> None:
    services.settings = Settings(home=services.settings.home)
    assert retain(services) == []
    assert services.lake.list("predictions/")


@pytest.mark.parametrize(
    ("options", "sentence"),
    [({}, "got neither"), ({"unit": "a", "days": 1.0}, "got both"), ({"days": 0.0}, "above 0")],
)
def test_what_is_to_be_forgotten_is_said_clearly(services: Any, options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(PermanentError, match=sentence):
        forget(services, **options)
