"""Loss of a step: cross entropy, and R-Drop."""

import pytest
import torch
from torch.nn import functional as F  # noqa: N812

from absa.errors import PermanentError
from absa.training.step.objective import divergence, objective
from absa.training.training_settings import TrainingSettings

LOGITS = torch.tensor([[2.0, 0.0, -1.0], [0.5, 0.2, 0.1]])
LABELS = torch.tensor([0, 2])


def settings(**values: float) -> TrainingSettings:
    return TrainingSettings(**values)  # type: ignore[arg-type]


def loss(targets: torch.Tensor, **values: float) -> float:
    return objective(lambda: LOGITS, targets, settings(**values)).item()


def test_objective_by_default_is_cross_entropy() -> None:
    assert loss(LABELS) == F.cross_entropy(LOGITS, LABELS, reduction="sum").item()


@pytest.mark.parametrize("values", [{}, {"label_smoothing": 0.1}])
def test_certain_targets_cost_what_labels_cost(values: dict[str, float]) -> None:
    assert loss(F.one_hot(LABELS, 3).float(), **values) == pytest.approx(loss(LABELS, **values))


@pytest.mark.parametrize("values", [{}, {"label_smoothing": 0.1}, {"r_drop": 2.0, "dropout": 0.1}])
@pytest.mark.parametrize("certain", [False, True])
def test_missing_rows_cost_nothing(values: dict[str, float], certain: bool) -> None:
    rows = torch.tensor([0, -100, 2])
    targets = F.one_hot(rows.clamp(min=0), 3).float() * (rows >= 0)[:, None] if certain else rows
    logits = torch.stack([LOGITS[0], torch.tensor([9.0, -9.0, 3.0]), LOGITS[1]])
    passes = iter([logits, logits.flip(1)])
    found = objective(lambda: next(passes), targets, settings(**values))
    passes = iter([LOGITS, LOGITS.flip(1)])
    assert found.item() == pytest.approx(objective(lambda: next(passes), LABELS, settings(**values)).item())


def test_divergence_of_equal_passes_is_zero() -> None:
    assert divergence(LOGITS, LOGITS).tolist() == pytest.approx([0.0, 0.0], abs=1e-6)
    assert divergence(LOGITS, LOGITS.flip(1)).sum() > 0.1


def test_r_drop_adds_the_divergence_of_two_passes() -> None:
    passes = iter([LOGITS, LOGITS.flip(1)])
    both = sum(F.cross_entropy(each, LABELS, reduction="sum") for each in (LOGITS, LOGITS.flip(1))) / 2
    found = objective(lambda: next(passes), LABELS, settings(r_drop=2.0, dropout=0.1))
    assert found == pytest.approx((both + 2.0 * divergence(LOGITS, LOGITS.flip(1)).sum()).item())


@pytest.mark.parametrize("values", [{"r_drop": 1.0}, {"r_drop": -1.0, "dropout": 0.1}])
def test_r_drop_out_of_range_is_named(values: dict[str, float]) -> None:
    with pytest.raises(PermanentError, match=next(iter(values))):
        settings(**values)
