"""Evidence for the gate: comparison of candidate and champion from their scores of the same rows."""

import time
from collections.abc import Hashable, Sequence
from copy import copy
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Final, Protocol

import numpy as np
import numpy.typing as npt

from absa.evaluation.behaviour import BehaviourResult, compare_behaviours, run_behaviours
from absa.evaluation.counts import Scores, f1_of, mean_f1_of
from absa.evaluation.gate import Comparison, DataChecks, Footprint, GateEvidence, NewLabel, Parity, SliceComparison
from absa.evaluation.invariance import behaviours_of
from absa.evaluation.metrics import Metrics, evaluate
from absa.evaluation.own_tests import OwnTest, run_own_tests
from absa.evaluation.prediction_price import Speed
from absa.evaluation.risk_control import control_risk
from absa.evaluation.significance import RESAMPLES, paired_bootstrap, paired_bootstraps
from absa.inference.tokenization import ModelInput
from absa.records.rows import Example
from absa.task import ABSA, TaskSpec

if TYPE_CHECKING:
    import polars as pl

    from absa.inference.engine import Engine

Mask = npt.NDArray[np.bool_]

LENGTH_EDGES: Final = (8, 20)  # in words, between short, middle and long texts
_LATENCY_ROWS: Final = 100
_LEAST_ROWS: Final = 30
_COLUMNS: Final = ("text", "aspect", "label", "segment", "source")


class Scorer(Protocol):
    """Scorer of (text, phrase) pairs: an engine, or an object that caches the scores of an engine."""

    def score(self, pairs: Sequence[ModelInput], /) -> Scores:
        """Return probabilities (n, labels) in the order of the pairs."""


class LabelledRows:
    """Labelled rows as columns, made from a data frame with the columns of `Example` or from examples."""

    def __init__(self, examples: "pl.DataFrame | Sequence[Example]") -> None:
        if isinstance(examples, Sequence):
            rows = [{name: getattr(each, name) for name in _COLUMNS} for each in examples]
        else:
            rows = examples.to_dicts()
        self.texts = [str(row["text"]) for row in rows]
        self.aspects: list[str | None] = [row["aspect"] for row in rows]
        if any(row["label"] is None for row in rows):
            raise ValueError("every row needs a label")
        self.labels = np.array([row["label"] for row in rows], dtype=np.int64)
        self.segments, self.sources = ([row.get(name) for row in rows] for name in ("segment", "source"))

    def __len__(self) -> int:
        return len(self.texts)

    @property
    def pairs(self) -> list[ModelInput]:
        """(text, phrase) pairs of the rows, as the engine scores them."""
        return list(zip(self.texts, self.aspects, strict=True))

    def take(self, part: Mask) -> "LabelledRows":
        """Return some of the rows, in their order."""
        taken, index = copy(self), np.flatnonzero(part)
        taken.labels = self.labels[index]
        for name in ("texts", "aspects", "segments", "sources"):
            setattr(taken, name, [getattr(self, name)[at] for at in index])
        return taken


