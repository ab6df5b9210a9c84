"""Baseline of a first version: TF-IDF with logistic regression, by scikit-learn. It is reported and never served.

The features of a text are its words and pairs of words. The features of an aspect are its words and the words around it
in the text. The features of a topic are its words, and the words of the text, each marked with the topic. In scripts
without spaces between words, the features are pairs and triples of letters.

On the default task its pos/neg F1 is 0.679 on 2,991 feedback rows (5 folds), and 0.751 on 4,000 of 30,479 rows of
reviews. On the reviews the words around the aspect add 0.05, because many texts have several aspects.
"""

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from absa.evaluation.counts import Scores
from absa.inference.aspect_span import find_aspect
from absa.inference.scripts import UNSPACED
from absa.inference.tokenization import ModelInput
from absa.task import ABSA, TaskSpec

if TYPE_CHECKING:
    import polars as pl
    from sklearn.pipeline import Pipeline

MOST_ROWS: Final = 50_000  # take about ten seconds on one core
MOST_CHARACTERS: Final = 10_000_000
_AROUND_WORDS: Final = 5
_TOKEN: Final = re.compile(r"\w+|[^\w\s]+")
_RUN: Final = re.compile(rf"[{UNSPACED}]+|[^\W{UNSPACED}]+|[^\w\s{UNSPACED}]+")
_UNSPACED_LETTER: Final = re.compile(f"[{UNSPACED}]")
_MIN_ROWS: Final = 2  # rows that must have a word, or it is not used
_NOTHING_SHARED: Final = ("no terms remain", "empty vocabulary")  # errors of rows without a common word


class Baseline:
    """Scorer of (text, phrase) pairs."""

    def __init__(self, pipeline: "Pipeline", task: TaskSpec) -> None:
        self._pipeline, self._task = pipeline, task

    def score(self, pairs: Sequence[ModelInput], /) -> Scores:
        """Return probabilities (n, labels) in the order of the pairs; 0 for a label that no training row has."""
        scores = np.zeros((len(pairs), self._task.n_labels), np.float32)
        scores[:, self._pipeline.classes_] = self._pipeline.predict_proba(_columns(pairs, self._task))
        return scores


def train_baseline(rows: "pl.DataFrame", task: TaskSpec = ABSA) -> Baseline | None:
    """Train on rows with text, phrase and label; only the first `MOST_ROWS` rows and `MOST_CHARACTERS` are used.

    Equal rows give equal scores. Returns None if the rows have fewer than two labels, or no common word.
    """
    from sklearn.compose import ColumnTransformer
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    characters = rows["text"].str.len_chars().cum_sum() <= MOST_CHARACTERS
    rows = rows.filter(characters).head(MOST_ROWS)
    if rows["label"].n_unique() < 2:
        return None
    by_space = str.split
    words = {"ngram_range": (1, 2), "sublinear_tf": True}
    columns = [("text", TfidfVectorizer(**words, tokenizer=_tokens, token_pattern=None, min_df=_MIN_ROWS), 0)]
    if task.phrase is not None:
        columns += [
            ("around", TfidfVectorizer(**words, tokenizer=by_space, token_pattern=None), 1),
            ("aspect", TfidfVectorizer(tokenizer=by_space, token_pattern=None), 2),
        ]
    pipeline = make_pipeline(ColumnTransformer(columns), LogisticRegression(C=4.0, tol=1e-3, max_iter=300))
    pairs = list(rows.select("text", "aspect").iter_rows())
    try:
        pipeline.fit(_columns(pairs, task), rows["label"].to_numpy())
    except ValueError as error:
        if not any(said in str(error) for said in _NOTHING_SHARED):
            raise
        return None
    return Baseline(pipeline, task)


def _columns(pairs: Sequence[ModelInput], task: TaskSpec) -> Any:
    beside = _around if task.phrase_in_text else _of_topic
    rows = [(text, "-" if phrase is None else beside(text, phrase), phrase or "-") for text, phrase in pairs]
    return np.array(rows, dtype=object).reshape(-1, 3)


def _of_topic(text: str, topic: str) -> str:
    """Return the words of the text, each marked with the topic, because a word's sentiment depends on the topic."""
    mark = "_".join(topic.casefold().split())
    return " ".join(["-", *(f"{mark}:{word}" for word in dict.fromkeys(_tokens(text.casefold())))])


def _tokens(text: str) -> list[str]:
    """Return words and marks; in scripts without spaces between words, pairs of letters, which bigrams join."""
    if not _UNSPACED_LETTER.search(text):
        return _TOKEN.findall(text)
    found: list[str] = []
    for run in _RUN.findall(text):
        paired = len(run) > 1 and _UNSPACED_LETTER.match(run)
        found += [run[k : k + 2] for k in range(len(run) - 1)] if paired else [run]
    return found


def _spaced(text: str) -> list[str]:
    return _tokens(text) if _UNSPACED_LETTER.search(text) else text.split()


def _around(text: str, aspect: str) -> str:
    """Return the words on both sides of the aspect, each marked with its side."""
    span = find_aspect(text, aspect)
    if span is None:
        return "-"
    before, after = _spaced(text[: span.start])[-_AROUND_WORDS:], _spaced(text[span.end :])[:_AROUND_WORDS]
    return " ".join(["-", *(f"{word}<" for word in before), *(f">{word}" for word in after)])
