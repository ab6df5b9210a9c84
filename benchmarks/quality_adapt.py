"""Task-adaptive pretraining for `benchmarks.quality`: guess masked words of texts before any label is seen.

Gururangan et al. 2020, arXiv:2004.10964. The packaged encoder came without its language-model head, so one is made
whose output words are the model's own.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from absa.inference.tokenization import PairTokenizer
from absa.modeling.architecture import PairClassifier
from absa.training.rows.batches import assemble, plan
from absa.training.rows.tokens import LabelledPair, tokenize
from absa.training.step.schedule import rate_share

MASK, FIRST_WORD, VOCABULARY_OF_NOISE = 103, 999, 29_000
MASKED, REPLACED, LEFT = 0.15, 0.1, 0.1
PASSES, RATE, WARMUP, BATCH_TOKENS = 8, 1e-4, 0.1, 2_048


def adapt(model: PairClassifier, texts: Sequence[str], tokenizer: PairTokenizer, seed: int) -> None:
    """Train the encoder in place to guess masked words of the texts."""
    import torch
    from torch import nn

    torch.manual_seed(seed)
    chance = np.random.default_rng(seed)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    width = model.architecture.hidden
    head = nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.LayerNorm(width)).to(device)
    bias = nn.Parameter(torch.zeros(model.architecture.vocabulary, device=device))
    model.to(device).train()
    learned: list[Any] = [*model.layers.parameters(), *model.embedding_norm.parameters(), *head.parameters(), bias]
    optimizer = torch.optim.AdamW(learned, lr=RATE, weight_decay=0.01)
    rows = tokenize([LabelledPair(text, "", 1) for text in texts], tokenizer)
    steps, step = PASSES * len(plan(rows.lengths, BATCH_TOKENS, np.random.default_rng(0), padding=True)), 0
    for _ in range(PASSES):
        for index in plan(rows.lengths, BATCH_TOKENS, chance, padding=True):
            batch = assemble(rows, index)
            hidden, guessed = hide(batch.input_ids, chance)
            mask = None if batch.mask is None else torch.from_numpy(batch.mask).to(device)
            seen = torch.from_numpy(hidden).to(device), torch.from_numpy(batch.token_types).to(device)
            embedded = model.embed(*seen, model.find_aspect(*seen))
            states = model.encode(embedded, mask)[torch.from_numpy(guessed).to(device)]
            logits = head(states) @ model.words.weight.T + bias
            truth = torch.from_numpy(batch.input_ids[guessed]).to(device)
            for group in optimizer.param_groups:
                group["lr"] = RATE * rate_share((step + 1) / steps, WARMUP)
            nn.functional.cross_entropy(logits, truth).backward()
            nn.utils.clip_grad_norm_(learned, 1.0)
            optimizer.step()
            optimizer.zero_grad()
            step += 1
    model.cpu()


def hide(ids: Any, chance: np.random.Generator) -> tuple[Any, Any]:
    """Token ids with some hidden, and where: of those, most masked, some another word, some as they were."""
    guessed = (ids >= FIRST_WORD) & (chance.random(ids.shape) < MASKED)
    if not guessed.any():
        guessed.flat[int(np.argmax(ids))] = True
    draw = chance.random(ids.shape)
    noise = FIRST_WORD + chance.integers(0, VOCABULARY_OF_NOISE, ids.shape)
    hidden = np.where(guessed & (draw < REPLACED), noise, ids)
    return np.where(guessed & (draw >= REPLACED + LEFT), MASK, hidden), guessed
