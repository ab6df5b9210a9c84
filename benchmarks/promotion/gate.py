"""Regressions that the gate stops: planted regressions, and equal candidates; writes results/gate.json.

Rows, labels and the two models' answers are drawn; everything from `assess` and `compare_behaviours` to the verdict is
the platform's own. Both models are right on about 78 % of 1,500 rows, of which half are recent, and share most errors.
"""

import argparse
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np

from absa.evaluation.assess import assess
from absa.evaluation.behaviour import BehaviourResult, compare_behaviours
from absa.evaluation.gate import GateEvidence, judge
from absa.evaluation.metrics import one_hot
from absa.records.rows import Example
from absa.records.schema import utc_now
from benchmarks.figures import Row, share, write_result

RESULT = Path(__file__).parents[1] / "results" / "gate.json"
ROWS, SLICE = 1_500, 300
NOW = utc_now()


def spoil(rng: np.random.Generator, labels: np.ndarray, said: np.ndarray, chance: np.ndarray | float) -> np.ndarray:
    """Make answers wrong with a chance of each row."""
    hit = rng.random(len(labels)) < chance
    return np.where(hit, (labels + rng.integers(1, 3, len(labels))) % 3, said)


def soft(said: np.ndarray) -> np.ndarray:
    """Scores of a model that is about as sure as it is often right."""
    return one_hot(said) * np.float32(0.7) + np.float32(0.1)


def examples(labels: np.ndarray, mobile: np.ndarray) -> list[Example]:
    """One row a text, of several lengths."""
    return [
        Example(
            text=f"row {index} {'word ' * (index % 25)}",
            aspect="a b" if index % 2 else "a",
            label=int(label),
            observed_at=NOW,
            source="test",
            segment="mobile" if mobile[index] else "web",
        )
        for index, label in enumerate(labels)
    ]


def answers(rng: np.random.Generator, labels: np.ndarray, gain: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Candidate and champion; `gain` is the chance a row that the champion (below 0: the candidate) is spoiled."""
    common = spoil(rng, labels, labels, 0.18)
    both = [spoil(rng, labels, common, 0.05) for _ in range(2)]
    candidate = spoil(rng, labels, both[0], np.maximum(-gain, 0.0))
    champion = spoil(rng, labels, both[1], np.maximum(gain, 0.0))
    return candidate, champion


def suite(rng: np.random.Generator, common: np.ndarray, own: float, broken: float) -> list[BehaviourResult]:
    """Sixteen behaviours: cases that both models fail, a share that this one alone fails, and more of the first one."""
    return [
        BehaviourResult(
            name=str(number),
            title=str(number),
            failed=tuple(bool(x) for x in each | (rng.random(len(each)) < own + (broken if number == 0 else 0.0))),
        )
        for number, each in enumerate(common)
    ]


def behaviours(rng: np.random.Generator, runs: int, good: GateEvidence) -> list[Row]:
    """A behaviour that is lost by so many points, on evidence that is otherwise promoted."""
    made = []
    for cases in (60, 100):
        for points in (0, 10, 20, 30):
            stopped = 0
            for _ in range(runs):
                common = rng.random((16, cases)) < 0.05
                candidate, champion = suite(rng, common, 0.03, points / 100), suite(rng, common, 0.03, 0.0)
                compared = compare_behaviours(candidate, champion)
                stopped += judge(replace(good, behaviours=compared)).verdict != "PROMOTE"
            case = f"a behaviour fails {points} points more often, {cases} cases"
            least, most = (0.95, None) if points == 30 else (None, None)
            made.append(row(case, "stopped", stopped, runs, least, most))
    return made


def drawn(rng: np.random.Generator, *, slice_loss: float, gain: float) -> tuple[GateEvidence, float]:
    """The evidence on one candidate, and what it truly lost in the slice (share of right answers)."""
    labels = rng.integers(0, 3, ROWS)
    mobile = np.arange(ROWS) % (ROWS // SLICE) == 0
    candidate, champion = answers(rng, labels, np.where(mobile, -slice_loss, gain))
    evidence = assess(
        candidate=soft(candidate),
        champion=soft(champion),
        examples=examples(labels, mobile),
        recent=np.arange(ROWS) >= ROWS // 2,
        resamples=1_000,
        seed=int(rng.integers(1 << 31)),
    )
    lost = float((champion == labels)[mobile].mean() - (candidate == labels)[mobile].mean())
    return evidence, lost


def verdict(rng: np.random.Generator, *, slice_loss: float, gain: float) -> tuple[str, float]:
    """The verdict on one candidate, and what it lost in the slice."""
    evidence, lost = drawn(rng, slice_loss=slice_loss, gain=gain)
    return judge(evidence).verdict, lost


def is_promoted(evidence: GateEvidence) -> bool:
    """Return whether the gate says PROMOTE."""
    return judge(evidence).verdict == "PROMOTE"


def row(case: str, metric: str, hits: int, runs: int, least: float | None, most: float | None = None) -> Row:
    """A share with its target."""
    target = f">= {least}" if least is not None else f"<= {most}" if most is not None else None
    made = share(case, metric, hits, runs, target=target)
    met = None if target is None else made.value >= least if least is not None else made.value <= most
    return Row(**{**vars(made), "met": met})


def main() -> int:
    """Run every case and write the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=1_000, help="candidates a case")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    rng, runs = np.random.default_rng(options.seed), options.runs
    regressed = [verdict(rng, slice_loss=0.13, gain=0.10) for _ in range(runs)]
    lost = np.array([each for _, each in regressed])
    equal = [verdict(rng, slice_loss=0.0, gain=0.0)[0] for _ in range(runs)]
    better = [verdict(rng, slice_loss=-0.12, gain=0.12)[0] for _ in range(runs)]
    good = next(e for e in (drawn(rng, slice_loss=-0.15, gain=0.15)[0] for _ in range(50)) if is_promoted(e))
    planted = f"ten points lost in a slice of {SLICE} rows, gained elsewhere"
    rows = [
        row(planted, "stopped", sum(said != "PROMOTE" for said, _ in regressed), runs, 0.95),
        row(planted, "rejected", sum(said == "REJECT" for said, _ in regressed), runs, None),
        Row(
            case=planted, metric="points_truly_lost_in_the_slice", value=float(100 * lost.mean()),
            low=float(100 * np.quantile(lost, 0.025)), high=float(100 * np.quantile(lost, 0.975)), runs=runs,
            unit="points",
        ),
        row("equal candidates", "promoted", equal.count("PROMOTE"), runs, None, 0.05),
        row("better everywhere by about ten points", "promoted", better.count("PROMOTE"), runs, None),
        *behaviours(rng, runs, good),
    ]  # fmt: skip
    for each in rows:
        print(f"{each.case}: {each.metric} {each.value:.4g} ({each.target or ''})", flush=True)
    write_result(
        RESULT, name="gate", command="make benchmark-gate", seed=options.seed, rows=rows,
        versions={"numpy": np.__version__},
    )  # fmt: skip
    return 0 if all(each.met is not False for each in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
