"""Starts the processes of a template on this machine, with its commands, variables, secrets, ports and health checks.

What is not the template's own stands here: a loopback address is every task's network interface and the internal load
balancer, a folder is each task's volume, and the images are this environment with what their Dockerfiles copy.
"""

import json
import os
import secrets
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import psutil

from tests.aws.account import Account
from tests.aws.postgres import PASSWORD
from tests.aws.synthesis import ROOT
from tests.aws.template import REGION, Process, Template, image_copies, image_environment

VOLUME = "/var/evergreen"
_IMAGE = {"router": "serving"}
_EVERYWHERE = "0.0.0.0"
_ITSELF = "127.0.0.1"


def loopback_address() -> str:
    """An address of this machine that hardly anybody else uses, so that the template's ports are free on it."""
    return f"127.{40 + secrets.randbelow(200)}.{secrets.randbelow(250)}.{2 + secrets.randbelow(250)}"


@dataclass
class Task:
    """One process of the template that runs here."""

    process: Process
    home: Path
    log: Path
    child: "subprocess.Popen[bytes]"
    environment: dict[str, str]

    def said(self) -> str:
        """Return its log."""
        return self.log.read_text(encoding="utf-8", errors="replace")

    def stop(self) -> None:
        """SIGTERM as ECS sends it, then SIGKILL to what is left of it."""
        try:
            family = [psutil.Process(self.child.pid), *psutil.Process(self.child.pid).children(recursive=True)]
        except psutil.NoSuchProcess:
            return
        self.child.terminate()
        _, left = psutil.wait_procs(family, timeout=8)
        for each in left:
            each.kill()
        self.child.wait(10)


