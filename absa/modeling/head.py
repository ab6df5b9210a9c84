"""Common part of classifiers with any encoder: marks of an aspect in its text, and the head."""

from typing import TYPE_CHECKING, Any, Final

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - the usual name

from absa.task import TaskSpec

if TYPE_CHECKING:
    from absa.modeling.architecture import Architecture

CLASSIFIER_PREFIX: Final = "classifier."
MARK: Final = "mark"


class Classifier(nn.Module):
    """Classifier of a text, or of a text with a phrase: an encoder, and the head of the task.

    The tokens of an aspect are searched in the text, and a learned mark is added to their embeddings. The input of the
    head is a concatenation of views of the last layer: the first token, the mean over all tokens, the mean over the
    phrase (token type 1), and the mean over the aspect in the text.

    Attributes:
        architecture: sizes of the encoder.
        task: task of the head.
        dropout: share of units dropped in training.
    """

    architecture: "Architecture"
    task: TaskSpec
    dropout: float
    mark: nn.Parameter | None
    classifier: nn.Linear
    shares_lines = False
    """True if several rows may share a line."""

    def forward_lines(self, input_ids: Tensor, token_types: Tensor, rows: Tensor, places: Tensor, most: int) -> Tensor:
        """Return logits (B, R, labels) of rows in lines; a row attends only to itself.

        Args:
            input_ids: token ids (B, T).
            token_types: 0 for the text, 1 for the phrase (B, T).
            rows: number of each token's row in its line, -1 where there is no token (B, T).
            places: place of each token in its row (B, T).
            most: R, the largest number of rows of a line; 1 unless rows share lines. Logits of missing rows have no
                meaning.
        """
        raise NotImplementedError

    def lower_lines(self, input_ids: Tensor, token_types: Tensor, rows: Tensor, places: Tensor, depth: int) -> Tensor:
        """Return the output (B, T, H) of the lowest layers, which do not learn and have no dropout.

        Args:
            input_ids: see `forward_lines`.
            token_types: see `forward_lines`.
            rows: see `forward_lines`.
            places: see `forward_lines`.
            depth: number of layers.
        """
        raise NotImplementedError

    def upper_lines(
        self, x: Tensor, input_ids: Tensor, token_types: Tensor, rows: Tensor, places: Tensor, most: int, depth: int
    ) -> Tensor:
        """Return logits (B, R, labels) from the result of `lower_lines` for the same `depth`."""
        raise NotImplementedError

    def _add_head(self, width: int) -> None:
        """Add a mark as wide as the word embeddings, and an untrained head. Must be called after the encoder is set."""
        self.register_parameter(MARK, nn.Parameter(torch.zeros(width)) if self.task.phrase_in_text else None)
        self.classifier = nn.Linear(views_of(self.task) * self.architecture.hidden, self.task.n_labels)
        nn.init.normal_(self.classifier.weight, std=0.02)
        nn.init.zeros_(self.classifier.bias)

    @property
    def word_table(self) -> nn.Embedding:
        """Embeddings of the words."""
        raise NotImplementedError

    def stored(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Return weights and the content of config.json, for `load_base` and transformers."""
        raise NotImplementedError

    def layer_of(self, name: str) -> int | None:
        """Return the number of a parameter's layer, from 0; None if the parameter is outside of the layers."""
        raise NotImplementedError

    def is_table(self, name: str) -> bool:
        """Return True for a parameter that embeds words or positions."""
        raise NotImplementedError

    def find_aspect(self, input_ids: Tensor, token_types: Tensor, together: Tensor | None = None) -> Tensor:
        """Return 1.0 at the tokens of the text that are also in the aspect, else 0.0 (B, T).

        Args:
            input_ids: token ids (B, T).
            token_types: 0 for the text, 1 for the phrase (B, T).
            together: True where two tokens are of the same row (B, T, T); None: a line is a row.
        """
        asked = (token_types == 1) & (input_ids != self.architecture.separator)
        same = (input_ids[:, :, None] == input_ids[:, None, :]) & asked[:, None, :]
        if together is not None:
            same = same & together
        return (same.any(dim=2) & (token_types == 0)).float()

    def classify(self, x: Tensor, token_types: Tensor, mentions: Tensor | None, mask: Tensor | None) -> Tensor:
        """Return logits (B, labels) of padded rows from the last layer (B, T, H)."""
        x = x.float()
        present = x.new_ones(x.shape[:2]) if mask is None else mask.to(x.dtype)
        return self.classify_rows(x, x[:, :1], present[:, None], token_types, mentions)[:, 0]

    def classify_rows(
        self, x: Tensor, first: Tensor, mine: Tensor, token_types: Tensor, mentions: Tensor | None
    ) -> Tensor:
        """Return logits (B, R, labels) of rows in lines from the last layer.

        Args:
            x: last layer (B, T, H), fp32.
            first: vector of the last layer at each row's first token (B, R, H).
            mine: 1.0 where a token is of the row, else 0.0 (B, R, T).
            token_types: 0 for the text, 1 for the phrase (B, T).
            mentions: 1.0 at the aspect's words in the text (B, T); None if aspects are not marked.
        """
        parts = [mine]
        if self.task.phrase is not None:
            parts.append(mine * token_types[:, None])
        if mentions is not None:
            parts.append(mine * mentions[:, None])
        which = torch.cat(parts, dim=1)  # (B, parts R, T)
        means = torch.bmm(which, x) / which.sum(2, keepdim=True).clamp(min=1.0)
        seen = torch.cat([first, *means.chunk(len(parts), dim=1)], dim=2)  # (B, R, views H)
        logits: Tensor = self.classifier(F.dropout(seen, self.dropout, self.training))
        return logits

    def head_weights(self) -> dict[str, Tensor]:
        """Return the weights of the head and the mark, by their names."""
        kept = (MARK, f"{CLASSIFIER_PREFIX}weight", f"{CLASSIFIER_PREFIX}bias")
        return {name: value.detach().clone() for name, value in self.state_dict().items() if name in kept}

    def read_head(self, weights: dict[str, Tensor], head_of: TaskSpec) -> bool:
        """Copy the head from weights of `head_weights`. If they have no head that fits, the head is not changed.

        Args:
            weights: weights by name; weights of an encoder are ignored.
            head_of: task of the head in the weights. Rows of further labels of this model's task are not changed.

        Returns:
            True if the weights have a head with all of the model's labels.
        """
        head, made = weights.get(f"{CLASSIFIER_PREFIX}weight"), self.classifier
        if head is None or head.shape[1:] != made.weight.shape[1:] or not self.task.extends(head_of):
            return False
        if self.mark is not None and MARK not in weights:
            return False
        known = len(head)
        with torch.no_grad():
            if self.mark is not None:
                self.mark.copy_(weights[MARK])
            for kind, values in (("weight", made.weight), ("bias", made.bias)):
                values[:known] = weights[CLASSIFIER_PREFIX + kind]
        return known == len(made.weight)


def views_of(task: TaskSpec) -> int:
    """Return the number of views that a head reads, out of: first token, all tokens, phrase, aspect in the text."""
    return {"text": 2, "text+topic": 3, "text+aspect": 4}[task.input]
