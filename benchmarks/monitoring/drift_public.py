"""Real shifts: a trained version's own answers on other domains, found, and what it lost said before a label.

    python -m benchmarks drift_public --package FOLDER --domains a.csv b.csv

The package is a version trained on the bundled feedback (the demo leaves one in `.evergreen/jobs/<run>/package`); known
traffic is the bundled traffic.csv, which it never saw. A domain is a CSV with text, aspect, label. Answers, scores and
embeddings are the version's own; windows are drawn with replacement. Writes results/drift_public.json; no text stands
in it. Finished domains are kept in results/cells, so a run that was cut short goes on where it was.
"""

import argparse
import json
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from absa.inference.engine import Engine
from benchmarks.figures import Row, share, write_json, write_result
from benchmarks.monitoring.drift_peers import PEER, evidently_alarms
from benchmarks.monitoring.drift_traffic import SAMPLE, load
from monitoring.drift.detect import SLOW_SHARE, detect_drift
from monitoring.drift.embedding import ModelEmbedder, embed_sample
from monitoring.drift.sample import Ints, Sample, concat_samples, make_sample
from monitoring.performance import back_test, estimate, measure

RESULTS = Path(__file__).parents[1] / "results" / "drift_public.json"
RATE = 0.01 * (1 - SLOW_SHARE)
MAX_ROWS = 1_000


def answered(rows: pl.DataFrame, engine: Engine, embedder: ModelEmbedder) -> Sample:
    """Return the version's answers about rows with known labels."""
    kept = rows if rows.height <= MAX_ROWS else rows.sample(MAX_ROWS, seed=0)
    pairs = list(zip(kept["text"].to_list(), kept["aspect"].to_list(), strict=True))
    scores = engine.score(pairs)
    sample = make_sample(
        scores.argmax(axis=1),
        scores,
        truth=kept["label"].to_numpy(),
        texts=tuple(kept["text"].to_list()),
        aspects=tuple(kept["aspect"].to_list()),
    )
    return embed_sample(sample, embedder, max_rows=MAX_ROWS)


def drawn(sample: Sample, count: int, rng: np.random.Generator) -> Sample:
    """Rows with replacement, each a group of its own."""
    index: Ints = rng.integers(sample.rows, size=count)
    taken = sample.take(index)
    return make_sample(
        taken.labels, taken.scores, truth=taken.truth, texts=taken.texts, aspects=taken.aspects,
        embeddings=taken.embeddings,
    )  # fmt: skip


def domain_rows(name: str, known: Sample, domain: Sample, runs: int) -> list[Row]:
    """Detection of a tenth of the domain, and the estimate on it held against its labels."""
    found = peer = covered = caught = 0
    promised, measured = [], []
    for seed in range(runs):
        rng = np.random.default_rng([7, seed])
        reference = drawn(known, 2_000, rng)
        new = int(rng.binomial(1_000, 0.1))
        window = concat_samples(drawn(known, 1_000 - new, rng), drawn(domain, new, rng))
        found += bool(detect_drift(reference, window, false_alarm_rate=RATE, seed=seed).drifted)
        peer += evidently_alarms(reference, window)
        whole = drawn(domain, 500, rng)
        said, seen, tested = estimate(whole, seed=seed), measure(whole, seed=seed), back_test(whole, seed=seed)
        assert said is not None
        assert seen is not None
        assert tested is not None
        covered += said.low <= seen.f1 <= said.high
        caught += not tested.trusted
        promised.append(said.f1)
        measured.append(seen.f1)
    case, whole_case = f"10 % of traffic from {name}, windows of 1,000", f"all traffic from {name}, windows of 500"
    rows = [
        share(case, "found_at_1%", found, runs),
        share(case, "found", peer, runs, peer=PEER),
        share(whole_case, "estimate_covers_true_f1", covered, runs),
        share(whole_case, "back_test_says_not_to_trust_it", caught, runs),
    ]
    for metric, values in (("estimated_pos_neg_f1", promised), ("true_pos_neg_f1", measured)):
        low, middle, high = (float(q) for q in np.quantile(values, [0.025, 0.5, 0.975]))
        rows.append(Row(case=whole_case, metric=metric, value=middle, low=low, high=high, runs=runs, unit="F1"))
    return rows


def main() -> int:
    """Run every domain."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--package", type=Path, required=True, help="folder of a version trained on the bundled rows")
    parser.add_argument("--domains", type=Path, nargs="+", required=True, help="CSV files with text, aspect, label")
    parser.add_argument("--runs", type=int, default=500, help="windows a cell")
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    os.environ["DO_NOT_TRACK"] = "1"
    engine = Engine.load(options.package)
    package = engine.package
    embedder = ModelEmbedder.load(package.model_path, package.tokenizer_path, package.config.max_tokens)
    known = answered(load(SAMPLE / "traffic.csv"), engine, embedder)
    partial_file = options.out.parent / "cells" / options.out.name
    done: dict[str, list[dict[str, Any]]] = json.loads(partial_file.read_text()) if partial_file.exists() else {}
    paths = [SAMPLE / "new_area.csv", *options.domains]
    for path in paths:
        if path.stem in done:
            continue
        found = domain_rows(path.stem, known, answered(load(path), engine, embedder), options.runs)
        done[path.stem] = [row.to_json() for row in found]
        write_json(partial_file, done)
        for row in found:
            print(f"{row.case}: {row.metric} {row.value:.3f}", flush=True)
    rows = [Row(**row) for path in paths for row in done[path.stem]]
    write_result(
        options.out,
        name="drift_public",
        command="make benchmark-drift_public ARGS='--package FOLDER --domains FILES'",
        seed=0,
        rows=rows,
        versions={"package": package.digest[:12], "numpy": np.__version__, "evidently": "0.7.23"},
    )
    partial_file.unlink(missing_ok=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
