"""Watched version and active staleness policy, readable without Prefect, which makes a folder when imported."""

import json
from dataclasses import replace
from typing import TYPE_CHECKING

from absa.errors import UnavailableError
from absa.records.schema import parse_iso
from flows.platform.services import Services

if TYPE_CHECKING:
    from absa.policies import StalenessPolicy
    from monitoring.monitor import WatchedVersion


def watched_version(services: Services, version: str) -> "WatchedVersion":
    """Return a version with its frozen test, if MLflow is available, and the time of its snapshot."""
    from absa.data.snapshot import load_manifest
    from monitoring.monitor import WatchedVersion
    from monitoring.performance import frozen_test

    try:
        tags = services.registry.tags(version)
    except UnavailableError:
        tags = {}  # MLflow is unavailable: traffic can still be judged against its reference
    confusion = tags.get("test_confusion")
    snapshot = tags.get("snapshot")
    return WatchedVersion(
        version=version,
        frozen_test=frozen_test({"confusion": json.loads(confusion)}, services.settings.task) if confusion else None,
        snapshot_at=parse_iso(load_manifest(services.lake, snapshot).created_at) if snapshot else None,
    )


def staleness_policy(services: Services, given: "StalenessPolicy | None" = None) -> "StalenessPolicy":
    """Return the active staleness policy with the labels that the gate needs to decide.

    Args:
        services: settings of monitor and gate.
        given: policy that replaces that of the settings; it keeps its own rate and number of labels.
    """
    from absa.data.recent_split import labels_needed
    from monitoring.drift.bootstrap import rate_per_window

    settings = services.settings
    if given is not None:
        return given if given.min_new_labels else replace(given, min_new_labels=labels_needed(given, settings.gate))
    policy = replace(settings.staleness, min_new_labels=labels_needed(settings.staleness, settings.gate))
    if policy.false_alarms_a_month is None:
        return policy
    rate = rate_per_window(alarms=policy.false_alarms_a_month, period_s=30 * 86_400.0, window_s=settings.window_s)
    return replace(policy, false_alarm_rate=rate)
