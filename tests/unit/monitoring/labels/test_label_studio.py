"""Tests of the label queue as tasks of Label Studio, and of its exports as filled queues."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from absa.data.mapping import DEFAULT_CODES
from absa.errors import InvalidDataError
from absa.records.lake import Lake
from absa.records.schema import Window
from absa.records.windows import load_window
from absa.task import ABSA, TaskSpec
from flows.cli.traffic_commands import account_lines
from monitoring.labels.label_import import WRONG_CHANCE, import_labels, wrong_label
from monitoring.labels.label_queue import ask_labels
from monitoring.labels.label_studio import labelling_interface, read_label_studio, reader_of, write_tasks
from tests.unit.monitoring.conftest import Traffic

Windows = Callable[[int], Window]
NAMES = ABSA.labels


def annotation(*labels: str, **fields: Any) -> dict[str, Any]:
    """An annotation as Label Studio exports it."""
    value = {"choices": list(labels)}
    result = {"id": "x", "from_name": "label", "to_name": "text", "type": "choices", "value": value}
    return {"id": 1, "completed_by": 1, "was_cancelled": False, "result": [result] if labels else [], **fields}


def task(request: str, *annotations: dict[str, Any], chance: Any = 0.5) -> dict[str, Any]:
    return {"id": 7, "data": {"request_id": request, "sampling_probability": chance}, "annotations": [*annotations]}


@pytest.mark.parametrize("form", ["JSON", "JSON-MIN"])
def test_queue_returns_labelled_from_label_studio(
    form: str, lake: Lake, traffic: Traffic, window: Windows, tmp_path: Path
) -> None:
    """Export, label every task with the model's own answer as an annotator would, import."""
    traffic.send(window(0), 40, labelled=0.0)
    queue = ask_labels(lake, window(0), count=20)
    write_tasks(queue, tmp_path / "tasks.json", ABSA)
    tasks = json.loads((tmp_path / "tasks.json").read_text(encoding="utf-8"))
    answers = dict(queue.select("request_id", "predicted").iter_rows())
    assert len(tasks) == queue.height
    assert not {"predicted", "confidence", "label"} & tasks[0]["data"].keys()
    named = [NAMES[answers[each["data"]["request_id"]]] for each in tasks]
    if form == "JSON":
        filled = [each | {"annotations": [annotation(name)]} for each, name in zip(tasks, named, strict=True)]
    else:
        filled = [each["data"] | {"label": name, "id": 7} for each, name in zip(tasks, named, strict=True)]
    (tmp_path / "export.json").write_text(json.dumps(filled), encoding="utf-8")
    done = import_labels(lake, tmp_path / "export.json", reader_of=reader_of)
    assert (done.rows, done.taken, done.refused) == (queue.height, queue.height, {})
    logged = load_window(lake, window(0)).rows
    labelled = logged.filter(logged["feedback_label"].is_not_null())
    assert labelled["feedback_label"].to_list() == labelled["label"].to_list()
    chances = dict(queue.select("request_id", "sampling_probability").iter_rows())
    assert dict(labelled.select("request_id", "sampling_probability").iter_rows()) == pytest.approx(chances)


def test_every_task_is_counted_once() -> None:
    export = [
        task("a", annotation("positive"), annotation("positive"), annotation("negative", was_cancelled=True)),
        task("b", annotation("positive"), annotation("negative")),
        task("c"),
        task("d", annotation()),
        task("e", annotation("positive", "negative")),
        task("f", annotation("maybe")),
        task("g", annotation("neutral"), chance="often"),
        task("h", annotation("neutral"), chance=0),
        {"data": {"text": "x"}, "annotations": [annotation("neutral")]},
        {"data": {"request_id": "i", "sampling_probability": 1}, "annotations": ["broken"]},
        "no task",
    ]
    read = read_label_studio(json.dumps(export).encode(), name="export.json")
    assert [(row.request_id, row.label, row.line) for row in read.labels] == [("a", 2, 1)]
    assert (read.rows, read.unlabelled, read.place) == (11, 2, "task")
    assert sum(map(len, read.refused.values())) == 8
    assert read.refused[wrong_label(DEFAULT_CODES)] == (6,)
    assert read.refused[WRONG_CHANCE] == (7, 8)


def test_refused_tasks_are_named(lake: Lake, tmp_path: Path) -> None:
    (tmp_path / "export.json").write_text(json.dumps([task("a", annotation("maybe"))]))
    lines = list(account_lines(import_labels(lake, tmp_path / "export.json", reader_of=reader_of)))
    assert lines[0] == "1 rows read = 0 labels taken + 0 without a label + 1 refused"
    assert lines[1].endswith("(task 1)")


@pytest.mark.parametrize("content", [b"[", b"[\xff]"])
def test_broken_export_is_refused(content: bytes) -> None:
    with pytest.raises(InvalidDataError, match=r"export\.json .* export the project as JSON again"):
        read_label_studio(content, name="export.json")


def test_csv_is_read_as_before() -> None:
    assert reader_of(b"request_id,label").__name__ == "read_label_file"
    assert reader_of(b"\xef\xbb\xbf [{}]").__name__ == "read_label_studio"


def test_interface_offers_the_labels_of_the_task() -> None:
    hostile = TaskSpec(name="t", input="text", labels=('a "quoted" <b>', "other & more"))
    choices = ET.fromstring(labelling_interface(hostile)).findall(".//Choice")
    assert [each.get("value") for each in choices] == list(hostile.labels)
    header = ET.fromstring(labelling_interface(ABSA)).find("Header")
    assert header is not None
    assert header.get("value") == "aspect: $aspect"
