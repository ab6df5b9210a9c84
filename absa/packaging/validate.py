"""Infra validation: a new process, with only the libraries of serving, checks the answers of a package.

`python -m absa.packaging.validate FOLDER [DIGEST]` is this process; it prints one JSON line.
"""

import json
import resource
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Final

from absa.errors import EvergreenError, IntegrityError, UnavailableError

NOT_IN_SERVING: Final = frozenset(
    {
        "evidently", "matplotlib", "mlflow", "onnx", "pandas", "polars", "prefect", "ray", "safetensors", "scipy",
        "sklearn", "torch", "transformers",
    }
)  # fmt: skip
_FAILED: Final = 1
_STATUS: Final = Path("/proc/self/status")


@dataclass(frozen=True, kw_only=True)
class Validation:
    """Measurements of the process: number of right warm-up rows, seconds until then, and peak memory."""

    digest: str
    rows: int
    ready_s: float
    memory_mb: float


def validate_package(folder: Path, *, expected_digest: str | None = None, timeout_s: float = 120.0) -> Validation:
    """Check in a new process without training libraries that a package answers its warm-up rows.

    Args:
        folder: the package.
        expected_digest: required digest; None: not checked.
        timeout_s: time limit of the whole check.

    Raises:
        IntegrityError: the process could not load the package, or an answer differs from the packaged one.
        UnavailableError: the process took too long or was killed; nothing is known about the package.
    """
    command = [
        sys.executable,
        "-m",
        "absa.packaging.validate",
        str(folder),
        *([expected_digest] if expected_digest else []),
    ]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=timeout_s, check=False)  # noqa: S603
    except subprocess.TimeoutExpired as error:
        raise UnavailableError(
            f"the package at {folder} was not ready within {timeout_s:g} s; try again when this machine is less busy"
        ) from error
    answer = (done.stdout.strip().splitlines() or [""])[-1]
    if done.returncode == 0:
        return Validation(**json.loads(answer))
    if done.returncode < 0:
        raise UnavailableError(
            f"the check of the package at {folder} was killed by signal {-done.returncode}; "
            "see that this machine has free memory, and try again"
        )
    reason = answer or (done.stderr.strip().splitlines() or ["no message"])[-1]
    raise IntegrityError(f"the package at {folder} does not serve: {reason}")


class NotInServing(MetaPathFinder):
    """Finder that makes the import of libraries fail that serving does not have."""

    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None = None,  # noqa: ARG002
        target: ModuleType | None = None,  # noqa: ARG002
    ) -> ModuleSpec | None:
        """Refuse a module of such a library; leave other modules to the next finders."""
        if fullname.partition(".")[0] in NOT_IN_SERVING:
            raise ModuleNotFoundError(f"serving has no {fullname}", name=fullname)
        return None


def _check(folder: Path, expected_digest: str | None) -> Validation:
    from absa.inference.engine import Engine
    from absa.inference.package import load_package

    started = time.perf_counter()
    engine = Engine.load(load_package(folder, expected_digest=expected_digest))
    rows = engine.warm_up()
    return Validation(
        digest=engine.digest,
        rows=rows,
        ready_s=round(time.perf_counter() - started, 3),
        memory_mb=peak_memory_mb(),
    )


def peak_memory_mb(status: Path = _STATUS) -> float:
    """Return the peak memory of this process in 10^6 bytes.

    On Linux, getrusage includes the memory of the process from which this one was forked, so the status file is read.
    macOS has no status file, and its getrusage counts in bytes.
    """
    try:
        lines = status.read_text(encoding="ascii", errors="replace").splitlines()
        held = 1024 * int(next(line for line in lines if line.startswith("VmHWM:")).split()[1])
    except FileNotFoundError:
        held = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    return round(held / 1e6, 1)


def main(arguments: Sequence[str]) -> int:
    """Check the package and print one line: JSON, or a sentence if the check failed."""
    sys.meta_path.insert(0, NotInServing())
    try:
        found = _check(Path(arguments[0]), arguments[1] if len(arguments) > 1 else None)
    except (EvergreenError, ImportError) as error:
        sys.stdout.write(f"{error}\n")
        return _FAILED
    sys.stdout.write(json.dumps(asdict(found)) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
