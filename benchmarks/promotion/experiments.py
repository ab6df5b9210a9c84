"""Type I error and power of the A/B statistics when they are looked at all the time; writes results/experiments.json.

Every look makes the decision of `ab_statistics.judge_experiment`. Where one outcome per unit and one plan revision
allow it, looks are computed for all experiments at once in closed form; `check_closed_form` holds that form against the
library before anything is measured. Finished cases are kept in results/cells until all are there, so a run that was cut
short goes on where it was.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from absa.evaluation.significance import rules_out
from absa.policies import ExperimentPolicy
from benchmarks.figures import Row, Z, share, write_json, write_result
from monitoring.experiments.ab_statistics import (
    Allocation,
    ExperimentEvidence,
    Outcomes,
    difference,
    judge_experiment,
    mixture_radius,
    sample_ratio_p_value,
)
from monitoring.experiments.shadow import AskedDisagreements, labels_to_decide, mcnemar, paired_difference

RESULTS = Path(__file__).parents[1] / "results" / "experiments.json"
LOOK = 50


def looks(rng: np.random.Generator, p0: float, p1: float, horizon: int) -> tuple[np.ndarray, ...]:
    """Counts and hits of both arms at every look of one experiment with a fair split: n0, k0, n1, k1."""
    challenger = rng.random(horizon) < 0.5
    right = rng.random(horizon) < np.where(challenger, p1, p0)
    at = np.arange(LOOK, horizon + 1, LOOK) - 1
    n1, k1 = np.cumsum(challenger)[at], np.cumsum(challenger & right)[at]
    k = np.cumsum(right)[at]
    return at + 1 - n1, k - k1, n1, k1


def intervals(n0: np.ndarray, k0: np.ndarray, n1: np.ndarray, k1: np.ndarray, alpha: float) -> tuple[np.ndarray, ...]:
    """`difference` for one outcome a unit and one revision, at every look at once: estimate, radius, variance."""
    p0, p1 = k0 / np.maximum(n0, 1), k1 / np.maximum(n1, 1)
    n = n0 + n1
    clustered = (p0 * (1 - p0) / np.maximum(n0, 1) + p1 * (1 - p1) / np.maximum(n1, 1)) * n / np.maximum(n - 1, 1)
    s0, s1 = (k0 + 1) / (n0 + 2), (k1 + 1) / (n1 + 2)
    variance = np.maximum(clustered, s0 * (1 - s0) / np.maximum(n0, 1) + s1 * (1 - s1) / np.maximum(n1, 1))
    information = 0.03**2 / variance
    radius = np.sqrt(variance * (1 + 1 / information) * (np.log1p(information) - 2 * np.log(alpha)))
    return p1 - p0, radius, variance


def decide(
    n0: np.ndarray, k0: np.ndarray, n1: np.ndarray, k1: np.ndarray, policy: ExperimentPolicy, *, margin: float = 0.0
) -> tuple[str, int]:
    """The decision on labels and the outcomes seen by then; CONTINUE and all of them where there is none.

    `margin` is that of a cheaper challenger; 0 where the price does not count.
    """
    estimate, radius, _ = intervals(n0, k0, n1, k1, policy.alpha / policy.comparisons)
    least = np.minimum(n0, n1)
    down = (least >= policy.min_exposure_to_stop) & (estimate + radius < -margin)
    up = (least >= policy.min_exposure) & (estimate - radius > -margin)
    either = np.flatnonzero(down | up)
    if len(either) == 0:
        return "CONTINUE", int(n0[-1] + n1[-1])
    first = either[0]
    return ("ROLL_BACK" if down[first] else "PROMOTE"), int(n0[first] + n1[first])


def check_closed_form(rng: np.random.Generator) -> None:
    """Hold the closed form against the library on real looks."""
    for _ in range(20):
        n = int(rng.integers(200, 3000))
        challenger, right = rng.random(n) < 0.5, (rng.random(n) < 0.8).astype(float)
        found = difference(
            Outcomes(challenger=challenger, revision=np.ones(n, dtype=np.int64), unit=np.arange(n), right=right)
        )
        n1 = int(challenger.sum())
        k1, k = right[challenger].sum(), right.sum()
        estimate, radius, variance = intervals(*(np.array([x]) for x in (n - n1, k - k1, n1, k1)), 0.05)
        assert abs(found.estimate - estimate[0]) < 1e-9
        assert abs((found.high - found.low) / 2 - radius[0]) < 1e-9
        assert abs(radius[0] - mixture_radius(float(variance[0]), alpha=0.05, effect_scale=0.03)) < 1e-9


def peeked_z_test(n0: np.ndarray, k0: np.ndarray, n1: np.ndarray, k1: np.ndarray, least: int) -> bool:
    """Return whether a fixed-horizon z-test, looked at the same way, ever says that the arms differ."""
    p = (k0 + k1) / (n0 + n1)
    error = np.sqrt(np.maximum(p * (1 - p), 1e-12) * (1 / np.maximum(n0, 1) + 1 / np.maximum(n1, 1)))
    z = np.abs(k1 / np.maximum(n1, 1) - k0 / np.maximum(n0, 1)) / error
    return bool((z[np.minimum(n0, n1) >= least] > Z).any())


def null_experiments(rng: np.random.Generator, runs: int) -> list[Row]:
    """A/A at 20,000 outcomes, and the z-test beside it."""
    policy = ExperimentPolicy()
    wrong = fooled = 0
    for _ in range(runs):
        seen = looks(rng, 0.78, 0.78, 20_000)
        wrong += decide(*seen, policy)[0] != "CONTINUE"
        fooled += peeked_z_test(*seen, policy.min_exposure_to_stop)
    case = "A/A, a look every 50 of 20,000 outcomes"
    row = share(case, "false_promotions_and_rollbacks", wrong, runs, target="<= 0.05")
    return [
        Row(**{**vars(row), "met": row.value <= 0.05}),
        share(case, "false_promotions_and_rollbacks", fooled, runs, peer="fixed-horizon z-test at 95 %, peeked at"),
    ]


def power(rng: np.random.Generator, runs: int) -> list[Row]:
    """A gain of three points and a loss of five."""
    policy = ExperimentPolicy()
    rows: list[Row] = []
    for name, p1, wanted, horizon, target in (
        ("0.78 to 0.81, 6,000 outcomes an arm", 0.81, "PROMOTE", 12_000, 0.80),
        ("0.78 to 0.73, 6,000 outcomes an arm", 0.73, "ROLL_BACK", 12_000, 0.95),
    ):
        found = [decide(*looks(rng, 0.78, p1, horizon), policy) for _ in range(runs)]
        stops = [at for decision, at in found if decision == wanted]
        row = share(name, f"{wanted.lower()}s", len(stops), runs, target=f">= {target}")
        rows.append(Row(**{**vars(row), "met": row.value >= target}))
        low, middle, high = np.quantile(stops, [0.25, 0.5, 0.75])
        rows.append(
            Row(
                case=name,
                metric="median_outcomes_before_decision",
                value=float(middle),
                low=float(low),
                high=float(high),
                runs=len(stops),
                unit="outcomes of both arms",
            )
        )
    return rows


def clusters(rng: np.random.Generator, runs: int) -> list[Row]:
    """A/A where a unit sends many requests and is easy or hard as a whole, through a ramp of four shares."""
    policy = ExperimentPolicy()
    wrong = naive = 0
    for _ in range(runs):
        units = 1_500
        easy = rng.beta(3.0, 0.85, units)  # mean 0.78, very different between units
        place = rng.random(units)
        weight = rng.gamma(0.5, 1.0, units) + 0.05
        n = 8_000
        unit = rng.choice(units, n, p=weight / weight.sum())
        right = (rng.random(n) < easy[unit]).astype(float)
        revision = np.minimum(np.arange(n) // 800, 3)
        arm = place[unit] < np.array([0.05, 0.10, 0.25, 0.5])[revision]
        hit = blind = False
        for at in range(800, n + 1, 400):
            outcomes = Outcomes(challenger=arm[:at], revision=revision[:at], unit=unit[:at], right=right[:at])
            if not hit:
                made = judge_experiment(
                    ExperimentEvidence(experiment="aa", champion="1", challenger="2", outcomes=outcomes), policy
                )
                hit = made.decision != "CONTINUE"
            if not blind:
                single = Outcomes(challenger=arm[:at], revision=revision[:at], unit=np.arange(at), right=right[:at])
                made = judge_experiment(
                    ExperimentEvidence(experiment="aa", champion="1", challenger="2", outcomes=single), policy
                )
                blind = made.decision != "CONTINUE"
        wrong += hit
        naive += blind
    case = "A/A, units with several requests, ramp 5 to 50 %"
    row = share(case, "false_promotions_and_rollbacks", wrong, runs, target="<= 0.05")
    return [
        Row(**{**vars(row), "met": row.value <= 0.05}),
        share(
            case, "false_promotions_and_rollbacks", naive, runs, peer="the same interval over requests instead of units"
        ),
    ]


def several_arms(rng: np.random.Generator, runs: int) -> list[Row]:
    """Two challengers that equal the champion, each judged against it at half of alpha, looked at all the time."""
    policy = ExperimentPolicy(comparisons=2)
    wrong = 0
    for _ in range(runs):
        arm = rng.integers(0, 3, 20_000)
        right = rng.random(20_000) < 0.78
        at = np.arange(LOOK, 20_001, LOOK) - 1
        n = [np.cumsum(arm == k)[at] for k in range(3)]
        hits = [np.cumsum((arm == k) & right)[at] for k in range(3)]
        wrong += any(decide(n[0], hits[0], n[k], hits[k], policy)[0] != "CONTINUE" for k in (1, 2))
    row = share(
        "A/A/A, two challengers, a look every 50 of 20,000 outcomes", "false_promotions_and_rollbacks", wrong, runs,
        target="<= 0.05",
    )  # fmt: skip
    return [Row(**{**vars(row), "met": row.value <= 0.05})]


def shadow_labels(rng: np.random.Generator, runs: int) -> list[Row]:
    """Equal versions in shadow, labelled one disagreement after the other; and how many labels a real gain takes."""
    policy = ExperimentPolicy()
    wrong = 0
    for _ in range(runs):
        gains = rng.choice([-1.0, 0.0, 1.0], 6_000, p=[0.06, 0.88, 0.06])
        looks_at = range(policy.min_exposure_to_stop, 6_001, 100)
        wrong += any(paired_difference(gains[:n], np.arange(n)).high < 0 for n in looks_at)
    row = share(
        "equal versions in shadow, a look every 100 of 6,000 labelled pairs", "rollbacks", wrong, runs, target="<= 0.01"
    )
    rows = [Row(**{**vars(row), "met": row.value <= 0.01})]
    disagreements, both = labels_to_decide(0.12, 0.03)
    found = found_ab = 0
    for _ in range(runs):
        kinds = rng.multinomial(round(disagreements / 0.12), [0.045, 0.88, 0.075])
        found += kinds[2] > kinds[0] and mcnemar(int(kinds[0]), int(kinds[2])) <= 0.05
        n = both // 2
        k0, k1 = rng.binomial(n, 0.80), rng.binomial(n, 0.83)
        p = (k0 + k1) / (2 * n)
        found_ab += (k1 - k0) / n / np.sqrt(2 * p * (1 - p) / n) > Z
    for case, labels, hits in (
        ("three points, 12 % disagreements, McNemar on the disagreements of a shadow", disagreements, found),
        ("three points, an A/B test with a z-test at its end", both, found_ab),
    ):
        rows.append(share(case, "found", hits, runs))
        rows.append(
            Row(
                case=case, metric="labels", value=float(labels), low=float(labels), high=float(labels), runs=runs,
                unit="labels",
            )
        )  # fmt: skip
    return rows


def cheaper(rng: np.random.Generator, runs: int) -> list[Row]:
    """A cheaper challenger in an A/B test: worse by exactly the margin, and equal."""
    policy = ExperimentPolicy()
    margin = policy.non_inferiority_margin
    rows = []
    for name, p1, horizon in (("worse by the margin", 0.78 - margin, 40_000), ("equal", 0.78, 120_000)):
        found = [decide(*looks(rng, 0.78, p1, horizon), policy, margin=margin) for _ in range(runs)]
        stops = [at for decision, at in found if decision == "PROMOTE"]
        case = f"cheaper and {name}, a look every {LOOK} of {horizon:,} outcomes"
        rows += promotions(case, stops, runs, "outcomes of both arms", null=p1 < 0.78)
    return rows


def cheaper_in_shadow(rng: np.random.Generator, runs: int) -> list[Row]:
    """A cheaper challenger in shadow, its disagreements labelled bit by bit: worse by exactly the margin, and equal.

    Of the requests 70 % have an evaluated label; on those the two differ in 8 %, on the others in 6 %. Their answers
    are evaluated labels in 71 %, so the share that the comparison divides by is not the true one.
    """
    policy = ExperimentPolicy()
    rows = []
    for name, lost in (("worse by the margin", policy.non_inferiority_margin), ("equal", 0.0)):
        kinds = np.array([0.7 * (0.035 + lost / 2), 0.7 * (0.035 - lost / 2), 0.7 * 0.01 + 0.3 * 0.06])
        stops = []
        for _ in range(runs):
            if (labels := shadow_promotion(rng, kinds, policy)) is not None:
                stops.append(labels)
        case = f"cheaper and {name} in shadow, a look every 50 of 1,500 labelled disagreements"
        rows += promotions(case, stops, runs, "labels of disagreements", null=lost > 0)
    return rows


def shadow_promotion(
    rng: np.random.Generator, kinds: np.ndarray, policy: ExperimentPolicy, *, labels: int = 1_500
) -> int | None:
    """Return the labels after which a cheaper shadow is promoted; None where it is not.

    `kinds` are shares of all requests: the champion alone was right, the challenger alone, and another disagreement.
    Twice as many disagreements as labels have come at each look.
    """
    share = float(kinds.sum())
    gains = rng.choice([-1.0, 1.0, 0.0], labels, p=kinds / share)
    for n in range(policy.min_exposure_to_stop, labels + 1, LOOK):
        pairs = round(2 * n / share)
        found = AskedDisagreements(
            gains=gains[:n],
            units=np.arange(n),
            disagreeing=int(rng.binomial(pairs, share)),
            pairs=pairs,
            evaluated=float(rng.binomial(pairs, 0.71)) / pairs,
        ).in_traffic(alpha=policy.alpha, effect_scale=policy.effect_scale)
        if rules_out(policy.non_inferiority_margin, found.low):
            return n
        if found.high < -policy.non_inferiority_margin:
            return None
    return None


def promotions(case: str, stops: list[int], runs: int, unit: str, *, null: bool) -> list[Row]:
    """Rows of a case: the share of promotions, and what they took."""
    row = share(case, "promotions", len(stops), runs, target="<= 0.05" if null else None)
    if null or not stops:
        return [Row(**{**vars(row), "met": row.value <= 0.05 if null else None})]
    low, middle, high = (float(each) for each in np.quantile(stops, [0.25, 0.5, 0.75]))
    metric = "median_before_promotion"
    return [row, Row(case=case, metric=metric, value=middle, low=low, high=high, runs=len(stops), unit=unit)]


def sample_ratio(rng: np.random.Generator, runs: int) -> list[Row]:
    """A split of 52 to 48 where the plan says 50, and a fair one, looked at every 500 units up to 20,000."""
    rows = []
    for case, true_share, target, good in (
        ("split 52/48 instead of 50/50, 20,000 units", 0.52, ">= 0.95", lambda v: v >= 0.95),
        ("split as planned, 20,000 units", 0.50, "<= 0.01", lambda v: v <= 0.01),
    ):
        hits = 0
        for _ in range(runs):
            counts = np.cumsum(rng.binomial(500, true_share, 40))
            hits += any(
                sample_ratio_p_value(
                    [Allocation(revision=1, share=0.5, champion_units=500 * (k + 1) - int(c), challenger_units=int(c))]
                )
                <= ExperimentPolicy().srm_alpha
                for k, c in enumerate(counts)
            )
        row = share(case, "sample_ratio_alarms", hits, runs, target=target)
        rows.append(Row(**{**vars(row), "met": good(row.value)}))
    return rows


def main() -> int:
    """Run every case and write the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=2_000, help="experiments a case")
    parser.add_argument("--cluster-runs", type=int, default=500, help="experiments of the case with units")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    check_closed_form(np.random.default_rng(options.seed))
    partial_file = options.out.parent / "cells" / options.out.name
    done: dict[str, list[dict[str, object]]] = json.loads(partial_file.read_text()) if partial_file.exists() else {}
    rows: list[Row] = []
    cases: list[tuple[Callable[[np.random.Generator, int], list[Row]], int]] = [
        (null_experiments, options.runs),
        (power, options.runs),
        (clusters, options.cluster_runs),
        (several_arms, options.runs),
        (sample_ratio, options.runs),
        (shadow_labels, options.runs),
        (cheaper, options.runs),
        (cheaper_in_shadow, options.runs),
    ]
    for number, (case, runs) in enumerate(cases):
        started = time.monotonic()
        key = f"{case.__name__}, {runs} runs, seed {options.seed}"
        if key not in done:
            found = case(np.random.default_rng([options.seed, number]), runs)
            done[key] = [vars(row) for row in found]
            write_json(partial_file, done)
        found = [Row(**row) for row in done[key]]  # type: ignore[arg-type]
        rows += found
        for row in found:
            print(f"{row.case}: {row.metric} {row.value:.4g} ({row.peer or row.target or ''})", flush=True)
        print(f"  {time.monotonic() - started:.0f} s", flush=True)
    write_result(
        options.out,
        name="experiments",
        command="make benchmark-experiments",
        seed=options.seed,
        rows=rows,
        versions={"numpy": np.__version__},
    )
    partial_file.unlink()
    return 0 if all(row.met is not False for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
