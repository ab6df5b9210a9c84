"""The rows that `benchmarks.training.quality` measures on, beside the project: groups, folds, and the public rows."""

import csv
import hashlib
from pathlib import Path

from absa.data.unasked import unasked_pairs
from absa.training.rows.tokens import LabelledPair

DATA = Path(__file__).parents[3] / "shared" / "data"
FOLDS = 5
VALIDATION_SHARE = 0.08  # of the texts of the other folds: calibration and the scales of int8


def key(text: str) -> str:
    """Return the key that near-duplicates share: letters and single spaces."""
    from absa.data.normalise import near_duplicate_key

    return near_duplicate_key(text)


def point(text: str, salt: str) -> float:
    """A point in [0, 1) that near-duplicates share."""
    return int.from_bytes(hashlib.sha256(f"{salt}:{key(text)}".encode()).digest()[:8], "big") / 2**64


def read(path: Path) -> list[LabelledPair]:
    """Labelled rows of a CSV file; rows without a label get 1."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        return [LabelledPair(row["text"], row["aspect"], int(row.get("label") or 1)) for row in csv.DictReader(file)]


def labelled() -> list[LabelledPair]:
    """The rows that count."""
    return read(DATA / "enterpret" / "train.csv")


def unlabelled() -> list[LabelledPair]:
    """Pairs of the same customers whose labels nobody here knows."""
    return read(DATA / "enterpret" / "test.csv")


def unasked(train: list[LabelledPair]) -> list[LabelledPair]:
    """Aspects of the train side that a text of it, or of the unlabelled pairs, names without being asked about them."""
    asked = [(row.text, row.aspect) for row in (*train, *unlabelled())]
    pairs = unasked_pairs((text for text, _ in asked), (row.aspect for row in train), asked)
    return [LabelledPair(text, aspect, 1) for text, aspect in pairs]


def public() -> list[LabelledPair]:
    """Public training rows of other places, without texts that stand among those that count."""
    kept = {key(row.text) for row in [*labelled(), *unlabelled()]}
    rows = [row for path in sorted((DATA / "public").glob("*.csv")) for row in read(path)]
    return [row for row in rows if key(row.text) not in kept]


def fold_of(text: str) -> int:
    """Return the fold whose test side holds a text."""
    return int(point(text, "fold") * FOLDS)


def sides(fold: int) -> tuple[list[LabelledPair], list[LabelledPair], list[LabelledPair]]:
    """Train, validation and test rows of a fold; no text, nor a near-duplicate of one, stands on two sides."""
    train, validation, test = [], [], []
    for row in labelled():
        if fold_of(row.text) == fold:
            test.append(row)
        else:
            (validation if point(row.text, "validation") < VALIDATION_SHARE else train).append(row)
    return train, validation, test
