"""Watched version and active staleness policy, readable without Prefect, which makes a folder when imported."""

import json
from typing import TYPE_CHECKING

from absa.errors import UnavailableError
from absa.records.schema import parse_iso
from flows.platform.services import Services

if TYPE_CHECKING:
    from absa.policies import StalenessPolicy
    from monitoring.monitor import WatchedVersion


def watched_version(services: Services, version: str) -> "WatchedVersion":
    """Return a version as the monitor needs it: its frozen test, if MLflow answers, and the age of its snapshot."""
    from absa.data.snapshot import load_manifest
    from monitoring.monitor import WatchedVersion
    from monitoring.performance import FrozenTest

    try:
        tags = services.registry.tags(version)
    except UnavailableError:
        tags = {}  # MLflow is unavailable: traffic can still be judged against its reference
    confusion = tags.get("test_confusion")
    snapshot = tags.get("snapshot")
    return WatchedVersion(
        version=version,
        frozen_test=FrozenTest(confusion=tuple(tuple(row) for row in json.loads(confusion))) if confusion else None,
        snapshot_at=parse_iso(load_manifest(services.lake, snapshot).created_at) if snapshot else None,
    )


def staleness_policy(services: Services) -> "StalenessPolicy":
    """Return the active staleness policy, as settings have it."""
    from absa.policies import StalenessPolicy
    from monitoring.drift.permutation import rate_per_window

    settings = services.settings
    rate, monthly = settings.false_alarm_rate, settings.false_alarms_a_month
    if monthly is not None:
        rate = rate_per_window(alarms=monthly, period_s=30 * 86_400.0, window_s=settings.window_s)
    return StalenessPolicy(
        false_alarm_rate=rate,
        min_rows=settings.min_window_rows,
        min_reference_rows=settings.min_window_rows,
        reference_rows=settings.reference_rows,
        embed_rows=settings.embed_rows,
        min_new_labels=settings.min_labels,
        cooldown_s=settings.cooldown_s,
        max_age_s=settings.max_age_s,
        answers_worth_a_training=settings.answers_worth_a_training,
    )
