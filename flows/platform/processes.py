"""Local servers as detached processes with a log each: start, search by process id, end."""

import contextlib
import hashlib
import json
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Final

import httpx
import psutil

from absa.adapters.mlflow_files import MlflowFiles
from absa.errors import PermanentError, UnavailableError
from absa.records.files import write_whole
from absa.router_settings import RouterSettings
from flows.platform.settings import PARTS, Home, Settings, port_is_free
from flows.platform.terminal import say

STOP_GRACE_S: Final = 10.0
STOP_ORDER: Final = ("router", "deployments", "evidently", "prefect", "mlflow")
_START_LIMIT_S: Final = 240.0  # for slow starts on a busy machine; a part that has ended is noticed at once
_SAME_START_S: Final = 5.0  # the kernel derives start times from the clock, which may be corrected meanwhile
_ENTRY_POINTS: Final = 2  # raise it when a flow moves to another module: a worker that runs cannot load it any more
SERVER_VARIABLES: Final = {"mlflow": ("MLFLOW_TRACKING_URI", ""), "prefect": ("PREFECT_API_URL", "/api")}
PART: Final = "EVERGREEN_PART"  # environment variable that marks all processes of a part, also orphans


class PortTakenError(PermanentError):
    """Another program holds the port of a part."""


@dataclass(frozen=True, kw_only=True)
class Part:
    """Process of the platform. `ready_url` answers 200 when the part is ready; None if the part has no port."""

    name: str
    command: tuple[str, ...]
    environment: Mapping[str, str] = field(repr=False)  # holds secrets
    ready_url: str | None = None
    port: int | None = None
    page: str | None = None  # address for the user's browser

    @property
    def entry(self) -> str:
        """Digest of what requires a restart when it changes: command, entry points of deployments, a router's links."""
        added = {"deployments": str(_ENTRY_POINTS), "router": self.environment.get("EVERGREEN_LINKS", "")}
        return hashlib.sha256("\0".join([*self.command, added.get(self.name, "")]).encode()).hexdigest()


def pages(home: Home) -> dict[str, str | None]:
    """Return the page of each part, or None, in the order in which parts start."""
    shown = {name: home.url(name) for name in ("mlflow", "prefect", "router", "evidently")}
    return {**shown, "router": f"{shown['router']}/", "deployments": None}


def parts(settings: Settings, environment: Mapping[str, str]) -> dict[str, Part]:
    """Return every part of a one-machine platform, in the order in which parts start."""
    home = Home(settings)
    ports = home.ports()
    shown = pages(home)
    secret = home.secrets()
    python = sys.executable
    scripts = Path(python).parent
    host = settings.host
    mlflow = MlflowFiles.of_home(home.folder("mlflow"), environment)
    given = {name: value for name, value in {**settings.sources.variables(), **environment}.items() if value}
    router_environment = {
        "EVERGREEN_ROUTER_HOST": host,
        "EVERGREEN_WORKERS": str(settings.workers),
        "EVERGREEN_ADMIN_TOKEN": secret["admin_token"],
        "EVERGREEN_FEEDBACK_KEYS": json.dumps({secret["feedback_key"]: {"source": "customer"}}),
        "EVERGREEN_LINKS": json.dumps({name: home.url(name.lower()) for name in ("Prefect", "MLflow", "Evidently")}),
        "EVERGREEN_QUEUE_MS": "1000",  # longer than by default, because trainings use the same cores
        **given,
        "EVERGREEN_ROUTER_PORT": str(ports["router"]),
        "EVERGREEN_SECRET": home.unit_secret(),
    }
    listed = (
        Part(
            name="mlflow",
            command=(
                *(python, "-m", "flows.platform.mlflow_server", "--host", host, "--port", str(ports["mlflow"])),
                *("--backend-store-uri", mlflow.database, "--artifacts-destination", mlflow.artifacts),
                *("--workers", "1"),
            ),
            environment={},
            ready_url=f"{home.url('mlflow')}/health",
            port=ports["mlflow"],
            page=shown["mlflow"],
        ),
        Part(
            name="prefect",
            command=(str(scripts / "prefect"), "server", "start", "--host", host, "--port", str(ports["prefect"])),
            environment={"PREFECT_UI_API_URL": f"{home.url('prefect')}/api"},
            ready_url=f"{home.url('prefect')}/api/health",
            port=ports["prefect"],
            page=shown["prefect"],
        ),
        Part(
            name="router",
            command=(python, "-m", "serving"),
            environment=router_environment,
            ready_url=f"{home.url('router')}/healthz",
            port=ports["router"],
            page=shown["router"],
        ),
        Part(
            name="evidently",
            command=(
                *(str(scripts / "evidently"), "ui", "--workspace", str(home.folder("evidently"))),
                *("--host", host, "--port", str(ports["evidently"])),
            ),
            environment={},
            ready_url=f"{home.url('evidently')}/api/version",
            port=ports["evidently"],
            page=shown["evidently"],
        ),
        Part(name="deployments", command=(python, "-m", "flows.deployments"), environment={}),
    )
    return {part.name: Part(**{**vars(part), "environment": {**environment, **part.environment}}) for part in listed}


