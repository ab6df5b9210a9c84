"""Own BERT encoder below the head: the fast path.

The encoder is not taken from transformers for three reasons: the import takes two seconds instead of eight, the
parameters map one to one to the ONNX graph that packaging writes, and rows of equal length need no mask. The names of
parameters on disk are those of `transformers.BertModel`, so each library reads the folders of the other.
"""

from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - the usual name

from absa.modeling.head import Classifier
from absa.task import ABSA, TaskSpec


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """Sizes of an encoder. Two models can exchange weights if their sizes are equal."""

    layers: int
    hidden: int
    heads: int
    intermediate: int
    vocabulary: int
    positions: int = 512
    token_types: int = 2
    layer_norm_eps: float = 1e-12
    separator: int = 102  # id of [SEP]

    def __post_init__(self) -> None:
        if self.layers < 1 or self.hidden % self.heads:
            raise ValueError(f"an encoder needs a layer and heads that divide its width, got {self}")

    @classmethod
    def from_huggingface(cls, config: dict[str, Any]) -> "Architecture":
        """Read the sizes from a BERT `config.json`.

        Raises:
            ValueError: the config describes another family of models.
        """
        family = config.get("model_type")
        same_layers = family == "bert" or (family == "electra" and config["embedding_size"] == config["hidden_size"])
        if not same_layers or config.get("hidden_act", "gelu") != "gelu":
            raise ValueError(f"the base model must be a BERT with GELU, got model_type {family!r}")
        if (places := config.get("position_embedding_type", "absolute")) != "absolute":
            raise ValueError(f"the base model must be a BERT with absolute positions, got {places!r}")
        return cls(
            layers=config["num_hidden_layers"],
            hidden=config["hidden_size"],
            heads=config["num_attention_heads"],
            intermediate=config["intermediate_size"],
            vocabulary=config["vocab_size"],
            separator=config.get("sep_token_id") or cls.separator,
            positions=config["max_position_embeddings"],
            token_types=config["type_vocab_size"],
            layer_norm_eps=config["layer_norm_eps"],
        )

    def to_huggingface(self) -> dict[str, Any]:
        """Return the sizes as the content of a BERT `config.json`."""
        return {
            "architectures": ["BertModel"],
            "model_type": "bert",
            "hidden_act": "gelu",
            "num_hidden_layers": self.layers,
            "hidden_size": self.hidden,
            "num_attention_heads": self.heads,
            "intermediate_size": self.intermediate,
            "vocab_size": self.vocabulary,
            "max_position_embeddings": self.positions,
            "type_vocab_size": self.token_types,
            "layer_norm_eps": self.layer_norm_eps,
            "pad_token_id": 0,
            "sep_token_id": self.separator,
        }


class Layer(nn.Module):
    """Transformer block with norms after the residuals, as in BERT. One matrix has all three projections."""

    def __init__(self, architecture: Architecture, dropout: float) -> None:
        super().__init__()
        width, inner = architecture.hidden, architecture.intermediate
        self.heads, self.dropout = architecture.heads, dropout
        self.attend = nn.Linear(width, 3 * width)
        self.project = nn.Linear(width, width)
        self.attention_norm = nn.LayerNorm(width, eps=architecture.layer_norm_eps)
        self.expand = nn.Linear(width, inner)
        self.contract = nn.Linear(inner, width)
        self.output_norm = nn.LayerNorm(width, eps=architecture.layer_norm_eps)

    def forward(self, x: Tensor, mask: Tensor | None, frozen: bool = False) -> Tensor:
        """Return the layer's output (B, T, H) in fp32 from `x` (B, T, H).

        `mask` (B, 1, 1 or T, T) is True where a token attends to another; None: everywhere. A frozen layer has no
        dropout.
        """
        rows, length, width = x.shape
        projected = self.attend(x)
        q, k, v = projected.view(rows, length, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        rate = self.dropout if self.training and not frozen else 0.0
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=rate)  # (B, heads, T, H / heads)
        mixed = self.project(mixed.transpose(1, 2).reshape(rows, length, width))
        # under autocast, norms return fp32; the cast to the dtype of the products halves the memory traffic of a step
        x = self.attention_norm(x.to(mixed.dtype) + F.dropout(mixed, rate, self.training)).to(mixed.dtype)
        inner = self.contract(F.gelu(self.expand(x)))
        out: Tensor = self.output_norm((x + F.dropout(inner, rate, self.training)).float())
        return out  # fp32 for the head; the next layer casts it


