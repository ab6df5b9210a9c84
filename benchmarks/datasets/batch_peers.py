"""Programs of peers, one to a process: `python -m benchmarks batch_peers pipeline|ray ROWS.csv PACKAGE`.

Each prints rows a second. The pipeline is warm when the clock starts; Ray's cluster is up, its actors are not yet.
"""

import csv
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

BATCH = 32
BLOCKS_A_CORE = 4  # of Ray


def pipeline(rows: Path, _: Path) -> float:
    """A transformers pipeline, fp32, on every core."""
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer, TextClassificationPipeline

    from absa.modeling.bases import find_base

    torch.set_num_threads(os.cpu_count() or 1)
    base = str(find_base("minilm-l6"))
    model = AutoModelForSequenceClassification.from_pretrained(base, num_labels=3)
    classify = TextClassificationPipeline(model=model, tokenizer=AutoTokenizer.from_pretrained(base))
    pairs = [{"text": row["text"], "text_pair": row["aspect"]} for row in _read(rows)]
    classify(pairs[:BATCH], batch_size=BATCH)
    begin = time.perf_counter()
    classify(pairs, batch_size=BATCH, truncation="only_first", max_length=128)
    return len(pairs) / (time.perf_counter() - begin)


class _Plain:
    """The same ONNX file in a Ray Data actor: batches in the file's order, padded to their longest row."""

    def __init__(self, package: Path) -> None:
        import onnxruntime as ort
        from tokenizers import Tokenizer

        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        self._session = ort.InferenceSession(str(package / "model.onnx"), options)
        self._tokenizer = Tokenizer.from_file(str(package / "tokenizer.json"))
        self._tokenizer.enable_padding()
        self._tokenizer.enable_truncation(128, strategy="only_first")

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        import numpy as np

        encoded = self._tokenizer.encode_batch(list(zip(batch["text"], batch["aspect"], strict=True)))
        feeds = {
            "input_ids": np.array([each.ids for each in encoded], dtype=np.int64),
            "attention_mask": np.array([each.attention_mask for each in encoded], dtype=np.int64),
            "token_type_ids": np.array([each.type_ids for each in encoded], dtype=np.int64),
        }
        names = {each.name for each in self._session.get_inputs()}
        logits = self._session.run(None, {name: feeds[name] for name in names})[0]
        return {**batch, "label": logits.argmax(axis=1)}


def ray(rows: Path, package: Path) -> float:
    """A plain Ray Data map_batches with the same ONNX file, an actor a core."""
    import ray

    cores = os.cpu_count() or 1
    # one more than there are: the actors hold a CPU each for good, and reading needs one to be scheduled at all
    ray.init(address="local", num_cpus=cores + 1, include_dashboard=False, log_to_driver=False)
    count = len(_read(rows))
    with tempfile.TemporaryDirectory() as folder:
        begin = time.perf_counter()
        ray.data.read_csv(str(rows)).repartition(BLOCKS_A_CORE * cores).map_batches(
            _Plain,
            fn_constructor_args=(package,),
            batch_size=BATCH,
            compute=ray.data.ActorPoolStrategy(size=cores),
            num_cpus=1,
        ).write_parquet(folder)
        elapsed = time.perf_counter() - begin
    ray.shutdown()
    return count / elapsed


def _read(rows: Path) -> list[dict[str, str]]:
    with rows.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


if __name__ == "__main__":
    print("rows_per_s", {"pipeline": pipeline, "ray": ray}[sys.argv[1]](Path(sys.argv[2]), Path(sys.argv[3])))
