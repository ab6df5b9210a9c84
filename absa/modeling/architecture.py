"""The classifier of a text, or of a text and a phrase: a BERT encoder of our own with a head for the task's labels.

Written out rather than taken from transformers for three reasons: the class is imported in two seconds instead of
eight, its parameters map one to one onto the ONNX graph that packaging writes, and rows of equal length need no mask.
The parameter names on disk are those of `transformers.BertModel`, so folders are read and written both ways.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - the name that everyone knows it by

from absa.task import ABSA, TaskSpec

CLASSIFIER_PREFIX: Final = "classifier."
_MARK: Final = "mark"


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """The sizes of an encoder. Two models fit each other's weights when these are equal."""

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
            ValueError: it describes another family of models.
        """
        family = config.get("model_type")
        same_layers = family == "bert" or (family == "electra" and config["embedding_size"] == config["hidden_size"])
        if not same_layers or config.get("hidden_act", "gelu") != "gelu":
            raise ValueError(f"the base model must be a BERT with GELU, got model_type {family!r}")
        return cls(
            layers=config["num_hidden_layers"],
            hidden=config["hidden_size"],
            heads=config["num_attention_heads"],
            intermediate=config["intermediate_size"],
            vocabulary=config["vocab_size"],
            positions=config["max_position_embeddings"],
            token_types=config["type_vocab_size"],
            layer_norm_eps=config["layer_norm_eps"],
        )

    def to_huggingface(self) -> dict[str, Any]:
        """Return the same sizes as a BERT `config.json`."""
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
        }


class Layer(nn.Module):
    """One transformer block with its norms after the residuals, as BERT has them. The three projections are one."""

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

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:  # x (B, T, H), mask (B, 1, 1, T)
        rows, length, width = x.shape
        q, k, v = self.attend(x).view(rows, length, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        rate = self.dropout if self.training else 0.0
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=rate)  # (B, heads, T, H / heads)
        mixed = self.project(mixed.transpose(1, 2).reshape(rows, length, width))
        x = self.attention_norm(x + F.dropout(mixed, rate, self.training))
        inner = self.contract(F.gelu(self.expand(x)))
        out: Tensor = self.output_norm(x + F.dropout(inner, rate, self.training))
        return out


Through = Callable[[Any, Tensor, Tensor | None], Tensor]
"""A way to call a layer: as it is, or by kernels that were compiled for all of them."""


class PairClassifier(nn.Module):
    """Label of `[CLS] text [SEP]`, or of the pair `[CLS] text [SEP] phrase [SEP]`.

    An aspect's words are found again in the text and marked: their embeddings there get a learned mark. The head reads
    views of the last layer side by side: the first token, and the means over all tokens, over the phrase where it is
    asked about (token type 1), and over an aspect where it is in the text.
    """

    mark: nn.Parameter | None

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
        self.register_parameter("mark", nn.Parameter(torch.zeros(width)) if task.phrase_in_text else None)
        self.classifier = nn.Linear(views_of(task) * width, task.n_labels)
        nn.init.normal_(self.classifier.weight, std=0.02)
        nn.init.zeros_(self.classifier.bias)

    def forward(
        self,
        input_ids: Tensor,
        token_types: Tensor,
        mask: Tensor | None = None,
        through: Through = Layer.__call__,
    ) -> Tensor:
        """Return logits (B, labels).

        Args:
            input_ids: token ids (B, T).
            token_types: 0 for the text, 1 for the phrase (B, T).
            mask: True where there is a token (B, T); None when no row is padded.
            through: how a layer is called.
        """
        mentions = None if self.mark is None else self.find_aspect(input_ids, token_types)
        x = self.words(input_ids) + self.types(token_types) + self.places.weight[: input_ids.shape[1]]
        x = self.embedding_norm(x if self.mark is None or mentions is None else x + mentions[..., None] * self.mark)
        x = F.dropout(x, self.dropout, self.training)  # (B, T, H)
        hidden_mask = None if mask is None else mask[:, None, None, :]
        for layer in self.layers:
            x = through(layer, x, hidden_mask)
        return self.classify(x, token_types, mentions, mask)

    def find_aspect(self, input_ids: Tensor, token_types: Tensor) -> Tensor:
        """Return 1.0 at the tokens of the text that are in the aspect too, else 0.0 (B, T)."""
        asked = (token_types == 1) & (input_ids != self.architecture.separator)
        same = (input_ids[:, :, None] == input_ids[:, None, :]) & asked[:, None, :]
        return (same.any(dim=2) & (token_types == 0)).float()

    def classify(self, x: Tensor, token_types: Tensor, mentions: Tensor | None, mask: Tensor | None) -> Tensor:
        """Logits (B, labels) from the last layer (B, T, H)."""
        x = x.float()
        present = x.new_ones(x.shape[:2]) if mask is None else mask.to(x.dtype)
        views, parts = [x[:, 0]], [present]
        if self.task.phrase is not None:
            parts.append(token_types.to(x.dtype) * present)
        if mentions is not None:
            parts.append(mentions)
        for which in parts:
            total = torch.bmm(which[:, None, :], x)[:, 0]
            views.append(total / which.sum(1, keepdim=True).clamp(min=1.0))
        seen = torch.cat(views, dim=1)  # (B, views H)
        logits: Tensor = self.classifier(F.dropout(seen, self.dropout, self.training))
        return logits


def views_of(task: TaskSpec) -> int:
    """Return the number of views that a head reads: first token, all tokens, phrase, and aspect in the text."""
    return {"text": 2, "text+topic": 3, "text+aspect": 4}[task.input]


def to_huggingface_weights(model: PairClassifier) -> dict[str, Tensor]:
    """Return the encoder's weights under the names of `transformers.BertModel`, and the head's under `classifier.`."""
    state = {name: value.detach() for name, value in model.state_dict().items()}
    weights = {theirs: state[ours].clone() for ours, theirs in _EMBEDDINGS.items()}
    for index in range(model.architecture.layers):
        for ours, theirs in _layer_names(index).items():
            weights[theirs] = state[ours].clone()
        for kind in ("weight", "bias"):
            parts = state[f"layers.{index}.attend.{kind}"].chunk(3)
            for name, part in zip(("query", "key", "value"), parts, strict=True):
                weights[f"encoder.layer.{index}.attention.self.{name}.{kind}"] = part.clone()
    for kind in ("weight", "bias"):
        weights[CLASSIFIER_PREFIX + kind] = state[f"classifier.{kind}"].clone()
    if model.mark is not None:
        weights[_MARK] = state[_MARK].clone()
    return weights


def from_huggingface_weights(model: PairClassifier, weights: dict[str, Tensor], head_of: TaskSpec = ABSA) -> bool:
    """Fill a model from weights of a BERT with at least as many layers; further layers are left out.

    Args:
        model: changed in place.
        weights: by their names in `transformers.BertModel`.
        head_of: task of the weights' head, if there is one. Where the model's task has further labels, their rows stay
            as they were made.

    Returns:
        Whether the weights held a head of all of the model's labels too; without one the head stays as it was made.

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
    has_head = _read_head(model, weights, state) if model.task.extends(head_of) else False
    try:
        _, unexpected = model.load_state_dict(state, strict=False)
    except RuntimeError as error:
        raise ValueError(f"the base model's weights do not fit {model.architecture}") from error
    assert not unexpected
    return has_head


def _read_head(model: PairClassifier, weights: dict[str, Tensor], state: dict[str, Tensor]) -> bool:
    """Add the head to the state where there is one; return True if it has all of the model's labels."""
    head, made = weights.get(CLASSIFIER_PREFIX + "weight"), model.classifier
    if head is None or head.shape[1:] != made.weight.shape[1:] or (model.mark is not None and _MARK not in weights):
        return False
    known = len(head)
    if model.mark is not None:
        state[_MARK] = weights[_MARK]
    for kind, fresh in (("weight", made.weight), ("bias", made.bias)):
        state[f"classifier.{kind}"] = torch.cat([weights[CLASSIFIER_PREFIX + kind], fresh.detach()[known:]])
    return known == len(made.weight)


_EMBEDDINGS: Final = {
    "words.weight": "embeddings.word_embeddings.weight",
    "places.weight": "embeddings.position_embeddings.weight",
    "types.weight": "embeddings.token_type_embeddings.weight",
    "embedding_norm.weight": "embeddings.LayerNorm.weight",
    "embedding_norm.bias": "embeddings.LayerNorm.bias",
}


def _layer_names(index: int) -> dict[str, str]:
    """Names of one layer's weights, ours to theirs, the three joined projections aside."""
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
