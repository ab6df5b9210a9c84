"""Checks that a version passes before it may be tried or become champion."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any, cast

from absa.errors import PermanentError
from absa.records.experiment import Grounds
from flows.platform.services import Services


def refuse_rejected(services: Services, version: str) -> None:
    """Refuse a version that the gate rejected.

    Raises:
        PermanentError: the gate rejected the version.
        NotFoundError: the version is not in the registry.
        UnavailableError: the registry is unavailable.
    """
    if services.registry.tags(version).get("gate") == "REJECT":
        raise PermanentError(f"version {version} was rejected by the gate and is never served")


def gate_grounds(services: Services, version: str) -> Grounds | None:
    """Return the grounds on which the gate promoted a version, from the record of its training; None without them."""
    for record in reversed(services.ledger.follow()):
        if version not in record.versions:
            break
        if record.action == "register":
            evidence = services.ledger.evidence(record)
            if evidence.get("training", {}).get("version") == version:
                return cast(Grounds | None, evidence.get("grounds"))
    return None


def must_serve(services: Services, version: str, digest: str) -> dict[str, Any]:
    """Load a version in a fresh process with serving's requirements and compare its answers with the evaluation's.

    Returns:
        Evidence for the ledger: digest, rows, ready_s, memory_mb.

    Raises:
        IntegrityError: files changed since registration, the version does not load, or an answer differs.
        UnavailableError: the lake is unavailable.
    """
    from absa.packaging.validate import validate_package  # imports onnxruntime

    return asdict(validate_package(services.packages.get(version, digest).folder, expected_digest=digest))


def measured_speeds(services: Services, champion: tuple[str, str], tried: Sequence[tuple[str, str]]) -> dict[str, Any]:
    """Measure the rows per second of the challengers and the champion on this machine, on the versions' warm-up rows.

    Args:
        services: holds the packages.
        champion: version and digest of the champion.
        tried: versions and digests of the challengers.

    Returns:
        Evidence for the ledger, by version: rows, candidate_rows_per_s, champion_rows_per_s.

    Raises:
        IntegrityError: a package does not load.
        UnavailableError: the lake is unavailable.
    """
    from absa.evaluation.prediction_price import compare_speed
    from absa.inference.engine import Engine  # imports onnxruntime

    active = Engine.load(services.packages.get(*champion))
    found = {}
    for version, digest in tried:
        candidate = Engine.load(services.packages.get(version, digest))
        found[version] = asdict(compare_speed(candidate.score, active.score, candidate.warmup_pairs()))
    return found


def saving_of(evidence: Mapping[str, Any], version: str) -> float | None:
    """Return a version's saving per prediction, from `measured_speeds` in a record's evidence; None if missing."""
    from absa.evaluation.prediction_price import Speed

    found = evidence.get("speed", {}).get(version)
    return None if found is None else Speed(**found).saving
