"""`evergreen forget`: delete a unit's texts, or old ones, from lake and home, and tag versions that learned them."""

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
    """Forget rows older than EVERGREEN_RETENTION_DAYS. While a retraining runs, wait for a later window."""
    days = services.settings.retention_days
    if days is None:
        return []
    try:
        return forget(services, days=days)
    except ConflictError as error:
        return [str(error)]


def forget(services: Services, *, unit: str | None = None, days: float | None = None) -> list[str]:
    """Forget a unit, or rows older than some days. Rows that routers have not shipped yet (seconds) stay.

    Returns:
        Sentences about the deleted rows and the tagged versions.

    Raises:
        PermanentError: not exactly one of `unit` and `days` was given, or the days are not above 0.
        ConflictError: a retraining runs; it may read the rows to delete, and its version would have learned them.
    """
    if (unit is None) == (days is None):
        raise PermanentError(
            f"evergreen forget: expected one of --unit ID and --days N, got {'neither' if unit is None else 'both'}"
        )
    if _retraining_runs(services):
        raise ConflictError("a retraining is running, so nothing was forgotten: run evergreen forget again after it")
    if unit is not None:
        found = forget_unit(services.lake, unit_hash(unit, services.home.unit_secret().encode()))
    else:
        assert days is not None
        if days <= 0:
            raise PermanentError(f"--days: expected a number above 0, got {days:g}")
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
    """Delete the rows that trainings of a replaced snapshot left in this home."""
    for note in services.home.folder("jobs").glob("*/job.json"):
        if json.loads(note.read_text(encoding="utf-8")).get("snapshot") in replaced:
            for name in _ROW_FILES:
                (note.parent / name).unlink(missing_ok=True)


def _tag_versions(services: Services, replaced: set[str]) -> list[str]:
    """Tag versions that learned from replaced snapshots, also versions registered after an earlier call."""
    if not replaced:
        return []
    said = []
    try:
        for version in services.registry.versions():
            known = services.registry.tags(version)
            old = known.get("snapshot", "")
            if old in replaced and FORGOTTEN not in known:
                tags = {FORGOTTEN: f"{iso(utc_now())}: learned from rows of {old[:12]} that are forgotten"}
                services.registry.set_tags(version, tags)
                said.append(f"version {version} learned from forgotten rows and is tagged; retrain to replace it")
    except (UnavailableError, NotFoundError) as error:
        said.append(f"not every version is tagged: {error}; run evergreen forget again to tag the rest")
    return said
