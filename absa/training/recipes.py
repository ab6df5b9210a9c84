"""Recipes: named ways to train a student. A recipe sets the hyperparameters that were measured together."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Hyperparameters of one way to train.

    Attributes:
        max_epochs: largest number of passes over the rows.
        warm_epochs: largest number of passes if the training starts from the champion.
        r_drop: weight of R-Drop, which costs a second pass through the model.
        dropout: share of units dropped in training.
        teacher_weight: share of the teachers in a labelled row's target, 0 to 1; 0: labels alone, no teachers.
        contrast_share: number of rows of contrast sets per row, if the labels are sentiments.
    """

    max_epochs: float = 4.0
    warm_epochs: float = 2.0
    r_drop: float = 0.0
    dropout: float = 0.0
    teacher_weight: float = 0.0
    contrast_share: float = 0.0

    def settings(self, *, warm: bool) -> dict[str, Any]:
        """Return the training settings of the recipe, by name.

        Args:
            warm: True if the training starts from the champion's weights.
        """
        return {
            "max_epochs": self.warm_epochs if warm else self.max_epochs,
            "r_drop": self.r_drop,
            "dropout": self.dropout,
            "contrast_share": self.contrast_share,
        }


RECIPES: Final[Mapping[str, Recipe]] = MappingProxyType(
    {
        "fast": Recipe(),
        "best": Recipe(r_drop=1.0, dropout=0.1, contrast_share=0.4),
        "distilled": Recipe(teacher_weight=0.5, contrast_share=0.4),
    }
)
"""Recipes by name: the cheapest one, the best one without teachers, and the one with teachers."""
