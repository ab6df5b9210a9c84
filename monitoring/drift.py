"""Whether the traffic of a window differs from the reference: pure detectors with calibrated p-values.

No detector has a fixed cut-off. Each compares its statistic with permutations of the same rows at the same sizes, and
Holm's correction over the columns holds the false-alarm rate that the user asked for.
"""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from absa.evaluation.significance import holm
from absa.labels import N_LABELS, SENTIMENTS
from monitoring.permutation import (
    Test,
    TestResult,
    chi_square,
    largest_gap,
    permutation_tests,
    sparse_rise,
    squared_gap,
)
from monitoring.sample import Floats, Ints, Sample, concat_samples

MIN_ROWS: Final = 50
MIN_GROUPS: Final = 20
_CUTS: Final = 64
_CATEGORIES: Final = 30
_WORD: Final = re.compile(r"[^\W_]+(?:'[^\W_]+)?")
_MIN_WORD_ROWS: Final = 5
_MAX_WORDS: Final = 2_000
_HASHES: Final = 2**14
_FOURIER: Final = 128


@dataclass(frozen=True, kw_only=True)
class DriftFinding:
    """One column. `effect` is the size of the change as a share (0 to 1) in the column's own terms, `p_adjusted` holds
    over all columns; `drifted` where it is at or under the false-alarm rate. `sentence` quotes no text."""

    kind: str
    statistic: float
    threshold: float
    p_value: float
    p_adjusted: float
    effect: float
    drifted: bool
    sentence: str


@dataclass(frozen=True, kw_only=True)
class DriftReport:
    """What the detectors say. `too_small` is a sentence where nothing could be tested."""

    findings: tuple[DriftFinding, ...]
    reference_rows: int
    current_rows: int
    too_small: str | None = None
    skipped: tuple[str, ...] = ()

    @property
    def drifted(self) -> tuple[DriftFinding, ...]:
        """The columns that alarm, the largest effect first."""
        return tuple(sorted((f for f in self.findings if f.drifted), key=lambda f: -f.effect))


def detect_drift(
    reference: Sample,
    current: Sample,
    *,
    false_alarm_rate: float = 0.01,
    max_rows: int = 20_000,
    seed: int = 0,
    columns: Sequence[str] | None = None,
) -> DriftReport:
    """Compare a window with the reference, column by column.

    Args:
        reference: held-out or early live rows of the same version, never rows that it trained on.
        current: the window's rows.
        false_alarm_rate: share of windows without drift in which any column may alarm.
        max_rows: each side is sampled down to this before testing.
        seed: of sampling and permutations.
        columns: only these kinds; by default all that the rows allow.
    """
    reference_rows, current_rows = reference.rows, current.rows
    for name, sample in (("reference", reference), ("window", current)):
        if sample.rows < MIN_ROWS or len(np.unique(sample.groups)) < MIN_GROUPS:
            sentence = (
                f"The {name} has {sample.rows} predictions of {len(np.unique(sample.groups))} units, "
                f"drift needs {MIN_ROWS} of {MIN_GROUPS}."
            )
            return DriftReport(
                findings=(), too_small=sentence, reference_rows=reference_rows, current_rows=current_rows
            )
    rng = np.random.default_rng(seed)
    reference, current = _sampled(reference, max_rows, rng), _sampled(current, max_rows, rng)
    both = concat_samples(reference, current)
    is_current = np.arange(both.rows) >= reference.rows
    tests, skipped = _tests(both, columns)
    results = permutation_tests(tests, both.groups, is_current, rate=false_alarm_rate, seed=seed)
    adjusted = dict(zip(results, holm([r.p_value for r in results.values()]), strict=True))
    findings = tuple(
        _finding(kind, result, adjusted[kind], false_alarm_rate, reference, current) for kind, result in results.items()
    )
    return DriftReport(findings=findings, skipped=skipped, reference_rows=reference_rows, current_rows=current_rows)


def _sampled(sample: Sample, max_rows: int, rng: np.random.Generator) -> Sample:
    if sample.rows <= max_rows:
        return sample
    return sample.take(np.sort(rng.choice(sample.rows, max_rows, replace=False)))


def _tests(both: Sample, columns: Sequence[str] | None) -> tuple[dict[str, Test], tuple[str, ...]]:
    tests: dict[str, Test] = {
        "class_shares": Test(features=_one_hot(both.labels, N_LABELS), statistic=chi_square),
        "confidence": Test(features=_cumulative(both.scores.max(axis=1)), statistic=largest_gap),
    }
    skipped: list[str] = []
    if len(set(both.segments)) > 1:
        tests["segment_mix"] = _category_test(both.segments)
    if both.texts is None or both.aspects is None:
        skipped.append("Text drift is off: the log holds no texts.")
    else:
        words = [_words(text) for text in both.texts]
        tests["text_length"] = Test(
            features=_cumulative(np.array([len(w) for w in words], dtype=np.float64)), statistic=largest_gap
        )
        tests["aspect_mix"] = _category_test(tuple(aspect.casefold() for aspect in both.aspects))
        tests["unknown_words"] = _unknown_words_test(words)
        common = _common_words_test(words)
        if common is not None:
            tests["word_use"] = common
        tests["embedding"] = Test(features=_fourier(words), statistic=squared_gap)
    if columns is not None:
        tests = {kind: test for kind, test in tests.items() if kind in columns}
    return tests, tuple(skipped)


