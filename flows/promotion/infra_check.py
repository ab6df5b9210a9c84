"""Infra validation: a version's package must answer in a fresh process with serving's requirements."""

from dataclasses import asdict
from typing import Any

from flows.platform.services import Services


def must_serve(services: Services, version: str, digest: str) -> dict[str, Any]:
    """Fetch a version, load it in a fresh process and hold its warm-up answers against those of the evaluation.

    Returns:
        What was measured, for the ledger's evidence: digest, rows, ready_s, memory_mb.

    Raises:
        IntegrityError: it is not what was registered, does not load, or answers otherwise.
        UnavailableError: the lake is unavailable.
    """
    from absa.packaging.validate import validate_package

    return asdict(validate_package(services.packages.get(version, digest).folder, expected_digest=digest))
