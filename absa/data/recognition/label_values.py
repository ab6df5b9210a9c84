"""Labels from the values of a column: one per value, without regard to case, or the sentiments."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import polars as pl

from absa.data.mapping import normal_code
from absa.data.recognition.column_names import plain
from absa.task import ABSA, MAX_LABEL_LENGTH, MAX_LABELS

_SENTIMENTS: Final = {
    "negative": "negative negativ negatif negativo negativa negatief neg -1 отрицательный негативный 负面 ネガティブ",
    "neutral": "neutral neutro neutra neutre neutraal neu 0 нейтральный 中性 ニュートラル",
    "positive": "positive positiv positif positivo positiva positief pos 1 +1 положительный позитивный 正面 ポジティブ",
}
_BY_WORD: Final = {plain(word): label for label, words in _SENTIMENTS.items() for word in words.split()}
_ANSWERS: Final = frozenset(
    ["no", "yes", "n", "y", "false", "true", "0", "1", "nein", "ja", "non", "oui", "no", "si", "nao", "sim", "nee"]
)
_NUMBERS: Final = frozenset({"-1", "0", "1", "+1"})
_RARE_ROWS: Final = 3
_RARE_FROM: Final = 200  # rows of a file; in such a file, a value of few rows may be an error


@dataclass(frozen=True, kw_only=True)
class LabelValues:
    """Labels of a column.

    Attributes:
        labels: names of the labels in the order of the scores.
        values: label of each value that is not the name of a label.
        rows: number of rows of each label.
        rare: values that are left out because few rows have them.
    """

    labels: tuple[str, ...]
    values: Mapping[str, str]
    rows: Mapping[str, int]
    rare: tuple[str, ...] = ()

    @property
    def are_sentiments(self) -> bool:
        """Return True if the labels are negative, neutral and positive."""
        return self.labels == ABSA.labels

    @property
    def are_answers(self) -> bool:
        """Return True if the labels are "no" and "yes"."""
        return len(self.labels) == 2 and _ANSWERS.issuperset(map(plain, self.labels))


def find_labels(values: pl.Series) -> LabelValues | None:
    """Return the labels of a column's values (text, no nulls); None if the values are not labels. Pure.

    Values that differ only in case and white space are one label, with the spelling of most rows. Three values that
    mean negative, neutral and positive in one of the known languages become these three labels.
    """
    counts: dict[str, dict[str, int]] = {}
    for written, rows in values.str.strip_chars().value_counts(sort=True).iter_rows():
        name = " ".join(written.split())
        if not name.isprintable() or len(name) > MAX_LABEL_LENGTH:
            return None
        folded = normal_code(name.casefold())
        counts.setdefault(folded, {})[written] = int(rows)
        if len(counts) > 2 * MAX_LABELS:
            return None
    rare: list[str] = []
    if len(values) >= _RARE_FROM:
        often = {folded: group for folded, group in counts.items() if sum(group.values()) >= _RARE_ROWS}
        if len(often) > 1:
            rare = [written for folded, group in counts.items() if folded not in often for written in group]
            counts = often
    if not 1 < len(counts) <= MAX_LABELS:
        return None
    sentiments = _sentiments(counts)
    names = sentiments or {
        folded: " ".join(max(group, key=group.__getitem__).split()) for folded, group in counts.items()
    }
    if not sentiments and all(_is_whole(folded) for folded in counts):
        names = {folded: folded for folded in counts}  # 1.0 becomes 1
    labels = ABSA.labels if sentiments else tuple(sorted(names.values(), key=_order))
    rows = dict.fromkeys(labels, 0)
    mapped: dict[str, str] = {}
    for folded, group in counts.items():
        rows[names[folded]] += sum(group.values())
        for written in group:
            if normal_code(written) != normal_code(names[folded]):
                mapped.setdefault(normal_code(written), names[folded])
    return LabelValues(labels=labels, values=mapped, rows=rows, rare=tuple(rare))


def _sentiments(counts: Mapping[str, object]) -> dict[str, str] | None:
    named = {folded: _BY_WORD[plain(folded)] for folded in counts if plain(folded) in _BY_WORD}
    numbers = _NUMBERS.intersection(counts)
    mixed = bool(numbers) and len(numbers) < len(counts)
    return named if len(named) == len(counts) and set(named.values()) == set(ABSA.labels) and not mixed else None


def _is_whole(value: str) -> bool:
    return value.lstrip("+-").isdigit()


def _order(label: str) -> tuple[float, str]:
    return (float(label), "") if _is_whole(label) else (float("inf"), label.casefold())
