"""Classifier with any encoder of transformers; slower to load and to score than the BERT of architecture.py.

The aspect's mark is added to the embeddings of its words, so an encoder must accept `inputs_embeds`. The import of
transformers takes seconds, so it happens only when an encoder is loaded.
"""

import inspect
import json
from pathlib import Path
from typing import Any, Final

from safetensors.torch import load_file
from torch import Tensor, nn

from absa.modeling.architecture import Architecture
from absa.modeling.head import CLASSIFIER_PREFIX, MARK, Classifier
from absa.modeling.plain_form import CONFIG, ENCODER_MARK, WEIGHTS
from absa.task import ABSA, TaskSpec

_ENCODER: Final = "encoder."


class TransformersClassifier(Classifier):
    """Classifier with an encoder of transformers.

    Args:
        encoder: model of `AutoModel`, whose first output is the last layer.
        separator: id of the token after each part of a row.
        dropout: share of units dropped in training.
        task: task of the model.

    Raises:
        ValueError: the encoder's layers cannot be found, or it does not accept `inputs_embeds`.
    """

    def __init__(self, encoder: Any, separator: int, *, dropout: float = 0.1, task: TaskSpec = ABSA) -> None:
        super().__init__()
        self.task, self.dropout = task, dropout
        self.architecture = _sizes(encoder, separator)
        accepted = inspect.signature(encoder.forward).parameters
        if "inputs_embeds" not in accepted:
            raise ValueError(f"expected an encoder that takes inputs_embeds, got {encoder.config.model_type}")
        if hasattr(encoder, "pooler"):
            encoder.pooler = None  # the head pools by itself
        self.encoder = encoder
        self._layers = f"{_ENCODER}{_layers_of(encoder)}."
        types = getattr(encoder.config, "type_vocab_size", 0) or 0
        self._takes_types = "token_type_ids" in accepted and types > 1
        self._add_head(self.word_table.embedding_dim)

    def forward(self, input_ids: Tensor, token_types: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return logits (B, labels); see `PairClassifier.forward`."""
        mentions = None if self.mark is None else self.find_aspect(input_ids, token_types)
        x = self.word_table(input_ids)
        if self.mark is not None and mentions is not None:
            x = x + mentions[..., None] * self.mark
        given = {"inputs_embeds": x, "attention_mask": None if mask is None else mask.long()}
        if self._takes_types:
            given["token_type_ids"] = token_types.long()
        return self.classify(self.encoder(**given)[0], token_types, mentions, mask)

    def forward_lines(self, input_ids: Tensor, token_types: Tensor, rows: Tensor, places: Tensor, most: int) -> Tensor:
        """Return logits (B, 1, labels) of one row per line: encoders of transformers cannot separate rows of a line."""
        if most != 1:
            raise ValueError(f"expected one row per line, got up to {most}")
        del places  # an encoder computes positions itself
        logits: Tensor = self(input_ids, token_types, rows >= 0)
        return logits[:, None]

    @property
    def word_table(self) -> nn.Embedding:
        """Embeddings of the words."""
        table: nn.Embedding = self.encoder.get_input_embeddings()
        return table

    def layer_of(self, name: str) -> int | None:
        """Return the number of a parameter's layer, from 0; None if the parameter is outside of the layers."""
        return int(name.removeprefix(self._layers).split(".")[0]) if name.startswith(self._layers) else None

    def is_table(self, name: str) -> bool:
        """Return True for a parameter that embeds words or positions."""
        return not name.startswith(self._layers) and (
            "position_embeddings" in name or name == f"{_ENCODER}{_name_of(self.encoder, self.word_table)}.weight"
        )

    def stored(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Return weights by their names in transformers, and the content of config.json."""
        weights = {
            name: value.detach().clone() for name, value in self.encoder.state_dict().items()
        } | self.head_weights()
        config: dict[str, Any] = self.encoder.config.to_dict()
        config.pop("_name_or_path", None)
        return weights, config | {
            ENCODER_MARK: self.architecture.separator,
            "architectures": [type(self.encoder).__name__],
        }


def load_encoder(
    folder: Path, *, layers: int | None, dropout: float, task: TaskSpec
) -> tuple[TransformersClassifier, dict[str, Tensor]]:
    """Make a classifier from a folder whose config.json has `ENCODER_MARK`; return it and the folder's weights.

    Args:
        folder: folder with config.json and model.safetensors, from `TransformersClassifier.stored`.
        layers: number of layers to keep, evenly spaced, the first and the last one included; None: all.
        dropout: share of units dropped in training.
        task: task of the model.

    Raises:
        ValueError: transformers is not installed, the weights do not fit the config, or `layers` is out of range.
    """
    transformers = quiet_transformers()
    separator = int(json.loads((folder / CONFIG).read_text(encoding="utf-8"))[ENCODER_MARK])
    config = transformers.AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    for name, value in config.to_dict().items():
        if "dropout" in name and isinstance(value, int | float):
            setattr(config, name, dropout)
    weights = load_file(folder / WEIGHTS)
    state = {name: value for name, value in weights.items() if name != MARK and not name.startswith(CLASSIFIER_PREFIX)}
    if layers is not None and layers != config.num_hidden_layers:
        state = _picked(config, state, layers, _layers_of(_untrained(config)))
    encoder = _untrained(config)
    try:
        encoder.load_state_dict(state)
    except RuntimeError as error:
        raise ValueError(f"its weights do not fit its config.json: {str(error).splitlines()[-1].strip()}") from error
    return TransformersClassifier(encoder, separator, dropout=dropout, task=task), weights


def _untrained(config: Any) -> Any:
    from transformers import AutoModel
    from transformers.initialization import no_init_weights

    with no_init_weights():
        encoder = AutoModel.from_config(config, trust_remote_code=False).float()
    if hasattr(encoder, "pooler"):
        encoder.pooler = None
    return encoder


def quiet_transformers() -> Any:
    """Import and return transformers without its messages, because standard error is the training's log.

    Raises:
        ValueError: transformers is not installed.
    """
    try:
        import transformers
    except ImportError as error:
        raise ValueError(
            "the model is not a BERT, so the package transformers is needed, which is not installed"
        ) from error
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    return transformers


def _picked(config: Any, state: dict[str, Tensor], layers: int, prefix: str) -> dict[str, Tensor]:
    """Return the weights with evenly picked layers under new numbers. Changes the config."""
    deep = config.num_hidden_layers
    if not 1 <= layers <= deep:
        raise ValueError(f"layers must be 1 to {deep}, got {layers}")
    picked = [round(index * (deep - 1) / max(1, layers - 1)) for index in range(layers)]
    if getattr(config, "layer_types", None):
        config.layer_types = [config.layer_types[index] for index in picked]
    config.num_hidden_layers = layers
    kept = {name: value for name, value in state.items() if not name.startswith(f"{prefix}.")}
    for new, old in enumerate(picked):
        of = f"{prefix}.{old}."
        kept |= {f"{prefix}.{new}.{name[len(of) :]}": value for name, value in state.items() if name.startswith(of)}
    return kept


def _sizes(encoder: Any, separator: int) -> Architecture:
    config = encoder.config
    inner = getattr(config, "intermediate_size", None) or getattr(config, "hidden_dim", None) or 4 * config.hidden_size
    return Architecture(
        layers=config.num_hidden_layers,
        hidden=config.hidden_size,
        heads=config.num_attention_heads,
        intermediate=inner,
        vocabulary=config.vocab_size,
        positions=config.max_position_embeddings - _first_place(encoder),
        separator=separator,
    )


def _first_place(encoder: Any) -> int:
    """Return the position of a row's first token: in RoBERTa and similar models, the one after padding's."""
    for name, module in encoder.named_modules():
        if name.endswith("position_embeddings") and getattr(module, "padding_idx", None) is not None:
            return int(module.padding_idx) + 1
    return 0


def _layers_of(encoder: Any) -> str:
    """Return the name of the list of an encoder's layers.

    Raises:
        ValueError: no list of modules has so many layers.
    """
    depth = encoder.config.num_hidden_layers
    for name, module in encoder.named_modules():
        if isinstance(module, nn.ModuleList) and len(module) == depth:
            return str(name)
    raise ValueError(f"the {depth} layers of a {encoder.config.model_type} cannot be found")


def _name_of(encoder: Any, module: nn.Module) -> str:
    return next(str(name) for name, other in encoder.named_modules() if other is module)
