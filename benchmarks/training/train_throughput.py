"""Training speed beside transformers' Trainer: `python -m benchmarks train_throughput`.

Both train MiniLM-L6 on the same rows of the bundled data, in turns, on all cores: ours as `evergreen train` does but
for the composed texts, the peer with dynamic padding as its documentation shows. Tokens are real ones, without padding.
Where the top layers alone learn, the first pass and later ones, which find the lower layers' output, are timed apart.
Where there is a GPU both train on generated rows there, in bf16, and ours is timed once its kernels are made.
Beside it, on one thread: tokens a second from texts to token shards, with ids compared to the reference tokenizer's on
every row, and from shards to batches, which is what a fast device waits for. Both by processor time.
"""

import argparse
import csv
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks.figures import Row, gpu_name, write_result

ROOT = Path(__file__).parents[2]
RESULT = ROOT / "benchmarks" / "results" / "train_throughput.json"
GPU_RESULT = RESULT.with_name("train_throughput_gpu.json")
SAMPLE = ROOT / "absa" / "data" / "sample" / "feedback.csv"
TARGET_TIMES = {"all": 2.7, "top": 4.0, "later": 5.0}  # of the peer's speed, by the layers that learn
TARGET_TOKENS = 5e6
TARGET_ON_GPU = 3.5e6
GPU_MB = 80.0  # of generated rows
GPU_PEER_ROWS = 100_000
GPU_PEER_BATCH = 256
FIRST = 16  # times the rows, for a first pass that does not end
LATER_ROWS = 500  # for a first pass that is soon over


def ours(seconds: float, passes: str = "all", **more: Any) -> dict[str, float]:
    """Real tokens/s of our trainer with some settings, and the share of the device's operations that they took.

    Args:
        seconds: of the run.
        passes: on a CPU first: one at most; later: those behind the first alone, without the share; else all.
        more: settings of the training.
    """
    from absa.inference.tokenization import PairTokenizer
    from absa.modeling.bases import TOKENIZER, find_base, load_base
    from absa.training.deadline import Deadline
    from absa.training.progress import Progress
    from absa.training.rows.compose import Composer
    from absa.training.rows.tokens import LabelledPair, tokenize
    from absa.training.trainer import Trainer
    from absa.training.training_settings import TrainingSettings

    base = find_base("minilm-l6")
    tokenizer = PairTokenizer.from_file(base / TOKENIZER, 128)
    pairs = made_rows(None) if gpu_name() else sample()
    if not gpu_name() and passes != "all":
        pairs = FIRST * pairs if passes == "first" else pairs[:LATER_ROWS]
    rows = tokenize([LabelledPair(text, aspect, label) for text, aspect, label in pairs], tokenizer)
    epochs = 1.0 if passes == "first" and not gpu_name() else 1e9
    settings = TrainingSettings(max_epochs=epochs, compose_share=0.3 if gpu_name() else 0.0, **more)
    compose = Composer.of(tokenizer, settings)
    model, _ = load_base(base, dropout=settings.dropout)
    seen: list[Progress] = []
    trainer = Trainer(model, rows, None, settings, Deadline.after(seconds), compose=compose, watch=seen.append)
    result = trainer.run()
    if passes == "later":
        return {"tokens_per_s": statistics.median(each.tokens_per_s for each in seen if each.epoch > 1.5)}
    if not gpu_name():
        return {"tokens_per_s": result.tokens / result.train_s, "mfu": result.mfu}
    steady = statistics.median(each.tokens_per_s for each in seen if each.elapsed_s > seconds / 2)
    return {"tokens_per_s": steady, "mfu": result.mfu * steady / result.tokens_per_s}


def made_rows(count: int | None) -> list[tuple[str, str, int]]:
    """Generated rows: a GPU is through with the bundled ones in a step."""
    from benchmarks.training.train_10gb import write_part

    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "rows.csv"
        write_part(path, GPU_MB, seed=0)
        with path.open(encoding="utf-8", newline="") as file:
            rows = [(row["text"], row["aspect"], int(row["label"])) for row in csv.DictReader(file)]
    return rows[:count]


