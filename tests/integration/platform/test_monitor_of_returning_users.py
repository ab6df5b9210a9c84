"""Healthy traffic of returning users through the real monitor use case, on a folder lake with fakes of other ports."""

import json
from collections import Counter
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Final

import polars as pl

from absa.adapters.lake_stores import FolderLake
from absa.data.traffic.population import Users
from absa.ledger.lifecycle import crowned
from absa.policies import StalenessPolicy
from absa.records.layout import feedback_prefix, prediction_prefix
from absa.records.tables import FEEDBACK, PREDICTIONS, aligned, write_parquet
from absa.records.verdict import Verdict
from benchmarks.monitoring.drift_traffic import SAMPLE, load
from benchmarks.monitoring.live_traffic import HABITS, MONDAY, NO_CHANGE, Change, LiveTraffic, window_of
from flows.monitoring.monitor_window import MonitorRequest, monitor_window
from flows.platform.services import build_services
from flows.platform.settings import Settings
from monitoring.performance import FrozenTest
from tests.stand_ins import FakeDeployments, FakeRegistry

HOURS: Final = 6  # of a window: 30 windows are a week and a half day, so each weekday and both days of a weekend occur
WINDOWS: Final = 30
RATE: Final = 0.0005
"""At the default of 1 %, one in four runs of 30 windows would alarm by chance; at this rate, one in 67."""


class Installation:
    """Folder lake with a champion, and traffic of returning users in sessions, with cycles and growth."""

    def __init__(self, home: Path) -> None:
        population = replace(HABITS["together"], users=Users(count=300), requests_an_hour=100.0)
        known, new = load(SAMPLE / "feedback.csv"), load(SAMPLE / "new_area.csv")
        self.traffic = LiveTraffic(known, new, population, seed=1)
        self.lake = FolderLake(home / "lake")
        self.now: datetime = MONDAY
        confusion = json.dumps(FrozenTest.from_f1(0.83, 500).confusion)
        self.services = build_services(
            Settings(
                home=home,
                window_s=HOURS * 3_600.0,
                trust="customers",
                staleness=StalenessPolicy(embed_rows=0, false_alarm_rate=RATE),
            ),
            environment={},
            lake=self.lake,
            registry=FakeRegistry({"1": {"test_confusion": confusion}}),
            deployments=FakeDeployments(),
            clock=lambda: self.now,
            steps=lambda _name, action, again=False: action(),
        )
        self.services.ledger.append(
            expected=0,
            actor="test",
            action="promote",
            reason="first",
            state=crowned("1"),
            versions={"1": "d"},
        )

    def judge(self, k: int, change: Change = NO_CHANGE) -> Verdict:
        """Serve a window's requests, and judge it at its end."""
        window = window_of(k * HOURS, (k + 1) * HOURS)
        rows = self.traffic.hours(k * HOURS, (k + 1) * HOURS, change)
        table = aligned(rows.with_columns(schema_version=1).to_arrow(), PREDICTIONS)
        write_parquet(self.lake, f"{prediction_prefix(window.start)}r1-0.parquet", table)
        said = rows.drop_nulls("feedback_label").select(
            "request_id",
            "sampling_probability",
            schema_version=1,
            label=pl.col("feedback_label"),
            at=pl.col("feedback_at"),
            source=pl.col("feedback_source"),
        )
        for day, part in said.group_by(pl.col("at").dt.truncate("1d"), maintain_order=True):
            key = f"{feedback_prefix(day[0])}r1-{k}.parquet"  # type: ignore[arg-type]
            write_parquet(self.lake, key, aligned(part.to_arrow(), FEEDBACK))
        self.now = window.end
        return monitor_window(self.services, MonitorRequest(window=window, report=False)).verdict


def test_healthy_returning_users_are_never_watched(tmp_path: Path) -> None:
    home = Installation(tmp_path)
    verdicts = [home.judge(k) for k in range(WINDOWS)]
    alarms = {v.window.key: [reason.kind for reason in v.reasons] for v in verdicts if v.verdict != "FRESH"}
    assert alarms == {}
    kinds = Counter(reason.kind for verdict in verdicts for reason in verdict.reasons)
    assert kinds["no_history"] == 7  # Monday after the first window, and Saturday
    assert all(v.reference is not None and v.reference.joined for v in verdicts[1:])
    assert min(verdict.by_version["1"].rows for verdict in verdicts) > 100
    changed = home.judge(WINDOWS, Change(new_share=0.4))
    assert changed.verdict != "FRESH"
    assert any(reason.kind.startswith("drift:") for reason in changed.reasons)
