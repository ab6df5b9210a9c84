"""`evergreen forget`: takes a unit's texts, or old ones, out of lake and home and tags what learnt them."""

import hmac
import json
from datetime import timedelta
from typing import Final

from absa.data.forget import Forgotten, forget_before, forget_unit
from absa.errors import NotFoundError, PermanentError, UnavailableError
from absa.schema import iso, utc_now
from flows.wiring import Services

FORGOTTEN: Final = "forgotten"
_ROW_FILES: Final = ("train.jsonl", "validation.jsonl")


def forget(services: Services, *, unit: str | None = None, days: float | None = None) -> list[str]:
    """Forget a unit or what is older than some days. What the router has not shipped yet (seconds) is not reached.

    Returns:
        Sentences that say what was taken out.

    Raises:
        PermanentError: not exactly one of both was given, or the days are not above 0.
    """
    if (unit is None) == (days is None):
        raise PermanentError("evergreen forget takes --unit ID or --days N, one of them")
    if unit is not None:
        secret = services.environment.get("EVERGREEN_SECRET") or services.home.secrets()["unit_secret"]
        found = forget_unit(services.lake, unit_hash(unit, secret.encode()))
    else:
        assert days is not None
        if days <= 0:
            raise PermanentError(f"--days is above 0, got {days:g}")
        found = forget_before(services.lake, utc_now() - timedelta(days=days))
    _remove_rows_of_jobs(services, found)
    said = [
        f"forgotten: {found.predictions} predictions, {found.feedback} labels, {found.examples} examples in "
        f"{len(found.snapshots)} snapshots, {found.samples} rows kept for comparison"
    ]
    return [*said, *_tag_versions(services, found)]


def unit_hash(unit: str, secret: bytes) -> str:
    """HMAC-SHA-256 of a unit, the first 16 hex digits, as routers log it."""
    return hmac.digest(secret, unit.encode(), "sha256").hex()[:16]


def _remove_rows_of_jobs(services: Services, found: Forgotten) -> None:
    """Trainings keep their rows in this home; those of a snapshot that is gone go too."""
    for note in services.home.folder("jobs").glob("*/job.json"):
        if json.loads(note.read_text(encoding="utf-8")).get("snapshot") in found.snapshots:
            for name in _ROW_FILES:
                (note.parent / name).unlink(missing_ok=True)


def _tag_versions(services: Services, found: Forgotten) -> list[str]:
    if not found.snapshots:
        return []
    said = []
    try:
        for version in services.registry.versions():
            old = services.registry.tags(version).get("snapshot", "")
            if old in found.snapshots:
                tags = {FORGOTTEN: f"{iso(utc_now())}: learnt from rows of {old[:12]} that are forgotten"}
                services.registry.set_tags(version, tags)
                said.append(f"version {version} learnt from what is forgotten and is tagged; retrain to replace it")
    except (UnavailableError, NotFoundError) as error:
        wanted = ", ".join(sorted(digest[:12] for digest in found.snapshots))
        said.append(f"no version was tagged, because {error}; those with the snapshots {wanted} learnt from it")
    return said
