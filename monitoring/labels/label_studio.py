"""Label queue as tasks of Label Studio, and its JSON exports as filled queues.

Tasks carry no prediction: an annotator who sees the model's answer agrees with it more often, and these labels measure
the model. Formats: https://labelstud.io/guide/task_format and https://labelstud.io/guide/export (JSON and JSON-MIN).
"""

import json
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import polars as pl

from absa.data.mapping import DEFAULT_CODES, check_coding, normal_code
from absa.errors import InvalidDataError
from absa.sinks import html_text
from absa.task import TaskSpec
from monitoring.labels.label_import import (
    WRONG_CHANCE,
    LabelFile,
    LabelRow,
    read_label_file,
    sampling_chance,
    wrong_label,
)

SUFFIX: Final = ".json"
_CONTROL: Final = "label"  # name of the choice in the labelling interface
_NOT_A_TASK: Final = "has no request_id; import the tasks that Evergreen exported"
_DISAGREEMENT: Final = "has annotators who disagree; decide in Label Studio and export again"
_SEVERAL_CHOICES: Final = "has several labels in one annotation"


def label_studio_tasks(rows: pl.DataFrame) -> str:
    """Return the rows of a label queue as JSON tasks."""
    shown = [name for name in rows.columns if name not in {"predicted", "confidence", "label"}]
    return json.dumps([{"data": data} for data in rows.select(shown).to_dicts()], ensure_ascii=False, indent=1)


def labelling_interface(task: TaskSpec) -> str:
    """Return the interface for the project's settings in Label Studio: the text, its aspect or topic, the labels."""
    choices = "".join(f'\n    <Choice value="{html_text(label)}"/>' for label in task.labels)
    phrase = f'\n  <Header value="{task.phrase}: ${task.phrase}"/>' if task.phrase else ""
    return (
        f'<View>{phrase}\n  <Text name="text" value="$text"/>\n'
        f'  <Choices name="{_CONTROL}" toName="text" choice="single">{choices}\n  </Choices>\n</View>\n'
    )


def write_tasks(rows: pl.DataFrame, path: Path, task: TaskSpec) -> Path:
    """Write tasks to `path`, and the labelling interface beside it with the suffix .xml, whose path is returned."""
    path.write_text(label_studio_tasks(rows), encoding="utf-8")
    interface = path.with_suffix(".xml")
    interface.write_text(labelling_interface(task), encoding="utf-8")
    return interface


def reader_of(content: bytes) -> Callable[..., LabelFile]:
    """Return the reader for a filled queue: Label Studio's JSON, or CSV."""
    return read_label_studio if content.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"[") else read_label_file


def read_label_studio(content: bytes, *, name: str, codes: Mapping[str, int] = DEFAULT_CODES) -> LabelFile:
    """Read a JSON or JSON-MIN export. Pure.

    A task counts once: annotators who agree give one label, a task with several is refused. Skipped and cancelled
    annotations give none.

    Args:
        content: the file, UTF-8.
        name: name of the file in error messages.
        codes: label of each value that annotators may choose.

    Raises:
        InvalidDataError: it is not a list of tasks, or see `mapping.check_coding`.
    """
    try:
        tasks = json.loads(content.decode("utf-8-sig"))
    except ValueError:
        raise InvalidDataError(f"{name} is not JSON: export the project as JSON again") from None
    if not isinstance(tasks, list):
        raise InvalidDataError(f"{name} is not a list of tasks: export the project as JSON again")
    refused: defaultdict[str, list[int]] = defaultdict(list)
    labels: list[LabelRow] = []
    written: Counter[str] = Counter()
    unlabelled = 0
    for number, task in enumerate(tasks, start=1):
        try:
            chosen = _choices(task)
        except (AttributeError, IndexError, KeyError, TypeError):
            refused[_NOT_A_TASK].append(number)
            continue
        written.update(normal_code(each) for each in chosen if each is not None)
        found = _label_row(task, number, chosen, codes)
        if found is None:
            unlabelled += 1
        elif isinstance(found, str):
            refused[found].append(number)
        else:
            labels.append(found)
    check_coding(name, codes, written)
    return LabelFile(
        rows=len(tasks),
        unlabelled=unlabelled,
        labels=tuple(labels),
        refused={reason: tuple(numbers) for reason, numbers in refused.items()},
        place="task",
    )


def _label_row(task: Any, number: int, chosen: set[str | None], codes: Mapping[str, int]) -> LabelRow | str | None:
    """Return a task's label, the reason to refuse it, or None without a label."""
    data = task.get("data", task) if isinstance(task, dict) else None
    request = data.get("request_id") if isinstance(data, dict) else None
    if data is None or not isinstance(request, str):
        return _NOT_A_TASK
    if not chosen:
        return None
    named = {codes.get(normal_code(each)) for each in chosen if each is not None}
    if None in chosen or None in named or len(named) > 1:
        return _SEVERAL_CHOICES if None in chosen else wrong_label(codes) if None in named else _DISAGREEMENT
    chance = sampling_chance(str(data.get("sampling_probability")))
    if chance is None:
        return WRONG_CHANCE
    (label,) = (each for each in named if each is not None)
    return LabelRow(line=number, request_id=request, label=label, sampling_probability=chance)


def _choices(task: Any) -> set[str | None]:
    """Return the labels that annotators chose for a task; None stands for an annotation with several."""
    if not isinstance(task, dict):
        return set()
    if "annotations" not in task:  # JSON-MIN
        chosen = task.get(_CONTROL)
        return {chosen} if isinstance(chosen, str) else {None} if chosen else set()
    found: set[str | None] = set()
    for annotation in task["annotations"]:
        if annotation.get("was_cancelled"):
            continue
        for result in annotation.get("result", ()):
            if result.get("type") == "choices" and result.get("from_name") == _CONTROL:
                choices = result["value"]["choices"]
                found.add(str(choices[0]) if len(choices) == 1 else None)
    return found
