"""Speed of training: tokens per second, floating-point operations per token, and peak operations of a device."""

import time
from collections.abc import Callable, Iterable
from typing import Final, Protocol

import torch
from torch import Tensor

from absa.modeling.architecture import Architecture
from absa.training.step.execution import Staged

_PEAKS: Final = {  # dense bf16 operations per second, from the vendor's data sheets
    "H100": 989e12, "H200": 989e12, "A100": 312e12, "L40S": 362e12, "L4": 121e12, "A10": 125e12, "T4": 65e12,
}  # fmt: skip
_SIDE: Final = 512  # side of the matrices with which the peak of a CPU is measured
_TRIES: Final = 5
_MEASURED_S: Final = 1.0
_OF_A_STEP: Final = 0.9  # share of forward and backward in a step's time; the rest is the optimiser


class MeasureSpeed(Protocol):
    """Measurement of the tokens per second of a training."""

    def __call__(self, batches: Iterable[Staged], backward: Callable[[Staged, int], Tensor], *, warm: int) -> float:
        """Return tokens per second of the batches after the first `warm`."""


def learned_tokens_per_s(batches: Iterable[Staged], backward: Callable[[Staged, int], Tensor], *, warm: int) -> float:
    """Return the tokens per second, without padding, of training steps. Adds gradients of the measured batches.

    Args:
        batches: full batches, more than `warm`; they are run until one second has passed.
        backward: runs a batch; the second argument is the number of rows of its step.
        warm: number of first batches that are not timed, because memory is allocated and kernels are compiled.
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
    """Return the operations per trained token: two per weight forward, four backward, and attention.

    The count is that of Kaplan et al. 2020 (https://arxiv.org/abs/2001.08361), section 2.1, for attention in both
    directions.

    Args:
        sizes: sizes of the encoder.
        tokens_per_row: mean number of tokens per row.
        frozen: number of the lowest layers that do not learn.
        lower_share: share of the tokens for which the frozen layers ran, 0 to 1.
    """
    weights = 4 * sizes.hidden**2 + 2 * sizes.hidden * sizes.intermediate
    forward = 2.0 * weights + 4.0 * sizes.hidden * tokens_per_row  # per layer
    return forward * (3.0 * (sizes.layers - frozen) + lower_share * frozen)


def peak_flops(device: torch.device, dtype: torch.dtype) -> float:
    """Return the peak operations per second: the vendor's figure for a known GPU, otherwise measured."""
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