def assess(
    *,
    candidate: Scores,
    champion: Scores | None,
    tf_idf: Scores | None = None,
    examples: "pl.DataFrame | Sequence[Example]",
    recent: Mask | Sequence[bool],
    behaviours: Sequence[BehaviourResult] = (),
    champion_behaviours: Sequence[BehaviourResult] | None = None,
    own_tests: Sequence[BehaviourResult] = (),
    champion_own_tests: Sequence[BehaviourResult] | None = None,
    parity: Parity | None = None,
    footprint: Footprint | None = None,
    speed: Speed | None = None,
    data: DataChecks | None = None,
    task: TaskSpec = ABSA,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> GateEvidence:
    """Compare two models on the test side of the candidate's snapshot.

    A champion with fewer labels is compared only on rows with labels that it has. The metric is the F1 of its evaluated
    labels. The new labels are measured separately.

    Args:
        candidate: scores (n, labels) in the order of the examples.
        champion: scores of the champion, of all labels or of the first ones. None: there is no champion, and the
            candidate is compared with the most frequent label.
        tf_idf: scores of the baseline of a first version.
        examples: rows with text, aspect, label (never None) and segment.
        recent: True for rows observed since the champion's snapshot; other rows are established.
        behaviours: the candidate's results of the behavioural cases.
        champion_behaviours: the champion's results of the same cases.
        own_tests: the candidate's results of the user's own tests.
        champion_own_tests: the champion's results of the same tests.
        parity: agreement of int8 with fp32, measured by the training job.
        footprint: size, latency and memory of the candidate.
        speed: rows per second of candidate and champion.
        data: facts about the snapshot.
        task: task of the candidate.
        resamples: number of resamples of each bootstrap.
        seed: seed of each bootstrap.

    Raises:
        ValueError: there are no rows, or lengths differ.
    """
    rows = LabelledRows(examples)
    recent_rows = np.asarray(recent, dtype=np.bool_)
    if not len(rows):
        raise ValueError("there are no test rows to assess a model on")
    opponent = champion if champion is not None else _majority(rows.labels, task.n_labels)
    if not len(rows) == len(candidate) == len(opponent) == len(recent_rows):
        raise ValueError(
            f"lengths differ: {len(rows)} examples, {len(candidate)} and {len(opponent)} scores, "
            f"{len(recent_rows)} in recent"
        )
    known = opponent.shape[1]
    promises = control_risk(candidate, rows.labels)
    new_labels, whole = _new_labels(rows, candidate, task, known)
    if new_labels:
        opponent = np.pad(opponent, ((0, 0), (0, task.n_labels - known)))
        common = rows.labels < known
        if common.any():  # otherwise both are wrong about all rows, and the gate finds no gain
            rows, candidate, recent_rows = rows.take(common), candidate[common], recent_rows[common]
            opponent = opponent[common]
    of_known = _of_known(task, known)
    compare = _Comparer(rows, candidate, opponent, of_known, known, resamples, seed)
    everything = np.ones(len(rows), dtype=np.bool_)
    beside = None if tf_idf is None else _Comparer(rows, candidate, tf_idf, task, known, resamples, seed)
    return GateEvidence(
        task=task,
        metric=of_known.metric,
        baseline=champion is None,
        overall=compare.on(everything),
        whole=whole,
        new_labels=new_labels,
        tf_idf=None if beside is None else beside.on(everything),
        recent=compare.on(recent_rows) if recent_rows.any() else None,
        established=compare.on(~recent_rows) if not recent_rows.all() else None,
        slices=() if champion is None else compare.slices(),
        without_source=() if champion is None else compare.without_each_source(recent_rows),
        behaviours=compare_behaviours(behaviours, champion_behaviours),
        own_tests=compare_behaviours(own_tests, champion_own_tests),
        parity=parity,
        footprint=footprint,
        speed=speed,
        promises=promises,
        data=data,
    )


def assess_engines(
    *,
    candidate: "Scorer",
    champion: "Scorer | None",
    tf_idf: "Scorer | None" = None,
    examples: "pl.DataFrame | Sequence[Example]",
    recent: Mask | Sequence[bool],
    parity: Parity | None = None,
    data: DataChecks | None = None,
    own_tests: Sequence[OwnTest] = (),
    behaviour_cases: int = 60,
    footprint: Footprint | None = None,
    speed: Speed | None = None,
    task: TaskSpec = ABSA,
    seed: int = 0,
) -> GateEvidence:
    """Score rows and behavioural cases with both engines, and return the evidence as `assess` does.

    Args:
        candidate: the packaged model.
        champion: the active model, or None.
        tf_idf: the baseline of a first version.
        examples: see `assess`.
        recent: see `assess`.
        parity: see `assess`.
        data: see `assess`.
        own_tests: the user's own tests.
        behaviour_cases: number of cases of each behaviour.
        footprint: see `assess`.
        speed: see `assess`.
        task: see `assess`.
        seed: seed of the bootstraps and of the behavioural cases.
    """
    pairs = LabelledRows(examples).pairs
    suite = behaviours_of(task, pairs, cases=behaviour_cases, seed=seed)
    return assess(
        candidate=candidate.score(pairs),
        champion=None if champion is None else champion.score(pairs),
        tf_idf=None if tf_idf is None else tf_idf.score(pairs),
        examples=examples,
        recent=recent,
        behaviours=run_behaviours(candidate.score, suite),
        champion_behaviours=None if champion is None else run_behaviours(champion.score, suite),
        own_tests=run_own_tests(candidate.score, own_tests),
        champion_own_tests=None if champion is None else run_own_tests(champion.score, own_tests),
        parity=parity,
        footprint=footprint,
        speed=speed,
        data=data,
        task=task,
        seed=seed,
    )


def measure_footprint(engine: "Engine", pairs: Sequence[ModelInput]) -> Footprint:
    """Measure the size of the package, and the latency of rows that are tokenised and scored one by one."""
    latencies_ms = []
    for pair in pairs[:_LATENCY_ROWS]:
        started = time.perf_counter()
        engine.score([pair])
        latencies_ms.append((time.perf_counter() - started) * 1000)
    p50, p95 = np.quantile(latencies_ms, (0.5, 0.95))
    return Footprint(size_mb=engine.package.size_mb, latency_ms_p50=float(p50), latency_ms_p95=float(p95))


class _Comparer:
    """Comparison of two models on parts of the same rows. Both models have the first `known` labels of the task."""

    def __init__(
        self, rows: LabelledRows, candidate: Scores, champion: Scores, task: TaskSpec, known: int, resamples: int,
        seed: int,
    ) -> None:  # fmt: skip
        self._rows, self._candidate, self._champion, self._task, self._known = rows, candidate, champion, task, known
        self._options = {"n_labels": task.n_labels, "resamples": resamples, "seed": seed}

    def on(self, part: Mask) -> Comparison:
        labels = self._rows.labels[part]
        clusters = self._clusters(part)
        return Comparison(
            rows=len(labels),
            texts=len(set(clusters)),
            candidate=evaluate(labels, self._candidate[part], self._task),
            champion=evaluate(labels, self._champion[part], self._task),
            gain=paired_bootstrap(
                labels,
                self._candidate[part].argmax(axis=1),
                self._champion[part].argmax(axis=1),
                clusters=clusters,
                metric=partial(mean_f1_of, labels=self._task.evaluated_numbers),
                **self._options,
            ),
        )

    def slices(self) -> tuple[SliceComparison, ...]:
        """Compare per segment, length of text, length of phrase, and label; slices of under 30 rows are left out."""
        parts = [
            (name, part) for name, part in _slices(self._rows, self._task) if _LEAST_ROWS <= part.sum() < len(part)
        ]
        return (*(self._slice(name, part) for name, part in parts), *self._labels())

    def without_each_source(self, recent: Mask) -> tuple[SliceComparison, ...]:
        """Compare on recent rows without the rows of one source, per source; rests of under 30 rows are left out."""
        sources = np.array([source or "" for source in self._rows.sources], dtype=object)
        names = sorted(set(sources[recent]))
        rests = [(name, recent & (sources != name)) for name in names] if len(names) > 1 else []
        return tuple(self._slice(name, rest) for name, rest in rests if rest.sum() >= _LEAST_ROWS)

    def _slice(self, name: str, part: Mask) -> SliceComparison:
        compared = self.on(part)
        return SliceComparison(
            name=name,
            metric=self._task.metric_name,
            rows=compared.rows,
            candidate=compared.candidate.f1,
            champion=compared.champion.f1,
            gain=compared.gain,
        )

    def _labels(self) -> list[SliceComparison]:
        labels, everything = self._rows.labels, np.ones(len(self._rows), dtype=np.bool_)
        guesses = self._candidate.argmax(axis=1), self._champion.argmax(axis=1)
        gains = paired_bootstraps(labels, *guesses, clusters=self._clusters(everything), metrics=f1_of, **self._options)
        candidate, champion = (evaluate(labels, each, self._task) for each in (self._candidate, self._champion))
        return [
            SliceComparison(
                name=f"label: {name}",
                metric="F1",
                rows=int((labels == label).sum()),
                candidate=candidate.f1_by_label[label],
                champion=champion.f1_by_label[label],
                gain=gains[label],
            )
            for label, name in enumerate(self._task.labels[: self._known])
        ]

    def _clusters(self, part: Mask) -> list[Hashable]:
        return [self._rows.texts[index] for index in np.flatnonzero(part)]


def _new_labels(
    rows: LabelledRows, candidate: Scores, task: TaskSpec, known: int
) -> tuple[tuple[NewLabel, ...], Metrics | None]:
    """Measure labels that the champion lacks, and the candidate on all rows; empty and None if it lacks none."""
    if known == task.n_labels:
        return (), None
    whole = evaluate(rows.labels, candidate, task)
    new = range(known, task.n_labels)
    found = [
        NewLabel(name=task.labels[label], rows=int((rows.labels == label).sum()), f1=whole.f1_by_label[label])
        for label in new
    ]
    return tuple(found), whole


def _of_known(task: TaskSpec, known: int) -> TaskSpec:
    """Return the task with the evaluated labels that both versions have; if there are none, with all common labels."""
    if known == task.n_labels:
        return task
    labels = task.labels[:known]
    return replace(task, evaluated=tuple(label for label in task.evaluated if label in labels) or labels)


def _slices(rows: LabelledRows, task: TaskSpec) -> list[tuple[str, Mask]]:
    text_words = np.array([len(text.split()) for text in rows.texts])
    phrase_words = np.array([len((phrase or "").split()) for phrase in rows.aspects])
    of_phrase = (
        []
        if task.phrase is None
        else [(f"{task.phrase}: one word", phrase_words <= 1), (f"{task.phrase}: several words", phrase_words > 1)]
    )
    segments = np.array([segment or "" for segment in rows.segments], dtype=object)
    short, long = LENGTH_EDGES
    return [
        *((f"segment: {name}", segments == name) for name in sorted(set(segments) - {""})),
        (f"text: under {short} words", text_words < short),
        (f"text: {short} to {long} words", (text_words >= short) & (text_words <= long)),
        (f"text: over {long} words", text_words > long),
        *of_phrase,
    ]


def _majority(labels: npt.NDArray[np.int64], n_labels: int) -> Scores:
    """Return the scores of the trivial baseline: the shares of the labels, for every row."""
    shares = np.bincount(labels, minlength=n_labels) / len(labels)
    return np.tile(shares.astype(np.float32), (len(labels), 1))
