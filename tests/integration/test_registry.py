"""Aliases in a real MLflow registry: set from the ledger's head, and put back when a hand has moved them."""

from pathlib import Path

import pytest

from absa.adapters.lake import FolderLake
from absa.adapters.mlflow_client import MlflowRegistry
from absa.ledger.lifecycle import challenged, crowned
from absa.ledger.record import LedgerRecord
from absa.ledger.state import State
from absa.ledger.store import Ledger


@pytest.mark.slow
def test_an_alias_that_was_moved_by_hand_is_reported_and_put_back(tmp_path: Path) -> None:
    from mlflow.tracking import MlflowClient

    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    client = MlflowClient(tracking_uri=uri, registry_uri=uri)
    client.create_registered_model("absa")
    for _ in range(2):
        client.create_model_version("absa", source=str(tmp_path))
    registry = MlflowRegistry(uri)
    ledger = Ledger(FolderLake(tmp_path / "lake"))

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
    assert registry.project(first) == []  # nobody moved anything: the aliases lagged
    second = append(challenged(crowned("1"), "2"))
    assert registry.project(second) == []
    assert registry.aliases() == {"champion": "1", "challenger": "2"}
    assert registry.anchor() == (second.number, second.hash)

    client.set_registered_model_alias("absa", "champion", "2")
    client.delete_registered_model_alias("absa", "challenger")
    said = registry.project(second)
    assert len(said) == 2
    assert "champion stood at 2" in said[0]
    assert registry.aliases() == {"champion": "1", "challenger": "2"}
    assert registry.project(second) == []

    assert registry.project(first) == []  # an older head changes nothing
    assert registry.aliases() == {"champion": "1", "challenger": "2"}
    FolderLake(tmp_path / "lake").delete("ledger/0000000002.json")
    assert "the tail was cut" in ledger.verify(anchor=registry.anchor())[0]

    other = append(crowned("2"))  # a record in place of the one that was cut off
    assert "record 2 is not what it was" in registry.project(other)[-1]
    later = append(crowned("1"))
    assert registry.anchor() == (second.number, second.hash)
    assert "the tail was cut" in ledger.verify(anchor=registry.anchor())[0]
    client.set_registered_model_tag("absa", "ledger_hash", later.hash)  # killed between its two tags
    assert registry.project(later) == []
    assert registry.anchor() == (later.number, later.hash)
