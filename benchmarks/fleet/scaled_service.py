"""A real service behind HAProxy on loopback that a scaling plan drives: what `infra.capacity` simulates, run."""

import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from infra.capacity.router_task import StartUp, TaskModel
from infra.capacity.scaling_policy import LoadSample, ScalingPlan

ROOT = Path(__file__).parents[2]
_CONFIG = """
global
  maxconn 4000
  stats socket {socket} mode 600 level admin
defaults
  mode http
  timeout connect 2s
  timeout client 30s
  timeout server 30s
frontend front
  bind 127.0.0.1:{port}
  default_backend tasks
backend tasks
  balance roundrobin
  http-reuse always
{servers}
"""
_SERVER = "  server t{number} 127.0.0.1:{port} disabled"
_LOOKS_PER_S = 10


def free_ports(count: int) -> list[int]:
    """Ports that were free a moment ago."""
    held = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [int(each.getsockname()[1]) for each in held]
    for each in held:
        each.close()
    return ports


class Balancer:
    """HAProxy, spoken to over its own socket."""

    def __init__(self, folder: Path, port: int, ports: list[int]) -> None:
        binary = shutil.which("haproxy") or shutil.which("haproxy", path="/usr/sbin")
        if binary is None:
            raise FileNotFoundError("haproxy is not installed; apt-get install haproxy")
        self._socket = folder / "admin"
        servers = "\n".join(_SERVER.format(number=number, port=each) for number, each in enumerate(ports))
        config = folder / "haproxy.cfg"
        config.write_text(_CONFIG.format(socket=self._socket, port=port, servers=servers))
        self.process = subprocess.Popen([binary, "-db", "-q", "-f", str(config)])
        ends = time.monotonic() + 10
        while not self._socket.exists() and time.monotonic() < ends:
            time.sleep(0.02)

    def ask(self, command: str) -> str:
        """Send a command to the admin socket."""
        with socket.socket(socket.AF_UNIX) as admin:
            admin.connect(str(self._socket))
            admin.sendall(command.encode() + b"\n")
            return b"".join(iter(lambda: admin.recv(65_536), b"")).decode()

    def counts(self) -> tuple[int, int]:
        """(requests so far, requests inside now) of the backend."""
        for line in self.ask("show stat tasks 2 -1").splitlines():  # 2: backends alone
            fields = line.split(",")
            if fields[:2] == ["tasks", "BACKEND"]:
                return int(fields[7]), int(fields[4])
        raise RuntimeError("HAProxy does not know its backend")


class ScaledService:
    """Replicas as processes, started and stopped as a plan decides from what the balancer counts.

    `task_s` adds up the seconds of tasks, starting ones included; `peak` is the most there were.
    """

    def __init__(self, folder: Path, task: TaskModel, plan: ScalingPlan, start_up: StartUp) -> None:
        self.task, self.plan, self.start_up = task, plan, start_up
        self.port, *self._ports = free_ports(1 + plan.ceiling)
        self._balancer = Balancer(folder, self.port, self._ports)
        self._running: dict[int, subprocess.Popen[bytes]] = {}  # by slot, in order of start
        self._ready: set[int] = set()
        self._leaving: list[tuple[float, int, subprocess.Popen[bytes]]] = []
        self._due: list[tuple[float, int]] = []
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self.failure: BaseException | None = None
        self.task_s, self.peak = 0.0, 0
        for _ in range(plan.floor):
            self._start(due_s=0.0)
        for _, slot in list(self._due):
            self._enable(slot)
        self._due.clear()

    def _start(self, due_s: float) -> None:
        busy = {*self._running, *(slot for _, slot, _ in self._leaving)}
        slot = next(number for number in range(len(self._ports)) if number not in busy)
        command = [sys.executable, "-m", "benchmarks.fleet.fixed_replica", "--port", str(self._ports[slot])]
        command += ["--service-ms", str(self.task.service_s * 1e3), "--queue-ms", str(self.task.queue_s * 1e3)]
        self._running[slot] = subprocess.Popen(command, cwd=ROOT)
        self._due.append((due_s, slot))

    def _enable(self, slot: int, patience_s: float = 30.0) -> None:
        ends = time.monotonic() + patience_s
        while True:
            try:
                socket.create_connection(("127.0.0.1", self._ports[slot]), timeout=1).close()
                break
            except OSError:
                if time.monotonic() > ends:
                    raise
                time.sleep(0.02)
        self._balancer.ask(f"set server tasks/t{slot} state ready")
        self._ready.add(slot)

    def begin(self) -> None:
        """Start the control loop: from now on the clock of the trace runs."""
        self._thread = threading.Thread(target=self._control, daemon=True)
        self._thread.start()

    def _control(self) -> None:
        try:
            self._loop()
        except BaseException as error:
            self.failure = error

    def _loop(self) -> None:
        begin = time.monotonic()
        seen: list[LoadSample] = []
        last_out_s = last_change_s = float("-inf")
        looks: list[int] = []
        before, _ = self._balancer.counts()
        tick = 0
        while not self._stop.is_set():
            tick += 1
            self._stop.wait(max(0.0, begin + tick / _LOOKS_PER_S - time.monotonic()))
            now_s = time.monotonic() - begin
            for due_s, slot in [each for each in self._due if each[0] <= now_s]:
                self._enable(slot)
                self._due.remove((due_s, slot))
            for entry in [each for each in self._leaving if each[0] <= now_s]:
                entry[2].terminate()
                self._leaving.remove(entry)
            total, inside = self._balancer.counts()
            looks.append(inside)
            self.task_s += len(self._running) / _LOOKS_PER_S
            self.peak = max(self.peak, len(self._running))
            if tick % _LOOKS_PER_S:
                continue
            at_s = tick / _LOOKS_PER_S
            mean = sum(looks) / len(looks)
            seen.append(LoadSample(at_s=at_s, ready=len(self._ready), requests_per_s=total - before, in_flight=mean))
            before, looks = total, []
            tasks = len(self._running)
            decided = self.plan.decide(seen, at_s, tasks, last_out_s=last_out_s, last_change_s=last_change_s)
            if decided > tasks:
                last_out_s = last_change_s = at_s
                for _ in range(decided - tasks):
                    self._start(due_s=at_s + self.start_up.total_s)
            elif decided < tasks:
                last_change_s = at_s
                for slot in list(self._running)[decided:]:
                    self._leave(slot, now_s)

    def _leave(self, slot: int, now_s: float) -> None:
        self._balancer.ask(f"set server tasks/t{slot} state maint")  # takes no more; what is inside is answered
        self._due = [each for each in self._due if each[1] != slot]
        self._ready.discard(slot)
        self._leaving.append((now_s + self.task.queue_s + 1.0, slot, self._running.pop(slot)))

    def close(self) -> None:
        """End every process that was started here."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(35)
        processes = [*self._running.values(), *(entry[2] for entry in self._leaving), self._balancer.process]
        for process in processes:
            process.send_signal(signal.SIGTERM)
        for process in processes:
            process.wait(10)


@contextmanager
def scaled_service(**arguments: Any) -> Iterator[ScaledService]:
    """A service that ends with the block.

    Raises:
        FileNotFoundError: HAProxy is not installed.
    """
    with tempfile.TemporaryDirectory(prefix="evergreen-capacity-") as folder:
        service = ScaledService(Path(folder), **arguments)
        try:
            yield service
            if service.failure is not None:
                raise service.failure
        finally:
            service.close()
