"""Time until a rollback is active, a person's and one by a guardrail; writes results/rollback.json.

A person's: `evergreen rollback` is started, and the clock runs until every process of every router has the former
champion in force. MLflow and Prefect are down meanwhile. By a guardrail: an experiment at 50 % has a lake full of
rows; then feedback arrives that shows the challenger's loss, and the clock runs from its Parquet file's being there
until the roll-back stands in the ledger. Routers are real, models are toys, the settings are the defaults.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import asdict
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa

from absa.adapters.lake_stores import FolderLake
from absa.adapters.package_store import PackageStore
from absa.ledger.lifecycle import challenged, crowned, ramped
from absa.ledger.routing import assign
from absa.ledger.state import State
from absa.ledger.store import Ledger
from absa.policies import ExperimentPolicy, RouterTuning
from absa.records.layout import feedback_prefix, prediction_prefix
from absa.records.schema import utc_now
from absa.records.tables import FEEDBACK, PREDICTIONS, write_parquet
from benchmarks.figures import Row, write_result
from flows.platform.services import Services, build_services
from flows.platform.settings import Settings
from flows.promotion.promotion_look import Trial, promote_versions
from flows.promotion.promotion_request import PromotionRequest
from tests.serving_replica import RunningReplica, free_port
from tests.stand_ins import FakeRegistry
from tests.toy_package import build_toy_package

RESULT = Path(__file__).parents[1] / "results" / "rollback.json"
LIMIT_S = 60.0


class Replica(RunningReplica):
    """A router of several that share a lake; each keeps its own home."""

    def __init__(self, root: Path, number: int) -> None:
        own = root / f"router-{number}"
        own.mkdir()
        super().__init__(
            root,
            port=free_port(),
            environment={
                "EVERGREEN_HOME": str(own),
                "EVERGREEN_REPLICA": f"r{number}",
            },
            tuning=asdict(RouterTuning()),
        )

    def has(self, revision: int) -> bool:
        """Return whether every process has a ledger record in force."""
        return [each["revision"] for each in self.models() if each["ready"]] == [revision] * self.workers


def seconds_until(condition: Callable[[], bool], began: float) -> float:
    """Return the seconds until a condition is true."""
    while not condition():
        if time.monotonic() - began > LIMIT_S:
            return LIMIT_S
        time.sleep(0.01)
    return time.monotonic() - began


def everywhere(replicas: list[Replica], revision: int) -> bool:
    """Return whether every process of every router has a ledger record in force."""
    return all(replica.has(revision) for replica in replicas)


def append(ledger: Ledger, state: State, digests: dict[str, str]) -> int:
    """A new head; gives its number."""
    head = ledger.head()
    return ledger.append(
        expected=head.number if head else 0,
        actor="promote-flow",
        action="traffic",
        reason="benchmark",
        state=state,
        versions=digests,
    ).number


def by_a_person(root: Path, routers: int, runs: int) -> list[float]:
    """Seconds from the command to the last process, run by run."""
    packages = PackageStore(FolderLake(root / "lake"))
    digests = {v: packages.put(build_toy_package(root / "built" / v, seed=int(v))) for v in "12"}
    replicas = [Replica(root, number) for number in range(routers)]
    ledger = replicas[0].ledger
    append(ledger, crowned("1"), digests)
    found = []
    try:
        for replica in replicas:
            replica.start()
        environment = os.environ | {"EVERGREEN_HOME": str(root), "EVERGREEN_LAKE": str(root / "lake")}
        for _ in range(runs):
            promoted = append(ledger, crowned("2"), digests)
            for replica in replicas:
                replica.wait_for(promoted)
            began = time.monotonic()
            command = subprocess.Popen(
                [sys.executable, "-m", "flows.cli", "rollback"], env=environment, stdout=subprocess.DEVNULL
            )
            found.append(seconds_until(partial(everywhere, replicas, promoted + 1), began))
            command.wait()
            print(f"in force after {found[-1]:.2f} s", flush=True)
    finally:
        for replica in replicas:
            replica.end()
    return found


def fill(services: Services, rows: int, accuracy: dict[str, float], at: datetime, name: str) -> None:
    """Answers and feedback of an experiment, as its plan splits them."""
    head = services.head()
    plan = head.state.plan
    assert plan is not None
    rng = np.random.default_rng(rows)
    predictions, said = [], []
    for number in range(rows):
        request, unit, truth = f"{name}-{number}", f"u{rng.integers(50_000)}", int(rng.choice([0, 2]))
        arm = assign(plan, unit)
        label = truth if rng.random() < accuracy[arm.version] else 2 - truth
        predictions.append(
            {
                "schema_version": 1, "request_id": request, "at": at, "unit_hash": unit, "unit_given": True,
                "segment": None, "text": "text", "aspect": "text", "label": label,
                "scores": [0.8 if each == label else 0.1 for each in range(3)], "model_version": arm.version,
                "arm": arm.name, "experiment": plan.experiment, "revision": head.number, "shadow": False,
                "cached": False, "latency_ms": 5.0, "replica": "r1",
            }
        )  # fmt: skip
        said.append(
            {
                "schema_version": 1, "request_id": request, "label": truth, "at": at, "source": "customer",
                "sampling_probability": None,
            }
        )  # fmt: skip
    write_parquet(
        services.lake,
        f"{prediction_prefix(at)}r1-{name}.parquet",
        pa.Table.from_pylist(predictions, schema=PREDICTIONS),
    )
    write_parquet(services.lake, f"{feedback_prefix(at)}r1-{name}.parquet", pa.Table.from_pylist(said, schema=FEEDBACK))


def by_a_guardrail(root: Path, rows: int) -> float:
    """Seconds from the evidence to the ledger."""
    settings = Settings(
        home=root, lake=str(root / "lake"), experiment=ExperimentPolicy(ramp=(0.5,), min_exposure=10 * rows)
    )
    services = build_services(settings, environment={}, registry=FakeRegistry())
    digests = {"1": "a", "2": "b"}
    for state in (crowned("1"), challenged(crowned("1"), "2"), ramped(challenged(crowned("1"), "2"), 0.5)):
        append(services.ledger, state, digests)
    time.sleep(1.0)
    fill(services, rows, {"1": 0.8, "2": 0.8}, utc_now() - timedelta(milliseconds=500), "before")
    trial = Trial(services=services, request=PromotionRequest(versions=("2",), revision=None))
    flow = threading.Thread(target=promote_versions, args=(trial,), daemon=True)
    flow.start()
    time.sleep(15.0)  # it looks in its own rhythm
    fill(services, rows // 10, {"1": 0.8, "2": 0.2}, utc_now() - timedelta(milliseconds=100), "bad")
    found = seconds_until(lambda: services.head().action == "rollback", time.monotonic())
    flow.join(LIMIT_S)
    print(f"rolled back {found:.2f} s after the evidence, {rows} rows", flush=True)
    return found


def row(case: str, metric: str, found: list[float], limit: float) -> Row:
    """The median, with the least and the most; the most decides whether the target is met."""
    return Row(
        case=case, metric=metric, value=statistics.median(found), low=min(found), high=max(found), runs=len(found),
        unit="s", target=f"<= {limit:g}", met=max(found) <= limit,
    )  # fmt: skip


def main() -> int:
    """Measure both and write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--routers", type=int, default=3)
    parser.add_argument("--runs", type=int, default=10)
    parser.add_argument("--rows", type=int, nargs="+", default=[10_000, 200_000], help="of the experiments")
    parser.add_argument("--out", type=Path, default=RESULT)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        person = by_a_person(Path(folder), options.routers, options.runs)
    rows = [
        row(f"`evergreen rollback`, {options.routers} routers of 2 processes", "until_in_force_everywhere", person, 5.0)
    ]
    for size in options.rows:
        with tempfile.TemporaryDirectory() as folder:
            found = [by_a_guardrail(Path(folder), size)]
        rows.append(row(f"a guardrail, {size:,} rows in the experiment", "from_evidence_to_ledger", found, 60.0))
    write_result(options.out, name="rollback", command="make benchmark-rollback", seed=0, rows=rows, versions={})
    return 0 if all(each.met for each in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
