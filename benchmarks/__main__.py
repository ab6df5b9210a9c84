"""Run a benchmark by its name: `python -m benchmarks NAME [OPTIONS]`, as `make benchmark-NAME` does."""

import os
import sys
from pathlib import Path

HERE = Path(__file__).parent


def main() -> None:
    """Become the module that the first argument names, with the other arguments."""
    modules = {path.stem: path for path in sorted(HERE.rglob("*.py")) if not path.stem.startswith("__")}
    name = sys.argv[1] if len(sys.argv) > 1 else ""
    if name not in modules:
        sys.exit(f"no benchmark is named {name!r}: expected one of {', '.join(sorted(modules))}")
    module = ".".join(modules[name].relative_to(HERE.parent).with_suffix("").parts)
    os.execv(sys.executable, [sys.executable, "-m", module, *sys.argv[2:]])  # noqa: S606


if __name__ == "__main__":
    main()
