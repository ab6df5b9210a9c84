"""Liveness of flow runs: the sign that each run leaves in the lake, and which runs cannot be alive.

A run of a deployment notes its host and process under `flow_runs/<id>.json` and renews the note once a minute. A note
of this host is checked against the process table, so a dead run is known at once. A note of another host counts as dead
only after it has not changed for several minutes of looking, so that clocks need not agree and a lake that was
unavailable kills no run.
"""

import json
import logging
import os
import socket
import sys
import threading
import uuid
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import psutil

from absa.errors import EvergreenError, NotFoundError
from absa.records.lake import Lake
from absa.records.layout import flow_run_key
from absa.records.schema import SCHEMA_VERSION, iso, utc_now
from absa.sinks import log_line

BEAT_S: Final = 60.0
SILENT_S: Final = 300.0  # a run on another host whose note did not change for so long is dead
GONE_S: Final = 30.0  # a worker that lives reports its run's end within seconds
START_GRACE_S: Final = 30.0  # from PENDING to a process, where this worker is the only one
START_ELSEWHERE_S: Final = 900.0  # where another worker may still get a machine


@dataclass(frozen=True, kw_only=True)
class Sign:
    """Host and process of a run. `created` is the process's start, in epoch seconds; `at` is when it was noted."""

    host: str
    pid: int
    created: float
    at: str


@dataclass(frozen=True, kw_only=True)
class Sight:
    """State of an unfinished run, as a worker sees it.

    Attributes:
        sign: the run's note; None where it has left none.
        process_is_here: whether the noted process lives here; without a note, whether any process of the run does.
        state_age_s: seconds since the run came into its state, by the clock of Prefect's server.
        unchanged_s: seconds for which this worker has seen the same state and the same note; 0 on its first look.
    """

    sign: Sign | None
    process_is_here: bool
    state_age_s: float
    unchanged_s: float


def death_of(sight: Sight, *, host: str, only_worker: bool, first_look: bool) -> str | None:
    """Return why a run cannot be alive, None where it may be. Pure.

    Args:
        sight: the run.
        host: identity of this host, see `this_host`.
        only_worker: whether no other host can serve these deployments.
        first_look: whether this worker has just started, so that no run is its own.
    """
    if sight.process_is_here:
        return None
    waited_s = sight.unchanged_s
    if sight.sign is None and only_worker:
        waited_s, limit_s = sight.state_age_s, START_GRACE_S
        why = "it has no process, and no other worker serves its deployment"
    elif sight.sign is None:
        limit_s, why = START_ELSEWHERE_S, f"it did not start within {waited_s:.0f} s"
    elif sight.sign.host == host:
        limit_s, why = 0.0 if first_look else GONE_S, f"its process {sight.sign.pid} has ended"
    else:
        name = sight.sign.host.partition("/")[0]
        limit_s, why = SILENT_S, f"its host {name} gave no sign for {waited_s:.0f} s"
    return why if waited_s >= limit_s else None


def this_host() -> str:
    """Return the identity of the process table that this process is in: host name, network address, PID namespace.

    Containers and machines with the same name differ. Where it changes (another network, a new container), runs of
    before count as runs of another host.
    """
    namespace = Path("/proc/self/ns/pid")
    table = namespace.readlink().name if sys.platform == "linux" and namespace.is_symlink() else ""
    node = uuid.getnode()
    address = "" if node >> 40 & 1 else f"{node:x}"  # the bit of a number that was drawn because there is no address
    return f"{socket.gethostname()}/{address}/{table}"


def lives_here(sign: Sign) -> bool:
    """Return True if the noted process lives in this process table, and not a later owner of its number."""
    try:
        process = psutil.Process(sign.pid)
        return bool(process.status() != psutil.STATUS_ZOMBIE and abs(process.create_time() - sign.created) < 1.0)
    except psutil.NoSuchProcess:
        return False


def runs_with_a_process() -> set[str]:
    """Return the ids of the runs that any process of this host was started for."""
    found = set()
    for process in psutil.process_iter():
        try:
            found.add(process.environ().get("PREFECT__FLOW_RUN_ID", ""))
        except (ProcessLookupError, PermissionError, psutil.Error):
            continue
    return found - {""}


def sign_of(lake: Lake, run_id: str) -> Sign | None:
    """Read a run's note; None where there is none, or one that cannot be read.

    Raises:
        UnavailableError: the lake is unavailable.
    """
    try:
        data: dict[str, Any] = json.loads(lake.read(flow_run_key(run_id)))
        return Sign(host=str(data["host"]), pid=int(data["pid"]), created=float(data["created"]), at=str(data["at"]))
    except (NotFoundError, ValueError, KeyError, TypeError):
        return None


def leave_sign(lake: Lake, run_id: str) -> None:
    """Note that this process runs a run.

    Raises:
        UnavailableError: the lake is unavailable.
    """
    sign = Sign(host=this_host(), pid=os.getpid(), created=psutil.Process().create_time(), at=iso(utc_now()))
    body = {"schema_version": SCHEMA_VERSION, **asdict(sign)}
    lake.write(flow_run_key(run_id), json.dumps(body).encode())


def keep_signing(lake: Lake, run_id: str, *, ended: threading.Event) -> None:
    """Renew a run's note once a minute until `ended` is set; a lake that is unavailable is tried again then."""
    while True:
        try:
            leave_sign(lake, run_id)
        except (EvergreenError, OSError) as error:
            logging.getLogger(__name__).warning("no sign of life of run %s was left: %s", run_id, log_line(str(error)))
        if ended.wait(BEAT_S):
            return
