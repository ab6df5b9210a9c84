"""The promote flow killed at any step, 20 times: what does `evergreen status` say after the next run?

A real MLflow and a real Prefect, toy packages, and a writer that puts predictions and feedback into the lake as the
plan in force splits them. The flow's process is killed (SIGKILL) up to a second after its first, second, ... record in
the ledger; then it is run again to its end. Odd versions are worse than the champion and must go back, even ones are
better. Consistent means: the ledger verifies, its anchor and MLflow's aliases agree with its head, and the version's
trial ended exactly once. Writes results/promote_kills.json once all kills are done; with `--at-most` it does some of
them, keeps them beside it, and goes on the next time.
"""

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from absa.ledger.lifecycle import challenged, crowned
from absa.ledger.record import LedgerRecord
from absa.ledger.routing import TrafficPlan, assign
from absa.records.layout import feedback_prefix, prediction_prefix
from absa.records.schema import utc_now
from absa.records.tables import FEEDBACK, PREDICTIONS, write_parquet
from benchmarks.figures import Row, share, write_json, write_result
from flows.platform.processes import bring_up, take_down
from flows.platform.services import Services, build_services
from flows.platform.settings import Settings
from flows.promotion.consistency import inconsistencies
from tests.homes import configure
from tests.toy_package import build_toy_package

RESULT = Path(__file__).parents[1] / "results" / "promote_kills.json"
CELLS = RESULT.parent / "cells" / RESULT.name
RUN_LIMIT_S = 240.0
PACE = {"ramp": [0.25, 0.5], "step_s": 1, "shadow_s": 1, "min_exposure": 120}
STEPS = ("shadow", "first share", "second share", "decision")


class Writer(threading.Thread):
    """Customers: every half second 120 requests by the plan in force, each told what was right."""

    def __init__(self, services: Services) -> None:
        super().__init__(daemon=True)
        self._services = services
        self._rng = np.random.default_rng(0)
        self._written = 0
        self.accuracy: dict[str, float] = {}
        self.over = threading.Event()

    def run(self) -> None:
        """Until `over`."""
        while not self.over.wait(0.5):
            head = self._services.head()
            if head.state.plan is not None and head.state.plan.mode != "single":
                self._write(head, head.state.plan)

    def _write(self, head: LedgerRecord, plan: TrafficPlan) -> None:
        at = utc_now() - timedelta(milliseconds=50)
        self._written += 1
        rows: list[dict[str, Any]] = []
        said: list[dict[str, Any]] = []
        for i in range(120):
            request, unit = f"{self._written:06d}-{i:04d}", f"u{self._rng.integers(2_000)}"
            truth = int(self._rng.choice([0, 2]))
            arms = [assign(plan, unit), *(plan.challengers if plan.mode == "shadow" else ())]
            for position, arm in enumerate(arms):
                label = truth if self._rng.random() < self.accuracy[arm.version] else 2 - truth
                scores = [0.1, 0.1, 0.1]
                scores[label] = 0.8
                rows.append(
                    {
                        "schema_version": 1, "request_id": request, "at": at, "unit_hash": unit, "unit_given": True,
                        "segment": None, "text": f"text {request}", "aspect": "text", "label": label,
                        "scores": scores, "model_version": arm.version, "arm": arm.name,
                        "experiment": plan.experiment, "revision": head.number, "shadow": position > 0,
                        "cached": False, "latency_ms": 5.0, "replica": "r1",
                    }
                )  # fmt: skip
            said.append(
                {
                    "schema_version": 1, "request_id": request, "label": truth, "at": at, "source": "survey",
                    "sampling_probability": None,
                }
            )  # fmt: skip
        lake = self._services.lake
        name = f"r1-{self._written:06d}.parquet"
        write_parquet(lake, prediction_prefix(at) + name, pa.Table.from_pylist(rows, schema=PREDICTIONS))
        write_parquet(lake, feedback_prefix(at) + name, pa.Table.from_pylist(said, schema=FEEDBACK))


def register(services: Services, folder: Path, count: int) -> dict[str, str]:
    """Toy versions in lake and MLflow; gives their digests."""
    from absa.adapters.mlflow_client import MODEL, log_package
    from absa.adapters.package_store import PackageStore

    digests = {}
    for seed in range(count):
        package = build_toy_package(folder / str(seed), seed=seed)
        logged = log_package(package, registered_model_name=MODEL)
        services.registry.set_tags(logged.version, {"gate": "PROMOTE"})
        digests[logged.version] = PackageStore(services.lake).put(package)
    return digests


def start_flow(services: Services, version: str, log: Path) -> "subprocess.Popen[bytes]":
    """`promote` in a process of its own."""
    script = f"from flows.promotion.promote_flow import promote; promote({version!r})"
    with log.open("ab") as file:
        return subprocess.Popen(
            [sys.executable, "-c", script],
            env=dict(services.environment), stdout=file, stderr=file, start_new_session=True,
        )  # fmt: skip


