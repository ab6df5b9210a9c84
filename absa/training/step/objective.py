"""Loss of a training step: cross entropy, with R-Drop if the settings require it."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - the usual name

from absa.training.training_settings import TrainingSettings


def objective(forward: Callable[[], Tensor], targets: Tensor, settings: TrainingSettings) -> Tensor:
    """Return the sum of the loss over rows.

    Args:
        forward: runs the rows through the model and returns logits (B, labels).
        targets: labels (B,), or the probability of each label (B, labels). A label of -100, or probabilities of
            zero, mean a missing row, which has a loss of 0.
        settings: label smoothing, and the weight of R-Drop, which needs a second pass.
    """
    present = (targets >= 0 if targets.ndim == 1 else targets.sum(1) > 0).to(torch.float32)
    loss = _row_losses(logits := forward(), targets, settings)
    if settings.r_drop:
        other = forward()
        loss = (loss + _row_losses(other, targets, settings)) / 2
        loss = loss + settings.r_drop * divergence(logits, other)
    return torch.dot(loss, present)


def _row_losses(logits: Tensor, targets: Tensor, settings: TrainingSettings) -> Tensor:
    return F.cross_entropy(logits, targets, label_smoothing=settings.label_smoothing, reduction="none")


def divergence(first: Tensor, second: Tensor) -> Tensor:
    """Return the mean of both Kullback-Leibler divergences of two passes with different dropout, per row (B,).

    R-Drop (Wu et al. 2021, arXiv:2106.14448).
    """
    one, two = first.log_softmax(1), second.log_softmax(1)
    there = F.kl_div(one, two, reduction="none", log_target=True)
    return (there + F.kl_div(two, one, reduction="none", log_target=True)).sum(1) / 2
