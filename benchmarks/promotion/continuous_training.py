"""Does the loop pay? Ten simulated weeks of successive domains under five policies of retraining.

Every week the customers write about another domain, in daily windows of 200 requests. A window's answers are judged
before anything is trained on them; 60 % of them get a label, 3 % of the labels are wrong. The policies: never, weekly
(on the eve of each change), every four days (about as many trainings as on staleness), on staleness (the platform's own
monitor judges every window and its verdict decides) and every window. A new version is trained on everything labelled
so far and answers from the next window on; gate and A/B test are left out here. What `on staleness` asks for (200 new
labels, a day between trainings, no version older than four days) was chosen on other seeds than those that are shown.

The model is TF-IDF with logistic regression, not the platform's transformer: 400 trainings have to fit on two cores.
Training time is processor time of `fit`. Rows come from ../shared where that is there, else from the bundled sample.
A cell (policy, seed) that the cells' file holds is not run again; `--again` forgets them.
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa

from absa.adapters.lake_stores import FolderLake
from absa.data.bundled import FEEDBACK_CSV, NEW_AREA_CSV, TRAFFIC_CSV
from absa.data.read import read_examples
from absa.evaluation.counts import confusion_counts, pos_neg_f1_of
from absa.policies import StalenessPolicy
from absa.records.layout import feedback_prefix, prediction_prefix
from absa.records.schema import Window
from absa.records.tables import FEEDBACK, PREDICTIONS, write_parquet
from benchmarks.figures import Row, write_json, write_result
from monitoring.monitor import WatchedVersion, WatchSettings, watch
from monitoring.performance import FrozenTest

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "benchmarks" / "results"
RESULT, CELLS = RESULTS / "continuous_training.json", RESULTS / "cells" / "continuous_training.json"
PICTURE = ROOT / "docs" / "pictures" / "continuous_training.png"
SHARED = next((p for p in (ROOT / "shared" / "data", ROOT.parent / "shared" / "data") if p.is_dir()), None)
POLICIES = ("never", "weekly", "every four days", "on staleness", "every window")
EVERY_DAYS = {"weekly": 7, "every four days": 4, "every window": 1}
WEEKS, DAYS = 10, 7
LABELLED, WRONG = 0.6, 0.03
START = datetime(2026, 11, 23, tzinfo=UTC)
RECOVERED = 0.03
POLICY = StalenessPolicy(
    min_new_labels=200, cooldown_s=86_400.0, max_age_s=4 * 86_400.0, reference_rows=400, cycle="none"
)


@dataclass(frozen=True)
class Pairs:
    """Labelled rows as columns."""

    texts: list[str]
    aspects: list[str]
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, index: Sequence[int] | np.ndarray) -> "Pairs":
        """Some of the rows."""
        return Pairs([self.texts[i] for i in index], [self.aspects[i] for i in index], self.labels[index])

    def and_(self, other: "Pairs") -> "Pairs":
        """Both sets of rows."""
        return Pairs(
            self.texts + other.texts, self.aspects + other.aspects, np.concatenate([self.labels, other.labels])
        )


def domains() -> tuple[dict[str, Pairs], str]:
    """Labelled rows by domain, and where they come from."""
    if SHARED is not None:
        files = [*sorted((SHARED / "public").glob("*.csv")), *sorted((SHARED / "enterpret").glob("train.csv"))]
        names = [file.parent.name if file.stem == "train" else file.stem for file in files]
        frames = {name: read_examples(file)[0] for name, file in zip(names, files, strict=True)}
        source = "shared"
    else:
        both = pl.concat([read_examples(file)[0] for file in (FEEDBACK_CSV, TRAFFIC_CSV, NEW_AREA_CSV)])
        frames = {str(key[0]): part for key, part in both.group_by("segment", maintain_order=True)}
        source = "bundled"
    made = {
        name: Pairs(part["text"].to_list(), part["aspect"].to_list(), part["label"].to_numpy().astype(np.int64))
        for name, part in frames.items()
    }
    return made, source


def weeks_of(pools: dict[str, Pairs], seed: int, per_day: int) -> tuple[Pairs, list[tuple[str, Pairs]]]:
    """Rows of the first version (half a week's rows of the first domain) and the rows of each week.

    No row comes twice. After the last domain the largest come back, with rows that nobody saw.
    """
    rng = np.random.default_rng(seed)
    left = {name: list(rng.permutation(len(pool))) for name, pool in pools.items()}
    order = [str(name) for name in rng.permutation(sorted(pools))]
    order.sort(key=lambda name: len(pools[name]) < (DAYS + 4) * per_day)  # the first one is large enough for a start
    started = [left[order[0]].pop() for _ in range(4 * per_day)]
    weeks = []
    for week in range(WEEKS):
        others = [each for each in left if not weeks or each != weeks[-1][0]]
        name = order[week] if week < len(order) else max(others, key=lambda each: len(left[each]))
        rows = [left[name].pop() for _ in range(DAYS * per_day)]
        weeks.append((name, pools[name].take(rows)))
    return pools[order[0]].take(started), weeks


class WordModel:
    """TF-IDF of the text and of the words around the aspect, with logistic regression."""

    def __init__(self) -> None:
        from sklearn.feature_extraction.text import TfidfVectorizer
        from sklearn.linear_model import LogisticRegression
        from sklearn.pipeline import make_pipeline

        words = TfidfVectorizer(analyzer=str.split, sublinear_tf=True, min_df=2)
        self._model = make_pipeline(words, LogisticRegression(C=8.0, max_iter=300))

    @staticmethod
    def _said(rows: Pairs) -> list[str]:
        said = []
        for text, aspect in zip(rows.texts, rows.aspects, strict=True):
            low = text.casefold()
            before, _, after = low.partition(aspect.casefold())
            near = [*before.split()[-4:], *after.split()[:4]]
            said.append(f"{low} {' '.join('~' + word.strip('.,!?') for word in near)}")
        return said

    def fit(self, rows: Pairs) -> float:
        """Learn; gives the processor seconds it took."""
        started = time.process_time()
        self._model.fit(self._said(rows), rows.labels)
        return time.process_time() - started

    def scores(self, rows: Pairs) -> np.ndarray:
        """Probabilities in label order; a label that was never learned has none."""
        found = np.zeros((len(rows), 3))
        found[:, self._model.classes_] = self._model.predict_proba(self._said(rows))
        return found


@dataclass
class Versions:
    """The version in force, and what all trainings took."""

    rng: np.random.Generator
    train: Pairs
    test: Pairs
    number: int = 0
    since: datetime = START
    fits_s: list[float] = field(default_factory=list)
    model: WordModel = field(default_factory=WordModel)
    frozen: FrozenTest | None = None

    def learn(self, rows: Pairs) -> None:
        """New labelled rows: nine in ten may train, one in ten is test side for ever."""
        tested = self.rng.random(len(rows)) < 0.1
        self.train = self.train.and_(rows.take(np.flatnonzero(~tested)))
        self.test = self.test.and_(rows.take(np.flatnonzero(tested)))

    def retrain(self, at: datetime) -> None:
        """A new version of everything labelled so far."""
        self.model = WordModel()
        self.fits_s.append(self.model.fit(self.train))
        guessed = self.model.scores(self.test).argmax(axis=1)
        counts = confusion_counts(self.test.labels, guessed)
        self.frozen = FrozenTest(confusion=tuple(tuple(float(x) for x in row) for row in counts))
        self.number += 1
        self.since = at


def serve(
    lake: FolderLake, day: int, window: Window, rows: Pairs, scores: np.ndarray, told: np.ndarray, v: int
) -> None:
    """A window's answers and feedback, as a router would have logged them. `told` is -1 where nobody said."""
    step = (window.end - window.start) / (len(rows) + 1)
    ids = [f"{day:03d}-{i:05d}" for i in range(len(rows))]
    predictions = [
        {
            "schema_version": 1, "request_id": ids[i], "at": window.start + i * step, "unit_hash": ids[i],
            "unit_given": True, "segment": None, "text": rows.texts[i], "aspect": rows.aspects[i],
            "label": int(scores[i].argmax()), "scores": scores[i].astype(np.float32).tolist(),
            "model_version": str(v), "arm": "champion", "experiment": None, "revision": v, "shadow": False,
            "cached": False, "latency_ms": 5.0, "replica": "r1",
        }
        for i in range(len(rows))
    ]  # fmt: skip
    said = [
        {
            "schema_version": 1, "request_id": ids[i], "label": int(told[i]),
            "at": window.start + (i + 0.5) * step, "source": "customer", "sampling_probability": None,
        }
        for i in np.flatnonzero(told >= 0)
    ]  # fmt: skip
    for key, records, schema in (
        (prediction_prefix(window.start), predictions, PREDICTIONS),
        (feedback_prefix(window.start), said, FEEDBACK),
    ):
        write_parquet(lake, f"{key}r1-{day:03d}.parquet", pa.Table.from_pylist(records, schema=schema))


def is_due(policy: str, day: int, lake: FolderLake, window: Window, versions: Versions) -> bool:
    """Return whether the policy retrains after this window."""
    if policy == "on staleness":
        verdict = watch(
            lake,
            window,
            champion=WatchedVersion(
                version=str(versions.number),
                frozen_test=versions.frozen,
                snapshot_at=versions.since,
                champion_since=versions.since,
            ),
            settings=WatchSettings(policy=POLICY),
            since_retraining_s=(window.end - versions.since).total_seconds(),
            now=window.end,
        ).verdict
        return verdict.action == "retrain"
    every = EVERY_DAYS.get(policy)
    return every is not None and (day + 1) % every == 0


def run_cell(policy: str, seed: int, pools: dict[str, Pairs], per_day: int) -> dict[str, Any]:
    """Ten weeks under one policy."""
    rng = np.random.default_rng([seed, 1])  # labels and sides are the same under every policy
    first, weeks = weeks_of(pools, seed, per_day)
    nothing = first.take(np.array([], dtype=np.int64))
    versions = Versions(rng=rng, train=nothing, test=nothing)
    versions.learn(first)
    versions.retrain(START)
    confusions, trained_on = [], []
    with tempfile.TemporaryDirectory() as folder:
        lake = FolderLake(Path(folder))
        for day in range(WEEKS * DAYS):
            rows = weeks[day // DAYS][1].take(np.arange(day % DAYS * per_day, (day % DAYS + 1) * per_day))
            window = Window(start=START + timedelta(days=day), end=START + timedelta(days=day + 1))
            scores = versions.model.scores(rows)
            confusions.append(confusion_counts(rows.labels, scores.argmax(axis=1)).tolist())
            lied = np.where(rng.random(per_day) < WRONG, (rows.labels + rng.integers(1, 3, per_day)) % 3, rows.labels)
            told = np.where(rng.random(per_day) < LABELLED, lied, -1)
            known = np.flatnonzero(told >= 0)
            versions.learn(Pairs([rows.texts[i] for i in known], [rows.aspects[i] for i in known], told[known]))
            if policy == "on staleness":
                serve(lake, day, window, rows, scores, told, versions.number)
            if is_due(policy, day, lake, window, versions):
                versions.retrain(window.end)
                trained_on.append(day)
    return {
        "confusions": confusions,
        "trained_after_day": trained_on,
        "training_s": sum(versions.fits_s[1:]),
    }


def f1(cells: list[dict[str, Any]], days: slice) -> np.ndarray:
    """pos/neg F1 of each seed over some days' rows."""
    counts = np.array([cell["confusions"] for cell in cells], dtype=np.float64)
    return np.asarray(pos_neg_f1_of(counts[:, days].sum(axis=1)))


def days_to_recover(cells: list[dict[str, Any]], best: list[dict[str, Any]]) -> np.ndarray:
    """For each seed, how many days of a new domain's week pass, in the mean, before the answers have recovered.

    Recovered is the first day from which the rest of the week is, pooled, within three points of what the policy
    `every window` reaches in the last three days of that week; a week that never recovers counts as seven days.
    """
    found = []
    for cell, other in zip(cells, best, strict=True):
        counts, goal = (np.array(each["confusions"], dtype=np.float64) for each in (cell, other))
        waits = []
        for start in range(DAYS, WEEKS * DAYS, DAYS):
            target = pos_neg_f1_of(goal[start + DAYS - 3 : start + DAYS].sum(axis=0)) - RECOVERED
            rest = [pos_neg_f1_of(counts[day : start + DAYS].sum(axis=0)) for day in range(start, start + DAYS)]
            waits.append(next((day for day, value in enumerate(rest) if value >= target), DAYS))
        found.append(float(np.mean(waits)))
    return np.array(found)


def rows_of(cells: dict[str, list[dict[str, Any]]]) -> list[Row]:
    """The figures: mean over seeds; `low` and `high` span the seeds."""
    best = cells["every window"]
    whole, last = slice(0, WEEKS * DAYS), slice((WEEKS - 1) * DAYS, WEEKS * DAYS)
    rows: list[Row] = []

    def add(
        policy: str, metric: str, values: np.ndarray, unit: str, target: str | None = None, met: bool | None = None
    ):
        spread = {"value": float(values.mean()), "low": float(values.min()), "high": float(values.max())}
        rows.append(Row(case=policy, metric=metric, runs=len(values), unit=unit, target=target, met=met, **spread))

    for policy in POLICIES:
        mine = cells[policy]
        spent = np.array([cell["training_s"] for cell in mine]) / np.array([cell["training_s"] for cell in best])
        behind = f1(best, last) - f1(mine, last)
        judged = policy == "on staleness"
        add(policy, "pos_neg_f1_over_ten_weeks", f1(mine, whole), "pos/neg F1")
        add(policy, "pos_neg_f1_in_the_last_week", f1(mine, last), "pos/neg F1")
        add(
            policy, "points_behind_every_window_in_the_last_week", 100 * behind, "points",
            "<= 1" if judged else None, bool(100 * behind.mean() <= 1.0) if judged else None,
        )  # fmt: skip
        add(policy, "points_behind_every_window_over_ten_weeks", 100 * (f1(best, whole) - f1(mine, whole)), "points")
        add(policy, "days_to_recover_from_a_new_domain", days_to_recover(mine, best), "days")
        add(policy, "trainings", np.array([len(cell["trained_after_day"]) for cell in mine]), "trainings")
        add(policy, "training_minutes", np.array([cell["training_s"] / 60 for cell in mine]), "processor minutes")
        add(
            policy, "share_of_every_windows_training_minutes", spent, "share",
            "<= 0.4" if judged else None, bool(spent.mean() <= 0.4) if judged else None,
        )  # fmt: skip
    return rows


def draw(cells: dict[str, list[dict[str, Any]]], path: Path) -> None:
    """pos/neg F1 over time, pooled over the seeds, and when each policy trained in the first of them."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 5), layout="constrained")
    FigureCanvasAgg(figure)
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=[4, 1])
    for number, policy in enumerate(POLICIES):
        counts = np.array([cell["confusions"] for cell in cells[policy]], dtype=np.float64).sum(axis=0)
        above.plot(pos_neg_f1_of(counts), label=policy, color=f"C{number}")
        days = [day + 1 for day in cells[policy][0]["trained_after_day"]]
        below.plot(days, [number] * len(days), "|", color=f"C{number}")
    for week in range(1, WEEKS):
        above.axvline(week * DAYS, color="lightgray", zorder=0)
    above.set_ylabel("pos/neg F1 of a day's answers")
    above.legend(loc="lower left", ncols=len(POLICIES))
    above.set_title(f"A new domain every week; mean of {len(cells['never'])} seeds, TF-IDF with logistic regression")
    below.set_yticks(range(len(POLICIES)), POLICIES)
    below.set_xlabel("day (bars: a training, first seed)")
    figure.savefig(path, dpi=110)


def main() -> int:
    """Run what is missing and write the result and its picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--again", action="store_true", help="forget the cells that were run before")
    options = parser.parse_args()
    pools, source = domains()
    per_day = min(200, min(len(pool) for pool in pools.values()) // (DAYS + 1))
    done: dict[str, Any] = json.loads(CELLS.read_text()) if CELLS.exists() and not options.again else {}
    cells: dict[str, list[dict[str, Any]]] = {policy: [] for policy in POLICIES}
    for seed in range(options.seeds):
        for policy in POLICIES:
            key = f"{source} {per_day} {policy} {seed}"
            if key not in done:
                started = time.monotonic()
                done[key] = run_cell(policy, seed, pools, per_day)
                write_json(CELLS, done, indent=None)
                print(f"{key}: {len(done[key]['trained_after_day'])} trainings, {time.monotonic() - started:.0f} s")
            cells[policy].append(done[key])
    rows = rows_of(cells)
    write_result(
        RESULT,
        name="continuous_training",
        command="make benchmark-continuous_training",
        seed=0,
        rows=rows,
        versions={"numpy": np.__version__, "rows": source},
    )
    draw(cells, PICTURE)
    for row in rows:
        print(f"{row.case}: {row.metric} {row.value:.4g} ({row.low:.4g} to {row.high:.4g}) {row.target or ''}")
    return 0 if all(row.met is not False for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
