"""Parent of a replica: opens the sockets, restarts workers, follows the ledger and ships the log."""

import argparse
import contextlib
import errno
import json
import logging
import os
import resource
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from types import FrameType
from typing import TYPE_CHECKING, Final

from absa.errors import EvergreenError, PermanentError
from absa.proxies import keep_local_direct
from absa.router_settings import RouterSettings
from absa.sinks import log_line
from serving.log.spool import ReplicaLock
from serving.observe.json_logs import log_to_stderr
from serving.observe.replica_metrics import PARENT, Status, StatusBoard
from serving.replica_identity import replica_name

if TYPE_CHECKING:
    from serving.console.chronicle import Chronicle
    from serving.log.shipper import Shipper
    from serving.process.keeper import Keeper

_log = logging.getLogger("evergreen.replica")
_TICK_S: Final = 0.1
_RESTART_LAST_S: Final = 10.0
_SETTLED_S: Final = 10.0
_PORT_WAIT_S: Final = 5.0
_BACKLOG: Final = 2048
_SPREADS: Final = sys.platform == "linux"  # macOS gives all connections to one of the sockets
_DUTY_NICENESS: Final = 10
_OPEN_FILES: Final = 65_536


@dataclass(slots=True)
class _Child:
    """Worker with its sockets. They stay open while the process is replaced, so clients wait instead of failing."""

    index: int
    sockets: list[socket.socket]
    process: "subprocess.Popen[bytes] | None" = None
    started: float = 0.0
    restart_at: float = 0.0
    wait_s: float = 0.0


