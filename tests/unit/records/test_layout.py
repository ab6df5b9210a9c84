"""Lake keys have one owner."""

import ast
from datetime import UTC, datetime
from pathlib import Path

import pytest

from absa.data.forget import OTHER_ROW_FOLDERS
from absa.records import layout
from infra.aws.storage import CHECKPOINTS, FORGET_FOLDERS, SIGNS

ROOT = Path(__file__).parents[3]
OWNER = "absa/records/layout.py"
DEPLOYMENTS = {"batch/batch"}  # names of Prefect's that look like keys


def _key_literals(source: str) -> list[str]:
    tree = ast.parse(source)
    prose = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    texts = [
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in prose
    ]
    return [
        text for text in texts if text.startswith(tuple(layout.FOLDERS)) and " " not in text and text not in DEPLOYMENTS
    ]


def test_lake_keys_in_product_have_one_owner() -> None:
    found = {
        f"{path.relative_to(ROOT)}: {text!r}"
        for room in ("absa", "flows", "monitoring", "serving")
        for path in (ROOT / room).rglob("*.py")
        if path.relative_to(ROOT).as_posix() != OWNER
        for text in _key_literals(path.read_text(encoding="utf-8"))
    }
    assert found == set()


@pytest.mark.parametrize("line", ['lake.read("ledger/1")', 'lake.list(f"runs/{run}/x")', 'X = "batch/"'])
def test_lake_key_literal_is_recognised(line: str) -> None:
    assert _key_literals(line)


def test_aws_permissions_name_known_folders() -> None:
    assert {f"{name}/" for name in (*CHECKPOINTS, *FORGET_FOLDERS, *SIGNS)} <= layout.FOLDERS


def test_aws_lets_forgetting_delete_in_its_folders() -> None:
    assert {folder.rstrip("/") for folder in OTHER_ROW_FOLDERS} <= set(FORGET_FOLDERS)


def test_keys_equal_those_of_contracts() -> None:
    at = datetime(2026, 11, 30, 7, 5, tzinfo=UTC)
    assert layout.ledger_key(12) == "ledger/0000000012.json"
    assert layout.evidence_key("ab") == "evidence/ab.json"
    assert layout.package_folder("ab") == "packages/ab/"
    assert layout.manifest_key("ab") == "snapshots/ab/manifest.json"
    assert layout.side_part_key("ab", "train", 3) == "snapshots/ab/train/part-00003.parquet"
    assert layout.shards_prefix("ab", "c" * 64) == f"tokens/ab-{'c' * 16}/"
    assert layout.checkpoints_folder("r") == "runs/r/checkpoints/"
    assert layout.weights_folder("r") == "runs/r/weights/"
    assert layout.prediction_prefix(at) == "predictions/date=2026-11-30/hour=07/"
    assert layout.feedback_prefix(at) == "feedback/date=2026-11-30/"
    assert layout.outcome_prefix(at) == "outcomes/date=2026-11-30/"
    assert layout.verdict_key("a_b", 2) == "verdicts/a_b.r2.json"
    assert layout.experiment_key("e", 3) == "experiments/e/3.json"
    assert layout.COST_CURRENT == "cost/current.json"
    assert layout.job_part_key(1) == "part-000001.parquet"
    assert layout.job_quarantine_key(1) == "quarantine/part-000001.parquet"


@pytest.mark.parametrize(
    ("key", "named"),
    [("verdicts/a_b.r12.json", ("a_b", 12)), ("verdicts/a_b.json", None), ("verdicts/a_b.rx.json", None)],
)
def test_verdict_key_parses_only_revisions(key: str, named: tuple[str, int] | None) -> None:
    assert layout.verdict_of(key) == named
