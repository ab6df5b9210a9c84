"""What is shipped: exact pins, licences that may be combined, no secret in any tracked file. Needs no network."""

import re
import subprocess
from importlib.metadata import distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[2]
PINNED = sorted(path for path in ROOT.rglob("requirements*.txt") if ".venv" not in path.parts)
STRONG_COPYLEFT = re.compile(r"\b(AGPL|GPL-[23]|GNU (Affero )?General Public)", re.IGNORECASE)


@pytest.mark.parametrize("path", PINNED, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_requirement_is_pinned_to_one_version(path: Path) -> None:
    lines = [line.split("#")[0].strip() for line in path.read_text(encoding="utf-8").splitlines()]
    loose = [line for line in lines if line and not line.startswith("-") and "==" not in line and " @ " not in line]
    assert loose == []


def test_nothing_that_is_installed_for_users_forbids_the_licence_of_this_repository() -> None:
    names = [
        Requirement(line.split("#")[0]).name
        for line in (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
        if line and not line.startswith(("#", "-", " "))
    ]
    assert len(names) > 50
    found = {}
    for name in names:
        facts = distribution(name).metadata
        expression = facts.get("License-Expression")
        classified = [each for each in facts.get_all("Classifier", []) if each.startswith("License ::")]
        choices = expression.split(" OR ") if expression else [each for each in classified if each.count("::") > 1]
        if choices and all(STRONG_COPYLEFT.search(each) and "Lesser" not in each for each in choices):
            found[name] = choices
    assert found == {}


def secrets_in(root: Path, names: list[str]) -> list[str]:
    """Places of keys and tokens whose form gives them away."""
    from detect_secrets import SecretsCollection
    from detect_secrets.settings import transient_settings

    plugins = ("AWSKeyDetector", "PrivateKeyDetector", "GitHubTokenDetector", "SlackDetector", "JwtTokenDetector")
    found = SecretsCollection(root=str(root))
    with transient_settings({"plugins_used": [{"name": name} for name in plugins]}):
        for name in names:
            found.scan_file(name)
    return sorted(f"{name}:{secret.line_number}" for name, secret in found)


def test_no_tracked_file_holds_a_secret(tmp_path: Path) -> None:
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    words = [name for name in tracked if not name.endswith((".min.js", ".png", ".svg", ".csv", ".json"))]
    assert secrets_in(ROOT, words) == []
    (tmp_path / "settings.py").write_text("key = 'AKIA" + "Q3EGRIHTZ5VWJ2XL'\n")
    assert secrets_in(tmp_path, ["settings.py"]) == ["settings.py:1"]
