"""The part that classifiers share whatever their encoder: marks of an aspect in its text, and the head."""

from typing import TYPE_CHECKING, Any, Final

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - the name that everyone knows it by

from absa.task import TaskSpec

if TYPE_CHECKING:
    from absa.modeling.architecture import Architecture

CLASSIFIER_PREFIX: Final = "classifier."
MARK: Final = "mark"


class Classifier(nn.Module):
    """Label of a text, or of a pair of text and phrase: an encoder below, the task's head above it.

    An aspect's words are found again in the text and marked: their embeddings there get a learned mark. The head reads
    views of the last layer side by side: the first token, and the means over all tokens, over the phrase where it is
    asked about (token type 1), and over an aspect where it is in the text.

    Attributes:
        architecture: sizes of the encoder.
        task: its labels are the head's.
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
        """Return logits (B, R, labels) of rows in lines; rows of a line see themselves alone.

        Args:
            input_ids: token ids (B, T).
            token_types: 0 for the text, 1 for the phrase (B, T).
            rows: number of each token's row in its line, -1 where there is no token (B, T).
            places: place of each token in its row (B, T).
            most: R, most rows of a line, 1 unless rows share lines. Logits of missing rows mean nothing.
        """
        raise NotImplementedError

    def lower_lines(self, input_ids: Tensor, token_types: Tensor, rows: Tensor, places: Tensor, depth: int) -> Tensor:
        """Return the output (B, T, H) of the lowest layers, whose weights do not learn; they drop nothing.

        Args:
            input_ids: as `forward_lines` takes them, and the next three too.
            token_types: see there.
            rows: see there.
            places: see there.
            depth: number of layers.
        """
        raise NotImplementedError

    def upper_lines(
        self, x: Tensor, input_ids: Tensor, token_types: Tensor, rows: Tensor, places: Tensor, most: int, depth: int
    ) -> Tensor:
        """Return logits (B, R, labels) from what `lower_lines` gave for the same `depth`."""
        raise NotImplementedError

    def _add_head(self, width: int) -> None:
        """Add a mark as wide as the words, and an untrained head. Called when the encoder is there."""
        self.register_parameter(MARK, nn.Parameter(torch.zeros(width)) if self.task.phrase_in_text else None)
        self.classifier = nn.Linear(views_of(self.task) * self.architecture.hidden, self.task.n_labels)
        nn.init.normal_(self.classifier.weight, std=0.02)
        nn.init.zeros_(self.classifier.bias)

    @property
    def word_table(self) -> nn.Embedding:
        """Embeddings of the words."""
        raise NotImplementedError

    def stored(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Return weights and the content of config.json, from which `load_base` and transformers read the model."""
        raise NotImplementedError

    def layer_of(self, name: str) -> int | None:
        """Return the number of the layer that a parameter is in, from 0; None outside of the layers."""
        raise NotImplementedError

    def is_table(self, name: str) -> bool:
        """Return True for a parameter that embeds words or places."""
        raise NotImplementedError

    def find_aspect(self, input_ids: Tensor, token_types: Tensor, together: Tensor | None = None) -> Tensor:
        """Return 1.0 at the tokens of the text that are in the aspect too, else 0.0 (B, T).

        Args:
            input_ids: token ids (B, T).
            token_types: 0 for the text, 1 for the phrase (B, T).
            together: True where two tokens are of one row (B, T, T); None: a line is a row.
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
        """Return logits (B, R, labels).

        Args:
            x: last layer (B, T, H), fp32.
            first: its vector at each row's first token (B, R, H).
            mine: 1.0 where a token is of the row, else 0.0 (B, R, T).
            token_types: 0 for the text, 1 for the phrase (B, T).
            mentions: 1.0 at the aspect's words in the text (B, T); None where aspects are not marked.
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
        """Take the head from weights that `head_weights` gave; where there is none that fits, it stays as it is.

        Args:
            weights: may hold those of an encoder too.
            head_of: task of their head. Where this model's task has further labels, their rows stay as they are.

        Returns:
            Whether the weights held a head of all of the model's labels.
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
    """Return the number of views that a head reads: first token, all tokens, phrase, and aspect in the text."""
    return {"text": 2, "text+topic": 3, "text+aspect": 4}[task.input]