class PairClassifier(Classifier):
    """Classifier whose encoder is the BERT of this module."""

    def __init__(self, architecture: Architecture, *, dropout: float = 0.1, task: TaskSpec = ABSA) -> None:
        super().__init__()
        self.architecture, self.task = architecture, task
        self.dropout = dropout
        width = architecture.hidden
        self.words = nn.Embedding(architecture.vocabulary, width)
        self.places = nn.Embedding(architecture.positions, width)
        self.types = nn.Embedding(architecture.token_types, width)
        self.embedding_norm = nn.LayerNorm(width, eps=architecture.layer_norm_eps)
        self.layers = nn.ModuleList(Layer(architecture, dropout) for _ in range(architecture.layers))
        self._add_head(width)

    def forward(self, input_ids: Tensor, token_types: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return logits (B, labels) of padded rows.

        Args:
            input_ids: token ids (B, T).
            token_types: 0 for the text, 1 for the phrase (B, T).
            mask: True where there is a token (B, T); None if no row is padded.
        """
        mentions = None if self.mark is None else self.find_aspect(input_ids, token_types)
        x = self._embed(input_ids, token_types, self.places.weight[: input_ids.shape[1]], mentions)
        seen = None if mask is None else mask[:, None, None, :]
        for layer in self.layers:
            x = layer(x, seen)
        return self.classify(x, token_types, mentions, mask)

    shares_lines = True

    def forward_lines(self, input_ids: Tensor, token_types: Tensor, rows: Tensor, places: Tensor, most: int) -> Tensor:
        """Return logits (B, R, labels) of rows in lines; see `Classifier.forward_lines`."""
        together, mentions = self._relations(input_ids, token_types, rows)
        x = self._embed(input_ids, token_types, self.places(places.int()), mentions)
        return self._upper(x, token_types, rows, places, most, 0, together, mentions)

    def lower_lines(self, input_ids: Tensor, token_types: Tensor, rows: Tensor, places: Tensor, depth: int) -> Tensor:
        """Return the output (B, T, H) of the lowest layers; see `Classifier.lower_lines`."""
        together, mentions = self._relations(input_ids, token_types, rows)
        x = self._embed(input_ids, token_types, self.places(places.int()), mentions, frozen=True)
        for layer in list(self.layers)[:depth]:
            x = layer(x, together[:, None], frozen=True)
        return x

    def upper_lines(
        self, x: Tensor, input_ids: Tensor, token_types: Tensor, rows: Tensor, places: Tensor, most: int, depth: int
    ) -> Tensor:
        """Return logits (B, R, labels) from the result of `lower_lines`."""
        together, mentions = self._relations(input_ids, token_types, rows)
        return self._upper(x, token_types, rows, places, most, depth, together, mentions)

    def _relations(self, input_ids: Tensor, token_types: Tensor, rows: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return True where two tokens are of one row (B, T, T), and 1.0 at the aspect's words in the text (B, T)."""
        together = rows[:, :, None] == rows[:, None, :]
        return together, None if self.mark is None else self.find_aspect(input_ids, token_types, together)

    def _upper(
        self, x: Tensor, token_types: Tensor, rows: Tensor, places: Tensor, most: int, depth: int, together: Tensor,
        mentions: Tensor | None,
    ) -> Tensor:  # fmt: skip
        for layer in list(self.layers)[depth:]:
            x = layer(x, together[:, None])
        x = x.float()
        numbers = torch.arange(most, device=rows.device, dtype=rows.dtype)
        mine = (rows[:, None, :] == numbers[None, :, None]).to(x.dtype)  # (B, R, T)
        with torch.autocast(x.device.type, enabled=False):
            first = torch.bmm(mine * (places == 0)[:, None, :], x)
            return self.classify_rows(x, first, mine, token_types, mentions)

    def _embed(
        self, input_ids: Tensor, token_types: Tensor, places: Tensor, mentions: Tensor | None, frozen: bool = False
    ) -> Tensor:
        """Embed tokens. Types are added by arithmetic, because the backward pass of a look-up would sort all tokens."""
        text, phrase = self.types.weight[0], self.types.weight[1]
        x = self.words(input_ids) + places + text + token_types[..., None] * (phrase - text)
        if self.mark is not None and mentions is not None:
            x = x + mentions[..., None] * self.mark
        return F.dropout(self.embedding_norm(x), self.dropout, self.training and not frozen)  # (B, T, H)

    @property
    def word_table(self) -> nn.Embedding:
        """Embeddings of the words."""
        return self.words

    def stored(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Return weights by their names in `transformers.BertModel`, and the content of config.json."""
        return to_huggingface_weights(self), self.architecture.to_huggingface()

    def layer_of(self, name: str) -> int | None:
        """Return the number of a parameter's layer, from 0; None if the parameter is outside of the layers."""
        return int(name.split(".")[1]) if name.startswith("layers.") else None

    def is_table(self, name: str) -> bool:
        """Return True for a parameter that embeds words or positions."""
        return name.startswith(("words.", "places."))


def to_huggingface_weights(model: PairClassifier) -> dict[str, Tensor]:
    """Return the encoder's weights by their names in `transformers.BertModel`, and the head's as `classifier.*`."""
    state = {name: value.detach() for name, value in model.state_dict().items()}
    weights = {theirs: state[ours].clone() for ours, theirs in _EMBEDDINGS.items()}
    for index in range(model.architecture.layers):
        for ours, theirs in _layer_names(index).items():
            weights[theirs] = state[ours].clone()
        for kind in ("weight", "bias"):
            parts = state[f"layers.{index}.attend.{kind}"].chunk(3)
            for name, part in zip(("query", "key", "value"), parts, strict=True):
                weights[f"encoder.layer.{index}.attention.self.{name}.{kind}"] = part.clone()
    return weights | model.head_weights()


def from_huggingface_weights(model: PairClassifier, weights: dict[str, Tensor], head_of: TaskSpec = ABSA) -> bool:
    """Fill a model with the weights of a BERT that has at least as many layers; further layers are left out.

    Args:
        model: changed in place.
        weights: weights by their names in `transformers.BertModel`.
        head_of: task of the head in the weights, if there is one. If the model's task has further labels, their rows
            of the head are not changed.

    Returns:
        True if the weights have a head with all of the model's labels. If they have no head that fits, the model's
        head is not changed.

    Raises:
        ValueError: a weight is missing or has another shape.
    """
    weights = {name.removeprefix("bert."): value for name, value in weights.items()}
    state: dict[str, Tensor] = {}
    try:
        for ours, theirs in _EMBEDDINGS.items():
            state[ours] = weights[theirs]
        for index in range(model.architecture.layers):
            for ours, theirs in _layer_names(index).items():
                state[ours] = weights[theirs]
            for kind in ("weight", "bias"):
                parts = [
                    weights[f"encoder.layer.{index}.attention.self.{name}.{kind}"] for name in ("query", "key", "value")
                ]
                state[f"layers.{index}.attend.{kind}"] = torch.cat(parts)
    except KeyError as error:
        raise ValueError(f"the base model has no weight {error}") from error
    try:
        _, unexpected = model.load_state_dict(state, strict=False)
    except RuntimeError as error:
        raise ValueError(f"the base model's weights do not fit {model.architecture}") from error
    assert not unexpected
    return model.read_head(weights, head_of)


_EMBEDDINGS: Final = {
    "words.weight": "embeddings.word_embeddings.weight",
    "places.weight": "embeddings.position_embeddings.weight",
    "types.weight": "embeddings.token_type_embeddings.weight",
    "embedding_norm.weight": "embeddings.LayerNorm.weight",
    "embedding_norm.bias": "embeddings.LayerNorm.bias",
}


def _layer_names(index: int) -> dict[str, str]:
    """Return transformers' names by our names for one layer's weights, without the three joined projections."""
    pairs = {
        "project": "attention.output.dense",
        "attention_norm": "attention.output.LayerNorm",
        "expand": "intermediate.dense",
        "contract": "output.dense",
        "output_norm": "output.LayerNorm",
    }
    return {
        f"layers.{index}.{ours}.{kind}": f"encoder.layer.{index}.{theirs}.{kind}"
        for ours, theirs in pairs.items()
        for kind in ("weight", "bias")
    }
