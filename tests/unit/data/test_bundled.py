"""The bundled sample: worth learning, varied, and never both ingested and served."""

import re
from collections import Counter
from itertools import islice

import polars as pl
import pytest

from absa.data.bundled import (
    ASSIGNMENT_CSV,
    FEEDBACK_CSV,
    NEW_AREA_CSV,
    TRAFFIC_CSV,
    bundled_traffic,
    file_traffic,
    split_file,
)
from absa.data.normalise import side, side_key
from absa.data.read import read_examples
from absa.data.traffic.known_drift import Drift
from absa.data.traffic.row_pool import known_texts


@pytest.fixture(scope="module")
def sample() -> dict[str, pl.DataFrame]:
    files = {"feedback": FEEDBACK_CSV, "traffic": TRAFFIC_CSV, "new_area": NEW_AREA_CSV, "assignment": ASSIGNMENT_CSV}
    read = {name: read_examples(path, max_bad_share=0.0) for name, path in files.items()}
    return {name: examples for name, (examples, _) in read.items()}


def test_bundled_rows_cover_eight_areas_and_labels(sample):
    feedback = sample["feedback"]
    assert feedback.height >= 1700
    assert feedback["segment"].n_unique() >= 8
    assert feedback["segment"].value_counts()["count"].min() >= 150
    assert feedback["label"].value_counts()["count"].min() / feedback.height > 0.2


def test_texts_of_bundled_sets_are_disjoint(sample):
    keys = {name: known_texts([frame]) for name, frame in sample.items()}
    names = sorted(keys)
    for n, one in enumerate(names):
        for other in names[n + 1 :]:
            assert not keys[one] & keys[other], (one, other)


def test_five_word_sequences_are_rare_across_rows(sample):
    for name in ("feedback", "traffic", "new_area"):
        counts: Counter[str] = Counter()
        for text in sample[name]["text"]:
            words = re.findall(r"[\w']+", text.lower())
            counts.update({" ".join(words[n : n + 5]) for n in range(len(words) - 4)})
        assert counts.most_common(1)[0][1] <= 0.01 * sample[name].height


def test_it_holds_what_makes_the_task_hard(sample):
    texts = sample["feedback"].group_by("text").agg("label")
    opposite = texts.filter(pl.col("label").list.contains(0) & pl.col("label").list.contains(2)).height
    assert opposite >= 80
    joined = "\n".join(sample["feedback"]["text"])
    assert len(re.findall(r"\?", joined)) > 100
    assert len(re.findall(r"[\U0001F300-\U0001FAFF]", joined)) > 20
    assert len(re.findall(r"\b(?:not|never|no|can't|don't|isn't|won't)\b", joined, re.IGNORECASE)) > 100
    assert len(re.findall(r"\b(?:than|compared|better|worse)\b", joined, re.IGNORECASE)) > 20


def test_words_alone_learn_partly(sample):
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    rows = sample["feedback"].with_columns(
        asked=pl.col("text") + " " + pl.col("aspect"),
        side=pl.col("text").map_elements(side, return_dtype=pl.String),
    )
    train, test = rows.filter(pl.col("side") == "train"), rows.filter(pl.col("side") == "test")
    model = make_pipeline(TfidfVectorizer(), LogisticRegression(max_iter=1000))
    model.fit(train["asked"].to_list(), train["label"].to_list())
    assert 0.60 <= model.score(test["asked"].to_list(), test["label"].to_list()) <= 0.85


def test_the_assignments_five_sentences_carry_its_labels(sample):
    assert sample["assignment"].select("aspect", "label").rows() == [
        ("milk", 0),
        ("customer service", 0),
        ("tool", 2),
        ("notion", 2),
        ("billing", 1),
    ]


def test_bundled_customers_serve_only_new_texts(sample):
    ingested = known_texts([sample["feedback"]])
    traffic = bundled_traffic(seed=1, avoid=ingested)
    steady = list(islice(traffic, 2000))
    assert not {side_key(request.text) for request in steady} & ingested
    assert {request.segment for request in steady} == set(sample["feedback"]["segment"])
    traffic.switch(Drift(new_area_share=0.8))
    assert sum(r.segment == "games" for r in islice(traffic, 1000)) == pytest.approx(800, abs=50)


def test_own_file_is_held_back_and_drifts(tmp_path):
    own, other = tmp_path / "own.csv", tmp_path / "other.csv"
    texts = [f"the app does {a} {b} things" for a in ("many", "few", "odd") for b in ("red", "big", "wet", "new")]
    pl.DataFrame({"Text": texts * 2, "ASPECT": ["app"] * 12 + ["things"] * 12, "Label": [0, 2] * 12}).write_csv(own)
    pl.DataFrame({"text": ["a tent in rain"], "aspect": ["tent"], "label": [1]}).write_csv(other)
    ingest, held = split_file(own, share=0.4)
    assert ingest.height + held.height == 24
    assert held.height > 0
    ingested = known_texts([ingest])
    traffic = file_traffic(held, other, drift=Drift(new_area_share=0.5), avoid=ingested)
    requests = list(islice(traffic, 400))
    assert not {side_key(request.text) for request in requests} & ingested
    assert sum(r.aspect == "tent" for r in requests) == pytest.approx(200, abs=45)
    assert {r.segment for r in requests} == {None}
