"""TF-IDF baseline: it learns words and sides of the aspect, equal rows give equal scores, odd rows are no error."""

import numpy as np
import polars as pl
import pytest

from absa.evaluation import baseline
from absa.evaluation.baseline import train_baseline
from absa.task import TaskSpec

PRAISE, BLAME = ("great", "lovely", "superb"), ("awful", "broken", "slow")


def rows(count: int = 240) -> pl.DataFrame:
    """Texts that praise one thing and blame another; the words beside the aspect decide."""
    chance = np.random.default_rng(0)
    found = []
    for _ in range(count):
        good, bad = chance.choice(PRAISE), chance.choice(BLAME)
        aspect, other = chance.permutation(["app", "price"])
        label = int(chance.choice([0, 2]))
        mine, theirs = (good, bad) if label == 2 else (bad, good)
        parts = [f"the {aspect} is {mine} here", f"the {other} is {theirs} here"]
        found.append((" but ".join(chance.permutation(parts)), aspect, label))
    return pl.DataFrame(found, schema=["text", "aspect", "label"], orient="row")


def pairs(frame: pl.DataFrame) -> list[tuple[str, str]]:
    return list(frame.select("text", "aspect").iter_rows())


def test_baseline_learns_what_stands_beside_the_aspect() -> None:
    frame = rows()
    trained = train_baseline(frame.head(180))
    assert trained is not None
    scores = trained.score(pairs(frame.tail(60)))
    assert np.mean(scores.argmax(axis=1) == frame.tail(60)["label"].to_numpy()) > 0.9
    assert scores.sum(axis=1) == pytest.approx(1.0, abs=1e-5)
    assert not scores[:, 1].any()


def test_baseline_of_plain_text_learns_its_labels() -> None:
    task = TaskSpec(name="tickets", input="text", labels=("billing", "bug", "praise", "login"))
    words = ("invoice money", "crash error", "great lovely", "password account")
    chance = np.random.default_rng(0)
    rows = [(f"{words[k % 4]} {chance.integers(0, 9)}", None, k % 4) for k in range(80)]
    frame = pl.DataFrame(rows, schema={"text": pl.String, "aspect": pl.String, "label": pl.Int8}, orient="row")
    trained = train_baseline(frame, task)
    assert trained is not None
    scores = trained.score(pairs(frame))
    assert scores.shape == (80, 4)
    assert np.mean(scores.argmax(axis=1) == frame["label"].to_numpy()) > 0.9


@pytest.mark.parametrize(
    "words",
    [
        ("请给我退款发票", "软件又崩溃了"),
        ("ขอใบเสร็จคืนเงินด้วย", "แอปล่มอีกแล้ว"),
        ("返金をお願いします", "アプリが落ちました"),
    ],
)
def test_baseline_of_unspaced_script_learns_letters(words: tuple[str, str]) -> None:
    task = TaskSpec(name="tickets", input="text", labels=("billing", "bug"))
    chance = np.random.default_rng(0)
    texts = ["".join(chance.permutation([chr(0x6000 + k), words[k % 2], chr(0x7000 + k)])) for k in range(80)]
    labels = [k % 2 for k in range(80)]
    columns = {"text": texts, "aspect": [None] * 80, "label": labels}
    frame = pl.DataFrame(columns, schema={"text": pl.String, "aspect": pl.String, "label": pl.Int8})
    trained = train_baseline(frame.head(60), task)
    assert trained is not None
    assert trained.score(pairs(frame.tail(20))).argmax(axis=1).tolist() == labels[60:]


def test_baseline_of_topics_learns_which_words_belong_together() -> None:
    task = TaskSpec(name="topics", input="text+topic", labels=("no", "yes"))
    words = {"shipping": "parcel", "billing": "invoice"}
    rows = [
        (f"where is my {words[told]} number {k}", asked, int(told == asked))
        for k in range(40)
        for told in words
        for asked in words
    ]
    frame = pl.DataFrame(rows, schema={"text": pl.String, "aspect": pl.String, "label": pl.Int8}, orient="row")
    trained = train_baseline(frame, task)
    assert trained is not None
    assert np.mean(trained.score(pairs(frame)).argmax(axis=1) == frame["label"].to_numpy()) > 0.9


def test_baseline_of_equal_rows_gives_equal_scores() -> None:
    frame = rows(60)
    one, other = (train_baseline(frame) for _ in range(2))
    assert one is not None
    assert other is not None
    assert np.array_equal(one.score(pairs(frame)), other.score(pairs(frame)))


@pytest.mark.parametrize(
    ("texts", "labels"),
    [([], []), (["good", "good"], [2, 2]), (["yes", "no"], [0, 2]), (["", ""], [0, 2])],
    ids=["no rows", "one label", "no common word", "no word"],
)
def test_baseline_without_anything_to_learn_is_none(texts: list[str], labels: list[int]) -> None:
    schema = {"text": pl.String, "aspect": pl.String, "label": pl.Int8}
    frame = pl.DataFrame({"text": texts, "aspect": ["app"] * len(texts), "label": labels}, schema=schema)
    assert train_baseline(frame) is None


def test_baseline_reads_a_bounded_number_of_characters(monkeypatch: pytest.MonkeyPatch) -> None:
    frame = rows(60)
    monkeypatch.setattr(baseline, "MOST_CHARACTERS", int(frame.head(1)["text"].str.len_chars().sum()))
    assert train_baseline(frame) is None  # one row has one label
