"""A real MPNet of 110 million weights: trained for a few steps, packaged as int8, and scored by the engine.

`make prove-encoder` downloads it and names its folder in EVERGREEN_TEST_ENCODER; elsewhere the test is skipped.
"""

import csv
import json
import os
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from absa.data.bundled import FEEDBACK_CSV
from absa.inference.engine import Engine, softmax
from absa.inference.tokenization import PairTokenizer
from absa.modeling.bases import TOKENIZER, find_base, load_base
from absa.packaging.validate import validate_package
from absa.training.rows.scoring import score_as_teacher
from absa.training.rows.tokens import LabelledPair, tokenize
from tests.conftest import run_job, write_job

MPNET = os.environ.get("EVERGREEN_TEST_ENCODER")
ROWS = 400
BUDGET_S = 540.0
pytestmark = [
    pytest.mark.skipif(MPNET is None, reason="EVERGREEN_TEST_ENCODER names no folder; `make prove-encoder` sets it"),
    pytest.mark.timeout(BUDGET_S + 300),
]


def test_real_mpnet_is_trained_packaged_and_scored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HOME", str(tmp_path / "cache"))
    with FEEDBACK_CSV.open(encoding="utf-8", newline="") as file:
        rows = [
            {"text": row["text"], "aspect": row["aspect"], "label": int(row["label"])} for row in csv.DictReader(file)
        ][:ROWS]
    settings = {"base_model": str(MPNET), "max_epochs": 0.5, "learning_rate": 3e-5, "batch_tokens": 256}
    folder = write_job(tmp_path / "job", budget_s=BUDGET_S, reserve_s=120.0, settings=settings, rows=rows)
    code, events = run_job(folder, timeout_s=BUDGET_S + 60.0)
    assert code == 0, events
    done = events[-1]
    assert done["parity"]["labels_equal"] >= 0.9
    assert validate_package(folder / "package").rows > 0
    engine = Engine.load(folder / "package")
    validation = [LabelledPair(**row) for row in rows[: len(rows) // 5]]
    started = time.perf_counter()
    scores = engine.score([(row.text, row.aspect) for row in validation])
    int8_s = time.perf_counter() - started
    model, _ = load_base(find_base(str(folder / "weights")))
    encoded = tokenize(validation, PairTokenizer.from_file(folder / "weights" / TOKENIZER, 128))
    started = time.perf_counter()
    fp32 = score_as_teacher(model.eval(), encoded)
    fp32_s = time.perf_counter() - started
    uncalibrated = softmax(np.log(np.maximum(scores, 1e-12)) * np.float32(engine.package.temperature))
    figures = {
        **{name: done[name] for name in ("steps", "tokens_per_s", "size_mb", "package_s", "parity")},
        "rows": len(validation),
        "int8_rows_per_s": round(len(validation) / int8_s, 1),
        "fp32_rows_per_s": round(len(validation) / fp32_s, 1),
        "largest_difference": round(float(np.abs(uncalibrated - fp32).max()), 4),
        "mean_difference": round(float(np.abs(uncalibrated - fp32).mean()), 4),
    }
    sys.stdout.write(json.dumps(figures) + "\n")
    assert figures["mean_difference"] < 0.02
