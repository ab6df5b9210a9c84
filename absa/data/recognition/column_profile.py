"""Profile of a column: figures of its values, from which its role is recognised."""

from dataclasses import dataclass
from functools import cached_property
from typing import Final

import polars as pl

from absa.data.recognition.column_names import Role, is_id, name_score
from absa.data.recognition.dates import DateForm, find_date_form
from absa.data.recognition.label_values import LabelValues, find_labels

_CODE: Final = r"^(?:[A-Za-z]{0,10}[-_#/ ]?\d+|[0-9a-fA-F-]{16,}|[^\s@]+@[^\s@]+\.[^\s@]+)$"
_ROLES: Final[tuple[Role, ...]] = ("text", "label", "aspect", "observed_at", "unit", "segment")


@dataclass(frozen=True)
class ColumnProfile:
    """Figures of a column. `values` are the values that are not empty, without white space around them."""

    name: str
    values: pl.Series

    @property
    def rows(self) -> int:
        """Number of rows that have a value."""
        return len(self.values)

    @cached_property
    def distinct(self) -> int:
        """Number of different values, without regard to case."""
        return self.values.str.to_lowercase().n_unique()

    @cached_property
    def characters(self) -> float:
        """Mean length of a value in characters."""
        mean = self.values.str.len_chars().mean()
        return float(mean) if isinstance(mean, int | float) else 0.0

    @cached_property
    def longest(self) -> int:
        """Length of the longest value in characters."""
        longest = self.values.str.len_chars().max()
        return longest if isinstance(longest, int) else 0

    @cached_property
    def numeric(self) -> float:
        """Share of values that are numbers."""
        return self._share(r"^[+-]?\d+(?:[.,]\d+)?$")

    @cached_property
    def codes(self) -> float:
        """Share of values that look like identifiers: numbers, e-mail addresses or hexadecimal digits."""
        return self._share(_CODE)

    @cached_property
    def dates(self) -> DateForm | None:
        """Form of the dates; None if the values are not dates."""
        return find_date_form(self.values)

    @cached_property
    def labels(self) -> LabelValues | None:
        """Labels of the values; None if the values are not labels."""
        return find_labels(self.values)

    def score(self, role: Role) -> float:
        """Return how well the name fits a role, 0 to 1."""
        return name_score(self.name, role)

    def other_score(self, role: Role) -> float:
        """Return how well the name fits the best of the other roles, 0 to 1."""
        return max(name_score(self.name, other) for other in _ROLES if other != role)

    @property
    def named_id(self) -> bool:
        """Return True if the name ends like the name of an identifier."""
        return is_id(self.name)

    def _share(self, pattern: str) -> float:
        share = self.values.str.contains(pattern).mean()
        return float(share) if isinstance(share, int | float) else 0.0


def profiles_of(frame: pl.DataFrame) -> list[ColumnProfile]:
    """Return the profile of each text column that has at least one value, in the order of the columns. Pure."""
    found = []
    for name in frame.columns:
        values = frame[name].str.strip_chars().drop_nulls()
        values = values.filter(values != "")
        if name.strip() and len(values):
            found.append(ColumnProfile(name, values))
    return found
