"""Batch size in tokens: from the number of rows on a GPU, from measured speed and time left on a CPU. Pure.

Larger batches take less time per row, but the model learns less per row, because there are fewer steps. So larger
batches are used only if the passes would not fit into the time otherwise.
"""

from collections.abc import Mapping
from typing import Final

CPU_SIZES: Final = (256, 512, 1_024)  # tokens; learning rates were tuned for the first size
FEWEST_STEPS: Final = 150  # of a training on a CPU with a batch above the smallest
_RATE_POWER: Final = 0.25  # not measured on a GPU
_GPU_TOKENS: Final = 65_536
_FEWEST_GPU_TOKENS: Final = 2_048
_TOKENS_PER_ROW: Final = 40  # estimate
_STEPS_PER_PASS: Final = 50  # at least, on a GPU


def gpu_batch_tokens(rows: int) -> int:
    """Return the tokens of a batch on a GPU: large, unless a pass over few rows would have too few steps."""
    return min(_GPU_TOKENS, max(_FEWEST_GPU_TOKENS, rows * _TOKENS_PER_ROW // _STEPS_PER_PASS))


def cpu_batch_tokens(speeds: Mapping[int, float], *, needed: float, time_s: float) -> int:
    """Return the smallest size with which all passes fit into the time, or else the fastest size with enough steps.

    Args:
        speeds: measured tokens per second by size, the smallest size included.
        needed: number of tokens of all passes.
        time_s: seconds left.
    """
    least = min(speeds)
    for tokens in sorted(speeds):
        if speeds[tokens] * time_s >= needed and (tokens == least or needed / tokens >= FEWEST_STEPS):
            return tokens
    enough = [tokens for tokens in speeds if speeds[tokens] * time_s / tokens >= FEWEST_STEPS]
    return max(enough, key=speeds.__getitem__, default=least)


def rate_factor(batch_tokens: int) -> float:
    """Return the factor of the learning rates for a batch of `batch_tokens` tokens."""
    return float((batch_tokens / CPU_SIZES[0]) ** _RATE_POWER)