def _one_hot(values: Ints, k: int) -> Any:
    return (values[:, None] == np.arange(k)).astype(np.float32)


def _cumulative(values: Floats) -> Any:
    cuts = np.unique(np.quantile(values, np.linspace(0.0, 1.0, _CUTS + 1), method="lower"))
    return (values[:, None] <= cuts).astype(np.float32)


def _category_test(values: tuple[str, ...]) -> Test:
    common = [value for value, _ in Counter(values).most_common(_CATEGORIES)]
    place = {value: k for k, value in enumerate(common)}
    codes = np.array([place.get(value, len(common)) for value in values], dtype=np.int64)
    return Test(features=_one_hot(codes, int(codes.max()) + 1), statistic=chi_square)


def _words(text: str) -> list[str]:
    return _WORD.findall(text.casefold())


def _presence(words: list[list[str]]) -> tuple[Any, Floats]:
    """Rows by words, 1 where the word stands in the row; and each word's share of its rows' lengths, summed."""
    from scipy import sparse

    place: dict[str, int] = {}
    rows, columns, parts = [], [], []
    for row, found in enumerate(words):
        counts = Counter(found)
        for word, count in counts.items():
            rows.append(row)
            columns.append(place.setdefault(word, len(place)))
            parts.append(count / len(found))
    mass = np.bincount(columns, weights=parts, minlength=len(place)).astype(np.float64)
    matrix = sparse.csr_array(
        (np.ones(len(rows), dtype=np.float32), (rows, columns)), shape=(len(words), len(place)), dtype=np.float32
    )
    return matrix, mass


def _unknown_words_test(words: list[list[str]]) -> Test:
    matrix, mass = _presence(words)

    def unseen_share(sums: Floats, totals: Floats, n_current: Floats, _: Floats) -> Floats:
        only_current = sums >= totals[:, None] - 0.5  # the word stands in no row of the reference
        return np.asarray((only_current * mass[:, None]).sum(axis=0) / n_current)

    return Test(features=matrix, statistic=unseen_share)


def _common_words_test(words: list[list[str]]) -> Test | None:
    matrix, _ = _presence(words)
    in_rows = np.asarray(matrix.sum(axis=0)).ravel()
    chosen = np.argsort(-in_rows, kind="stable")[:_MAX_WORDS]
    chosen = chosen[in_rows[chosen] >= _MIN_WORD_ROWS]
    if len(chosen) == 0:
        return None
    return Test(features=matrix[:, chosen], statistic=sparse_rise)


def _fourier(words: list[list[str]]) -> Any:
    """Random Fourier features (Rahimi and Recht 2007) of a hashed bag of words: what MMD compares texts by."""
    from zlib import crc32

    from scipy import sparse

    rng = np.random.default_rng(0)  # a fixed projection: equal texts, equal features
    rows, columns = [], []
    for row, found in enumerate(words):
        for word in set(found):
            rows.append(row)
            columns.append(crc32(word.encode()) % _HASHES)
    bag = sparse.csr_array(
        (np.ones(len(rows), dtype=np.float32), (rows, columns)), shape=(len(words), _HASHES), dtype=np.float32
    )
    rarity = np.log(len(words) / (1.0 + np.asarray(bag.sum(axis=0)).ravel()))
    bag = bag @ sparse.diags_array(np.maximum(rarity, 0.1).astype(np.float32))
    norms = np.sqrt(np.asarray((bag * bag).sum(axis=1)).ravel())
    bag = sparse.diags_array((1.0 / np.maximum(norms, 1e-9)).astype(np.float32)) @ bag
    projected = np.asarray(bag @ rng.normal(size=(_HASHES, _FOURIER)).astype(np.float32))
    phase = rng.uniform(0.0, 2.0 * np.pi, size=_FOURIER).astype(np.float32)
    return np.sqrt(2.0 / _FOURIER).astype(np.float32) * np.cos(projected + phase)


def _finding(
    kind: str, result: TestResult, p_adjusted: float, rate: float, reference: Sample, current: Sample
) -> DriftFinding:
    effect, sentence = _EFFECTS[kind](result, reference, current)
    return DriftFinding(
        kind=kind,
        statistic=result.statistic,
        threshold=result.threshold,
        p_value=result.p_value,
        p_adjusted=p_adjusted,
        effect=effect,
        drifted=p_adjusted <= rate,
        sentence=sentence,
    )


