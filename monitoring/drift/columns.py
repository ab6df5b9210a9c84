"""Columns of drift: features over reference and current rows together, and a statistic of their sums.

A column that holds for some of the rows alone (a segment's, those with an embedding) carries how many they are as a
feature of its own, so that it is compared over them and still permuted with everything else.
"""

import re
from collections import Counter
from collections.abc import Sequence
from functools import cache, lru_cache
from itertools import chain
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from absa.task import N_LABELS
from monitoring.drift.permutation import Test, chi_square, largest_gap, sparse_rise
from monitoring.drift.sample import Floats, Ints, Sample

CATEGORIES: Final = 30
MIN_SEGMENT_ROWS: Final = 100
_CUTS: Final = 64
_WORD: Final = re.compile(r"[^\W_]+(?:'[^\W_]+)?")
_MIN_WORD_ROWS: Final = 5
_MAX_WORDS: Final = 2_000
_HASHES: Final = 2**14
_FOURIER: Final = 128
_MAX_SEGMENTS: Final = 20
_MIN_EMBEDDED: Final = 50
_CACHED_TEXTS: Final = 30_000


def column_tests(
    both: Sample, is_current: npt.NDArray[np.bool_], columns: Sequence[str] | None = None
) -> tuple[dict[str, Test], tuple[str, ...]]:
    """Every column that the rows allow, and a sentence for what is off.

    Args:
        both: reference and current rows.
        is_current: (n,) whether a row is of the current window.
        columns: only these; by default all.
    """

    def wanted(kind: str) -> bool:
        return columns is None or kind in columns

    confidence = both.scores.max(axis=1)
    tests: dict[str, Test] = {
        "class_shares": Test(features=_one_hot(both.labels, N_LABELS), statistic=chi_square),
        "confidence": Test(features=_cumulative(confidence), statistic=largest_gap),
    }
    skipped: list[str] = []
    if len(set(both.segments)) > 1:
        tests["segment_mix"] = _category_test(both.segments)
        members = large_segments(both.segments, float(is_current.mean()))
        if members:
            tests["segment_classes"] = _within(list(members.values()), _one_hot(both.labels, N_LABELS))
            tests["segment_confidence"] = _within(list(members.values()), _thirds(confidence))
    if both.texts is None or both.aspects is None:
        skipped.append("Text drift is off: the log holds no texts.")
    else:
        words = tuple(map(words_of, both.texts))
        if wanted("text_length"):
            lengths = np.fromiter(map(len, words), dtype=np.float64, count=len(words))
            tests["text_length"] = Test(features=_cumulative(lengths), statistic=largest_gap)
        if wanted("aspect_mix"):
            tests["aspect_mix"] = _category_test(tuple(aspect.casefold() for aspect in both.aspects))
        presence, mass, vocabulary = _presence(words)
        tests["unknown_words"] = _unknown_words_test(presence, mass)
        common = _common_words_test(presence)
        if common is not None:
            tests["word_use"] = common
        tests["word_embedding"] = _mmd(_fourier(_bag(presence, vocabulary), np.arange(both.rows), both.rows))
    embedded = _embedding_test(both, is_current) if wanted("embedding") else None
    if embedded is not None:
        tests["embedding"] = embedded
    return {kind: test for kind, test in tests.items() if wanted(kind)}, tuple(skipped)


def large_segments(segments: Sequence[str], current_share: float) -> dict[str, npt.NDArray[np.bool_]]:
    """Return the rows (n,) of each segment that has `MIN_SEGMENT_ROWS` on both sides if it is spread alike, at most 20.

    Chosen by their size over both sides together, so that the choice knows nothing of the split that is tested.
    """
    names = np.array(segments, dtype=object)
    least = MIN_SEGMENT_ROWS / max(min(current_share, 1.0 - current_share), 1e-9)
    return {
        name: np.asarray(names == name) for name, rows in Counter(segments).most_common(_MAX_SEGMENTS) if rows >= least
    }


@lru_cache(maxsize=_CACHED_TEXTS)  # the reference's texts come back with every window
def words_of(text: str) -> tuple[str, ...]:
    """Return the words of a text, without case."""
    return tuple(_WORD.findall(text.casefold()))


def _one_hot(values: Ints, k: int) -> Any:
    return (values[:, None] == np.arange(k)).astype(np.float32)


def _cumulative(values: Floats) -> Any:
    cuts = np.unique(np.quantile(values, np.linspace(0.0, 1.0, _CUTS + 1), method="lower"))
    return (values[:, None] <= cuts).astype(np.float32)


def _thirds(values: Floats) -> Any:
    return _one_hot(np.searchsorted(np.quantile(values, [1 / 3, 2 / 3]), values), 3)


def _category_test(values: tuple[str, ...]) -> Test:
    common = [value for value, _ in Counter(values).most_common(CATEGORIES)]
    place = {value: k for k, value in enumerate(common)}
    codes = np.array([place.get(value, len(common)) for value in values], dtype=np.int64)
    return Test(features=_one_hot(codes, int(codes.max()) + 1), statistic=chi_square)


def _within(members: list[npt.NDArray[np.bool_]], categories: Any) -> Test:
    """Return the largest chi-square of categories within any part: one column whatever the number of parts."""
    k = categories.shape[1] + 1
    counted = np.concatenate([categories, np.ones((len(categories), 1), dtype=np.float32)], axis=1)
    features = np.concatenate([counted * mine[:, None] for mine in members], axis=1)

    def largest(sums: Floats, totals: Floats, _: Floats, __: Floats) -> Floats:
        found = []
        for first in range(0, len(totals), k):
            mine, all_of = sums[first : first + k], totals[first : first + k]
            n_current = np.maximum(mine[-1], 1.0)
            n_reference = np.maximum(all_of[-1] - mine[-1], 1.0)
            found.append(chi_square(mine[:-1], all_of[:-1], n_current, n_reference))
        return np.asarray(np.max(found, axis=0))

    return Test(features=features, statistic=largest)


