"""Columns of drift: each row's part in a gap between the means of window and reference, and a statistic of such gaps.

A column that exists for some rows only (of a segment, or with an embedding) compares the means over those rows.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from functools import cache, lru_cache
from itertools import chain
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from absa.inference.scripts import UNSPACED
from monitoring.drift.bootstrap import Test
from monitoring.drift.sample import Bools, Floats, Ints, Sample

CATEGORIES: Final = 30
MIN_SEGMENT_ROWS: Final = 100
_CUTS: Final = 64
_WORD: Final = re.compile(r"[^\W_]+(?:'[^\W_]+)?")
_FIRST_MARK: Final = "\u0300"  # scripts below this code point have spaces between words, and no combining marks
_MIN_WORD_ROWS: Final = 5
_FEW: Final = 5.0
_MAX_WORDS: Final = 2_000
_HASHES: Final = 2**14
_FOURIER: Final = 128
_MAX_SEGMENTS: Final = 20
_MIN_EMBEDDED: Final = 50
_CACHED_TEXTS: Final = 30_000
_TINY: Final = 1e-12


def column_tests(
    both: Sample, is_current: Bools, columns: Sequence[str] | None = None
) -> tuple[dict[str, Test], tuple[str, ...]]:
    """Return a test per column that the rows allow, and a sentence per column that cannot be tested.

    Args:
        both: reference and current rows.
        is_current: (n,) True for rows of the current window.
        columns: names of the columns to test; None: all.
    """

    def wanted(kind: str) -> bool:
        return columns is None or kind in columns

    confidence = both.scores.max(axis=1)
    weights = gap_weights(is_current)
    tests: dict[str, Test] = {
        "class_shares": category_test(both.labels, weights),
        "confidence": distribution_test(confidence, weights),
    }
    skipped: list[str] = []
    if len(set(both.segments)) > 1:
        tests["segment_mix"] = category_test(_common_values(both.segments), weights)
        members = large_segments(both.segments, float(is_current.mean())).values()
        if members:
            within = [gap_weights(is_current, mine) for mine in members]
            tests["segment_classes"] = category_test(both.labels, *within)
            tests["segment_confidence"] = category_test(_thirds(confidence), *within)
    if both.texts is None or both.aspects is None:
        skipped.append("Text drift is off: the log holds no texts.")
    else:
        words = tuple(map(words_of, both.texts))
        if wanted("text_length"):
            lengths = np.fromiter(map(len, words), dtype=np.float64, count=len(words))
            tests["text_length"] = distribution_test(lengths, weights)
        if wanted("aspect_mix") and both.task.phrase is not None:
            aspects = _common_values(tuple(aspect.casefold() for aspect in both.aspects))
            tests["aspect_mix"] = category_test(aspects, weights)
        presence, shares, vocabulary = _presence(words)
        if wanted("unknown_words"):
            tests["unknown_words"] = unseen_test(shares, both.groups, is_current)
        common = _common_words_test(presence, weights) if wanted("word_use") else None
        if common is not None:
            tests["word_use"] = common
        if wanted("word_embedding"):
            tests["word_embedding"] = _mmd(_fourier(_bag(presence, vocabulary)), weights)
    embedded = _embedding_test(both, is_current) if wanted("embedding") else None
    if embedded is not None:
        tests["embedding"] = embedded
    return {kind: test for kind, test in tests.items() if wanted(kind)}, tuple(skipped)


def gap_weights(is_current: Bools, among: Bools | None = None) -> Floats:
    """Return each row's weight (n,) in a gap of means: 1 / current rows, -1 / reference rows, 0 outside `among`."""
    among = np.ones(len(is_current), dtype=bool) if among is None else among
    current, reference = among & is_current, among & ~is_current
    return np.asarray(current / max(current.sum(), 1) - reference / max(reference.sum(), 1))


