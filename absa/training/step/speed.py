"""Speed of training: floating-point operations per token, and the most that a device reaches."""

import time
from collections.abc import Callable, Iterable
from typing import Final, Protocol

import torch
from torch import Tensor

from absa.modeling.architecture import Architecture
from absa.training.step.execution import Staged

_PEAKS: Final = {  # dense bf16 operations a second, from the vendor's data sheets
    "H100": 989e12, "H200": 989e12, "A100": 312e12, "L40S": 362e12, "L4": 121e12, "A10": 125e12, "T4": 65e12,
}  # fmt: skip
_SIDE: Final = 512  # of the matrices with which a CPU's peak is measured
_TRIES: Final = 5
_MEASURED_S: Final = 1.0
_OF_A_STEP: Final = 0.9  # of a step's time is forward and backward; the rest is the optimiser's


class MeasureSpeed(Protocol):
    """Measure of how many tokens per second are learned from."""

    def __call__(self, batches: Iterable[Staged], backward: Callable[[Staged, int], Tensor], *, warm: int) -> float:
        """Return tokens per second of the batches after the first `warm`."""


def learned_tokens_per_s(batches: Iterable[Staged], backward: Callable[[Staged, int], Tensor], *, warm: int) -> float:
    """Return the tokens per second, without padding, that steps would learn, from some batches; adds their gradients.

    Args:
        batches: full ones, more than `warm`; each is run until a second has passed.
        backward: runs a batch that is the given number of rows of its step.
        warm: first batches that are not timed, because memory is allocated and kernels are compiled.
    """
    tokens, started = 0, time.perf_counter()
    for number, batch in enumerate(batches):
        loss = backward(batch, batch.rows)
        if number < warm:
            float(loss)  # waits for the device
            started = time.perf_counter()
            continue
        tokens += batch.tokens
        if time.perf_counter() - started > _MEASURED_S:
            break
    float(loss)
    return _OF_A_STEP * tokens / (time.perf_counter() - started)


def flops_per_token(sizes: Architecture, tokens_per_row: float, *, frozen: int = 0, lower_share: float = 1.0) -> float:
    """Return the operations of learning one token: two for each weight forward, four backward, and attention.

    The count of Kaplan et al. 2020 (https://arxiv.org/abs/2001.08361), section 2.1, with attention in both directions.

    Args:
        sizes: of the encoder.
        tokens_per_row: on average.
        frozen: lowest layers that do not learn.
        lower_share: share of the tokens for which those ran, 0 to 1.
    """
    weights = 4 * sizes.hidden**2 + 2 * sizes.hidden * sizes.intermediate
    forward = 2.0 * weights + 4.0 * sizes.hidden * tokens_per_row  # of one layer
    return forward * (3.0 * (sizes.layers - frozen) + lower_share * frozen)


def peak_flops(device: torch.device, dtype: torch.dtype) -> float:
    """Return the peak operations per second: of a known GPU its vendor's, otherwise those of a large product."""
    if device.type == "cuda":
        name = torch.cuda.get_device_name(device)
        for known in sorted(_PEAKS, key=len, reverse=True):
            if known in name and dtype == torch.bfloat16:
                return _PEAKS[known]
    side = _SIDE if device.type == "cpu" else 16 * _SIDE
    left, right = (torch.ones(side, side, device=device, dtype=dtype) for _ in range(2))
    times = []
    for _ in range(_TRIES):
        started = time.perf_counter()
        left @ right
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        times.append(time.perf_counter() - started)
    return 2.0 * side**3 / min(times)
