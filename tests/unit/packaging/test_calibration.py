"""Temperature scaling finds the temperature that made the labels, and changes none of them."""

import numpy as np
import pytest

from absa.evaluation.metrics import evaluate
from absa.packaging.calibrate import calibrate


def drawn(temperature: float, rows: int = 4000) -> tuple[np.ndarray, np.ndarray]:
    """Logits that are too sure by that factor, with labels drawn from what they should have said."""
    chance = np.random.default_rng(0)
    logits = chance.normal(size=(rows, 3)) * 2
    scores = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    labels = (chance.random(rows)[:, None] > scores.cumsum(1)).sum(1)
    return logits * temperature, np.minimum(labels, 2)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_the_temperature_that_spoiled_the_scores_is_found(temperature: float) -> None:
    found = calibrate(*drawn(temperature))
    assert found.temperature == pytest.approx(temperature, rel=0.1)
    assert found.ece_after < 0.03
    assert found.nll_after <= found.nll_before + 1e-9


def test_log_probabilities_do_as_well_as_logits() -> None:
    logits, labels = drawn(2.0)
    log_scores = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    assert calibrate(log_scores, labels).temperature == pytest.approx(calibrate(logits, labels).temperature, rel=1e-3)


@pytest.mark.parametrize("rows", [0, 1, 19])
def test_few_rows_leave_scores_unchanged(rows: int) -> None:
    logits, labels = drawn(3.0)
    found = calibrate(logits[:rows], labels[:rows])
    assert found.temperature == 1.0
    assert found.ece_before == found.ece_after


def test_always_right_model_keeps_finite_temperature() -> None:
    labels = np.arange(60) % 3
    assert 0.2 < calibrate(np.eye(3)[labels] * 5, labels).temperature < 8.1


def test_reported_error_is_gates_error() -> None:
    logits, labels = drawn(3.0)
    found = calibrate(logits, labels)
    for error, temperature in ((found.ece_before, 1.0), (found.ece_after, found.temperature)):
        scores = np.exp(logits / temperature) / np.exp(logits / temperature).sum(1, keepdims=True)
        assert error == pytest.approx(evaluate(labels, scores).ece, abs=1e-4)