def large_segments(segments: Sequence[str], current_share: float) -> dict[str, npt.NDArray[np.bool_]]:
    """Return the rows (n,) of at most 20 segments that are likely to have `MIN_SEGMENT_ROWS` rows on both sides.

    Segments are chosen by their size over both sides together, so that the choice does not depend on the difference
    that is tested.
    """
    names = np.array(segments, dtype=object)
    least = MIN_SEGMENT_ROWS / max(min(current_share, 1.0 - current_share), 1e-9)
    return {
        name: np.asarray(names == name) for name, rows in Counter(segments).most_common(_MAX_SEGMENTS) if rows >= least
    }


@lru_cache(maxsize=_CACHED_TEXTS)  # every window is compared with the same texts of the reference
def words_of(text: str) -> tuple[str, ...]:
    """Return the words of a text, case-folded.

    A letter keeps its combining marks. In scripts without spaces between words each letter is a word, because a whole
    sentence as one word would be new in every text.
    """
    folded = text.casefold()
    if max(folded, default="") < _FIRST_MARK:
        return tuple(_WORD.findall(folded))
    special, words = _words_of_any_script()
    return tuple((words if special.search(folded) else _WORD).findall(folded))


@cache
def _words_of_any_script() -> tuple[re.Pattern[str], re.Pattern[str]]:
    """Return a pattern of characters that `_WORD` splits wrongly, and a pattern of words that handles them."""
    codes = range(ord(_FIRST_MARK), 0x10000)  # further marks are rare, and would slow every search
    marks = "".join(character for character in map(chr, codes) if unicodedata.category(character)[0] == "M")
    letter = rf"[^\W_{UNSPACED}]"
    spaced = rf"{letter}+(?:[{marks}]+{letter}*)*"
    alone = rf"(?=[^\W_])[{UNSPACED}][{marks}]*"
    return re.compile(f"[{UNSPACED}{marks}]"), re.compile(rf"{spaced}(?:'{spaced})?|{alone}")


def category_test(codes: Ints, *weights: Floats) -> Test:
    """Return the test by Pearson's chi-square of category counts (codes from 0).

    With several weights (n,), the statistic is the largest chi-square of any of them.
    """
    features = (codes[:, None] == np.arange(int(codes.max()) + 1)).astype(np.float32)
    parts, scales = [], []
    for each in weights:
        mine, means = _parts(features, each)
        parts.append(mine)
        scales.append(np.maximum(means * np.ptp(each), _TINY))
    scale = np.concatenate(scales)[:, None]

    def largest(gaps: Floats) -> Floats:
        return np.asarray((gaps**2 / scale).reshape(len(weights), features.shape[1], -1).sum(axis=1).max(axis=0))

    return Test(parts=np.concatenate(parts, axis=1), statistic=largest)


def distribution_test(values: Floats, weights: Floats) -> Test:
    """Return Kolmogorov and Smirnov's distance at 64 cuts."""
    cuts = np.unique(np.quantile(values, np.linspace(0.0, 1.0, _CUTS + 1), method="lower"))
    parts, _ = _parts((values[:, None] <= cuts).astype(np.float32), weights)
    return Test(parts=parts, statistic=lambda gaps: np.asarray(np.abs(gaps).max(axis=0)))


def _parts(features: Any, weights: Floats) -> tuple[npt.NDArray[np.float32], Floats]:
    """Return each row's part in the gap of means, centred, and the means over the rows that have a weight."""
    means = features[weights != 0.0].mean(axis=0, dtype=np.float64)
    return ((features - means) * weights[:, None]).astype(np.float32), means


def _thirds(values: Floats) -> Ints:
    return np.searchsorted(np.quantile(values, [1 / 3, 2 / 3]), values)


def _common_values(values: tuple[str, ...]) -> Ints:
    """Return the rank of each value by frequency; rare values share the last rank."""
    common = [value for value, _ in Counter(values).most_common(CATEGORIES)]
    place = {value: k for k, value in enumerate(common)}
    return np.array([place.get(value, len(common)) for value in values], dtype=np.int64)


