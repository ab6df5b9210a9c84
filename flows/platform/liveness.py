"""Liveness of flow runs: their signs of life in the lake, and the rule that finds dead runs.

The sign of life is the file `flow_runs/<id>.json`. It names host and process of a deployment's run, and the run renews
it once a minute. If the host is this one, the process table shows at once whether the run is dead. A run on another
host counts as dead only after a worker has seen no change of the file for several minutes. So clocks of hosts may
differ, and an unavailable lake kills no run.
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
SILENT_S: Final = 300.0  # after this time without a change of its sign of life, a run on another host is dead
GONE_S: Final = 30.0  # after the end of its process; the run's own worker reports it to Prefect within seconds
START_GRACE_S: Final = 30.0  # from PENDING to a process, if this worker is the only one
START_ELSEWHERE_S: Final = 900.0  # the same, if another worker may still wait for a machine


@dataclass(frozen=True, kw_only=True)
class Sign:
    """Sign of life of a run. `created` is the start of its process (epoch seconds); `at` is the time of writing."""

    host: str
    pid: int
    created: float
    at: str


@dataclass(frozen=True, kw_only=True)
class Sight:
    """State of an unfinished run, as a worker sees it.

    Attributes:
        sign: the run's sign of life, or None if there is none.
        process_is_here: True if the process that the sign names lives on this host. Without a sign: True if any
            process of the run lives on this host.
        state_age_s: seconds since the start of the run's state, by the clock of Prefect's server.
        unchanged_s: seconds for which this worker has seen the same state and the same sign; 0 on its first look.
    """

    sign: Sign | None
    process_is_here: bool
    state_age_s: float
    unchanged_s: float


def death_of(sight: Sight, *, host: str, only_worker: bool, first_look: bool) -> str | None:
    """Return the reason why a run counts as dead, or None if it may be alive. Pure.

    Args:
        sight: state of the run.
        host: identity of this host, see `this_host`.
        only_worker: True if no worker on another host serves these deployments.
        first_look: True if this worker has just started, so that it has started no run yet.
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
        limit_s, why = SILENT_S, f"its host {name} gave no sign of life for {waited_s:.0f} s"
    return why if waited_s >= limit_s else None


def this_host() -> str:
    """Return the identity of this process table: host name, network address, PID namespace.

    Containers and machines with the same name have different identities. If the identity changes (another network, a
    new container), earlier runs count as runs of another host.
    """
    namespace = Path("/proc/self/ns/pid")
    table = namespace.readlink().name if sys.platform == "linux" and namespace.is_symlink() else ""
    node = uuid.getnode()
    address = "" if node >> 40 & 1 else f"{node:x}"  # this bit marks a random number, drawn without an address
    return f"{socket.gethostname()}/{address}/{table}"


def lives_here(sign: Sign) -> bool:
    """Return True if the process of a sign lives here. Another process with the same number does not count."""
    try:
        process = psutil.Process(sign.pid)
        return bool(process.status() != psutil.STATUS_ZOMBIE and abs(process.create_time() - sign.created) < 1.0)
    except psutil.NoSuchProcess:
        return False


def runs_with_a_process() -> set[str]:
    """Return the ids of the runs that have a process on this host."""
    found = set()
    for process in psutil.process_iter():
        try:
            found.add(process.environ().get("PREFECT__FLOW_RUN_ID", ""))
        except (ProcessLookupError, PermissionError, psutil.Error):
            continue
    return found - {""}


def sign_of(lake: Lake, run_id: str) -> Sign | None:
    """Read a run's sign of life; None if it is missing or damaged.

    Raises:
        UnavailableError: the lake is unavailable.
    """
    try:
        data: dict[str, Any] = json.loads(lake.read(flow_run_key(run_id)))
        return Sign(host=str(data["host"]), pid=int(data["pid"]), created=float(data["created"]), at=str(data["at"]))
    except (NotFoundError, ValueError, KeyError, TypeError):
        return None


def leave_sign(lake: Lake, run_id: str) -> None:
    """Write a run's sign of life, which names this process.

    Raises:
        UnavailableError: the lake is unavailable.
    """
    sign = Sign(host=this_host(), pid=os.getpid(), created=psutil.Process().create_time(), at=iso(utc_now()))
    body = {"schema_version": SCHEMA_VERSION, **asdict(sign)}
    lake.write(flow_run_key(run_id), json.dumps(body).encode())


def keep_signing(lake: Lake, run_id: str, *, ended: threading.Event) -> None:
    """Renew a run's sign of life once a minute until `ended` is set. A failure is logged, and tried again then."""
    while True:
        try:
            leave_sign(lake, run_id)
        except (EvergreenError, OSError) as error:
            logging.getLogger(__name__).warning(
                "the sign of life of run %s was not written: %s", run_id, log_line(str(error))
            )
        if ended.wait(BEAT_S):
            return
