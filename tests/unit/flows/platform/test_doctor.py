"""Checks of a machine: the disk that an installation and a demo need."""

import re
from pathlib import Path

import pytest

from flows.platform.doctor import DISK_GB, INSTALLATION_GB, disk_finding

ROOT = Path(__file__).parents[4]


@pytest.mark.parametrize(("free_gb", "enough"), [(1.9, False), (2.0, True)])
def test_disk_is_compared_beside_installation(free_gb: float, enough: bool) -> None:
    finding = disk_finding(Path("/srv"), free_gb)
    assert finding.ok == enough
    assert finding.sentence == f"{free_gb} GB of disk free in /srv (2 GB needed without the installation, 5 GB with it)"


@pytest.mark.parametrize("page", ["README.md", "docs/installation.md", "docs/tutorial.md", "docs/operate/sizing.md"])
def test_page_names_disk_that_doctor_asks_for(page: str) -> None:
    found = re.findall(r"(\d+) GB (?:of disk|for the installation)", (ROOT / page).read_text(encoding="utf-8"))
    assert found == [f"{DISK_GB:.0f}"]


def test_makefile_names_size_of_installation() -> None:
    assert f"about {INSTALLATION_GB:.0f} GB" in (ROOT / "Makefile").read_text(encoding="utf-8")
