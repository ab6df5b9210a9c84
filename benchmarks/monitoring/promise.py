"""Promised against kept precision of certain answers, in domain and under shift; writes results/promise.json.

A simulated version: each row has a true distribution over three labels; its scores are that distribution, sharper by a
factor of the logits where the version is too sure. Held-out rows make the least scores, other rows are answered. Under
shift the answered rows are harder, from labels in other shares, or the version is surer than on the held-out rows.
"""

import argparse
import json
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from absa.evaluation.risk_control import control_risk
from benchmarks.figures import Row, share, write_json, write_result

RESULTS = Path(__file__).parents[1] / "results" / "promise.json"
ANSWERED = 5_000
PROMISES = (0.8, 0.9, 0.95)


@dataclass(frozen=True, kw_only=True)
class Traffic:
    """Rows to answer: `margin` is the mean logit of the favoured label, `prior` the labels' shares.

    `surer` multiplies the version's logits.
    """

    margin: float = 2.6
    prior: tuple[float, float, float] = (0.35, 0.3, 0.35)
    surer: float = 1.0


IN_DOMAIN = Traffic()
CASES = {
    "in domain": IN_DOMAIN,
    "harder rows, as sure as they are right": Traffic(margin=1.6),
    "other shares of the labels": Traffic(prior=(0.15, 0.7, 0.15)),
    "a version that is too sure by 1.3": Traffic(surer=1.3),
    "a version that is too sure by 2": Traffic(surer=2.0),
}


def draw(rng: np.random.Generator, traffic: Traffic, rows: int) -> tuple[np.ndarray, np.ndarray]:
    """Return scores (rows, 3) and true labels of so many rows."""
    favoured = rng.choice(3, rows, p=traffic.prior)
    logits = rng.normal(0.0, 1.0, (rows, 3))
    logits[np.arange(rows), favoured] += rng.gamma(2.0, traffic.margin / 2.0, rows)
    true = softmax(logits)
    labels = (rng.random((rows, 1)) > np.cumsum(true, axis=1)[:, :2]).sum(axis=1)
    return softmax(traffic.surer * logits), labels


def softmax(logits: np.ndarray) -> np.ndarray:
    """Return probabilities by row."""
    raised = np.exp(logits - logits.max(axis=1, keepdims=True))
    return raised / raised.sum(axis=1, keepdims=True)


def kept(rng: np.random.Generator, traffic: Traffic, held_out: int) -> dict[float, tuple[float, float]]:
    """Return coverage and precision of each promise for one version; precision is NaN where no answer is certain."""
    promises = control_risk(*draw(rng, IN_DOMAIN, held_out), percents=[round(100 * each) for each in PROMISES])
    scores, labels = draw(rng, traffic, ANSWERED)
    guesses, top = scores.argmax(axis=1), scores.max(axis=1)
    found = {}
    for promise in PROMISES:
        least = np.array([np.inf if s is None else s for s in promises.least_scores[str(round(100 * promise))]])
        certain = top >= least[guesses]
        right = (guesses == labels)[certain]
        found[promise] = float(certain.mean()), float(right.mean()) if len(right) else float("nan")
    return found


def case_rows(name: str, traffic: Traffic, held_out: int, runs: int, seed: int) -> list[Row]:
    """Rows of one case: how often a version's promise is broken, its mean precision and its coverage."""
    rng = np.random.default_rng([seed, held_out, list(CASES).index(name)])
    found = [kept(rng, traffic, held_out) for _ in range(runs)]
    rows = []
    for promise in PROMISES:
        coverage, precision = (np.array([each[promise][at] for each in found]) for at in (0, 1))
        case = f"{promise:.0%} promised on {held_out:,} held-out rows, {name}"
        known = precision[~np.isnan(precision)]
        spread = 1.0 / np.sqrt(np.maximum(coverage * ANSWERED, 1.0)) * np.sqrt(promise * (1.0 - promise))
        broken = int((precision < promise - 1.645 * spread).sum())  # surely below, not by the chance of the answers
        row = share(case, "versions_that_break_it", broken, runs, target="<= 0.1" if traffic == IN_DOMAIN else None)
        rows.append(Row(**{**vars(row), "met": row.value <= 0.1 if row.target else None}))
        for metric, values in (("precision", known), ("coverage", coverage)):
            if len(values):
                low, middle, high = (float(each) for each in np.quantile(values, [0.05, 0.5, 0.95]))
                rows.append(
                    Row(case=case, metric=metric, value=middle, low=low, high=high, runs=len(values), unit="share")
                )
    return rows


def main(arguments: list[str] | None = None) -> int:
    """Run every case that is not done yet; write the result once all are."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=500, help="versions of a case")
    parser.add_argument("--held-out", type=int, nargs="*", default=[500, 2_000, 8_000])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args(arguments)
    partial_file = options.out.parent / "cells" / options.out.name
    done: dict[str, list[dict[str, object]]] = json.loads(partial_file.read_text()) if partial_file.exists() else {}
    rows: list[Row] = []
    for held_out in options.held_out:
        for name, traffic in CASES.items():
            key = f"{name}, {held_out} rows, {options.runs} runs, seed {options.seed}"
            if key not in done:
                done[key] = [vars(row) for row in case_rows(name, traffic, held_out, options.runs, options.seed)]
                write_json(partial_file, done)
            found = [Row(**row) for row in done[key]]  # type: ignore[arg-type]
            rows += found
            for row in found:
                print(f"{row.case}: {row.metric} {row.value:.4g}", flush=True)
    write_result(
        options.out,
        name="promise",
        command="make benchmark-promise",
        seed=options.seed,
        rows=rows,
        versions={"numpy": np.__version__},
    )
    partial_file.unlink()
    return 0 if all(row.met is not False for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
