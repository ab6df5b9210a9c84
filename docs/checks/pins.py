"""Requirements files of `make pins`: each part of pyproject.toml with the versions of uv.lock.

uv exports the whole lock, with a marker for each package that only some machines need. This script selects the packages
of each part. uv cannot export one extra without the project's other dependencies.
"""

import re
import subprocess
import sys
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

from packaging.markers import Marker

ROOT = Path(__file__).resolve().parents[2]
OF_TORCH = re.compile(r"nvidia-|cuda-|triton$")  # the build of torch that is installed names those it needs
PLATFORMS = (
    {"sys_platform": "linux", "platform_machine": "x86_64"},
    {"sys_platform": "linux", "platform_machine": "aarch64"},
    {"sys_platform": "darwin", "platform_machine": "arm64"},
)


PYTHONS = ("3.11.0", "3.11.5", "3.12.0", "3.13.0")  # where markers change


@dataclass(frozen=True, kw_only=True)
class Part:
    """Extras or a dependency group of pyproject.toml, and the oldest supported Python."""

    extras: tuple[str, ...] = ()
    group: str | None = None
    python: str = "3.11.0"


FILES = {
    "requirements.txt": Part(extras=("serve", "train", "platform")),
    "requirements-ray.txt": Part(extras=("ray",)),
    "serving/requirements.txt": Part(extras=("serve",)),
    "infra/requirements.txt": Part(extras=("aws",)),
    "infra/images/requirements.txt": Part(extras=("postgres",)),
    "tests/requirements.txt": Part(group="tests", python="3.11.5"),
    "docs/requirements.txt": Part(group="docs"),
}


def packages(lock: Mapping[str, Any], part: Part) -> set[str]:
    """Return the names of all packages that a part needs on any machine, without packages of a build of torch."""
    entries: dict[str, list[dict[str, Any]]] = {}
    for entry in lock["package"]:
        entries.setdefault(entry["name"], []).append(entry)
    (project,) = (entry for entry in lock["package"] if "editable" in entry["source"])
    waiting: list[dict[str, Any]] = [each for extra in part.extras for each in project["optional-dependencies"][extra]]
    waiting += project["dev-dependencies"][part.group] if part.group else []
    where, seen = machines(part.python), set()
    while waiting:
        wanted = waiting.pop()
        name, extras = wanted["name"], wanted.get("extra", [])
        if OF_TORCH.match(name) or not any(needs(wanted.get("marker", ""), machine) for machine in where):
            continue
        for extra in extras if name == project["name"] else ["", *extras]:
            if (name, extra) not in seen:
                seen.add((name, extra))
                for entry in entries[name]:
                    more = entry.get("optional-dependencies", {}).get(extra, []) if extra else entry.get("dependencies")
                    waiting += more or []
    return {name for name, _ in seen} - {project["name"]}


def lines(exported: Iterable[str], names: set[str], python: str) -> list[str]:
    """Return the exported lines of some packages, for Python from a version to 3.13 on Linux and macOS.

    A marker stays if only some of these machines need the package.
    """
    kept = []
    for line in exported:
        pin, _, marker = line.partition(" ; ")
        needed = [needs(marker, machine) for machine in machines(python)]
        if pin.partition("==")[0] in names and any(needed):
            kept.append(pin if all(needed) else line)
    return kept


def machines(python: str) -> list[dict[str, str]]:
    """Return the values of markers for each kind of machine."""
    versions = [version for version in PYTHONS if version >= python]
    return [{**platform, "python_full_version": version} for platform, version in product(PLATFORMS, versions)]


def needs(marker: str, machine: dict[str, str]) -> bool:
    """Return True if a package is needed on a machine; without a marker it is always needed."""
    return not marker or Marker(marker).evaluate(machine)


def main() -> int:
    """Write every file again from uv.lock."""
    uv = Path(sys.executable).with_name("uv")
    command = [str(uv), "export", "--frozen", "--all-extras", "--all-groups", "--no-emit-project"]
    quiet = ["--quiet", "--no-hashes", "--no-annotate", "--no-header"]
    exported = subprocess.run([*command, *quiet], cwd=ROOT, capture_output=True, text=True, check=True).stdout  # noqa: S603
    lock = tomllib.loads((ROOT / "uv.lock").read_text(encoding="utf-8"))
    for name, part in FILES.items():
        text = "\n".join(lines(exported.splitlines(), packages(lock, part), part.python)) + "\n"
        (ROOT / name).write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
