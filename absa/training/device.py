"""Device of a training and the precision of its products."""

import time
from typing import Final

import torch
from torch.nn.attention import SDPBackend

from absa.errors import PermanentError
from absa.modeling.architecture import Architecture, Layer

ATTENTION: Final = [SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH]
# for sdpa_kernel, without cuDNN's: it plans again for every new shape (github.com/modelscope/FunASR/issues/3704)


def pick_device(wanted: str, local_rank: int = 0) -> torch.device:
    """Return the device of a training: CUDA if there is one, unless `wanted` is cpu; each local process has its own.

    Raises:
        PermanentError: cuda is requested and unavailable.
    """
    if wanted == "cuda" and not torch.cuda.is_available():
        raise PermanentError("device is cuda, but this machine has no CUDA device; use auto or cpu")
    return torch.device(f"cuda:{local_rank}" if wanted != "cpu" and torch.cuda.is_available() else "cpu")


def pick_precision(wanted: str, device: torch.device, sizes: Architecture) -> torch.dtype:
    """Return bf16 or fp32: on a GPU bf16, on a CPU the one that learns a layer of the model's sizes faster, measured.

    bf16 multiplies twice as fast where the CPU has it, but its casts cost more than that in a narrow model.
    """
    if wanted != "auto":
        return torch.bfloat16 if wanted == "bf16" else torch.float32
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float32
    return min((torch.float32, torch.bfloat16), key=lambda dtype: _layer_s(dtype, sizes))


def _layer_s(dtype: torch.dtype, sizes: Architecture) -> float:
    """Measure the least seconds of learning 128 tokens in one layer."""
    layer = Layer(sizes, dropout=0.0)
    tokens, times = torch.ones(4, 32, sizes.hidden), []
    for _ in range(3):
        start = time.perf_counter()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=dtype == torch.bfloat16):
            learned = layer(tokens, None)
        learned.float().sum().backward()
        times.append(time.perf_counter() - start)
    return min(times)
