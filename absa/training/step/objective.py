"""What a step minimises: cross entropy, and the variants of it that a setting asks for."""

from collections.abc import Callable
from typing import Final

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - the name that everyone knows it by

from absa.task import N_LABELS
from absa.training.training_settings import TrainingSettings

Forward = Callable[[Tensor | None], Tensor]
"""Logits (B, 3) of a part of a batch; its embeddings are moved by the argument (B, T, H), or not by None."""

_TINY: Final = 1e-12


def objective(forward: Forward, shape: tuple[int, int, int], targets: Tensor, settings: TrainingSettings) -> Tensor:
    """Loss summed over rows, with the passes through the model that it takes.

    Args:
        forward: the model's pass.
        shape: (B, T, H) of the embeddings.
        targets: labels (B,), or how likely each label is (B, 3).
        settings: which variant.
    """
    if settings.adversarial:
        return _adversarial(forward, shape, targets, settings)
    loss = row_loss(logits := forward(None), targets, settings)
    if not settings.r_drop:
        return loss
    other = forward(None)
    loss = (loss + row_loss(other, targets, settings)) / 2
    return loss + settings.r_drop * divergence(logits, other)


def row_loss(logits: Tensor, targets: Tensor, settings: TrainingSettings) -> Tensor:
    """Cross entropy summed over rows, or the generalised one where `noise_robustness` is above 0.

    That is (1 - p^q) / q for the probability p of the right label (Zhang & Sabuncu 2018, arXiv:1805.07836): rows that
    the model will not believe pull less, q = 1 is the mean absolute error, and q near 0 is cross entropy.
    """
    if not settings.noise_robustness:
        return F.cross_entropy(logits, targets, label_smoothing=settings.label_smoothing, reduction="sum")
    if targets.ndim == 1:
        targets = F.one_hot(targets, N_LABELS).to(logits.dtype)
    smoothed = targets * (1 - settings.label_smoothing) + settings.label_smoothing / N_LABELS
    likely = logits.softmax(1).clamp_min(_TINY)
    each = (1 - likely**settings.noise_robustness) / settings.noise_robustness  # (B, 3)
    return (smoothed * each).sum()


def divergence(first: Tensor, second: Tensor) -> Tensor:
    """Mean of the two Kullback-Leibler divergences of two passes with other units dropped, summed over rows.

    R-Drop (Wu et al. 2021, arXiv:2106.14448).
    """
    one, two = first.log_softmax(1), second.log_softmax(1)
    there = F.kl_div(one, two, reduction="sum", log_target=True)
    return (there + F.kl_div(two, one, reduction="sum", log_target=True)) / 2


def _adversarial(forward: Forward, shape: tuple[int, int, int], targets: Tensor, settings: TrainingSettings) -> Tensor:
    """Mean of the loss and of that at embeddings moved where they hurt most, by a length that the setting gives a row.

    FGM (Miyato et al. 2017, arXiv:1605.07725).
    """
    still = torch.zeros(shape, device=targets.device, requires_grad=True)
    loss = row_loss(forward(still), targets, settings)
    (slope,) = torch.autograd.grad(loss, still, retain_graph=True)
    length = slope.flatten(1).norm(dim=1).clamp_min(_TINY)[:, None, None]
    moved = forward(settings.adversarial * slope / length)
    return (loss + row_loss(moved, targets, settings)) / 2