@dataclass
class Installation:
    """A template that runs. `shortened`: variables, by process, that shorten intervals and are no part of it."""

    template: Template
    account: Account
    folder: Path
    database: Mapping[str, str]
    configuration: str = ""
    shortened: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    address: str = field(default_factory=loopback_address)
    tasks: dict[str, Task] = field(default_factory=dict)
    jobs: list[Task] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.balancer = self.address  # where processes that are told of the internal load balancer look
        attributes = self.template.attributes
        ((database, _),) = self.template.of("AWS::RDS::DBInstance").items()
        attributes[database, "Endpoint.Address"] = self.database["PGHOST"]
        attributes[database, "Endpoint.Port"] = self.database["PGPORT"]
        for name, balancer in self.template.of("AWS::ElasticLoadBalancingV2::LoadBalancer").items():
            attributes[name, "DNSName"] = self.address if balancer["Scheme"] == "internal" else f"{name}.public"
        self.processes = {each.name: each for each in (*reversed(list(self.template.tasks())), self.template.job())}
        self.account.run_job = self._run_job

    def provision(self) -> None:
        """Make what the template makes before tasks start: buckets, and secrets with values."""
        s3, manager = self.account.client("s3"), self.account.client("secretsmanager")
        for name in self.template.of("AWS::S3::Bucket"):
            where = {"LocationConstraint": REGION}
            s3.create_bucket(Bucket=self.template.resolve({"Ref": name}), CreateBucketConfiguration=where)
        for name, secret in self.template.of("AWS::SecretsManager::Secret").items():
            made = secret.get("GenerateSecretString", {})
            value = secret.get("SecretString") or secrets.token_urlsafe(24)
            if "SecretStringTemplate" in made:
                value = (
                    made["SecretStringTemplate"].removesuffix("}") + f',"{made["GenerateStringKey"]}":"{PASSWORD}"}}'
                )
            manager.create_secret(Name=secret["Name"], SecretString=value)
            self.account.names[secret["Name"]] = self.template.resolve({"Ref": name})
        for name, attached in self.template.of("AWS::SecretsManager::SecretTargetAttachment").items():
            self.account.names[self._secret(name)] = self.template.resolve({"Ref": name})
            assert attached

    def _secret(self, owner: str) -> str:
        """The name of a secret by its logical id, or by that of its attachment to the database."""
        attached = self.template.of("AWS::SecretsManager::SecretTargetAttachment").get(owner)
        logical = attached["SecretId"]["Ref"] if attached else owner
        return str(self.template.of("AWS::SecretsManager::Secret")[logical]["Name"])

    def secret(self, process: Process, variable: str) -> str:
        """Return the secrets that ECS hands to a container, fetched with the execution role's permission."""
        owner, key = process.secrets[variable]
        client = self.account.client("secretsmanager", str(process.execution_role))
        value = str(client.get_secret_value(SecretId=self._secret(owner))["SecretString"])
        if not key:
            return value
        return str(json.loads(value)[key])

    def start(self, name: str, process: Process | None = None, **more: str) -> Task:
        """Start a container of the template by its name."""
        process = process or self.processes[name]
        image = _IMAGE.get(name, "platform")
        app = self._image(image)
        count = len(list(self.folder.glob(f"{name}-*.log")))
        home, log = self.folder / f"{name}-{count}", self.folder / f"{name}-{count}.log"
        home.mkdir()
        if self.configuration:
            (home / "evergreen.toml").write_text(self.configuration)
        dockerfile = (ROOT / "infra" / "images" / f"{image}.Dockerfile").read_text()
        words = {
            **image_environment(dockerfile),
            **process.environment,
            **{variable: self.secret(process, variable) for variable in process.secrets},
            **self.shortened.get(name, {}),
            **more,
        }
        environment = {variable: self._here(word, home=home, app=app) for variable, word in words.items()}
        environment |= {"PATH": f"{Path(sys.executable).parent}:{os.defpath}", "LANG": "C.UTF-8"}
        environment |= self.account.environment(str(process.role)) if process.role else {}
        command = [self._here(word, home=home, app=app) for word in process.command]
        with log.open("wb") as file:
            child = subprocess.Popen(
                command, env=environment, cwd=app, stdout=file, stderr=file, start_new_session=True
            )
        return Task(process=process, home=home, log=log, child=child, environment=environment)

    def up(self, *names: str, seconds: float = 180.0) -> None:
        """Start containers, and wait until the health check of each passes."""
        self.tasks |= {name: self.start(name) for name in names}
        for name in names:
            if self.processes[name].health:
                self.wait(lambda task=self.tasks[name]: self.is_healthy(task), what=f"{name}'s health", seconds=seconds)

    def run(self, name: str) -> None:
        """Start a container that others depend on, and wait until it has ended well."""
        task = self.start(name)
        assert task.child.wait(120) == 0, task.said()

    def is_healthy(self, task: Task) -> bool:
        """Return whether the container's own health check passes."""
        assert task.child.poll() is None, task.said()[-3000:]
        kind, *command = [word.replace(_ITSELF, self.address) for word in task.process.health]
        assert kind == "CMD"
        path = {"PATH": task.environment["PATH"]}
        try:
            return subprocess.run(command, env=path, capture_output=True, check=False, timeout=15).returncode == 0
        except subprocess.TimeoutExpired:
            return False

    def wait(self, condition: Any, *, what: str, seconds: float = 120.0) -> Any:
        """Wait for something; a task that ends on the way is an error with its log."""
        ends = time.monotonic() + seconds
        while time.monotonic() < ends:
            found = condition()
            if found:
                return found
            for task in self.tasks.values():
                assert task.child.poll() is None, f"{task.process.name} ended: {task.said()[-3000:]}"
            time.sleep(0.2)
        raise AssertionError(f"{what} did not come within {seconds:.0f} s; refused: {sorted(self.account.refused)}")

    def url(self, name: str, port: int = 0) -> str:
        """Return the address of a container's port."""
        ports = self.processes[name].ports
        return f"http://{self.address}:{ports[port]}"

    def close(self) -> None:
        """End everything."""
        for task in [*self.jobs, *reversed(self.tasks.values())]:
            task.stop()

    def _run_job(self, definition: str, parameters: Mapping[str, str]) -> "subprocess.Popen[bytes]":
        job = self.template.job()
        ((_, properties),) = self.template.of("AWS::Batch::JobDefinition").items()
        assert definition == properties["JobDefinitionName"], definition
        given = {f"Ref::{name}": value for name, value in {**properties["Parameters"], **parameters}.items()}
        process = replace(job, command=[given.get(word, word) for word in job.command])
        task = self.start("training", process)
        self.jobs.append(task)
        return task.child

    def _here(self, word: str, *, home: Path, app: Path) -> str:
        word = str(app) if word == "/app" else word.replace(VOLUME, str(home))
        return word.replace(_EVERYWHERE, self.address)

    def _image(self, name: str) -> Path:
        """/app as the Dockerfile's COPY lines fill it."""
        app = self.folder / "images" / name
        if not app.exists():
            for source, goal in image_copies((ROOT / "infra" / "images" / f"{name}.Dockerfile").read_text(), ROOT):
                if source.name != "requirements.txt":
                    (app / goal).parent.mkdir(parents=True, exist_ok=True)
                    (app / goal).symlink_to(source)
        return app


@contextmanager
def installed(**arguments: Any) -> Iterator[Installation]:
    """An installation that ends with the block."""
    made = Installation(**arguments)
    try:
        yield made
    finally:
        made.close()
