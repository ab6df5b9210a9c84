"""Batches of a user's own task: its columns, its labels, and a proof that no row is lost."""

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from absa.batch.batch_job import BatchJob, run_batch
from absa.batch.local import LocalProcesses
from absa.batch.partition_job import PartitionCommit
from absa.batch.verify_batch import verify_batch
from absa.data.mapping import DataMapping
from absa.errors import InvalidDataError
from absa.records.identifiers import unit_hash
from absa.task import TaskSpec
from tests.homes import words_of_default_task
from tests.toy_package import build_toy_package

SIX = ("billing", "bug", "praise", "refund", "delivery", "account")
TICKETS = TaskSpec(name="tickets", input="text", labels=SIX)
TOPICS = TaskSpec(name="topics", input="text+topic", labels=("no", "yes"))
HERE = LocalProcesses(workers=0)


def rows_of(folder: Path) -> list[dict[str, Any]]:
    return [
        row for path in sorted(folder.rglob("*.parquet")) for row in pq.read_table(path, partitioning=None).to_pylist()
    ]


def batch(tmp_path: Path, content: str, task: TaskSpec, mapping: DataMapping, **changes: Any) -> dict[str, Any]:
    source = tmp_path / "rows.csv"
    source.write_text(content, encoding="utf-8")
    package = build_toy_package(tmp_path / "package", task=task)
    out = str(tmp_path / "out")
    job = BatchJob(input_uri=str(source), output_uri=out, package=package, version="7", mapping=mapping, **changes)
    manifest = run_batch(job, engines=HERE).manifest
    assert verify_batch(out, mapping=mapping) == []
    return manifest


@pytest.mark.parametrize("labels", [2, 3, 6])
def test_plain_text_is_scored_by_mapped_columns(tmp_path: Path, labels: int) -> None:
    task = TaskSpec(name="tickets", input="text", labels=SIX[:labels])
    mapping = DataMapping(task=task, columns={"text": "Name", "unit": "Account ID", "segment": "Plan"})
    content = "Name,Account ID,Plan\na bug in the app,u1,pro\nthe billing,,free\n ,u2,pro\n"
    manifest = batch(tmp_path, content, task, mapping, log_uri=str(tmp_path / "lake"), secret=b"s", max_bad_share=0.5)
    assert manifest["quarantined"] == {"text_empty": 1}
    assert manifest["by_label"] == {name: int(name in ("billing", "bug")) for name in task.labels}
    assert words_of_default_task(json.dumps(manifest)) == []
    scored = [row for path in (tmp_path / "out").glob("part-*") for row in pq.read_table(path).to_pylist()]
    assert [(row["Name"], row["label"], row["name"], len(row["scores"])) for row in scored] == [
        ("a bug in the app", 1, "bug", labels),
        ("the billing", 0, "billing", labels),
    ]
    logged = rows_of(tmp_path / "lake")
    assert [(row["text"], row["aspect"], row["segment"], row["unit_hash"]) for row in logged] == [
        ("a bug in the app", None, "pro", unit_hash("u1", b"s")),
        ("the billing", None, "free", None),
    ]


def test_text_column_named_like_answer_is_logged(tmp_path: Path) -> None:
    mapping = DataMapping(task=TICKETS, columns={"text": "name"})
    batch(tmp_path, "name\na bug in the app\n", TICKETS, mapping, log_uri=str(tmp_path / "lake"))
    (row,) = rows_of(tmp_path / "lake")
    assert (row["text"], row["label"]) == ("a bug in the app", 1)


def test_topics_need_not_be_in_their_texts(tmp_path: Path) -> None:
    content = "text,Topic\nyes it is slow,delivery\nno,refund\nthe app,\n"
    manifest = batch(
        tmp_path, content, TOPICS, DataMapping(task=TOPICS), log_uri=str(tmp_path / "lake"), max_bad_share=0.5
    )
    assert manifest["quarantined"] == {"aspect_empty": 1}
    assert [(row["aspect"], row["label"]) for row in rows_of(tmp_path / "lake")] == [("delivery", 1), ("refund", 0)]


def test_package_of_other_task_has_own_columns(tmp_path: Path) -> None:
    home = DataMapping(task=TOPICS, columns={"text": "Feedback"})
    manifest = batch(tmp_path, "text\na bug in the app\n", TICKETS, home)
    assert manifest["task"] == TICKETS.to_json()


def test_missing_column_is_named_by_task(tmp_path: Path) -> None:
    with pytest.raises(InvalidDataError, match="has no column topic; expected a header with text, topic"):
        batch(tmp_path, "text\nthe app\n", TOPICS, DataMapping(task=TOPICS))


def test_commit_of_earlier_release_is_read() -> None:
    written = {"number": 0, "rows": 2, "quarantined": {}, "by_sentiment": {"negative": 2}, "size": 9}
    assert PartitionCommit.from_json(json.loads(json.dumps(written))).by_label == {"negative": 2}
