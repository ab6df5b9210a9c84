"""Targets of a student from its teachers: on labelled rows beside the label, on unlabelled ones instead of it.

Hinton et al. 2015, arXiv:1503.02531. Teachers are averaged, so an ensemble becomes one student of any size.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch.nn.attention import sdpa_kernel

from absa.modeling.head import Classifier
from absa.training.device import ATTENTION
from absa.training.rows.batches import for_scoring
from absa.training.rows.tokens import Targets, TokenRows, stack


def score_as_teacher(model: Classifier, rows: TokenRows) -> Targets:
    """Scores (n, labels) of a model in fp32 on the device that it is on, uncalibrated."""
    scores = np.zeros((len(rows), model.task.n_labels), np.float32)
    model.eval()
    device = model.classifier.weight.device
    with torch.inference_mode(), sdpa_kernel(ATTENTION):
        for index, batch in for_scoring(rows):
            mask = None if batch.mask is None else torch.from_numpy(batch.mask).to(device)
            inputs = (torch.from_numpy(each).to(device) for each in (batch.input_ids, batch.token_types))
            scores[index] = model(*inputs, mask).softmax(1).cpu().numpy()
    return scores


def taught(labelled: TokenRows, unlabelled: TokenRows | None, teachers: Sequence[Targets], weight: float) -> TokenRows:
    """Rows for a student.

    Args:
        labelled: rows whose label counts too.
        unlabelled: rows whose label is what the teachers say; their own is passed over.
        teachers: scores (n, labels) of each on the labelled rows followed by the unlabelled ones.
        weight: share of the teachers in a labelled row's target; the label has the rest.

    Raises:
        ValueError: no teacher, or another number of rows than of scores.
    """
    if not teachers:
        raise ValueError("a student needs a teacher")
    said: Targets = np.asarray(np.mean(teachers, axis=0, dtype=np.float64), dtype=np.float32)
    rows = labelled if unlabelled is None else stack([labelled, unlabelled])
    if said.ndim != 2 or len(said) != len(rows):
        raise ValueError(f"expected scores of {len(rows)} rows, got {said.shape}")
    targets = said.copy()
    known = np.eye(said.shape[1], dtype=np.float32)[labelled.labels.astype(np.int64)]
    targets[: len(labelled)] = weight * said[: len(labelled)] + (1 - weight) * known
    return replace(rows, targets=targets, labels=targets.argmax(1).astype(np.int8))
