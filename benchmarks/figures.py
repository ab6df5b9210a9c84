"""A benchmark's figures and the result file that they are committed in."""

import json
import os
import platform
import statistics
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from scipy.stats import binomtest

from absa.records.files import write_whole

Z = 1.959964  # of a 95 % interval
_VECTORS = {"amx_tile": "AMX", "avx512_vnni": "AVX-512 VNNI", "avx512f": "AVX-512", "avx2": "AVX2", "avx": "AVX"}


@dataclass(frozen=True, kw_only=True)
class Row:
    """One figure of the result. `commit` is the one measured, where it is not that of the whole result."""

    case: str
    metric: str
    value: float
    low: float
    high: float
    runs: int
    unit: str
    target: str | None = None
    met: bool | None = None
    peer: str | None = None
    projected: bool = False
    commit: str | None = None

    def to_json(self) -> dict[str, Any]:
        """The row as contracts write it."""
        data = dict(vars(self))
        return {key: value for key, value in data.items() if value is not None or key in ("target", "met")}


def median_row(
    case: str,
    metric: str,
    values: Sequence[float],
    unit: str,
    *,
    target: str | None = None,
    met: bool | None = None,
    peer: str | None = None,
) -> Row:
    """Return the median of some runs, with their range."""
    value, low, high = (round(each, 3) for each in (statistics.median(values), min(values), max(values)))
    return Row(
        case=case, metric=metric, value=value, low=low, high=high, runs=len(values), unit=unit, target=target, met=met,
        peer=peer,
    )  # fmt: skip


def share(case: str, metric: str, hits: int, runs: int, **more: Any) -> Row:
    """A share with its 95 % Wilson interval."""
    p, interval = hits / runs, binomtest(hits, runs).proportion_ci(method="wilson")
    return Row(
        case=case,
        metric=metric,
        value=p,
        low=min(p, float(interval.low)),  # rounding must not put the share outside
        high=max(p, float(interval.high)),
        runs=runs,
        unit="share",
        **more,
    )


def machine() -> dict[str, Any]:
    """Return the machine of the run.

    Processors of one name differ several times in speed: the name is followed by the widest vector instructions.
    """
    cpu = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        cpu = described(info.read_text(), cpu)
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return {"cpu": cpu, "cores": os.cpu_count(), "memory_gb": round(memory), "accelerator": None}


def described(cpuinfo: str, otherwise: str) -> str:
    """Return the processor of a /proc/cpuinfo with its widest vector instructions, such as `AMD EPYC with AVX2`."""
    lines = (line.partition(":") for line in reversed(cpuinfo.splitlines()))  # the first processor is taken last
    facts = {name.strip(): value.strip() for name, _, value in lines}
    flags = facts.get("flags", "").split()
    widest = next((name for flag, name in _VECTORS.items() if flag in flags), None)
    name = facts.get("model name", otherwise)
    return f"{name} with {widest}" if widest else name


def gpu_name() -> str | None:
    """The GPU that a training here would use."""
    import torch

    return torch.cuda.get_device_name(0) if torch.cuda.is_available() else None


def commit() -> str:
    """The commit measured."""
    found = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    return found.stdout.strip() or "unknown"


def write_result(
    path: Path, *, name: str, command: str, seed: int, rows: Sequence[Row], versions: dict[str, str],
    accelerator: str | None = None,
) -> None:  # fmt: skip
    """Write the result as docs and tests read it."""
    result = {
        "name": name,
        "command": command,
        "date": datetime.now(UTC).date().isoformat(),
        "commit": commit(),
        "seed": seed,
        "machine": machine() | {"accelerator": accelerator},
        "versions": {"python": platform.python_version(), **versions},
        "rows": [row.to_json() for row in rows],
    }
    write_json(path, result)


def write_json(path: Path, content: object, *, indent: int | None = 1) -> None:
    """Write a result, or the cells measured so far, whole or not at all: a run that was killed goes on from them."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, json.dumps(content, indent=indent) + "\n")
