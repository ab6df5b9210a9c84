"""Generated rows of the 10 GB benchmark: more of them teach more."""

import numpy as np

from benchmarks.training.train_10gb import KINDS, NOISE, PHRASES, LongTail


def accuracy_of_table(rows: int) -> float:
    """Share of fresh rows whose label a table of the labels seen in `rows` rows gives."""
    tail, rng = LongTail.drawn(), np.random.default_rng(0)
    counts = np.zeros((PHRASES * KINDS, 3), np.int32)
    aspects, phrases, labels = tail.rows(rows, rng)
    np.add.at(counts, (phrases * KINDS + aspects % KINDS, labels), 1)
    aspects, phrases, labels = tail.rows(20_000, rng)
    return float((counts.argmax(1)[phrases * KINDS + aspects % KINDS] == labels).mean())


def test_ten_times_the_rows_teach_more() -> None:
    few, more, many = (accuracy_of_table(rows) for rows in (2_000, 20_000, 200_000))
    assert more > few + 0.08
    assert many > more + 0.08
    assert many < 1 - NOISE - 0.1