def needed_for_start(part: Part, everything: Mapping[str, Part]) -> tuple[Part, ...]:
    """Return the parts that must be ready before this part starts."""
    return (everything["prefect"],) if part.name == "deployments" else ()


def router_complaint() -> str | None:
    """Return the error message for invalid settings of the router, or None if all are valid."""
    try:
        RouterSettings.read()
    except PermanentError as error:
        return f"router: {error}"
    return None


class Supervisor:
    """Start, search and end of parts. A running part has HOME/run/<name>.json and HOME/logs/<name>.log."""

    def __init__(self, settings: Settings) -> None:
        self._home = Home(settings)
        self._host = settings.host

    def log(self, name: str) -> Path:
        """Return the path of a part's log."""
        return self._home.root / "logs" / f"{name}.log"

    def _note(self, name: str) -> Path:
        return self._home.root / "run" / f"{name}.json"

    def running(self, name: str) -> psutil.Process | None:
        """Return the process of a part if it is alive. A later process with the same process id does not count."""
        try:
            note = json.loads(self._note(name).read_text())
            process = psutil.Process(int(note["pid"]))
            alive = (
                process.status() != psutil.STATUS_ZOMBIE
                and abs(process.create_time() - note["created"]) < _SAME_START_S
            )
        except (FileNotFoundError, psutil.NoSuchProcess, ValueError, KeyError):
            return None
        return process if alive else None

    def is_wanted(self, name: str) -> bool:
        """Return True if a part was started and not stopped since. It may have ended by itself."""
        return self._note(name).exists()

    def is_outdated(self, part: Part) -> bool:
        """Return True if the part runs with another command or with entry points of another release."""
        if self.running(part.name) is None:
            return False
        noted = json.loads(self._note(part.name).read_text()).get("entry")
        if noted is None:  # an earlier release wrote the note without an entry; since then only deployments changed
            return part.name == "deployments"
        return bool(noted != part.entry)

    def orphans(self, name: str) -> list[psutil.Process]:
        """Return leftovers of earlier starts: processes with the part's mark outside of the running process tree.

        This finds also processes of a start that was killed before it wrote HOME/run/<name>.json.
        """
        running, found = self.running(name), []
        ours = [] if running is None else [running, *_below(running)]
        for process in psutil.process_iter():
            try:
                marks = process.environ()
            except (ProcessLookupError, PermissionError, psutil.Error):
                continue
            if (marks.get("EVERGREEN_HOME"), marks.get(PART)) == (str(self._home.root), name):
                found.append(process)
        return [process for process in found if process not in ours and not _is_gone(process)]

    def start(self, part: Part) -> None:
        """Start a part that does not run, and restart an outdated one (`is_outdated`).

        The part continues when this process ends; `stop` ends the part. A restart is printed. It ends the part with its
        child processes, as `stop` does. If the part has a port, leftovers of earlier starts are ended first. Leftovers
        of a part without a port continue, so that a training survives the death of the Prefect worker.

        Raises:
            PortTakenError: another program uses the port of the part.
        """
        if self.is_outdated(part):
            say(f"{part.name} runs with the code or command of an earlier start: it is restarted", err=True)
            self.stop(part.name)
        if self.running(part.name):
            return
        if part.port is not None:
            _end(self.orphans(part.name))  # one that is still starting does not use the port yet
        if part.name == "prefect":
            # After a reboot another process may have the process id in this lock, and the server would wait for it
            (self._home.folder("prefect", "concurrency_leases") / "expirations.lock").unlink(missing_ok=True)
        if part.port is not None and not port_is_free(self._host, part.port):
            raise PortTakenError(
                f"port {part.port} is taken, so {part.name} cannot start: free it, "
                f"or set EVERGREEN_{part.name.upper()}_PORT to another"
            )
        self._home.folder("logs")
        self._home.folder("run")
        with self.log(part.name).open("ab") as log:
            child = subprocess.Popen(  # noqa: S603  our own command line
                part.command,
                env={**part.environment, PART: part.name},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        note = {"pid": child.pid, "created": psutil.Process(child.pid).create_time(), "entry": part.entry}
        write_whole(self._note(part.name), json.dumps(note))

    def wait(
        self,
        started: Sequence[Part],
        *,
        timeout_s: float = _START_LIMIT_S,
        on_waiting: Callable[[Sequence[str]], None] = lambda _: None,
    ) -> None:
        """Wait until every part is ready.

        Args:
            started: parts to wait for.
            timeout_s: longest wait, in seconds.
            on_waiting: called with the names of the parts that are not ready, at the start and at each change.

        Raises:
            UnavailableError: a part ended, or was not ready in time; the message names its log.
        """
        ends = time.monotonic() + timeout_s
        waiting = [part for part in started if part.ready_url]
        on_waiting([part.name for part in waiting])
        while waiting:
            for part in list(waiting):
                if self.running(part.name) is None:  # an answer on its port would come from another home
                    raise UnavailableError(f"{part.name} ended during its start; see its log {self.log(part.name)}")
                if answers(str(part.ready_url)):
                    waiting.remove(part)
                    on_waiting([each.name for each in waiting])
            if waiting and time.monotonic() > ends:
                names = ", ".join(part.name for part in waiting)
                logs = ", ".join(str(self.log(part.name)) for part in waiting)
                raise UnavailableError(f"{names}: not ready within {timeout_s:.0f} s; see {logs}")
            if waiting:
                time.sleep(0.1)

    def stop(self, name: str) -> bool:
        """End a part and its child processes: SIGTERM, then SIGKILL after a grace period.

        Returns:
            True if the part or a leftover of it ran.
        """
        process, orphans = self.running(name), self.orphans(name)
        family = [] if process is None else _below(process)
        _end([*([] if process is None else [process]), *orphans], family)
        self._note(name).unlink(missing_ok=True)
        return process is not None or bool(orphans)


def _end(told: Sequence[psutil.Process], others: Sequence[psutil.Process] = ()) -> None:
    """End processes, then the others that still run: SIGTERM, and SIGKILL after a grace period."""
    for group in (told, others):
        for process in group:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.terminate()
        for process in _left_of(group):
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
    _left_of([*told, *others])


def _below(process: psutil.Process) -> list[psutil.Process]:
    """Return all descendants of a process; none if it has just ended."""
    try:
        below: list[psutil.Process] = process.children(recursive=True)
    except psutil.NoSuchProcess:
        return []
    return below


def _left_of(processes: Sequence[psutil.Process]) -> list[psutil.Process]:
    """Wait for the end of processes; return the processes that still run after the grace period."""
    ends, left = time.monotonic() + STOP_GRACE_S, list(processes)
    while left and time.monotonic() < ends:
        left = [process for process in left if not _is_gone(process)]
        time.sleep(0.02 if left else 0.0)
    return left


def _is_gone(process: psutil.Process) -> bool:
    """Return True if the process has exited, including unreaped zombies."""
    try:
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def replace_taken_ports(settings: Settings, names: Collection[str] = PARTS) -> list[str]:
    """Choose other ports for parts whose port another program uses; return a sentence for each.

    A port that EVERGREEN_<PART>_PORT fixes does not change.
    """
    home, supervisor = Home(settings), Supervisor(settings)
    taken = [
        name
        for name, port in home.ports().items()
        if name in names
        and not supervisor.running(name)
        and not port_is_free(settings.host, port)
        and not supervisor.orphans(name)
    ]
    before, after = home.ports(), home.choose_ports_again(taken)
    return [
        f"port {before[name]} is taken by another program: {name} uses port {after[name]}"
        for name in taken
        if after[name] != before[name]
    ]


def is_served(settings: Settings, environment: Mapping[str, str], name: str) -> bool:
    """Return True if commands must use a server: it runs in this home, or a variable names it.

    Args:
        settings: of this installation.
        environment: variables that may name the server.
        name: mlflow or prefect.
    """
    variable, path = SERVER_VARIABLES[name]
    own = Home(settings).url(name) + path
    return environment.get(variable, own) != own or Supervisor(settings).running(name) is not None


def answers_soon(url: str, *, limit_s: float = 20.0) -> bool:
    """Wait until a local address answers 200. Return False if it does not within the limit."""
    ends = time.monotonic() + limit_s
    while not answers(url):
        if time.monotonic() > ends:
            return False
        time.sleep(0.2)
    return True


def answers(url: str) -> bool:
    """Return True if the address answers 200 within five seconds."""
    found = fetched(url)
    return found is not None and found.status_code == 200


def fetched(url: str) -> httpx.Response | None:
    """Return the response of an address; None if it is unavailable, or takes over five seconds."""
    try:
        return httpx.get(url, timeout=5.0, follow_redirects=True, verify=_certificates())
    except (httpx.HTTPError, httpx.InvalidURL):
        return None


@cache
def _certificates() -> ssl.SSLContext:
    """Return the trusted certificates. They are read once, because httpx would read them per call (20 ms)."""
    return httpx.create_ssl_context()


def bring_up(
    settings: Settings,
    environment: Mapping[str, str],
    names: Sequence[str] | None = None,
    *,
    wait: bool = True,
    on_waiting: Callable[[Sequence[str]], None] = lambda _: None,
) -> list[Part]:
    """Start parts, each when the parts that it needs are ready, and wait until all are ready.

    Args:
        settings: of this installation.
        environment: for the processes.
        names: parts to start; None: all.
        wait: False to return while parts are still starting.
        on_waiting: called with the names of the parts that are not ready.

    Returns:
        The parts.

    Raises:
        PermanentError: a port is taken, or a setting of the router is invalid.
        UnavailableError: a part did not become ready.
    """
    complaint = router_complaint() if names is None or "router" in names else None
    if complaint is not None:
        raise PermanentError(complaint)
    Home(settings).keep_ports()
    everything = parts(settings, environment)
    supervisor = Supervisor(settings)
    chosen = [part for part in everything.values() if names is None or part.name in names]
    for part in chosen:
        supervisor.wait(needed_for_start(part, everything), on_waiting=on_waiting)
        supervisor.start(part)
    if wait:
        supervisor.wait(chosen, on_waiting=on_waiting)
    return chosen


def take_down(settings: Settings) -> list[str]:
    """End every part that runs, the router first; return their names."""
    supervisor = Supervisor(settings)
    return [name for name in STOP_ORDER if supervisor.stop(name)]
