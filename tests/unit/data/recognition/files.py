"""Small data files as people have them, made from a few sentences."""

import csv
import io
from collections.abc import Sequence

TEXTS = (
    "The invoice for {m} shows the wrong amount",
    "I was charged twice in {m}, please refund me",
    "The app crashes when I open the {m} report",
    "Search finds nothing since {m}",
    "Thank you for the great help in {m}",
    "Love the new calendar of {m}",
)
INTENTS = ("billing", "billing", "bug", "bug", "praise", "praise")
MONTHS = ("January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November")


def texts(count: int) -> list[str]:
    return [TEXTS[n % 6].format(m=MONTHS[(n * 7 + n // 6) % 11]) for n in range(count)]


def intents(count: int, names: Sequence[str] = INTENTS) -> list[str]:
    return [names[n % len(names)] for n in range(count)]


def delimited(columns: dict[str, Sequence[str]], delimiter: str = ",", end: str = "\n") -> str:
    file = io.StringIO()
    writer = csv.writer(file, delimiter=delimiter, lineterminator=end)
    writer.writerow(columns)
    writer.writerows(zip(*columns.values(), strict=True))
    return file.getvalue()