def _presence(words: Sequence[tuple[str, ...]]) -> tuple[Any, Any, list[str]]:
    """Return two sparse matrices (rows, words), and the words.

    The first has 1 for each word of a row, the second the word's share of the row's words.
    """
    from scipy import sparse

    flat = list(chain.from_iterable(words))
    vocabulary = list(dict.fromkeys(flat))
    place = {word: k for k, word in enumerate(vocabulary)}
    columns = np.fromiter(map(place.__getitem__, flat), dtype=np.int64, count=len(flat))
    lengths = np.fromiter(map(len, words), dtype=np.int64, count=len(words))
    rows = np.repeat(np.arange(len(words)), lengths)
    shares = sparse.csr_array(
        ((1.0 / lengths[rows]).astype(np.float32), (rows, columns)), shape=(len(words), len(vocabulary))
    )  # sums the shares of a word that a row repeats
    presence = shares.copy()
    presence.data = np.ones_like(presence.data)
    return presence, shares, vocabulary


def unseen_test(shares: Any, groups: Ints, is_current: Bools) -> Test:
    """Return the test of unseen words. A word is unseen if no reference row of another unit has it.

    The window's share of unseen words is compared with the reference's. A unit's own rows are left out on both sides:
    otherwise a reference row would have no unseen word by definition. A unit's part holds the unseen words of its own
    rows, and half of the words that would be unseen without the unit. It is half, because each pair of units is counted
    from both ends (Efron and Stein 1981, 'The jackknife estimate of variance'). The spread of the window is reduced to
    that of the reference, so that new words do not widen their own limit. It is reduced less if few units have most of
    the new words, because the reference then does not show how far chance spreads them.

    Args:
        shares: (n, words) each word's share of the row's words, sparse.
        groups: (n,) unit of each row.
        is_current: (n,) True for rows of the current window.
    """
    entries = shares.tocoo()
    (row, word), share, n_words = entries.coords, entries.data, shares.shape[1]
    _, first, unit = np.unique(groups, return_index=True, return_inverse=True)
    weights = gap_weights(is_current)
    used = unit[row] * n_words + word
    held = np.unique(used[~is_current[row]])  # pairs of unit and word in the reference
    holder, held_word = np.divmod(held, n_words)
    own = np.isin(used, held)
    others = np.bincount(held_word, minlength=n_words)[word] - own
    unseen = np.bincount(row, weights=share * (others == 0), minlength=len(unit))
    now, before = unseen[is_current], unseen[~is_current]
    of_unit = np.bincount(unit[is_current], weights=now)
    like_units = of_unit.sum() ** 2 / max(float((of_unit**2).sum()), _TINY)  # effective number of units
    alike = max(before.std() / max(float(now.std()), _TINY), min(1.0, (_FEW / max(like_units, _TINY)) ** 0.5))
    parts = weights * np.where(is_current, (unseen - now.mean()) * alike, unseen - before.mean())
    rests_on_one = others == 1
    holder_sum = np.bincount(held_word, weights=holder, minlength=n_words)
    only = (holder_sum[word] - own * unit[row])[rests_on_one].astype(np.int64)
    rise = np.bincount(
        only, weights=(weights[row] * share)[rests_on_one], minlength=len(first)
    )  # rise of the gap if the unit is left out
    reference_rows = np.bincount(unit[~is_current], minlength=len(first))
    parts[first] -= 0.5 * (rise - rise.sum() * reference_rows / reference_rows.sum())
    return Test(
        parts=parts[:, None].astype(np.float32),
        statistic=lambda gaps: before.mean() + gaps[0],
        gap=np.array([now.mean() - before.mean()]),
    )