def kill_after(services: Services, flow: "subprocess.Popen[bytes]", start: int, records: int, delay_s: float) -> bool:
    """Kill the flow some time after so many new records; says whether it was still running."""
    ends = time.monotonic() + RUN_LIMIT_S
    while flow.poll() is None and time.monotonic() < ends:
        if services.head().number >= start + records:
            break
        time.sleep(0.02)
    time.sleep(delay_s)
    alive = flow.poll() is None
    if alive:
        os.killpg(flow.pid, signal.SIGKILL)
    flow.wait()
    return alive


def trial(
    services: Services, version: str, digest: str, number: int, chance: random.Random, log: Path
) -> dict[str, Any]:
    """One challenger, one kill, one more run."""
    head = services.head()
    services.project(
        services.ledger.append(
            expected=head.number,
            actor="benchmark",
            action="challenge",
            reason=f"version {version}",
            state=challenged(head.state, version),
            versions={version: digest},
        )
    )
    step = number % len(STEPS)
    flow = start_flow(services, version, log)
    killed = kill_after(services, flow, head.number + 1, step + 1, chance.random())
    between = inconsistencies(services)
    again = start_flow(services, version, log)
    code = again.wait(RUN_LIMIT_S)
    after = services.head()
    ended = [r for r in services.ledger.follow() if r.number > head.number and r.action in {"promote", "rollback"}]
    wrong = inconsistencies(services)
    wrong += [] if code == 0 else [f"the second run ended with {code}"]
    wrong += [] if len(ended) == 1 else [f"the trial ended {len(ended)} times"]
    better = int(version) % 2 == 0
    wrong += [] if (after.state.champion == version) == better else ["the wrong version is champion"]
    return {"step": STEPS[step], "killed": killed, "between": between, "wrong": wrong}


def main() -> int:
    """Kill and run again, and write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--at-most", type=int, help="kills this time; the rest later")
    parser.add_argument("--again", action="store_true", help="forget the kills that were done before")
    parser.add_argument("--out", type=Path, default=RESULT)
    options = parser.parse_args()
    done: dict[str, Any] = json.loads(CELLS.read_text()) if CELLS.exists() and not options.again else {}
    missing = [number for number in range(options.kills) if str(number) not in done][: options.at_most]
    if missing:
        kill(missing, done)
    if any(str(number) not in done for number in range(options.kills)):
        print(f"{len(done)} of {options.kills} kills are done; run it again")
        return 0
    rows = rows_of(list(done.values()))
    write_result(
        options.out, name="promote_kills", command="make benchmark-promote_kills", seed=0, rows=rows, versions={},
    )  # fmt: skip
    return 0 if all(row.met is not False for row in rows) else 1


def kill(numbers: list[int], done: dict[str, Any]) -> None:
    """Do some of the kills on a platform of their own, and keep each."""
    with tempfile.TemporaryDirectory() as folder:
        os.environ |= {"EVERGREEN_TRUST": "survey", "EVERGREEN_HOME": folder}
        configure(Path(folder), experiment=PACE)
        services = build_services(Settings.load())
        bring_up(services.settings, services.environment, ["mlflow", "prefect"])
        writer = Writer(services)
        try:
            import mlflow

            mlflow.set_tracking_uri(services.environment["MLFLOW_TRACKING_URI"])
            digests = register(services, Path(folder) / "toys", len(numbers) + 1)
            first, *rest = sorted(digests, key=int)
            services.project(
                services.ledger.append(
                    expected=0, actor="benchmark", action="promote", reason="first", state=crowned(first),
                    versions={first: digests[first]},
                )
            )  # fmt: skip
            writer.accuracy = {first: 0.72}
            writer.start()
            for number, version in zip(numbers, rest, strict=True):
                champion = services.head().state.champion
                writer.accuracy = {str(champion): 0.72, version: 0.92 if int(version) % 2 == 0 else 0.45}
                chance = random.Random(number)
                found = trial(services, version, digests[version], number, chance, Path(folder) / "flow.log")
                print(f"kill {number}: {found}", flush=True)
                done[str(number)] = found
                write_json(CELLS, done)
        finally:
            writer.over.set()
            take_down(services.settings)


def rows_of(done: list[dict[str, Any]]) -> list[Row]:
    """The figures."""
    runs = len(done)
    bad = sum(bool(each["wrong"]) for each in done)
    caught = sum(each["killed"] for each in done)
    lagging = sum(bool(each["between"]) for each in done)
    return [
        share("killed, then run again", "inconsistent_after_the_next_run", bad, runs, target="<= 0", met=bad == 0),
        share("killed, before the next run", "inconsistent", lagging, runs),
        share("the flow still ran when it was killed", "share", caught, runs),
    ]


if __name__ == "__main__":
    sys.exit(main())
