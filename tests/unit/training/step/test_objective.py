"""What a step minimises, its variants beside plain cross entropy."""

import pytest
import torch
from torch.nn import functional as F  # noqa: N812

from absa.errors import PermanentError
from absa.training.step.objective import divergence, objective, row_loss
from absa.training.training_settings import TrainingSettings

LOGITS = torch.tensor([[2.0, 0.0, -1.0], [0.5, 0.2, 0.1]])
LABELS = torch.tensor([0, 2])
SHAPE = (2, 1, 3)


def settings(**values: float) -> TrainingSettings:
    return TrainingSettings(**values)  # type: ignore[arg-type]


def test_without_settings_it_is_cross_entropy() -> None:
    assert objective(lambda _: LOGITS, SHAPE, LABELS, settings()) == F.cross_entropy(LOGITS, LABELS, reduction="sum")


def test_targets_of_certainty_cost_what_labels_cost() -> None:
    sure = F.one_hot(LABELS, 3).float()
    for chosen in (settings(), settings(noise_robustness=0.5), settings(label_smoothing=0.1)):
        assert row_loss(LOGITS, sure, chosen) == pytest.approx(row_loss(LOGITS, LABELS, chosen).item())


def test_the_robust_loss_is_cross_entropy_at_its_low_end_and_bounded_at_its_high_end() -> None:
    near = row_loss(LOGITS, LABELS, settings(noise_robustness=1e-4))
    assert near == pytest.approx(row_loss(LOGITS, LABELS, settings()).item(), rel=1e-3)
    absurd = torch.tensor([[-50.0, 50.0, 0.0]])
    assert row_loss(absurd, LABELS[:1], settings(noise_robustness=1.0)) <= 1.0


def test_two_passes_that_agree_have_no_divergence_and_others_have() -> None:
    assert divergence(LOGITS, LOGITS) == pytest.approx(0.0, abs=1e-6)
    assert divergence(LOGITS, LOGITS.flip(1)) > 0.1


def test_r_drop_adds_the_divergence_of_two_passes() -> None:
    passes = iter([LOGITS, LOGITS.flip(1)])
    chosen = settings(r_drop=2.0, dropout=0.1)
    both = (row_loss(LOGITS, LABELS, chosen) + row_loss(LOGITS.flip(1), LABELS, chosen)) / 2
    found = objective(lambda _: next(passes), SHAPE, LABELS, chosen)
    assert found == pytest.approx((both + 2.0 * divergence(LOGITS, LOGITS.flip(1))).item())


def test_the_adversary_moves_embeddings_by_its_length_and_makes_it_worse() -> None:
    moved = []

    def forward(shift: torch.Tensor | None) -> torch.Tensor:
        assert shift is not None
        moved.append(shift.detach())
        return LOGITS + shift[:, 0]

    loss = objective(forward, SHAPE, LABELS, settings(adversarial=0.5))
    assert moved[0].abs().sum() == 0
    assert torch.allclose(moved[1].flatten(1).norm(dim=1), torch.tensor(0.5))
    assert loss > row_loss(LOGITS, LABELS, settings())


@pytest.mark.parametrize("values", [{"r_drop": 1.0}, {"noise_robustness": 1.5}, {"adversarial": -1.0}])
def test_a_setting_out_of_range_is_named(values: dict[str, float]) -> None:
    with pytest.raises(PermanentError, match=next(iter(values))):
        settings(**values)