def _common_words_test(presence: Any, weights: Floats) -> Test | None:
    """Return the test by the sum of squared z-values of common words; None without common words.

    The sum is large if many words change a little, or a few change much.
    """
    from scipy import sparse

    in_rows = np.asarray(presence.sum(axis=0)).ravel()
    chosen = np.argsort(-in_rows, kind="stable")[:_MAX_WORDS]
    chosen = chosen[in_rows[chosen] >= _MIN_WORD_ROWS]
    if len(chosen) == 0:
        return None
    means = in_rows[chosen] / len(weights)
    scale = np.maximum(means * (1.0 - means) * np.ptp(weights), _TINY)[:, None]
    parts = (sparse.diags_array(weights.astype(np.float32)) @ presence[:, chosen]).tocsr()
    return Test(
        parts=parts,
        statistic=lambda gaps: np.asarray((gaps**2 / scale).sum(axis=0)),
        means=means,
        weights=weights.astype(np.float32),
    )


def _bag(presence: Any, vocabulary: Sequence[str]) -> Any:
    """Return a hashed bag of words, weighted by rarity, each row of length one."""
    from zlib import crc32

    from scipy import sparse

    hashed = np.array([crc32(word.encode()) % _HASHES for word in vocabulary], dtype=np.int64)
    rows = presence.shape[0]
    parts = (presence.data, hashed[presence.indices], presence.indptr)
    bag = sparse.csr_array(parts, shape=(rows, _HASHES), copy=True)
    bag.sum_duplicates()  # sums words that share a hash; works in place, hence the copy
    rarity = np.log(rows / (1.0 + np.asarray(bag.sum(axis=0)).ravel()))
    bag = bag @ sparse.diags_array(np.maximum(rarity, 0.1).astype(np.float32))
    norms = np.sqrt(np.asarray((bag * bag).sum(axis=1)).ravel())
    return sparse.diags_array((1.0 / np.maximum(norms, 1e-9)).astype(np.float32)) @ bag


def _embedding_test(both: Sample, is_current: Bools) -> Test | None:
    """Return the MMD test of the model's embeddings; None if too few rows have an embedding."""
    if both.embeddings is None:
        return None
    embedded = np.isfinite(both.embeddings[:, 0])
    if min(int((embedded & is_current).sum()), int((embedded & ~is_current).sum())) < _MIN_EMBEDDED:
        return None
    values = both.embeddings[embedded].astype(np.float32)
    values = (values - values.mean(axis=0)) / np.maximum(values.std(axis=0), 1e-6)
    pairs = np.random.default_rng(0).integers(len(values), size=(2, 1_000))
    distance = np.median(np.linalg.norm(values[pairs[0]] - values[pairs[1]], axis=1))  # the median heuristic
    features = np.zeros((both.rows, _FOURIER), dtype=np.float32)
    features[embedded] = _fourier(values / max(float(distance), 1e-6))
    return _mmd(features, gap_weights(is_current, embedded))


def _fourier(values: Any) -> npt.NDArray[np.float32]:
    """Return random Fourier features (n, k) of a Gaussian kernel (Rahimi and Recht 2007)."""
    projection, phase = _projection(values.shape[1])
    return np.asarray(np.sqrt(2.0 / _FOURIER).astype(np.float32) * np.cos(np.asarray(values @ projection) + phase))


@cache
def _projection(width: int) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Return frequencies (width, k) and phases (k,), always the same, so that equal rows have equal features."""
    rng = np.random.default_rng(0)
    frequencies = rng.normal(size=(width, _FOURIER)).astype(np.float32)
    return frequencies, rng.uniform(0.0, 2.0 * np.pi, size=_FOURIER).astype(np.float32)


def _mmd(features: npt.NDArray[np.float32], weights: Floats) -> Test:
    """Return the squared distance of the mean features: MMD²."""
    parts, _ = _parts(features, weights)
    return Test(parts=parts, statistic=lambda gaps: np.asarray((gaps**2).sum(axis=0)))
