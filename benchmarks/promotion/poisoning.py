"""One trusted source lies: does a promotion come of it? Writes results/poisoning.json.

A window's labels come from three trusted sources (40, 40 and 20 %). The liar is the third: all its labels are turned
to another class, a fifth of the window's. It lies at random, or always the same way (negative is called positive and
the other way round), which a model can learn. The candidate is trained on what the champion had and the window; the
gate judges it on the test side, which holds the lies too, by the platform's own `assess` and `judge`. What the gate
lets through goes into an A/B test whose feedback has the same liar (12,000 outcomes, looked at every 50).

Model and rows are those of benchmarks/promotion/continuous_training.py (TF-IDF with logistic regression). Promotions
are held against the truth: one of a candidate that is worse than the champion on clean labels came of the poison.
"""

import argparse
import sys
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np

from absa.evaluation.assess import assess
from absa.evaluation.counts import confusion_counts, pos_neg_f1_of
from absa.evaluation.gate import judge
from absa.policies import ExperimentPolicy
from absa.records.rows import Example
from benchmarks.figures import Row, share, write_result
from benchmarks.promotion.continuous_training import START, Pairs, WordModel, domains
from benchmarks.promotion.experiments import LOOK, decide

RESULT = Path(__file__).parents[1] / "results" / "poisoning.json"
# Rows that the champion learned from, and rows of the window: in the second case the window's honest part teaches much.
SIZES = ((1_200, 1_000), (500, 2_500))
CLEAN = 1_000  # rows with clean labels: the judge of truth
TEST_SHARE = 0.2
LIES = ("no lies", "lies at random", "lies that turn opinions round")


def lied(rng: np.random.Generator, labels: np.ndarray, kind: str, by_liar: np.ndarray) -> np.ndarray:
    """Labels as told."""
    if kind == LIES[0]:
        return labels
    if kind == LIES[1]:
        return np.where(by_liar, (labels + rng.integers(1, 3, len(labels))) % 3, labels)
    return np.where(by_liar, 2 - labels, labels)


@dataclass(frozen=True)
class Ended:
    """End of one window: the gate's verdict, the promotion, and the true gain in pos/neg F1."""

    verdict: str
    promoted: bool
    gain: float


def one_window(rng: np.random.Generator, pool: Pairs, kind: str, n_old: int, n_window: int) -> Ended:
    """A window of the domain that the champion knows: nothing has drifted."""
    order = rng.permutation(len(pool))
    parts = np.split(order[: n_old + n_window + CLEAN], [n_old, n_old + n_window])
    old, window, clean = (pool.take(part) for part in parts)
    source = rng.choice(["desk", "survey", "partner"], n_window, p=[0.4, 0.4, 0.2])
    told = lied(rng, window.labels, kind, source == "partner")
    heard = Pairs(window.texts, window.aspects, told)
    tested_old, tested = rng.random(n_old) < TEST_SHARE, rng.random(n_window) < TEST_SHARE
    champion, candidate = WordModel(), WordModel()
    champion.fit(old.take(np.flatnonzero(~tested_old)))
    candidate.fit(old.take(np.flatnonzero(~tested_old)).and_(heard.take(np.flatnonzero(~tested))))
    test = old.take(np.flatnonzero(tested_old)).and_(heard.take(np.flatnonzero(tested)))
    sources = ["old"] * int(tested_old.sum()) + source[tested].tolist()
    evidence = assess(
        candidate=candidate.scores(test),
        champion=champion.scores(test),
        examples=[
            Example(text=text, aspect=aspect, label=int(label), observed_at=START, source=said)
            for text, aspect, label, said in zip(test.texts, test.aspects, test.labels, sources, strict=True)
        ],
        recent=np.array([said != "old" for said in sources]),
        resamples=1_000,
        seed=int(rng.integers(1 << 31)),
    )
    verdict = judge(evidence).verdict
    guesses = [model.scores(clean).argmax(axis=1) for model in (candidate, champion)]
    new, before = (float(pos_neg_f1_of(confusion_counts(clean.labels, guess))) for guess in guesses)
    promoted = verdict == "PROMOTE" and experiment(rng, clean, guesses, kind)
    return Ended(verdict=verdict, promoted=promoted, gain=new - before)


def experiment(rng: np.random.Generator, clean: Pairs, guesses: list[np.ndarray], kind: str) -> bool:
    """Return whether an A/B test on feedback with the same liar promotes the candidate."""
    drawn = rng.integers(0, len(clean), 12_000)
    told = lied(rng, clean.labels[drawn], kind, rng.random(len(drawn)) < 0.2)
    counted = told != 1
    drawn, told = drawn[counted], told[counted]
    mine = rng.random(len(drawn)) < 0.5
    right = np.where(mine, guesses[0][drawn], guesses[1][drawn]) == told
    at = np.arange(LOOK, len(drawn) + 1, LOOK) - 1
    n1, k1, k = np.cumsum(mine)[at], np.cumsum(mine & right)[at], np.cumsum(right)[at]
    return decide(at + 1 - n1, k - k1, n1, k1, ExperimentPolicy())[0] == "PROMOTE"


def main() -> int:
    """Run every kind of lie and write the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=100, help="windows a kind of lie and size")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=RESULT)
    options = parser.parse_args()
    pools, where = domains()
    needed = max(sum(sizes) for sizes in SIZES) + CLEAN
    whole = {name: pool for name, pool in pools.items() if len(pool) >= needed}
    if not whole:  # the bundled areas are small: one pool of them all, as if they were one domain
        everything = list(pools.values())
        joined = everything[0]
        for pool in everything[1:]:
            joined = joined.and_(pool)
        repeats = -(-needed // len(joined))
        whole = {"bundled": joined.take(np.tile(np.arange(len(joined)), repeats))}
    rng = np.random.default_rng(options.seed)
    names = sorted(whole)
    rows: list[Row] = []
    for (n_old, n_window), kind in product(SIZES, LIES):
        case = f"{kind}; {n_old:,} rows before, {n_window:,} in the window"
        ended = [one_window(rng, whole[names[run % len(names)]], kind, n_old, n_window) for run in range(options.runs)]
        gains = 100 * np.array([each.gain for each in ended])
        poisoned = sum(each.promoted and each.gain <= 0 for each in ended)
        target = None if kind == LIES[0] else "<= 0"
        bad = share(case, "promotions_of_a_candidate_that_is_not_better", poisoned, options.runs, target=target)
        rows += [
            Row(**{**vars(bad), "met": None if target is None else poisoned == 0}),
            share(case, "promotions", sum(each.promoted for each in ended), options.runs),
            share(case, "let_through_by_the_gate", sum(e.verdict == "PROMOTE" for e in ended), options.runs),
            share(case, "rejected_by_the_gate", sum(e.verdict == "REJECT" for e in ended), options.runs),
            Row(
                case=case, metric="true_gain", value=float(gains.mean()), low=float(np.quantile(gains, 0.025)),
                high=float(np.quantile(gains, 0.975)), runs=options.runs, unit="points of pos/neg F1",
            ),
        ]  # fmt: skip
        for row in rows[-5:]:
            print(f"{row.case}: {row.metric} {row.value:.4g} ({row.target or ''})", flush=True)
    write_result(
        options.out, name="poisoning", command="make benchmark-poisoning", seed=options.seed, rows=rows,
        versions={"numpy": np.__version__, "rows": where},
    )  # fmt: skip
    return 0 if all(row.met is not False for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