def transformers_trainer(seconds: float) -> dict[str, float]:
    """Real tokens/s of transformers' Trainer with its defaults and dynamic padding.

    On a CPU fp32 and batches of 8; on a GPU bf16 and batches of 256.
    """
    from transformers import (
        AutoModelForSequenceClassification,
        AutoTokenizer,
        DataCollatorWithPadding,
        Trainer,
        TrainerCallback,
        TrainingArguments,
    )

    from absa.modeling.bases import find_base

    base = find_base("minilm-l6")
    tokenizer = AutoTokenizer.from_pretrained(base)
    model = AutoModelForSequenceClassification.from_pretrained(base, num_labels=3)
    rows = [
        {**tokenizer(text, aspect, truncation="only_first", max_length=128), "labels": label}
        for text, aspect, label in (made_rows(GPU_PEER_ROWS) if gpu_name() else sample())
    ]
    pad = DataCollatorWithPadding(tokenizer)
    seen = 0

    def collate(batch: list[dict[str, object]]) -> object:
        nonlocal seen
        seen += sum(len(row["input_ids"]) for row in batch)  # type: ignore[arg-type]
        return pad(batch)

    class Clock(TrainerCallback):
        def on_step_end(self, _args: object, _state: object, control: object, **_: object) -> None:
            if time.perf_counter() - started >= seconds:
                control.should_training_stop = True  # type: ignore[attr-defined]

    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            folder, num_train_epochs=1000, report_to=[], save_strategy="no", logging_strategy="no",
            use_cpu=not gpu_name(), bf16=gpu_name() is not None, disable_tqdm=True,
            per_device_train_batch_size=GPU_PEER_BATCH if gpu_name() else 8,
        )  # fmt: skip
        trainer = Trainer(model, arguments, data_collator=collate, train_dataset=rows, callbacks=[Clock()])  # type: ignore[arg-type]
        started = time.perf_counter()
        trainer.train()
    return {"tokens_per_s": seen / (time.perf_counter() - started)}


def tokenizing(rows: int) -> dict[str, float]:
    """Tokens/s of one thread from columns of texts to token ids and on to batches, and of the reference tokenizer."""
    import numpy as np
    import polars as pl
    import torch  # noqa: F401 - shards are mapped by it; a training has imported it before

    from absa.inference.tokenization import PairTokenizer
    from absa.modeling.folders import TOKENIZER, find_base
    from absa.training.rows.batches import Form
    from absa.training.rows.choice import Choice
    from absa.training.rows.compose import Composer, Connectors
    from absa.training.rows.shards import ShardCorpus, pack_shard, write_shard
    from absa.training.rows.stream import BatchStream, Position
    from absa.training.rows.tokens import tokenize_columns
    from benchmarks.datasets.ingest import generate

    path = find_base("minilm-l6") / TOKENIZER
    fast, reference = (PairTokenizer.from_file(path, 128, fast=fast) for fast in (True, False))
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        generate(folder / "rows.csv", 90e-6 * rows, 0)
        frame = pl.read_csv(folder / "rows.csv").head(rows)
        made = pl.concat([frame, pl.read_csv(SAMPLE).select("text", "aspect", "label", pl.lit("x").alias("segment"))])
        texts, aspects = made["text"].to_list(), made["aspect"].to_list()
        labels = made["label"].clip(0, 2).to_numpy().astype(np.int8)
        found: dict[str, float] = {"rows": len(texts)}
        began = time.process_time()
        token_rows = tokenize_columns(texts, aspects, labels, fast)
        pack_shard(token_rows)
        tokens = float(token_rows.lengths.sum())
        found["tokens_per_s"] = tokens / (time.process_time() - began)
        equal, reference_s = 0, 0.0
        for start in range(0, len(texts), 10_000):
            pairs = list(zip(texts[start : start + 10_000], aspects[start : start + 10_000], strict=True))
            began = time.process_time()
            encoded = reference.encode(pairs)
            reference_s += time.process_time() - began
            for row, each in enumerate(encoded, start):
                text, aspect = token_rows.text(row), token_rows.aspect(row)
                ids = each.input_ids
                equal += np.array_equal(ids[1 : len(text) + 1], text) and np.array_equal(
                    ids[len(text) + 2 : -1], aspect
                )
        found["reference_tokens_per_s"] = tokens / reference_s
        found["equal_share"] = equal / len(texts)
        write_shard(folder, token_rows, path, 128)
        for name, compose in (("batches", None), ("composed_batches", Composer(Connectors.of(fast), 0.3, 128))):
            stream = BatchStream(
                ShardCorpus(folder),
                layout=Form(tokens=65_536, full=True),
                seed=0,
                compose=compose,
                choice=Choice(pool=2.0),
            ).from_position(Position())
            began, seen = time.process_time(), 0
            while seen < 5_000_000:
                seen += next(stream)[2].tokens
            found[f"{name}_tokens_per_s"] = seen / (time.process_time() - began)
            stream.close()
    return found


def sample() -> list[tuple[str, str, int]]:
    """Rows of the bundled data."""
    with SAMPLE.open(encoding="utf-8", newline="") as file:
        return [(row["text"], row["aspect"], int(row["label"])) for row in csv.DictReader(file)]


PEER = "transformers"
ALL, TOP, LATER = "all layers", "top 3 layers", ", later passes"
CASES: dict[str, Callable[[float], dict[str, float]]] = {
    ALL: ours,
    f"{ALL}, 512 tokens": partial(ours, batch_tokens=512),
    f"{ALL}, 1024 tokens": partial(ours, batch_tokens=1_024),
    TOP: partial(ours, passes="first", train_layers=3),
    f"{TOP}, 1024 tokens": partial(ours, passes="first", batch_tokens=1_024, train_layers=3),
    f"{TOP}{LATER}": partial(ours, passes="later", train_layers=3),
    f"{TOP}{LATER}, 1024 tokens": partial(ours, passes="later", batch_tokens=1_024, train_layers=3),
    PEER: transformers_trainer,
}
_ON_GPU = (ALL, TOP, PEER)


