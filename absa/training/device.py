"""Device of a training, and precision of its products."""

import time
from typing import Final

import torch
from torch.nn.attention import SDPBackend

from absa.errors import PermanentError
from absa.modeling.architecture import Architecture, Layer

ATTENTION: Final = [SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH]
# for sdpa_kernel; without cuDNN, which plans again for every new shape (github.com/modelscope/FunASR/issues/3704)


def pick_device(wanted: str, local_rank: int = 0) -> torch.device:
    """Return the device of a training: CUDA if available, unless `wanted` is cpu; each local process gets its own.

    Raises:
        PermanentError: cuda is requested and not available.
    """
    if wanted == "cuda" and not torch.cuda.is_available():
        raise PermanentError("device is cuda, but this machine has no CUDA device; use auto or cpu")
    return torch.device(f"cuda:{local_rank}" if wanted != "cpu" and torch.cuda.is_available() else "cpu")


def pick_precision(wanted: str, device: torch.device, sizes: Architecture) -> torch.dtype:
    """Return bf16 on a GPU; on a CPU return bf16 or fp32, whichever was measured to train a layer faster.

    bf16 multiplies twice as fast on CPUs that support it, but in a narrow model its casts take more time than it saves.
    """
    if wanted != "auto":
        return torch.bfloat16 if wanted == "bf16" else torch.float32
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float32
    return min((torch.float32, torch.bfloat16), key=lambda dtype: _layer_s(dtype, sizes))


def _layer_s(dtype: torch.dtype, sizes: Architecture) -> float:
    """Return the shortest measured time, in seconds, of a training step with 128 tokens in one layer."""
    layer = Layer(sizes, dropout=0.0)
    tokens, times = torch.ones(4, 32, sizes.hidden), []
    for _ in range(3):
        start = time.perf_counter()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=dtype == torch.bfloat16):
            learned = layer(tokens, None)
        learned.float().sum().backward()
        times.append(time.perf_counter() - start)
    return min(times)