def _shares(values: Sequence[Any]) -> dict[Any, float]:
    return {value: count / len(values) for value, count in Counter(values).items()}


def _largest_move(before: Mapping[Any, float], after: Mapping[Any, float]) -> tuple[float, Any]:
    """Total variation distance, and the value whose share moved most."""
    values = sorted(set(before) | set(after))
    gaps = {value: after.get(value, 0.0) - before.get(value, 0.0) for value in values}
    return sum(abs(gap) for gap in gaps.values()) / 2.0, max(values, key=lambda value: abs(gaps[value]))


def _move(before: float, after: float) -> str:
    return f"{'rose' if after >= before else 'fell'} from {before:.0%} to {after:.0%}"


def _class_effect(_: TestResult, reference: Sample, current: Sample) -> tuple[float, str]:
    before, after = _shares(reference.labels.tolist()), _shares(current.labels.tolist())
    effect, label = _largest_move(before, after)
    return effect, (
        f"The share of answers that are {SENTIMENTS[label]} {_move(before.get(label, 0), after.get(label, 0))}."
    )


def _confidence_effect(result: TestResult, reference: Sample, current: Sample) -> tuple[float, str]:
    before, after = (float(s.scores.max(axis=1).mean()) for s in (reference, current))
    return result.statistic, f"The model's mean confidence {_move(before, after)}."


def _segment_effect(_: TestResult, reference: Sample, current: Sample) -> tuple[float, str]:
    before, after = _shares(reference.segments), _shares(current.segments)
    effect, segment = _largest_move(before, after)
    name = f"'{segment}'" if segment else "without a name"
    return effect, f"The share of segment {name} {_move(before.get(segment, 0), after.get(segment, 0))} of the traffic."


def _length_effect(result: TestResult, reference: Sample, current: Sample) -> tuple[float, str]:
    before, after = (float(np.mean([len(_words(text)) for text in s.texts or ("",)])) for s in (reference, current))
    return result.statistic, f"Texts have {after:.1f} words in the mean, the reference has {before:.1f}."


def _aspect_effect(_: TestResult, reference: Sample, current: Sample) -> tuple[float, str]:
    pooled = Counter(a.casefold() for s in (reference, current) for a in s.aspects or ())
    common = {value for value, _ in pooled.most_common(_CATEGORIES)}
    before, after = (
        _shares([a.casefold() if a.casefold() in common else "" for a in s.aspects or ("",)])
        for s in (reference, current)
    )
    effect, _aspect = _largest_move(before, after)
    return effect, f"{effect:.0%} of the requests ask about other aspects than the reference did."


def _unknown_effect(result: TestResult, _: Sample, __: Sample) -> tuple[float, str]:
    effect = max(0.0, result.statistic - result.threshold)
    return effect, (
        f"{result.statistic:.1%} of the words never stood in the reference; "
        f"chance gives at most {result.threshold:.1%}."
    )


def _word_effect(result: TestResult, reference: Sample, current: Sample) -> tuple[float, str]:
    before, after = (
        _shares([word for text in s.texts or () for word in _words(text)] or [""]) for s in (reference, current)
    )
    moved, _word = _largest_move(before, after)
    chance = _chance_distance(before, after, reference, current)
    times = result.statistic / max(result.threshold, 1e-9)
    sentence = f"Words rose that the reference used less: {times:.1f} times what chance allows."
    return max(0.0, moved - chance), sentence


def _chance_distance(
    before: Mapping[Any, float], after: Mapping[Any, float], reference: Sample, current: Sample
) -> float:
    """The total variation that two samples of these sizes from one distribution of words show in the mean."""
    sizes = [sum(len(_words(text)) for text in s.texts or ()) for s in (reference, current)]
    values = set(before) | set(after)
    pooled = np.array([(before.get(v, 0) * sizes[0] + after.get(v, 0) * sizes[1]) / max(sum(sizes), 1) for v in values])
    spread = np.sqrt(pooled * (1.0 / max(sizes[0], 1) + 1.0 / max(sizes[1], 1)))
    return float(np.sqrt(2.0 / np.pi) * spread.sum() / 2.0)


def _embedding_effect(result: TestResult, _: Sample, __: Sample) -> tuple[float, str]:
    effect = float(np.sqrt(max(0.0, result.statistic - result.threshold) / 2.0))
    return effect, (
        f"Texts lie elsewhere than in the reference: {result.statistic / max(result.threshold, 1e-12):.1f} times the "
        "distance that chance allows."
    )


_EFFECTS: Final = {
    "class_shares": _class_effect,
    "confidence": _confidence_effect,
    "segment_mix": _segment_effect,
    "text_length": _length_effect,
    "aspect_mix": _aspect_effect,
    "unknown_words": _unknown_effect,
    "word_use": _word_effect,
    "embedding": _embedding_effect,
}
