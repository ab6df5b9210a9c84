"""A three-layer student in shadow: it agrees with the champion, costs less, and becomes champion for that."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from absa.ledger.lifecycle import challenged, crowned
from absa.policies import ExperimentPolicy
from absa.records.lake import Lake
from absa.records.layout import feedback_prefix, prediction_prefix
from absa.records.schema import utc_now
from absa.records.tables import FEEDBACK, PREDICTIONS, write_parquet
from flows.platform.services import Services, build_services
from flows.platform.settings import Settings
from flows.promotion.promotion_look import Trial, look
from flows.promotion.promotion_request import PromotionRequest
from flows.promotion.version_checks import measured_speeds, saving_of
from tests.fake_lakes import MemoryLake
from tests.stand_ins import FakeRegistry
from tests.toy_package import build_toy_package

ROWS_PER_S = {"rows": 64, "candidate_rows_per_s": 900.0, "champion_rows_per_s": 500.0}


def answer(lake: Lake, at: datetime, requests: int, *, right_alone: Sequence[int]) -> None:
    """Requests answered by both, and requested labels of those where they differ.

    `right_alone` counts the disagreements in which the champion alone was right, and the challenger alone.
    """
    rows: list[dict[str, Any]] = []
    said: list[dict[str, Any]] = []
    for i in range(requests):
        old = i % 3
        new = old if i >= sum(right_alone) else (old + 1) % 3
        row = {"request_id": f"{i:06d}", "at": at, "unit_hash": f"u{i}", "unit_given": True, "experiment": "v1-vs-v2"}
        for label, version, shadow in ((old, "1", False), (new, "2", True)):
            scores = [0.1, 0.1, 0.1]
            scores[label] = 0.8
            rows.append({**row, "label": label, "scores": scores, "model_version": version, "shadow": shadow})
        if old != new:
            true = old if i < right_alone[0] else new
            asked = {"label": true, "source": "labels", "sampling_probability": 0.5}
            said.append({"request_id": f"{i:06d}", "at": at, **asked})
    for schema, prefix, table in ((PREDICTIONS, prediction_prefix, rows), (FEEDBACK, feedback_prefix, said)):
        write_parquet(lake, f"{prefix(at)}r.parquet", pa.Table.from_pylist(table, schema=schema))


class Now:
    """Time that a test sets."""

    def __init__(self) -> None:
        self.at = utc_now() - timedelta(minutes=20)

    def __call__(self) -> datetime:
        self.at += timedelta(milliseconds=1)
        return self.at


def costs(_: Services, champion: tuple[str, str], others: Sequence[tuple[str, str]]) -> Mapping[str, Any]:
    return {version: ROWS_PER_S for version, _ in others}


def in_shadow(tmp_path: Path, right_alone: Sequence[int], *, grounds: str | None = None, **more: Any) -> Trial:
    """A trial whose challenger, promoted by the gate on these grounds, has answered 8,000 requests in shadow."""
    now = Now()
    registry = FakeRegistry({version: {"gate": "PROMOTE"} for version in "12"})
    settings = Settings(home=tmp_path, experiment=ExperimentPolicy(shadow_s=60.0))
    services = build_services(settings, environment={}, registry=registry, lake=MemoryLake(), clock=now)
    digests = {"1": "1" * 64, "2": "2" * 64}
    state = challenged(crowned("1"), "2")
    services.ledger.append(
        expected=0, actor="test", action="register", reason="named", state=state, versions=digests,
        evidence={"grounds": grounds, "training": {"version": "2"}},
    )  # fmt: skip
    request = PromotionRequest(versions=("2",), revision=None)
    trial = Trial(services=services, request=request, check=lambda *_: {}, **{"measure": costs, **more})
    assert look(trial) is None  # begins its shadow
    answer(services.lake, now() + timedelta(seconds=1), 8_000, right_alone=right_alone)
    return trial


def test_student_is_promoted_cheaper_and_not_worse(tmp_path: Path) -> None:
    trial = in_shadow(tmp_path, (80, 80))
    ended = look(trial)
    assert ended is not None
    assert (ended.action, ended.state) == ("promote", crowned("2"))
    assert "not worse than 1 by 1 points or more, and 44% cheaper per prediction" in ended.reason
    kept = trial.services.ledger.evidence(ended)
    assert (kept["grounds"], round(kept["saving"], 2)) == ("not worse and cheaper", 0.44)


def test_student_losing_two_points_is_rolled_back(tmp_path: Path) -> None:
    ended = look(in_shadow(tmp_path, (240, 20)))
    assert ended is not None
    assert (ended.action, ended.state.champion) == ("rollback", "1")


def test_student_without_a_measured_price_goes_on(tmp_path: Path) -> None:
    assert look(in_shadow(tmp_path, (80, 80), measure=lambda *_: {})) is None


def costs_as_much(_: Services, champion: tuple[str, str], others: Sequence[tuple[str, str]]) -> Mapping[str, Any]:
    return {version: ROWS_PER_S | {"candidate_rows_per_s": 550.0} for version, _ in others}


def test_student_without_its_saving_is_stopped(tmp_path: Path) -> None:
    """It was to be promoted for its price alone, so it would run to its longest time."""
    trial = in_shadow(tmp_path, (80, 80), measure=costs_as_much, grounds="not worse and cheaper")
    ended = look(trial)
    assert ended is not None
    assert (ended.action, ended.state.champion) == ("rollback", "1")
    assert "tried for its price, but saves 9% per prediction on this machine: at least 20% is required" in ended.reason
    kept = trial.services.ledger.evidence(ended)
    assert (kept["decision"], round(kept["saving"], 2)) == ("STOP_FOR_FUTILITY", 0.09)


@pytest.mark.parametrize("grounds", ["better", None])
def test_version_tried_for_its_gain_needs_no_saving(tmp_path: Path, grounds: str | None) -> None:
    assert look(in_shadow(tmp_path, (80, 80), measure=costs_as_much, grounds=grounds)) is None


@pytest.mark.parametrize("measure", [costs, lambda *_: {}])
def test_version_tried_for_its_price_goes_on(tmp_path: Path, measure: Any) -> None:
    trial = in_shadow(tmp_path, (10, 10), measure=measure, grounds="not worse and cheaper")
    assert look(trial) is None


def test_late_labels_of_shadow_decide_ab_test(tmp_path: Path) -> None:
    trial = in_shadow(tmp_path, (80, 80))
    services = trial.services
    key = next(key for key in services.lake.list("feedback/"))
    late = services.lake.read(key)
    services.lake.delete(key)
    services.clock.at += timedelta(minutes=10)  # type: ignore[attr-defined]
    assert look(trial) is None  # ramps
    plan = services.ledger.follow()[-1].state.plan
    assert plan is not None
    assert plan.mode == "ab"
    services.lake.write(key, late)
    ended = look(trial)
    assert ended is not None
    assert ended.action == "promote"


def test_price_is_measured_with_the_packages_themselves(tmp_path: Path) -> None:
    services = build_services(Settings(home=tmp_path), environment={}, registry=FakeRegistry())
    digests = [services.packages.put(build_toy_package(tmp_path / str(seed), seed=seed)) for seed in (0, 1)]
    found = measured_speeds(services, ("1", digests[0]), [("2", digests[1])])
    assert saving_of({"speed": found}, "2") == pytest.approx(
        1 - found["2"]["champion_rows_per_s"] / found["2"]["candidate_rows_per_s"]
    )
    assert saving_of({"speed": found}, "3") is None
    assert np.isfinite(found["2"]["candidate_rows_per_s"])
