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


def label_number(written: object) -> object:
    """Return the number of a label's name, in any case; anything else as it is."""
    name = written.strip().lower() if isinstance(written, str) else None
    return SENTIMENTS.index(name) if name in SENTIMENTS else written


def sentiment(label: int) -> str:
    """Name of a label.

    Raises:
        ValueError: the label is not 0, 1 or 2.
    """
    return Label(label).sentiment
