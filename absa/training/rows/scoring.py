"""Scores of rows by a model that is being trained, in fp32."""

import numpy as np
import torch
from torch.nn.attention import sdpa_kernel

from absa.modeling.head import Classifier
from absa.training.device import ATTENTION
from absa.training.rows.batches import for_scoring
from absa.training.rows.tokens import Targets, TokenRows


def score_as_teacher(model: Classifier, rows: TokenRows) -> Targets:
    """Return uncalibrated scores (n, labels) of a model in fp32, computed on its device."""
    scores = np.zeros((len(rows), model.task.n_labels), np.float32)
    model.eval()
    device = model.classifier.weight.device
    with torch.inference_mode(), sdpa_kernel(ATTENTION):
        for index, batch in for_scoring(rows):
            mask = None if batch.mask is None else torch.from_numpy(batch.mask).to(device)
            inputs = (torch.from_numpy(each).to(device) for each in (batch.input_ids, batch.token_types))
            scores[index] = model(*inputs, mask).softmax(1).cpu().numpy()
    return scores
