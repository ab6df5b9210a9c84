"""Checks that a version passes before it may be tried or become champion."""

from dataclasses import asdict
from typing import Any

from absa.errors import PermanentError
from flows.platform.services import Services


def refuse_rejected(services: Services, version: str) -> None:
    """Refuse a version that the gate rejected.

    Raises:
        PermanentError: the gate rejected it.
        NotFoundError, UnavailableError: the registry does not know it, or is unavailable.
    """
    if services.registry.tags(version).get("gate") == "REJECT":
        raise PermanentError(f"version {version} was rejected by the gate and is never served")


def must_serve(services: Services, version: str, digest: str) -> dict[str, Any]:
    """Load a version in a fresh process with serving's requirements and compare its answers with the evaluation's.

    Returns:
        Evidence for the ledger: digest, rows, ready_s, memory_mb.

    Raises:
        IntegrityError: its files changed since registration, it does not load, or an answer differs.
        UnavailableError: the lake is unavailable.
    """
    from absa.packaging.validate import validate_package  # imports onnxruntime

    return asdict(validate_package(services.packages.get(version, digest).folder, expected_digest=digest))
