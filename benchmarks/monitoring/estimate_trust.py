"""Trust in the estimate without labels, where the rows are unlike the reference; writes results/estimate_trust.json.

    python -m benchmarks estimate_trust --package FOLDER

The package is a version trained on the bundled feedback, as for `drift_public`. Half of the bundled traffic is the
reference, the other half known traffic; other rows come from the bundled new area and, where they exist, from the
labelled files of ../shared. A window has 300 rows, none of them twice. "Off" is an estimate whose interval misses the
F1 that the labels of just these rows show.
"""

import argparse
import os
import sys
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path

import numpy as np

from absa.inference.engine import Engine
from benchmarks.figures import Row, share, write_result
from benchmarks.monitoring.drift_public import answered
from benchmarks.monitoring.drift_traffic import SAMPLE, load
from monitoring.drift.embedding import ModelEmbedder
from monitoring.drift.sample import Sample, concat_samples
from monitoring.drift.support import support_of
from monitoring.performance import back_test, estimate, measure

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "benchmarks" / "results" / "estimate_trust.json"
SHARED = next((p for p in (ROOT / "shared" / "data", ROOT.parent / "shared" / "data") if p.is_dir()), None)
ROWS = 300


def taken(sample: Sample, index: np.ndarray) -> Sample:
    """Rows of units that nobody has seen."""
    return replace(sample.take(index), groups=-1 - np.arange(len(index)))


def window_of(known: Sample, other: Sample, changed: float, rng: np.random.Generator) -> tuple[Sample, Sample]:
    """A reference, and a window of which a share is drawn from other rows."""
    order = rng.permutation(known.rows)
    new = round(min(ROWS, other.rows) * changed)
    reference, calm = taken(known, order[: known.rows // 2]), taken(known, order[known.rows // 2 :][: ROWS - new])
    strange = taken(other, rng.permutation(other.rows)[:new])
    return reference, concat_samples(calm, strange) if new < ROWS else strange


def cell_rows(case: str, known: Sample, other: Sample, changed: float, runs: int) -> list[Row]:
    """Gap of the estimate, and how often back-test and support say not to trust it."""
    calm = changed == 0.0
    off = blamed = unsupported = 0
    shares, gaps = [], []
    for seed in range(runs):
        reference, current = window_of(known, other, changed, np.random.default_rng([12, seed]))
        said, seen = estimate(current, seed=seed), measure(current, seed=seed)
        tested, support = back_test(current, seed=seed), support_of(reference, current)
        assert said is not None
        assert seen is not None
        assert tested is not None
        assert support is not None
        off += not said.low <= seen.f1 <= said.high
        blamed += not tested.trusted
        unsupported += not support.trusted
        shares.append(support.share)
        gaps.append(said.f1 - seen.f1)
    target = "<= 0.01" if calm else ">= 0.90" if changed == 1.0 else None
    told = share(case, "support_distrusts_it", unsupported, runs, target=target)
    met = None if target is None else told.value <= 0.01 if calm else told.value >= 0.9
    rows = [
        Row(**{**vars(told), "met": met}),
        share(case, "back_test_distrusts_it", blamed, runs),
        share(case, "estimate_is_off", off, runs),
    ]
    for metric, values, unit in (("rows_trusted", shares, "share"), ("estimate_less_true_f1", gaps, "F1")):
        low, middle, high = (float(q) for q in np.quantile(values, [0.025, 0.5, 0.975]))
        rows.append(Row(case=case, metric=metric, value=middle, low=low, high=high, runs=runs, unit=unit))
    return rows


def main() -> int:
    """Run every cell and write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--package", type=Path, required=True, help="folder of a version trained on the bundled rows")
    parser.add_argument("--runs", type=int, default=100, help="windows a cell")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    engine = Engine.load(options.package)
    package = engine.package
    embedder = ModelEmbedder.load(package.model_path, package.tokenizer_path, package.config.max_tokens)
    known = answered(load(SAMPLE / "traffic.csv"), engine, embedder)
    area = answered(load(SAMPLE / "new_area.csv"), engine, embedder)
    cells = [("known traffic", area, 0.0)]
    cells += [(f"{share:.0%} of the rows from the new area", area, share) for share in (0.1, 0.3, 0.6, 1.0)]
    files = [] if SHARED is None else [*sorted((SHARED / "public").glob("*.csv")), SHARED / "enterpret" / "train.csv"]
    for path in files:
        name = "enterpret" if path.stem == "train" else path.stem
        cells.append((f"all rows from {name}", answered(load(path), engine, embedder), 1.0))
    tasks = [(case, known, other, changed, options.runs) for case, other, changed in cells]
    with get_context("spawn").Pool(options.processes) as pool:
        rows = [row for found in pool.starmap(cell_rows, tasks, chunksize=1) for row in found]
    for row in rows:
        print(f"{row.case}: {row.metric} {row.value:.3f} {row.target or ''}", flush=True)
    write_result(
        options.out,
        name="estimate_trust",
        command="make benchmark-estimate_trust ARGS='--package FOLDER'",
        seed=0,
        rows=rows,
        versions={"package": package.digest[:12], "numpy": np.__version__},
    )
    return 0 if all(row.met is not False for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
