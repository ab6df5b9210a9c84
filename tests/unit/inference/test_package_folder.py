"""A package folder is whole or it is refused, and the message names the file."""

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from absa.errors import IntegrityError
from absa.inference.package import DIGESTED_FILES, load_package, package_digest
from absa.task import ABSA, TaskSpec
from tests.toy_package import build_toy_package

TICKETS = TaskSpec(name="tickets", input="text", labels=("billing", "bug"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return build_toy_package(tmp_path / "package")


def rewrite(path: Path, **changes: Any) -> None:
    content = json.loads(path.read_text())
    path.write_text(json.dumps({**content, **changes}))


def test_the_digest_is_the_one_of_the_contract(folder: Path) -> None:
    lines = [
        f"{name}\0{hashlib.sha256((folder / name).read_bytes()).hexdigest()}\n"
        for name in ("calibration.json", "config.json", "model.onnx", "tokenizer.json")
    ]
    assert package_digest(folder) == hashlib.sha256("".join(lines).encode()).hexdigest()


@pytest.mark.parametrize("name", DIGESTED_FILES)
def test_changed_byte_changes_digest(folder: Path, name: str) -> None:
    before = package_digest(folder)
    (folder / name).write_bytes((folder / name).read_bytes() + b" ")
    assert package_digest(folder) != before
    with pytest.raises(IntegrityError, match=f"expected {before}"):
        load_package(folder, expected_digest=before)


def test_late_gate_report_keeps_digest(folder: Path) -> None:
    before = package_digest(folder)
    (folder / "gate.html").write_text("<p>later</p>")
    assert load_package(folder, expected_digest=before).digest == before


@pytest.mark.parametrize("name", DIGESTED_FILES)
def test_a_missing_file_is_named(folder: Path, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(IntegrityError, match=name.replace(".", r"\.")):
        load_package(folder)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"schema_version": 2}, "schema_version is 2, expected 1"),
        ({"labels": ["positive", "neutral", "negative"]}, "labels are"),
        ({"input_form": "marker"}, "input_form is 'marker'"),
        ({"task": TICKETS.to_json()}, "input_form is 'pair', expected 'single'"),
        ({"task": TICKETS.to_json(), "input_form": "single"}, r"expected \['billing', 'bug'\]"),
        ({"task": {**TICKETS.to_json(), "labels": []}}, "labels: expected 2 to 127, got 0"),
        ({"inputs": ["input_ids", "pixels"]}, "unknown model inputs pixels"),
    ],
)
def test_a_config_of_another_form_is_refused(folder: Path, changes: dict[str, Any], sentence: str) -> None:
    rewrite(folder / "config.json", **changes)
    with pytest.raises(IntegrityError, match=sentence):
        load_package(folder)


def test_package_without_task_is_of_default_task(folder: Path) -> None:
    assert load_package(folder).config.task == ABSA


def test_package_names_its_task(folder: Path) -> None:
    rewrite(folder / "config.json", task=TICKETS.to_json(), labels=["billing", "bug"], input_form="single")
    assert load_package(folder).config.task == TICKETS


def test_a_config_without_a_field_is_refused(folder: Path) -> None:
    content = json.loads((folder / "config.json").read_text())
    del content["max_tokens"]
    (folder / "config.json").write_text(json.dumps(content))
    with pytest.raises(IntegrityError, match="max_tokens missing"):
        load_package(folder)


@pytest.mark.parametrize("temperature", [0, -1, float("inf"), float("nan"), "hot", None])
def test_a_temperature_that_cannot_divide_is_refused(folder: Path, temperature: Any) -> None:
    rewrite(folder / "calibration.json", temperature=temperature)
    with pytest.raises(IntegrityError, match=r"calibration\.json"):
        load_package(folder)
