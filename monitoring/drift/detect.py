"""Detectors of differences between a window and the reference: pure, with calibrated p-values.

No detector has a fixed cut-off. Each compares its statistic with a bootstrap over the units of the same rows. Holm's
correction over the columns keeps the false-alarm rate that the user requested. Slow drift is tested in the same way on
the last windows together, because a change that is too slow for any single window adds up over several (window-limited
scan; Lai 1998, 'Information bounds and quick detection of parameter changes').
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, Final

import numpy as np

from absa.evaluation.significance import holm
from monitoring.drift.bootstrap import TestResult, bootstrap_tests
from monitoring.drift.columns import CATEGORIES, column_tests, large_segments, words_of
from monitoring.drift.sample import Floats, Ints, Sample, concat_samples
from monitoring.drift.support import Support, support_of

MIN_TESTED_ROWS: Final = 50
MIN_GROUPS: Final = 20
SLOW_SHARE: Final = 0.2
"""Part of the false-alarm rate for the test of slow drift, if it runs beside the window's own tests."""
SLOW_COLUMNS: Final = ("class_shares", "confidence", "unknown_words", "word_use", "word_embedding", "segment_mix")
_NO_SEGMENT: Final = "No segment has enough rows on both sides."


@dataclass(frozen=True, kw_only=True)
class DriftFinding:
    """Finding about one column.

    `effect` is the size of the change as a share (0 to 1) in the column's own terms. `p_adjusted` is corrected for the
    number of columns. `drifted` is True if `p_adjusted` is at most the false-alarm rate. `sentence` quotes no text.
    """

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
    """Findings of the detectors. `too_small` is a sentence if nothing could be tested.

    `support` is None without embeddings.
    """

    findings: tuple[DriftFinding, ...]
    reference_rows: int
    current_rows: int
    too_small: str | None = None
    skipped: tuple[str, ...] = ()
    support: Support | None = None

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
        reference: held-out or early live rows of the same version, never rows that it was trained on.
        current: the window's rows.
        false_alarm_rate: share of windows without drift in which any column may alarm (0 to 1).
        max_rows: each side is sampled down to this before testing.
        seed: seed of sampling and draws.
        columns: kinds of columns to test; None: all that the rows allow.
    """
    reference_rows, current_rows = reference.rows, current.rows
    for name, sample in (("reference", reference), ("window", current)):
        if sample.rows < MIN_TESTED_ROWS or len(np.unique(sample.groups)) < MIN_GROUPS:
            sentence = (
                f"The {name} has {sample.rows} predictions of {len(np.unique(sample.groups))} units, "
                f"drift needs {MIN_TESTED_ROWS} predictions of {MIN_GROUPS} units."
            )
            return DriftReport(
                findings=(), too_small=sentence, reference_rows=reference_rows, current_rows=current_rows
            )
    rng = np.random.default_rng(seed)
    reference, current = _sampled(reference, max_rows, rng), _sampled(current, max_rows, rng)
    both = concat_samples(reference, current)
    is_current = np.arange(both.rows) >= reference.rows
    tests, skipped = column_tests(both, is_current, columns)
    results = bootstrap_tests(tests, both.groups, rate=false_alarm_rate, seed=seed)
    adjusted = dict(zip(results, holm([r.p_value for r in results.values()]), strict=True))
    findings = tuple(
        _finding(kind, result, adjusted[kind], false_alarm_rate, reference, current) for kind, result in results.items()
    )
    return DriftReport(
        findings=findings,
        skipped=skipped,
        reference_rows=reference_rows,
        current_rows=current_rows,
        support=support_of(reference, current),
    )


def _sampled(sample: Sample, max_rows: int, rng: np.random.Generator) -> Sample:
    if sample.rows <= max_rows:
        return sample
    return sample.take(np.sort(rng.choice(sample.rows, max_rows, replace=False)))


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
    """Return the total variation distance, and the value whose share moved most."""
    values = sorted(set(before) | set(after))
    gaps = {value: after.get(value, 0.0) - before.get(value, 0.0) for value in values}
    return sum(abs(gap) for gap in gaps.values()) / 2.0, max(values, key=lambda value: abs(gaps[value]))


def _move(before: float, after: float) -> str:
    return f"{'rose' if after >= before else 'fell'} from {before:.0%} to {after:.0%}"


def _class_effect(_: TestResult, reference: Sample, current: Sample) -> tuple[float, str]:
    before, after = _shares(reference.labels.tolist()), _shares(current.labels.tolist())
    effect, label = _largest_move(before, after)
    said = _move(before.get(label, 0), after.get(label, 0))
    return effect, (f"The share of answers that are {reference.task.labels[label]} {said}.")


def _confidence_effect(result: TestResult, reference: Sample, current: Sample) -> tuple[float, str]:
    before, after = (float(s.scores.max(axis=1).mean()) for s in (reference, current))
    return result.statistic, f"The model's mean confidence {_move(before, after)}."


def _segment_effect(_: TestResult, reference: Sample, current: Sample) -> tuple[float, str]:
    before, after = _shares(reference.segments), _shares(current.segments)
    effect, segment = _largest_move(before, after)
    name = f"'{segment}'" if segment else "without a name"
    return effect, f"The share of segment {name} {_move(before.get(segment, 0), after.get(segment, 0))} of the traffic."


def _segment_classes_effect(_: TestResult, reference: Sample, current: Sample) -> tuple[float, str]:
    moved = _segment_move(reference, current, lambda sample: sample.labels)
    if moved is None:
        return 0.0, _NO_SEGMENT
    effect, name, before, after = moved
    k = int(np.abs(after - before).argmax())
    said = _move(float(before[k]), float(after[k]))
    return effect, f"In segment '{name}' the share of answers that are {reference.task.labels[k]} {said}."


def _segment_confidence_effect(_: TestResult, reference: Sample, current: Sample) -> tuple[float, str]:
    cuts = np.quantile(np.concatenate([s.scores.max(axis=1) for s in (reference, current)]), [1 / 3, 2 / 3])
    moved = _segment_move(reference, current, lambda sample: np.searchsorted(cuts, sample.scores.max(axis=1)))
    if moved is None:
        return 0.0, _NO_SEGMENT
    effect, name, before, after = moved
    said = _move(float(before[0]), float(after[0]))
    return effect, f"In segment '{name}' the share of answers with confidence in the lowest third {said}."


def _segment_move(
    reference: Sample, current: Sample, thirds: Callable[[Sample], Ints]
) -> tuple[float, str, Floats, Floats] | None:
    """Return the segment whose mix moved most for its size: total variation, name, shares before and after."""
    best: tuple[float, str, Floats, Floats] | None = None
    most = -1.0
    sides = [(np.array(s.segments, dtype=object), thirds(s)) for s in (reference, current)]
    for name in large_segments(reference.segments + current.segments, current.rows / (current.rows + reference.rows)):
        mine = [values[names == name] for names, values in sides]
        if min(map(len, mine)) == 0:
            continue
        before, after = (
            np.bincount(values, minlength=max(3, reference.task.n_labels)) / len(values) for values in mine
        )
        effect = float(np.abs(after - before).sum() / 2.0)
        if effect * len(mine[1]) ** 0.5 > most:
            most, best = effect * len(mine[1]) ** 0.5, (effect, name, before, after)
    return best


def _length_effect(result: TestResult, reference: Sample, current: Sample) -> tuple[float, str]:
    before, after = (float(np.mean([len(words_of(text)) for text in s.texts or ("",)])) for s in (reference, current))
    return result.statistic, f"Texts have {after:.1f} words on average, texts of the reference {before:.1f}."


def _aspect_effect(_: TestResult, reference: Sample, current: Sample) -> tuple[float, str]:
    pooled = Counter(a.casefold() for s in (reference, current) for a in s.aspects or ())
    common = {value for value, _ in pooled.most_common(CATEGORIES)}
    before, after = (
        _shares([a.casefold() if a.casefold() in common else "" for a in s.aspects or ("",)])
        for s in (reference, current)
    )
    effect, _aspect = _largest_move(before, after)
    return effect, f"{effect:.0%} of the requests ask about other {reference.task.phrase}s than the reference did."


def _unknown_effect(result: TestResult, _: Sample, __: Sample) -> tuple[float, str]:
    effect = max(0.0, result.statistic - result.threshold)
    return effect, (
        f"{result.statistic:.1%} of the words are new to the reference; chance gives at most {result.threshold:.1%}."
    )


def _word_effect(result: TestResult, reference: Sample, current: Sample) -> tuple[float, str]:
    sides = [Counter(chain.from_iterable(map(words_of, s.texts or ()))) for s in (reference, current)]
    words = list(dict.fromkeys(chain(*sides)))
    counts = np.array([[side[word] for word in words] for side in sides], dtype=np.float64)  # (2, words)
    sizes = np.maximum(counts.sum(axis=1, keepdims=True), 1.0)
    moved = float(np.abs(np.diff(counts / sizes, axis=0)).sum() / 2.0)
    # mean total variation of two samples of these sizes from one distribution of words
    spread = np.sqrt(counts.sum(axis=0) / sizes.sum() * (1.0 / sizes).sum())
    chance = float(np.sqrt(2.0 / np.pi) * spread.sum() / 2.0)
    times = result.statistic / max(result.threshold, 1e-9)
    sentence = f"Words are used more or less than in the reference: {times:.1f} times what chance allows."
    return max(0.0, moved - chance), sentence


def _words_elsewhere_effect(result: TestResult, _: Sample, __: Sample) -> tuple[float, str]:
    times = result.statistic / max(result.threshold, 1e-12)
    return _beyond_chance(result), (
        f"The texts use other words than the reference: {times:.1f} times the distance that chance allows."
    )


def _embedding_effect(result: TestResult, _: Sample, __: Sample) -> tuple[float, str]:
    times = result.statistic / max(result.threshold, 1e-12)
    return _beyond_chance(result), (
        f"The model's embeddings differ from the reference's: {times:.1f} times the distance that chance allows."
    )


def _beyond_chance(result: TestResult) -> float:
    """Return the distance of mean embeddings that chance does not explain, 0 to 1."""
    return float(np.sqrt(max(0.0, result.statistic - result.threshold) / 2.0))


_EFFECTS: Final = {
    "class_shares": _class_effect,
    "confidence": _confidence_effect,
    "segment_mix": _segment_effect,
    "segment_classes": _segment_classes_effect,
    "segment_confidence": _segment_confidence_effect,
    "text_length": _length_effect,
    "aspect_mix": _aspect_effect,
    "unknown_words": _unknown_effect,
    "word_use": _word_effect,
    "word_embedding": _words_elsewhere_effect,
    "embedding": _embedding_effect,
}