def _presence(words: Sequence[tuple[str, ...]]) -> tuple[Any, Floats, list[str]]:
    """Return rows by words, 1 where the row has the word; each word's summed share of its rows; the words."""
    from scipy import sparse

    flat = list(chain.from_iterable(words))
    vocabulary = list(dict.fromkeys(flat))
    place = {word: k for k, word in enumerate(vocabulary)}
    columns = np.fromiter(map(place.__getitem__, flat), dtype=np.int64, count=len(flat))
    lengths = np.fromiter(map(len, words), dtype=np.int64, count=len(words))
    rows = np.repeat(np.arange(len(words)), lengths)
    mass = np.bincount(columns, weights=1.0 / lengths[rows], minlength=len(vocabulary))
    matrix = sparse.csr_array(
        (np.ones(len(flat), dtype=np.float32), (rows, columns)), shape=(len(words), len(vocabulary)), dtype=np.float32
    )  # a word that stands in a row twice is summed here
    matrix.data = np.ones_like(matrix.data)
    return matrix, mass.astype(np.float64), vocabulary


def _unknown_words_test(presence: Any, mass: Floats) -> Test:
    def unseen_share(sums: Floats, totals: Floats, n_current: Floats, _: Floats) -> Floats:
        only_current = sums >= totals[:, None] - 0.5  # the word stands in no row of the reference
        return np.asarray((only_current * mass[:, None]).sum(axis=0) / n_current)

    return Test(features=presence, statistic=unseen_share)


def _common_words_test(presence: Any) -> Test | None:
    in_rows = np.asarray(presence.sum(axis=0)).ravel()
    chosen = np.argsort(-in_rows, kind="stable")[:_MAX_WORDS]
    chosen = chosen[in_rows[chosen] >= _MIN_WORD_ROWS]
    return Test(features=presence[:, chosen], statistic=sparse_rise) if len(chosen) else None


def _bag(presence: Any, vocabulary: Sequence[str]) -> Any:
    """Return a hashed bag of words, weighted by rarity, of length one a row."""
    from zlib import crc32

    from scipy import sparse

    hashed = np.array([crc32(word.encode()) % _HASHES for word in vocabulary], dtype=np.int64)
    rows = presence.shape[0]
    parts = (presence.data, hashed[presence.indices], presence.indptr)
    bag = sparse.csr_array(parts, shape=(rows, _HASHES), copy=True)
    bag.sum_duplicates()  # words that share a hash; in place, hence the copy
    rarity = np.log(rows / (1.0 + np.asarray(bag.sum(axis=0)).ravel()))
    bag = bag @ sparse.diags_array(np.maximum(rarity, 0.1).astype(np.float32))
    norms = np.sqrt(np.asarray((bag * bag).sum(axis=1)).ravel())
    return sparse.diags_array((1.0 / np.maximum(norms, 1e-9)).astype(np.float32)) @ bag


def _embedding_test(both: Sample, is_current: npt.NDArray[np.bool_]) -> Test | None:
    """MMD of the model's own view of the rows, over those that were embedded; None where they are too few."""
    if both.embeddings is None:
        return None
    present = np.flatnonzero(np.isfinite(both.embeddings[:, 0]))
    if min(int(is_current[present].sum()), int((~is_current[present]).sum())) < _MIN_EMBEDDED:
        return None
    values = both.embeddings[present].astype(np.float32)
    values = (values - values.mean(axis=0)) / np.maximum(values.std(axis=0), 1e-6)
    pairs = np.random.default_rng(0).integers(len(values), size=(2, 1_000))
    distance = np.median(np.linalg.norm(values[pairs[0]] - values[pairs[1]], axis=1))  # the median heuristic
    return _mmd(_fourier(values / max(float(distance), 1e-6), present, both.rows))


def _fourier(values: Any, places: Ints, rows: int) -> Any:
    """Return random Fourier features (Rahimi and Recht 2007) of a Gaussian kernel, and a validity mark (rows, k+1)."""
    projection, phase = _projection(values.shape[1])
    projected = np.asarray(values @ projection)
    features = np.zeros((rows, _FOURIER + 1), dtype=np.float32)
    features[places, :-1] = np.sqrt(2.0 / _FOURIER).astype(np.float32) * np.cos(projected + phase)
    features[places, -1] = 1.0
    return features


@cache
def _projection(width: int) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Frequencies (width, k) and phases (k,), always the same: equal rows, equal features."""
    rng = np.random.default_rng(0)
    frequencies = rng.normal(size=(width, _FOURIER)).astype(np.float32)
    return frequencies, rng.uniform(0.0, 2.0 * np.pi, size=_FOURIER).astype(np.float32)


def _mmd(features: Any) -> Test:
    """Squared distance of the mean features over the rows that have any: MMD²."""

    def squared_gap(sums: Floats, totals: Floats, _: Floats, __: Floats) -> Floats:
        n_current = np.maximum(sums[-1], 1.0)
        n_reference = np.maximum(totals[-1] - sums[-1], 1.0)
        gap = sums[:-1] / n_current - (totals[:-1, None] - sums[:-1]) / n_reference
        return np.asarray((gap**2).sum(axis=0))

    return Test(features=features, statistic=squared_gap)
