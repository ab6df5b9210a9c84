"""Package of a model version on disk: its files, its config, and the digest that shows that it is complete."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

from absa.errors import IntegrityError
from absa.task import TaskSpec

MODEL_FILE: Final = "model.onnx"
TOKENIZER_FILE: Final = "tokenizer.json"
CONFIG_FILE: Final = "config.json"
CALIBRATION_FILE: Final = "calibration.json"
WARMUP_FILE: Final = "warmup.jsonl"
DIGESTED_FILES: Final = tuple(sorted((MODEL_FILE, TOKENIZER_FILE, CONFIG_FILE, CALIBRATION_FILE)))
PACKAGE_FILES: Final = (
    *DIGESTED_FILES,
    "gate.json",
    "gate.html",
    "model_card.md",
    WARMUP_FILE,
)

_SCHEMA_VERSION: Final = 1
_KNOWN_INPUTS: Final = frozenset({"input_ids", "attention_mask", "token_type_ids"})


@dataclass(frozen=True, kw_only=True)
class PackageConfig:
    """Content of `config.json` about the model.

    `task` has the labels in the order of the scores; packages of early releases have no task in the file and get the
    default task. `max_tokens` counts the whole row with its special tokens: three for a pair, two for plain text.
    `inputs` are the names of the ONNX graph's inputs. `run` is the tracking run that trained the weights; None in
    packages of earlier releases.
    """

    task: TaskSpec
    base_model: str
    layers: int
    hidden: int
    max_tokens: int
    inputs: tuple[str, ...]
    snapshot: str | None
    run: str | None
    training: Mapping[str, Any]

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Self:
        """Read the parsed `config.json`.

        Raises:
            ValueError: a field is missing or has a value that this engine does not support.
        """
        version = content.get("schema_version")
        if version != _SCHEMA_VERSION:
            raise ValueError(f"schema_version is {version!r}, expected {_SCHEMA_VERSION}")
        task = TaskSpec.from_json(content.get("task"))
        if content.get("input_form") != input_form_of(task):
            raise ValueError(f"input_form is {content.get('input_form')!r}, expected {input_form_of(task)!r}")
        if content.get("labels") != list(task.labels):
            raise ValueError(f"labels are {content.get('labels')!r}, expected {list(task.labels)}")
        missing = sorted({"base_model", "layers", "hidden", "max_tokens", "inputs"} - content.keys())
        if missing:
            raise ValueError(f"{', '.join(missing)} missing")
        inputs = tuple(content["inputs"])
        if unknown := sorted(set(inputs) - _KNOWN_INPUTS):
            raise ValueError(f"unknown model inputs {', '.join(unknown)}")
        return cls(
            task=task,
            base_model=str(content["base_model"]),
            layers=int(content["layers"]),
            hidden=int(content["hidden"]),
            max_tokens=int(content["max_tokens"]),
            inputs=inputs,
            snapshot=content.get("snapshot"),
            run=content.get("run"),
            training=content.get("training") or {},
        )


def input_form_of(task: TaskSpec) -> str:
    """Return the `input_form` of a task's packages: "pair" of text and phrase, or "single" for plain text."""
    return "single" if task.phrase is None else "pair"


@dataclass(frozen=True, kw_only=True)
class ModelPackage:
    """Package folder that was read and found complete. `temperature` divides the logits before softmax."""

    folder: Path
    config: PackageConfig
    temperature: float
    digest: str

    @property
    def model_path(self) -> Path:
        """Path of the ONNX graph."""
        return self.folder / MODEL_FILE

    @property
    def tokenizer_path(self) -> Path:
        """Path of the tokenizer, in the format of the `tokenizers` library."""
        return self.folder / TOKENIZER_FILE

    @property
    def warmup_path(self) -> Path:
        """Path of the synthetic warm-up rows with their scores."""
        return self.folder / WARMUP_FILE

    @property
    def size_mb(self) -> float:
        """Size of the digested files in 10^6 bytes."""
        return sum((self.folder / name).stat().st_size for name in DIGESTED_FILES) / 1e6


def package_digest(folder: Path) -> str:
    """Return the SHA-256 (hex) over the files that answers depend on: model, tokenizer, config and calibration.

    Raises:
        IntegrityError: one of the files is missing or cannot be read.
    """
    digest = hashlib.sha256()
    for name in DIGESTED_FILES:
        try:
            with (folder / name).open("rb") as file:
                content = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            raise IntegrityError(f"the package at {folder} has no readable {name}: {error.strerror}") from error
        digest.update(f"{name}\0{content}\n".encode())
    return digest.hexdigest()


def load_package(folder: Path, *, expected_digest: str | None = None) -> ModelPackage:
    """Read and check a package folder; the model is not loaded yet.

    Args:
        folder: folder with the files of one version.
        expected_digest: digest in the ledger or the registry; None: not checked.

    Raises:
        IntegrityError: a file is missing, unreadable or not in the expected form, or the digest differs.
    """
    digest = package_digest(folder)
    if expected_digest is not None and digest != expected_digest:
        raise IntegrityError(f"the package at {folder} has the digest {digest}, expected {expected_digest}")
    try:
        config = PackageConfig.from_json(_read_json(folder / CONFIG_FILE))
    except (ValueError, TypeError) as error:
        raise IntegrityError(f"{folder / CONFIG_FILE} cannot be used: {error}") from error
    return ModelPackage(
        folder=folder, config=config, temperature=_read_temperature(folder / CALIBRATION_FILE), digest=digest
    )


def _read_temperature(path: Path) -> float:
    try:
        temperature = float(_read_json(path)["temperature"])
    except (KeyError, ValueError, TypeError) as error:
        raise IntegrityError(f"{path} needs a number named temperature") from error
    if not 0 < temperature < float("inf"):
        raise IntegrityError(f"{path} has the temperature {temperature}, expected a finite number above 0")
    return temperature


def _read_json(path: Path) -> dict[str, Any]:
    content = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(content, dict):
        raise ValueError("expected a JSON object")
    return content
