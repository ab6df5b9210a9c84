"""A machine with torch and nothing of MLOps can train: what is missing there is not imported."""

import subprocess
import sys
from pathlib import Path

from tests.conftest import ROOT

MISSING = (
    "mlflow", "prefect", "polars", "pyarrow", "pandas", "boto3", "nanotoken", "fastapi", "evidently", "pydantic",
    "onnx", "onnxruntime", "psutil", "sklearn",
)  # fmt: skip

TRAINS = """
import sys
for name in {missing}:
    sys.modules[name] = None
import numpy as np
import absa.job
from absa.inference.tokenization import PairTokenizer
from absa.modeling.architecture import Architecture, PairClassifier
from absa.modeling.folders import TOKENIZER, find_base
from absa.training.checkpoints import Checkpoints
from absa.training.deadline import Deadline
from absa.training.training_settings import TrainingSettings
from absa.training.rows.shards import PLAN_FILE, ShardCorpus, TokenPlan, pack_shard, shard_name
from absa.training.rows.tokens import LabelledPair, tokenize
from absa.training.trainer import Trainer
from pathlib import Path
folder = Path({folder!r})
tokenizer = PairTokenizer.from_file(find_base("minilm-l6") / TOKENIZER, 32)
assert not tokenizer.is_fast
rows = tokenize([LabelledPair("the app is slow", "app", n % 3) for n in range(30)], tokenizer)
(folder / shard_name("train", 0)).write_bytes(pack_shard(rows))
(folder / PLAN_FILE).write_text(
    TokenPlan(snapshot="s", tokenizer="t", side="train", max_tokens=32, rows=(30,)).to_json()
)
sizes = Architecture(layers=1, hidden=16, heads=2, intermediate=32, vocabulary=30522, positions=32)
settings = TrainingSettings(max_epochs=1, threads=1, device="cpu")
trainer = Trainer(PairClassifier(sizes), ShardCorpus(folder), None, settings, Deadline.after(60))
print(trainer.run().rows)
assert "torch._dynamo" not in sys.modules, "the compiler was imported: it takes as long as torch itself"
"""


def test_training_on_shards_needs_torch_and_numpy_alone(tmp_path: Path) -> None:
    program = TRAINS.format(missing=MISSING, folder=str(tmp_path))
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False, timeout=100
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["30"]
