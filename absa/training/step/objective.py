"""Loss of a training step: cross entropy, with R-Drop where the settings require it."""

from collections.abc import Callable

from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - the name that everyone knows it by

from absa.training.training_settings import TrainingSettings


def objective(forward: Callable[[], Tensor], targets: Tensor, settings: TrainingSettings) -> Tensor:
    """Return the loss summed over rows.

    Args:
        forward: passes the rows through the model; returns logits (B, labels).
        targets: labels (B,), or the probability of each label (B, labels).
        settings: label smoothing, and the weight of R-Drop, which costs a second pass.
    """
    loss = _row_loss(logits := forward(), targets, settings)
    if not settings.r_drop:
        return loss
    other = forward()
    loss = (loss + _row_loss(other, targets, settings)) / 2
    return loss + settings.r_drop * divergence(logits, other)


def _row_loss(logits: Tensor, targets: Tensor, settings: TrainingSettings) -> Tensor:
    return F.cross_entropy(logits, targets, label_smoothing=settings.label_smoothing, reduction="sum")


def divergence(first: Tensor, second: Tensor) -> Tensor:
    """Return the mean of both Kullback-Leibler divergences of two passes with different dropout, summed over rows.

    R-Drop (Wu et al. 2021, arXiv:2106.14448).
    """
    one, two = first.log_softmax(1), second.log_softmax(1)
    there = F.kl_div(one, two, reduction="sum", log_target=True)
    return (there + F.kl_div(two, one, reduction="sum", log_target=True)) / 2
