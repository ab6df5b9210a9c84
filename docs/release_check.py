"""Check that the commit may be released: `python docs/release_check.py`, or `make release-check`.

Prints a sentence for each reason against a release, and exits with 1 if there is a reason.
"""

import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def problems(root: Path) -> list[str]:
    """Return the problems of a release of the tree, a sentence each; empty without problems."""
    version = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    changes = (root / "CHANGELOG.md").read_text(encoding="utf-8")
    found = []
    if f"## {version} " not in changes:
        found.append(f"CHANGELOG.md has no section '## {version} (DATE)': name what is unreleased so")
    elif "## Unreleased" in changes:
        found.append(
            "CHANGELOG.md still has unreleased changes beside it: they belong to this release or to a later one"
        )
    if _git(root, "status", "--porcelain"):
        found.append("there are changes that are not committed")
    if f"v{version}" in _git(root, "tag", "--list").split():
        found.append(f"the tag v{version} is there already: raise the version in pyproject.toml")
    for path in sorted((root / "benchmarks" / "results").glob("*.json")):
        if '"met": false' in path.read_text(encoding="utf-8") and path.stem not in changes:
            found.append(f"{path.name} holds missed targets: CHANGELOG.md must name {path.stem} under what falls short")
    return found


def _git(root: Path, *words: str) -> str:
    done = subprocess.run(["git", *words], cwd=root, capture_output=True, text=True, check=True)  # noqa: S603, S607
    return done.stdout.strip()


if __name__ == "__main__":
    against = problems(ROOT)
    sys.stdout.write(("\n".join(against) or "ready to be tagged") + "\n")
    sys.exit(1 if against else 0)
