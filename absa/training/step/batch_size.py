"""Tokens of a batch: by the rows on a GPU, by the measured speed and the time left on a CPU. Pure.

Larger batches are learned faster, and teach less per row because there are fewer steps. So a batch grows only where the
passes do not fit into the time otherwise.
"""

from collections.abc import Mapping
from typing import Final

CPU_SIZES: Final = (256, 512, 1_024)  # tokens; rates were found for the first
FEWEST_STEPS: Final = 150  # of a training on a CPU, for a batch above the smallest
_RATE_POWER: Final = 0.25  # not measured on a GPU
_GPU_TOKENS: Final = 65_536
_FEWEST_GPU_TOKENS: Final = 2_048
_TOKENS_PER_ROW: Final = 40  # about
_STEPS_PER_PASS: Final = 50  # at least, on a GPU


def gpu_batch_tokens(rows: int) -> int:
    """Return the tokens of a batch on a GPU: large, but not so large that a pass over few rows has few steps."""
    return min(_GPU_TOKENS, max(_FEWEST_GPU_TOKENS, rows * _TOKENS_PER_ROW // _STEPS_PER_PASS))


def cpu_batch_tokens(speeds: Mapping[int, float], *, needed: float, time_s: float) -> int:
    """Return the smallest size with which all passes fit into the time, or else the fastest with enough steps.

    Args:
        speeds: tokens per second of some sizes, the smallest among them.
        needed: tokens of all passes.
        time_s: seconds left.
    """
    least = min(speeds)
    for tokens in sorted(speeds):
        if speeds[tokens] * time_s >= needed and (tokens == least or needed / tokens >= FEWEST_STEPS):
            return tokens
    enough = [tokens for tokens in speeds if speeds[tokens] * time_s / tokens >= FEWEST_STEPS]
    return max(enough, key=speeds.__getitem__, default=least)


def rate_factor(batch_tokens: int) -> float:
    """Return the factor of the learning rates for a batch of so many tokens."""
    return float((batch_tokens / CPU_SIZES[0]) ** _RATE_POWER)
