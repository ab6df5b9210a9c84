"""Trained parameters and their learning rates."""

from typing import Any, Final

from torch import nn

from absa.modeling.architecture import PairClassifier
from absa.training.training_settings import TrainingSettings

_WEIGHT_DECAY: Final = 0.01


def parameter_groups(model: PairClassifier, settings: TrainingSettings, *, new_head: bool) -> list[dict[str, Any]]:
    """Return parameters with their peak rates: a new head has its own, norms and biases do not decay."""
    depth = model.architecture.layers
    groups: dict[tuple[float, bool], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(not _is_frozen(name, depth, settings))
        if not parameter.requires_grad:
            continue
        fast = new_head and name.startswith("classifier.")
        rate = settings.head_learning_rate if fast else settings.learning_rate
        groups.setdefault((rate, parameter.ndim > 1), []).append(parameter)
    return [
        {"params": parameters, "lr": rate, "peak": rate, "weight_decay": _WEIGHT_DECAY if matrix else 0.0}
        for (rate, matrix), parameters in groups.items()
    ]


def _is_frozen(name: str, depth: int, settings: TrainingSettings) -> bool:
    if not settings.train_words and name.startswith(("words.", "places.")):
        return True
    frozen = 0 if settings.train_layers is None else max(0, depth - settings.train_layers)
    if name.startswith("layers."):
        return int(name.split(".")[1]) < frozen
    return frozen > 0 and not name.startswith("classifier.")
