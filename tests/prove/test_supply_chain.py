"""Shipped files: exact pins, licences that may be combined, no secret in any tracked file. Needs no network."""

import re
import subprocess
from importlib.metadata import distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[2]
STRONG_COPYLEFT = re.compile(r"\b(AGPL|GPL-[23]|GNU (Affero )?General Public)", re.IGNORECASE)
KNOWN = re.compile(r"\b(MIT|BSD|Apache|ISC|MPL|Mozilla|LGPL|Lesser|PSF|Python Software|CNRI|Unlicense|Artistic)\b")
READ = {"huey": "MIT", "skops": "MIT"}  # what their licence files are; they state nothing that can be read by a program


def tracked(pattern: str = "*") -> list[str]:
    """Names of the files that git tracks."""
    command = ["git", "ls-files", pattern]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()


def licences(name: str) -> list[str]:
    """The licences among which a user of an installed package chooses, as it states them."""
    facts = distribution(name).metadata
    if expression := facts.get("License-Expression"):
        return str(expression).split(" OR ")
    classified = [each for each in facts.get_all("Classifier", []) if each.startswith("License ::")]
    stated = (facts.get("License") or READ.get(name, "")).partition("\n")[0]
    return [each for each in classified if each.count("::") > 1] or stated.split(" OR ")


@pytest.mark.parametrize("name", tracked("*requirements*.txt"))
def test_every_requirement_is_pinned_to_one_version(name: str) -> None:
    lines = [line.split("#")[0].strip() for line in (ROOT / name).read_text(encoding="utf-8").splitlines()]
    loose = [line for line in lines if line and not line.startswith("-") and "==" not in line and " @ " not in line]
    assert loose == []


def test_installed_licences_allow_this_repository() -> None:
    pins = [Requirement(line) for line in (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()]
    names = [pin.name for pin in pins if pin.marker is None or pin.marker.evaluate()]
    assert len(names) > 50
    stated = {name: licences(name) for name in names}
    assert {name: each for name, each in stated.items() if not any(KNOWN.search(choice) for choice in each)} == {}
    assert {name: each for name, each in stated.items() if all(forbids(choice) for choice in each)} == {}


def forbids(licence: str) -> bool:
    """Return whether work that is combined with it must be under it too."""
    return bool(STRONG_COPYLEFT.search(licence)) and "Lesser" not in licence


def secrets_in(root: Path, names: list[str]) -> list[str]:
    """Places of keys and tokens whose form gives them away."""
    from detect_secrets import SecretsCollection
    from detect_secrets.core.scan import get_plugins
    from detect_secrets.settings import transient_settings

    plugins = ("AWSKeyDetector", "PrivateKeyDetector", "GitHubTokenDetector", "SlackDetector", "JwtTokenDetector")
    found = SecretsCollection(root=str(root))
    with transient_settings({"plugins_used": [{"name": name} for name in plugins]}):
        forms = [form for plugin in get_plugins() for form in plugin.denylist]
        for name in names:
            words = (root / name).read_text(encoding="utf-8", errors="replace")
            if any(form.search(words) for form in forms):  # the scan looks at each line with each filter: slow
                found.scan_file(name)
    return sorted(f"{name}:{secret.line_number}" for name, secret in found)


def test_no_tracked_file_holds_a_secret(tmp_path: Path) -> None:
    unread = (".min.js", ".png", ".svg", ".csv", ".json", ".lock")
    words = [name for name in tracked() if (ROOT / name).is_file() and not name.endswith(unread)]
    assert secrets_in(ROOT, words) == []
    (tmp_path / "settings.py").write_text("key = 'AKIA" + "Q3EGRIHTZ5VWJ2XL'\n")
    assert secrets_in(tmp_path, ["settings.py"]) == ["settings.py:1"]
