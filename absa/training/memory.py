"""Comparison of the available memory with the memory that a training and its first package need."""

from pathlib import Path
from typing import Final

from absa.errors import PermanentError

_FIXED_BYTES: Final = 0.5e9
_PER_WEIGHT_BYTE: Final = 7.0  # XLM-R base: 1.1 GB of weights, a peak of 7.7 GB during the export of the graph
_CHECKED_FROM_BYTES: Final = 0.4e9  # smaller encoders fit on every machine that can run the product
_MEMORY: Final = Path("/proc/meminfo")
_GROUP: Final = Path("/sys/fs/cgroup")


def check_memory(weights: Path) -> None:
    """Check that the memory is large enough for an encoder's training and first package.

    Raises:
        PermanentError: the memory is too small.
    """
    shortage = memory_shortage(weights.stat().st_size, available_bytes())
    if shortage is not None:
        raise PermanentError(f"the base model in {weights.parent.name} is too large: {shortage}")


def memory_shortage(weights_bytes: int, available_bytes: float | None) -> str | None:
    """Return the sentence for an encoder that is too large; None if it fits or the memory is unknown.

    Args:
        weights_bytes: size of the encoder's weights.
        available_bytes: memory that a process can still get.
    """
    needed = _FIXED_BYTES + _PER_WEIGHT_BYTE * weights_bytes
    if weights_bytes < _CHECKED_FROM_BYTES or available_bytes is None or needed <= available_bytes:
        return None
    return (
        f"training and packaging it take about {needed / 1e9:.1f} GB of memory, and "
        f"{available_bytes / 1e9:.1f} GB are available: free some, use a larger machine, or choose a smaller encoder"
    )


def available_bytes(memory: Path = _MEMORY, group: Path = _GROUP) -> float | None:
    """Return the bytes that a process can still get, with swap and the container's limit; None if unknown."""
    try:
        lines = (line.split(":", 1) for line in memory.read_text(encoding="ascii").splitlines())
        kilobytes = {name: float(value.split()[0]) for name, value in lines}
        free = 1024.0 * (kilobytes["MemAvailable"] + kilobytes.get("SwapFree", 0.0))
    except (OSError, ValueError, KeyError):  # not Linux
        return _available_elsewhere()
    try:
        limit, used = ((group / name).read_text(encoding="ascii").strip() for name in ("memory.max", "memory.current"))
        return free if limit == "max" else min(free, float(limit) - float(used))
    except (OSError, ValueError):  # no container, or control groups of version 1
        return free


def _available_elsewhere() -> float | None:
    try:
        import psutil  # not needed on Linux, as on GPU machines
    except ModuleNotFoundError:
        return None
    return float(psutil.virtual_memory().available + psutil.swap_memory().free)
