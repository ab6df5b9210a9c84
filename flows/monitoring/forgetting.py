"""`evergreen forget`: takes a unit's texts, or old ones, out of lake and home and tags what learnt them."""

import json
from datetime import timedelta
from typing import Final

from absa.config_file import REFUSED_ROWS
from absa.data.forget import forget_before, forget_unit
from absa.data.snapshot import replaced_digests
from absa.errors import ConflictError, NotFoundError, PermanentError, UnavailableError
from absa.records.identifiers import unit_hash
from absa.records.schema import iso, utc_now
from flows.monitoring.attempts import GRACE_S, WAIT_S, recent_verdicts
from flows.platform.services import Services

FORGOTTEN: Final = "forgotten"
_ROW_FILES: Final = ("train.jsonl", "validation.jsonl")


def retain(services: Services) -> list[str]:
    """Forget what is older than EVERGREEN_RETENTION_DAYS; where a retraining runs, a later window does it."""
    days = services.settings.retention_days
    if days is None:
        return []
    try:
        return forget(services, days=days)
    except ConflictError as error:
        return [str(error)]


def forget(services: Services, *, unit: str | None = None, days: float | None = None) -> list[str]:
    """Forget a unit or what is older than some days. What the router has not shipped yet (seconds) is not reached.

    Returns:
        Sentences that say what was taken out.

    Raises:
        PermanentError: not exactly one of both was given, or the days are not above 0.
        ConflictError: a retraining runs: it reads what would be taken out, and its version would have learnt it.
    """
    if (unit is None) == (days is None):
        raise PermanentError("evergreen forget takes --unit ID or --days N, one of them")
    if _retraining_runs(services):
        raise ConflictError("a retraining is running: nothing is forgotten before it has ended; forget again then")
    if unit is not None:
        found = forget_unit(services.lake, unit_hash(unit, services.home.unit_secret().encode()))
    else:
        assert days is not None
        if days <= 0:
            raise PermanentError(f"--days is above 0, got {days:g}")
        found = forget_before(services.lake, utc_now() - timedelta(days=days))
    (services.home.root / REFUSED_ROWS).unlink(missing_ok=True)
    replaced = replaced_digests(services.lake)
    _remove_rows_of_jobs(services, replaced)
    said = [
        f"forgotten: {found.predictions} predictions, {found.feedback} labels, {found.examples} examples in "
        f"{len(found.snapshots)} snapshots, {found.samples} rows kept for comparison"
    ]
    return [*said, *_tag_versions(services, replaced)]


def _retraining_runs(services: Services) -> bool:
    """Return True if an attempt of a verdict has started and may be alive."""
    from monitoring.verdicts import VerdictStore

    now, longest_s = utc_now(), WAIT_S + services.settings.budget_s + GRACE_S
    dead = now - timedelta(seconds=longest_s)
    history = recent_verdicts(VerdictStore(services.lake), now, longest_s)
    return any(each.state == "started" and each.at > dead for verdict in history for each in verdict.attempts)


def _remove_rows_of_jobs(services: Services, replaced: set[str]) -> None:
    """Trainings keep their rows in this home; those of a snapshot that is gone go too."""
    for note in services.home.folder("jobs").glob("*/job.json"):
        if json.loads(note.read_text(encoding="utf-8")).get("snapshot") in replaced:
            for name in _ROW_FILES:
                (note.parent / name).unlink(missing_ok=True)


def _tag_versions(services: Services, replaced: set[str]) -> list[str]:
    """Tag what learnt from replaced snapshots, versions too that were registered after an earlier forgetting."""
    if not replaced:
        return []
    said = []
    try:
        for version in services.registry.versions():
            known = services.registry.tags(version)
            old = known.get("snapshot", "")
            if old in replaced and FORGOTTEN not in known:
                tags = {FORGOTTEN: f"{iso(utc_now())}: learnt from rows of {old[:12]} that are forgotten"}
                services.registry.set_tags(version, tags)
                said.append(f"version {version} learnt from what is forgotten and is tagged; retrain to replace it")
    except (UnavailableError, NotFoundError) as error:
        said.append(f"not every version is tagged, because {error}; forgetting again tags what learnt from it")
    return said