def open_sockets(host: str, port: int, count: int, *, spread: bool = _SPREADS) -> list[socket.socket]:
    """Open a listening socket per worker, all on one port.

    Args:
        host: address to listen on.
        port: 0 takes a free one.
        count: number of sockets.
        spread: True if the kernel spreads connections over sockets with SO_REUSEPORT. Otherwise one socket is
            duplicated, and the workers take connections from its queue.

    Raises:
        PermanentError: the address is not available; the message names it and the remedy.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_STREAM) as probe:  # no SO_REUSEPORT: fails if the port is taken
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, port))
            port = probe.getsockname()[1]
        sockets: list[socket.socket] = []
        for _ in range(count):
            if sockets and not spread:
                sockets.append(sockets[0].dup())
                continue
            each = socket.socket(family, socket.SOCK_STREAM)
            each.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            each.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            each.bind((host, port))
            each.listen(_BACKLOG)
            sockets.append(each)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise PermanentError(
                f"port {port} of {host} is taken; stop the process that uses it, or set EVERGREEN_ROUTER_PORT"
            ) from None
        raise PermanentError(f"the router cannot listen on {host} port {port}: {error.strerror}") from error
    return sockets


def _open_soon(host: str, port: int, count: int, *, patience_s: float) -> list[socket.socket]:
    """Open sockets, retrying for `patience_s`: workers of a killed parent may hold the port while they drain."""
    ends = time.monotonic() + patience_s
    while True:
        try:
            return open_sockets(host, port, count)
        except PermanentError:
            if time.monotonic() > ends:
                raise
            time.sleep(0.2)


class Replica:
    """Parent process with its workers.

    Args:
        settings: settings of the replica.
    """

    def __init__(self, settings: RouterSettings) -> None:
        self._settings = settings
        self._name = replica_name(settings)
        self._folder = settings.folder / "replicas" / self._name
        self._lock = ReplicaLock(self._folder)
        self._board = StatusBoard(self._folder / "status")
        self._board.clear()
        self._stopping = threading.Event()
        self._shipper: Shipper | None = None
        self._restarts = 0
        killed = any((self._folder / "spool" / "open").glob("*"))
        patience_s = _PORT_WAIT_S if killed else 0.0
        public = _open_soon(settings.router_host, settings.router_port, settings.workers, patience_s=patience_s)
        admin: list[socket.socket] = []
        if settings.admin_port is not None:
            admin = _open_soon(settings.router_host, settings.admin_port, settings.workers, patience_s=patience_s)
        self._children = [
            _Child(index=index, sockets=[public[index], *admin[index : index + 1]]) for index in range(settings.workers)
        ]
        self.port: int = public[0].getsockname()[1]
        self._lifeline, self._other_end = os.pipe()
        os.set_inheritable(self._lifeline, True)

    def run(self) -> None:
        """Serve until SIGTERM or SIGINT. Then stop the workers within a time limit and ship the log."""
        signal.signal(signal.SIGTERM, self._on_signal)
        signal.signal(signal.SIGINT, self._on_signal)
        for child in self._children:
            self._start(child)
        _log.info("replica %s listens on http://%s:%d", self._name, self._settings.router_host, self.port)
        duties = threading.Thread(target=self._duties, name="duties", daemon=True)
        duties.start()
        while not self._stopping.wait(_TICK_S):
            for child in self._children:
                self._look_after(child)
        self._stop_workers()
        rest = threading.Thread(target=self._ship_rest, args=(duties,), name="last-ship", daemon=True)
        rest.start()
        rest.join(timeout=self._settings.router.stop_timeout_s)
        if rest.is_alive():
            _log.error("the log was not shipped in time; it stays in %s until the next start", self._folder / "spool")
        self._board.clear()
        self._lock.release()

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        self._stopping.set()

    def _start(self, child: _Child) -> None:
        handles = [each.fileno() for each in child.sockets]
        command = [
            sys.executable,
            "-m",
            "serving.process.worker",
            "--index",
            str(child.index),
            "--folder",
            str(self._folder),
            "--tuning",
            json.dumps(asdict(self._settings.router)),  # a restarted worker does not read an edited file
            "--task",
            json.dumps(self._settings.task.to_json()),
        ]
        if (promise := self._settings.serving.promise) is not None:
            command += ["--promise", str(promise)]
        command += ["--lifeline", str(self._lifeline), "--sockets", *map(str, handles)]
        kept = self._settings.sources.variables()
        environment = {**kept, **os.environ, "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
        child.process = subprocess.Popen(command, pass_fds=[self._lifeline, *handles], env=environment)  # noqa: S603
        child.started = time.monotonic()

    def _look_after(self, child: _Child) -> None:
        now = time.monotonic()
        if child.process is None:
            if now >= child.restart_at:
                self._restarts += 1
                self._start(child)
            return
        code = child.process.poll()
        if code is None:
            return
        self._retire(child)
        child.wait_s = 0.0 if now - child.started > _SETTLED_S else min(max(0.1, 2 * child.wait_s), _RESTART_LAST_S)
        child.restart_at = now + child.wait_s
        _log.error("worker %d ended with exit code %d; it is started again in %.1f s", child.index, code, child.wait_s)
        child.process = None

    def _retire(self, child: _Child) -> None:
        assert child.process is not None
        for path in (self._folder / "status").glob(f"w{child.index}_{child.process.pid}_*.json"):
            self._board.retire(path.stem)

    def _stop_workers(self) -> None:
        for child in self._children:
            if child.process is not None:
                with contextlib.suppress(ProcessLookupError):
                    child.process.terminate()
        ends = time.monotonic() + self._settings.router.stop_timeout_s + 2.0
        for child in self._children:
            if child.process is None:
                continue
            try:
                child.process.wait(max(0.1, ends - time.monotonic()))
            except subprocess.TimeoutExpired:
                _log.error("worker %d did not stop in time and was killed; its log is kept", child.index)
                child.process.kill()
                child.process.wait()
        for child in self._children:
            for each in child.sockets:
                each.close()
        os.close(self._other_end)
        os.close(self._lifeline)

    def _duties(self) -> None:
        """Follow the ledger, ship the log and report, each in its own thread.

        A lake that hangs then blocks only one of these tasks, and never the thread that restarts workers.
        """
        from absa.adapters.lake_stores import open_lake
        from absa.adapters.package_store import PackageStore
        from absa.ledger.store import Ledger
        from serving.console.chronicle import Chronicle
        from serving.log.shipper import Shipper
        from serving.process.keeper import Keeper

        settings = self._settings
        try:
            lake = open_lake(settings.lake_uri)
            keeper = Keeper(
                Ledger(lake),
                lake_uri=settings.lake_uri,
                packages=PackageStore(lake),
                models=settings.models_folder,
                path=self._folder / "state.json",
            )
            self._shipper = shipper = Shipper(lake, self._folder / "spool", self._name)
            chronicle = Chronicle(lake, self._folder)
        except Exception:
            _log.exception("the router cannot start its background threads and stops")
            self._stopping.set()
            return
        threading.Thread(target=self._follow, args=(keeper,), name="keeper", daemon=True).start()
        threading.Thread(target=self._tell, args=(chronicle,), name="chronicle", daemon=True).start()
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _DUTY_NICENESS)  # workers come first
        threading.Thread(target=self._report_for_ever, args=(keeper, shipper), name="report", daemon=True).start()
        while not self._stopping.wait(settings.router.ship_interval_s):
            self._guarded(shipper.ship)

    def _ship_rest(self, duties: threading.Thread) -> None:
        """Ship the logs of stopped workers. The thread of `_duties` would be late, because it has a low priority."""
        duties.join()
        shipper = self._shipper
        if shipper is None:
            return
        self._guarded(lambda: shipper.ship(everything=True))
        _log.info("replica %s stopped; it shipped %d predictions", self._name, shipper.counts.rows["predictions"])

    def _follow(self, keeper: "Keeper") -> None:
        while not self._stopping.is_set():
            self._guarded(keeper.step)
            self._stopping.wait(self._settings.router.poll_interval_s)

    def _tell(self, chronicle: "Chronicle") -> None:
        while not self._stopping.wait(self._settings.router.poll_interval_s):
            self._guarded(chronicle.step)

    def _report_for_ever(self, keeper: "Keeper", shipper: "Shipper") -> None:
        from absa.adapters.cloudwatch import publish
        from serving.observe.published import Published

        settings = self._settings
        published, publish_at = Published(), time.monotonic() + settings.metrics_interval_s
        report_at = 0.0
        while not self._stopping.wait(_TICK_S):
            if time.monotonic() >= report_at:
                report_at = time.monotonic() + settings.router.ship_interval_s
                self._guarded(lambda: self._report(keeper, shipper))
            if settings.metrics == "emf" and time.monotonic() >= publish_at:
                publish_at = time.monotonic() + settings.metrics_interval_s
                self._guarded(lambda: publish("router", published.values(self._board.all()), fine=True))

    @staticmethod
    def _guarded(duty: Callable[[], object]) -> None:
        try:
            duty()
        except Exception:  # one failed round must not end the thread
            _log.exception("a background task failed; it runs again")

    def _report(self, keeper: "Keeper", shipper: "Shipper") -> None:
        gauges = {"log_lag_seconds": round(shipper.lag_s(), 3)}
        if keeper.polled_at is not None:
            gauges["lake_age_seconds"] = round(time.monotonic() - keeper.polled_at, 3)
        counters: dict[str, float] = {
            "rows_shipped": sum(shipper.counts.rows.values()),
            "ship_failures": shipper.counts.failures,
            "log_unreadable": shipper.counts.unreadable,
            "log_kept_aside": shipper.counts.kept_aside,
            "follow_failures": keeper.failures,
            "worker_restarts": self._restarts,
        }
        self._board.put(PARENT, Status(worker=PARENT, pid=os.getpid(), counters=counters, gauges=gauges))


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until a signal arrives; with `--check` only read the settings.

    Returns:
        The exit code: 2 for invalid settings, 1 for another error.
    """
    parser = argparse.ArgumentParser(prog="python -m serving", description="Run one replica of the router.")
    parser.add_argument("--check", action="store_true", help="check the settings and end")
    chosen = parser.parse_args(arguments)
    log_to_stderr(PARENT)
    try:
        settings = RouterSettings.read()
    except PermanentError as error:
        print(f"router: {log_line(str(error))}", file=sys.stderr)  # noqa: T201
        return 2
    if chosen.check:
        return 0
    keep_local_direct(os.environ)
    try:
        _raise_file_limit()
        Replica(settings).run()
    except EvergreenError as error:
        print(log_line(str(error)), file=sys.stderr)  # noqa: T201
        return 1
    return 0


def _raise_file_limit() -> None:
    """Raise the limit of open files, one per connection, as far as the system allows."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, _OPEN_FILES)), hard))
