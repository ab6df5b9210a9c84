"""Base of a model: reading of a base model's folder as a classifier, and writing of a classifier's folder."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import torch
from safetensors.torch import load_file, save_file
from torch import nn

from absa.errors import PermanentError
from absa.modeling.architecture import (
    Architecture,
    PairClassifier,
    from_huggingface_weights,
)
from absa.modeling.encoder import load_encoder
from absa.modeling.folders import CONFIG, PACKAGED, TOKENIZER, WEIGHTS, find_base
from absa.modeling.head import Classifier
from absa.modeling.plain_form import ENCODER_MARK
from absa.task import ABSA, TaskSpec

__all__ = [
    "CONFIG",
    "PACKAGED",
    "TOKENIZER",
    "WEIGHTS",
    "find_base",
    "keep_layers",
    "load_base",
    "narrow",
    "save_weights",
]

_HEAD_WIDTH: Final = 32
_WORDS_STD: Final = 0.5  # of a student's word embeddings, which must dominate in the first steps
_START_STD: Final = 0.05
_TASK: Final = "evergreen_task"  # key in config.json: task of the head


def load_base(
    folder: Path, *, task: TaskSpec = ABSA, layers: int | None = None, hidden: int | None = None, dropout: float = 0.1,
    max_tokens: int = 0, seed: int = 0,
) -> tuple[Classifier, bool]:  # fmt: skip
    """Make a classifier from a base model's folder.

    Args:
        folder: folder that `find_base` returned or `save_weights` wrote.
        task: task of the model. A head for the first of its labels is kept and extended by the new labels.
        layers: number of layers to keep, evenly spaced, the last one included; None: all.
        hidden: width of the model; None: the base's width. If it is smaller, word embeddings are reduced to their
            principal components, and layers are untrained (see `narrow`).
        dropout: share of units dropped in training.
        max_tokens: number of tokens of the longest row; the model must have so many positions.
        seed: seed of a new head's weights.

    Returns:
        The model, and True if the folder had its head for all labels (a warm start); False if the head is new, at least
        for some labels.

    Raises:
        PermanentError: the folder has another kind of model, or its files do not fit each other.
    """
    try:
        config: dict[str, Any] = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
        head_of = TaskSpec.from_json(config.get(_TASK))
        torch.manual_seed(seed)
        if ENCODER_MARK in config:
            model, weights = load_encoder(folder, layers=layers if hidden is None else None, dropout=dropout, task=task)
            _check_positions(model, max_tokens)
            has_head = model.read_head(weights, head_of)
            if hidden is None or hidden == model.architecture.hidden:
                return model, has_head
            return narrow(model, layers=layers or model.architecture.layers, hidden=hidden, dropout=dropout), False
        deep = Architecture.from_huggingface(config)
        wanted = deep.layers if layers is None else layers
        if not 1 <= wanted <= deep.layers:
            raise ValueError(f"layers must be 1 to {deep.layers}, got {wanted}")
        bert = PairClassifier(deep, dropout=dropout, task=task)
        _check_positions(bert, max_tokens)
        has_head = from_huggingface_weights(bert, load_file(folder / WEIGHTS), head_of)
        if hidden is not None and hidden != deep.hidden:
            return narrow(bert, layers=wanted, hidden=hidden, dropout=dropout), False
    except (ValueError, KeyError, OSError) as error:
        raise PermanentError(f"the base model in {folder.name} cannot be used: {error}") from error
    return keep_layers(bert, wanted), has_head


def _check_positions(model: Classifier, max_tokens: int) -> None:
    if model.architecture.positions < max_tokens:
        raise ValueError(f"max_tokens must be at most {model.architecture.positions} for this model, got {max_tokens}")


def keep_layers(model: PairClassifier, layers: int) -> PairClassifier:
    """Keep `layers` layers of a model, evenly spaced, the last one included. Changes the model in place."""
    deep = model.architecture.layers
    if layers == deep:
        return model
    picked = [round((index + 1) * deep / layers) - 1 for index in range(layers)]
    model.layers = nn.ModuleList([model.layers[index] for index in picked])
    model.architecture = replace(model.architecture, layers=layers)
    return model


def narrow(model: Classifier, *, layers: int, hidden: int, dropout: float) -> PairClassifier:
    """Return a narrower student: word embeddings are principal components of the model's, layers are untrained.

    Attention heads are 32 wide, and the inner width is four times `hidden`. A few minutes of training on a few thousand
    rows cannot teach the meaning of words, but small layers learn in seconds.

    Raises:
        ValueError: `hidden` is not a multiple of 32 below the model's width.
    """
    wide, table = model.architecture, model.word_table.weight
    if hidden % _HEAD_WIDTH or not 0 < hidden < table.shape[1]:
        raise ValueError(f"hidden must be a multiple of {_HEAD_WIDTH} below {table.shape[1]}, got {hidden}")
    sizes = replace(wide, layers=layers, hidden=hidden, heads=hidden // _HEAD_WIDTH, intermediate=4 * hidden)
    student = PairClassifier(sizes, dropout=dropout, task=model.task)
    with torch.no_grad():
        words = table - table.mean(0)
        components = torch.linalg.eigh(words.T @ words).eigenvectors[:, -hidden:]  # eigh sorts in ascending order
        kept = words @ components
        student.words.weight.copy_(kept * (_WORDS_STD / kept.std()))
        for embedding in (student.places, student.types):
            nn.init.normal_(embedding.weight, std=_START_STD)
        for module in student.layers.modules():
            if isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=_START_STD)
                nn.init.zeros_(module.bias)
    return student


def save_weights(model: Classifier, tokenizer_json: str, folder: Path) -> None:
    """Write a folder for `load_base` and transformers: config.json, model.safetensors, tokenizer.json."""
    folder.mkdir(parents=True, exist_ok=True)
    found, config = model.stored()
    weights = {name: value.contiguous().cpu() for name, value in found.items()}
    save_file(weights, folder / WEIGHTS, metadata={"format": "pt"})
    names = dict(enumerate(model.task.labels))
    config |= {"id2label": names, _TASK: model.task.to_json()}
    (folder / CONFIG).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    (folder / TOKENIZER).write_text(tokenizer_json, encoding="utf-8")
