"""The three sentiments, in the order that every score and matrix uses."""

from enum import IntEnum
from typing import Final


class Label(IntEnum):
    """Sentiment towards an aspect. Scores come in this order."""

    NEGATIVE = 0
    NEUTRAL = 1
    POSITIVE = 2

    @property
    def sentiment(self) -> str:
        """Lower-case name: negative, neutral or positive."""
        return self.name.lower()


SENTIMENTS: Final = tuple(label.sentiment for label in Label)
N_LABELS: Final = len(Label)
EVALUATED: Final = (int(Label.NEGATIVE), int(Label.POSITIVE))  # the labels that the evaluation counts


def sentiment(label: int) -> str:
    """Name of a label.

    Raises:
        ValueError: the label is not 0, 1 or 2.
    """
    return Label(label).sentiment