def measure(case: str, seconds: float) -> dict[str, float]:
    """One run in a process of its own: threads and memory of one are not the other's."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.training.train_throughput", "--case", case, "--seconds", str(seconds)],
        cwd=ROOT, env=os.environ | {"OMP_WAIT_POLICY": "PASSIVE"}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def _tokens_of(rows: int) -> dict[str, float]:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.training.train_throughput", "--tokens", str(rows)],
        cwd=ROOT, env=os.environ | {"POLARS_MAX_THREADS": "1"}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def main() -> None:
    """Run the cases in turns and write the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=20.0, help="seconds of each run")
    parser.add_argument("--runs", type=int, default=3, help="runs of each case, in turns")
    parser.add_argument("--tokens", type=int, metavar="ROWS", help="the tokenizing alone; prints its figures")
    parser.add_argument("--token-rows", type=int, default=200_000, help="rows that are tokenised")
    parser.add_argument("--out", type=Path, default=None)
    parser.add_argument("--case", choices=CASES, help="one run of one case; prints its figure")
    arguments = parser.parse_args()
    if arguments.case:
        print(json.dumps(CASES[arguments.case](arguments.seconds)))
        return
    if arguments.tokens:
        print(json.dumps(tokenizing(arguments.tokens)))
        return
    rows = training_rows(arguments.seconds, arguments.runs)
    gpu = gpu_name()
    if gpu is None:
        rows += token_rows(arguments.token_rows, arguments.runs)
    packages = {name: version(name) for name in ("torch", "transformers", "accelerate", "tokenizers")}
    write_result(
        arguments.out or (RESULT if gpu is None else GPU_RESULT), name="train_throughput",
        command="make benchmark-train_throughput", seed=0, rows=rows, versions=packages, accelerator=gpu,
    )  # fmt: skip


def training_rows(seconds: float, runs: int) -> list[Row]:
    """Both trainers in turns, ours with several sizes of a batch and numbers of layers that learn."""
    found: dict[str, list[dict[str, float]]] = {case: [] for case in (_ON_GPU if gpu_name() else CASES)}
    for run in range(runs):
        for case, values in found.items():
            values.append(measure(case, seconds))
            print(f"run {run + 1} {case}: {json.dumps(values[-1])}", flush=True)
    speeds = {case: [each["tokens_per_s"] for each in values] for case, values in found.items()}
    where, rows = f"MiniLM-L6 on {gpu_name() or 'all cores'}", []
    for case, values in found.items():
        if case == PEER:
            peer = f"transformers {version('transformers')} Trainer"
            rows.append(_row(where, "tokens_per_s", speeds[case], "tokens/s", peer=peer))
            continue
        aim = {}
        if gpu_name() and case == ALL:
            aim = {"target": f">= {TARGET_ON_GPU:.0f}", "met": statistics.median(speeds[case]) >= TARGET_ON_GPU}
        rows.append(_row(f"{where}, {case}", "tokens_per_s", speeds[case], "tokens/s", **aim))
        if "mfu" in values[0]:
            rows.append(_row(f"{where}, {case}", "mfu", [each["mfu"] for each in values], "share"))
        times = [mine / theirs for mine, theirs in zip(speeds[case], speeds[PEER], strict=True)]
        target = TARGET_TIMES["all" if case.startswith(ALL) else "later" if LATER in case else "top"]
        aim = {"target": f">= {target:g}", "met": statistics.median(times) >= target}
        rows.append(_row(f"{case}, beside the peer, pairs of runs", "times", times, "times", **aim))
    return rows


def token_rows(count: int, runs: int) -> list[Row]:
    """From texts to batches on one thread."""
    found, rows = [_tokens_of(count) for _ in range(runs)], []
    case = f"{found[0]['rows']:.0f} rows on one thread"
    for metric, key, target, of in (
        ("texts to shards", "tokens_per_s", TARGET_TOKENS, {}),
        ("texts to ids", "reference_tokens_per_s", None, {"peer": f"tokenizers {version('tokenizers')}"}),
        ("shards to batches", "batches_tokens_per_s", None, {}),
        ("shards to batches, texts joined", "composed_batches_tokens_per_s", None, {}),
    ):
        values = [each[key] for each in found]
        aim = {"target": f">= {target:.0f}", "met": statistics.median(values) >= target} if target else {}
        rows.append(_row(case, metric, values, "tokens/s", **aim, **of))
    equal = [each["equal_share"] for each in found]
    rows.append(_row(case, "rows with the reference's ids", equal, "share", target="1", met=min(equal) == 1.0))
    return rows


def _row(case: str, metric: str, values: list[float], unit: str, **more: object) -> Row:
    digits = 4 if unit == "share" else 2
    return Row(
        case=case, metric=metric, value=round(statistics.median(values), digits), low=round(min(values), digits),
        high=round(max(values), digits), runs=len(values), unit=unit, **more,  # type: ignore[arg-type]
    )  # fmt: skip


if __name__ == "__main__":
    main()
