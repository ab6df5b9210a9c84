"""Temperature scaling: one number that turns scores into shares of right answers.

Guo et al. 2017, https://arxiv.org/abs/1706.04599. The temperature divides the logits; it changes no label.
"""

from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from absa.evaluation.reliability import expected_calibration_error

Logits = npt.NDArray[np.floating[Any]]
_Labels = npt.NDArray[np.integer[Any]]

_LOWEST: Final = 0.25
_HIGHEST: Final = 8.0
_SMALLEST_SAMPLE: Final = 20  # with fewer rows, a temperature would mostly reflect chance
_TOLERANCE: Final = 1e-4  # relative, of the temperature


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """Content of calibration.json. ECE is the expected calibration error, as in the gate; 0 without rows."""

    temperature: float
    ece_before: float
    ece_after: float
    nll_before: float
    nll_after: float
    rows: int

    def to_json(self) -> dict[str, Any]:
        """Return the file's content."""
        return asdict(self)


def calibrate(logits: Logits, labels: _Labels) -> Calibration:
    """Find the temperature with the lowest negative log likelihood.

    Args:
        logits: logits (n, labels), or log probabilities, which differ from logits by a constant per row.
        labels: true labels (n,).

    Returns:
        The calibration. Its temperature is between 0.25 and 8; it is 1 if there are fewer than 20 rows.
    """
    rows = len(labels)
    temperature = _minimise(logits, labels) if rows >= _SMALLEST_SAMPLE else 1.0
    return Calibration(
        temperature=round(temperature, 6),
        ece_before=_ece(logits, labels, 1.0),
        ece_after=_ece(logits, labels, temperature),
        nll_before=_nll(logits, labels, 1.0),
        nll_after=_nll(logits, labels, temperature),
        rows=rows,
    )


def _minimise(logits: Logits, labels: _Labels) -> float:
    """Return the best temperature. The search is over its logarithm, in which the function has one minimum."""
    from scipy.optimize import minimize_scalar  # slow to import

    found = minimize_scalar(
        lambda log: _nll(logits, labels, float(np.exp(log))),
        bounds=(np.log(_LOWEST), np.log(_HIGHEST)),
        method="bounded",
        options={"xatol": _TOLERANCE},
    )
    return float(np.exp(found.x))


def _ece(logits: Logits, labels: _Labels, temperature: float) -> float:
    return expected_calibration_error(labels, _softmax(logits / temperature)) if len(labels) else 0.0


def _nll(logits: Logits, labels: _Labels, temperature: float) -> float:
    if not len(labels):
        return 0.0
    scores = _softmax(logits / temperature)
    return float(-np.log(np.maximum(scores[np.arange(len(labels)), labels], 1e-12)).mean())


def _softmax(logits: Logits) -> Logits:
    exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
    scores: Logits = exponentials / exponentials.sum(axis=1, keepdims=True)
    return scores
