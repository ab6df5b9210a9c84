"""Trained parameters and their learning rates."""

from typing import Any, Final

from torch import nn

from absa.modeling.head import CLASSIFIER_PREFIX, Classifier
from absa.training.training_settings import TrainingSettings

_WEIGHT_DECAY: Final = 0.01


def parameter_groups(model: Classifier, settings: TrainingSettings, *, new_head: bool) -> list[dict[str, Any]]:
    """Return parameters with learning rates. A new head has its own rate; norms and biases have no weight decay."""
    groups: dict[tuple[float, bool], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(not _is_frozen(model, name, settings))
        if not parameter.requires_grad:
            continue
        fast = new_head and name.startswith(CLASSIFIER_PREFIX)
        rate = settings.head_learning_rate if fast else settings.learning_rate
        groups.setdefault((rate, parameter.ndim > 1), []).append(parameter)
    return [
        {"params": parameters, "lr": rate, "rate": rate, "weight_decay": _WEIGHT_DECAY if matrix else 0.0}
        for (rate, matrix), parameters in groups.items()
    ]


def frozen_layers(model: Classifier, settings: TrainingSettings) -> int:
    """Return the number of the lowest layers that do not learn; if there are any, embeddings do not learn either."""
    return 0 if settings.train_layers is None else max(0, model.architecture.layers - settings.train_layers)


def _is_frozen(model: Classifier, name: str, settings: TrainingSettings) -> bool:
    if not settings.train_words and model.is_table(name):
        return True
    layer, frozen = model.layer_of(name), frozen_layers(model, settings)
    if layer is not None:
        return layer < frozen
    return frozen > 0 and not name.startswith(CLASSIFIER_PREFIX)
