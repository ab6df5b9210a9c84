"""Checks of a machine before a start: Python, packages, memory, disk, settings and ports."""

import importlib.util
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import psutil

from flows.platform.host.router_health import ledger_problem
from flows.platform.processes import Supervisor, router_complaint
from flows.platform.settings import Home, Settings, port_is_free

_MEMORY_GB: Final = 4.0
DISK_GB: Final = 5.0  # for installation, home and temporary files; documents and Makefile repeat both numbers
INSTALLATION_GB: Final = 3.0  # part of it that the installation already uses when the checks run
_PACKAGES: Final = ("prefect", "mlflow", "evidently", "torch", "transformers", "onnxruntime", "fastapi", "polars")


@dataclass(frozen=True)
class Finding:
    """Result of one check."""

    ok: bool
    sentence: str


def disk_finding(place: Path, free_gb: float) -> Finding:
    """Check that the free disk is large enough for home and temporary files. Pure."""
    needed = f"{DISK_GB - INSTALLATION_GB:.0f} GB needed without the installation, {DISK_GB:.0f} GB with it"
    return Finding(free_gb >= DISK_GB - INSTALLATION_GB, f"{free_gb:.1f} GB of disk free in {place} ({needed})")


def examine(settings: Settings, *, ports: bool = True) -> list[Finding]:
    """Check everything that a start needs. Makes nothing.

    Args:
        settings: of the installation.
        ports: also check the ports.
    """
    home = Home(settings)
    supervisor = Supervisor(settings)
    version = ".".join(str(part) for part in sys.version_info[:3])
    known = (3, 11) <= sys.version_info[:2] <= (3, 13)
    findings = [Finding(known, f"Python {version} (supported: 3.11 to 3.13)")]
    missing = [name for name in _PACKAGES if importlib.util.find_spec(name) is None]
    findings.append(
        Finding(
            not missing,
            f"packages missing: {', '.join(missing)}: run `make install`" if missing else "all packages are installed",
        )
    )
    memory_gb = psutil.virtual_memory().available / 2**30
    findings.append(Finding(memory_gb >= _MEMORY_GB, f"{memory_gb:.1f} GB of memory free ({_MEMORY_GB:.0f} GB needed)"))
    place = next(folder for folder in (home.root, *home.root.parents) if folder.is_dir())
    findings.append(disk_finding(place, shutil.disk_usage(place).free / 2**30))
    there = home.root.is_dir()
    findings.append(
        Finding(
            True,
            f"home {home.root}" if there else f"home {home.root} does not exist yet: `evergreen init FILE` makes it",
        )
    )
    complaint = router_complaint()
    findings.append(Finding(complaint is None, complaint or "the settings of flows and router are valid"))
    for part, port in home.ports().items() if ports else ():
        if supervisor.running(part):
            findings.append(Finding(True, f"{part} runs on port {port}"))
            if part == "router" and (problem := ledger_problem(settings)) is not None:
                findings.append(Finding(False, problem))
        elif port_is_free(settings.host, port):
            findings.append(Finding(True, f"port {port} is free for {part}"))
        elif supervisor.orphans(part):
            findings.append(
                Finding(True, f"port {port} is used by leftovers of an earlier {part}; its start ends them")
            )
        elif part not in settings.fixed_ports:
            findings.append(Finding(True, f"port {port} is taken by another program: {part} starts with another port"))
        else:
            findings.append(
                Finding(False, f"port {port} is taken: free it, or set EVERGREEN_{part.upper()}_PORT to another")
            )
    return findings
