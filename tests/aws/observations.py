"""Observed effects of each variable and secret of an installation that ran: one that is removed leaves no effect."""

import json
from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import Any, Final

import httpx
import psutil

from absa.records.tables import PREDICTIONS, read_parquet
from tests.aws.installation import Installation
from tests.aws.template import REGION

EVERY: Final = "every process"
Seen = Callable[["Look"], bool]


class Look:
    """Looks at an installation from outside, as an operator could.

    Args:
        installation: where a loop ran.
        lake: of it.
        answered: what the router answered, each with the unit that asked.
    """

    def __init__(self, installation: Installation, lake: Any, answered: list[dict[str, Any]]) -> None:
        self.here, self.lake, self.answered = installation, lake, answered
        self.account = installation.account

    def get(self, name: str, path: str, *, port: int = 0, host: str | None = None) -> httpx.Response:
        """An answer of a process, asked by the name that the load balancer has."""
        url = self.here.url(name, port)
        asked_as = host or url.replace(self.here.address, self.here.balancer).removeprefix("http://")
        return httpx.get(url + path, timeout=10, headers={"Host": asked_as})

    def said(self, name: str) -> str:
        """The log of a process, or of every training."""
        tasks = self.here.jobs if name == "training" else [self.here.tasks[name]]
        return "".join(task.said() for task in tasks)

    def has(self, name: str, folder: str) -> bool:
        """Return whether a process keeps a folder on its volume."""
        return (self.here.jobs[0] if name == "training" else self.here.tasks[name]).home.joinpath(folder).is_dir()

    def regions(self, name: str) -> set[str]:
        """Return the regions that a process's requests to AWS were signed for; nowhere if it made none."""
        return self.account.regions.get(str(self.here.processes[name].role), set())

    def rows(self, database: str, table: str, where: str = "true") -> int:
        """Rows of a table in PostgreSQL."""
        import psycopg2

        words = self.here.database
        connection = psycopg2.connect(
            dbname=database, host=words["PGHOST"], port=words["PGPORT"], user=words["PGUSER"],
            password=words["PGPASSWORD"],
        )  # fmt: skip
        try:
            with connection.cursor() as cursor:
                cursor.execute(f"SELECT count(*) FROM {table} WHERE {where}")
                return int(cursor.fetchone()[0])
        finally:
            connection.close()

    def submitted(self) -> set[str]:
        """Queues and definitions of the jobs that were submitted."""
        return {target.rpartition("/")[2] for _, action, target in self.account.calls if action == "batch:SubmitJob"}

    def metric(self, name: str, service: str) -> bool:
        """Return whether a process wrote a metric line."""
        return any('"_aws"' in line and f'"Service": "{service}"' in line for line in self.said(name).splitlines())

    def intervals_s(self, name: str) -> list[float]:
        """Seconds between a process's metric lines."""
        lines = [json.loads(line) for line in self.said(name).splitlines() if line.startswith('{"_aws"')]
        times = [float(line["_aws"]["Timestamp"]) / 1000 for line in lines]
        return [later - before for before, later in pairwise(times)]

    def units_are_hashed_with(self, secret: str) -> bool:
        """Return whether the lake holds the units of those who asked, hashed with a secret."""
        from absa.records.identifiers import unit_hash

        keys = self.lake.list("predictions/")
        kept = set(read_parquet(self.lake, keys, PREDICTIONS).column("unit_hash").to_pylist())
        return {unit_hash(each["unit_id"], secret.encode()) for each in self.answered} <= kept


def _admin_token(look: Look) -> bool:
    token = look.here.secret(look.here.processes["router"], "EVERGREEN_ADMIN_TOKEN")
    url = look.here.url("router", 1) + "/v1/traffic"
    given = [httpx.put(url, json={}, headers=each).status_code for each in ({}, {"X-API-Key": token})]
    return given == [401, 422]


def _predict_key(look: Look) -> bool:
    item = {"text": "the app is great", "aspect": "app"}
    key = look.here.secret(look.here.processes["router"], "EVERGREEN_PREDICT_KEY")
    url = look.here.url("router") + "/v1/predict"
    return [httpx.post(url, json=item, headers=each).status_code for each in ({}, {"X-API-Key": key})] == [401, 200]


def _admin_port(look: Look) -> bool:
    return (
        look.get("router", "/metrics", port=1).status_code == 200 and look.get("router", "/metrics").status_code == 404
    )


def _no_job_workers(look: Look) -> bool:
    server = psutil.Process(look.here.tasks["mlflow"].child.pid)
    return not any("job" in " ".join(each.cmdline()) for each in server.children(recursive=True))


def _feedback_key(look: Look) -> bool:
    (key,) = json.loads(look.here.secret(look.here.processes["router"], "EVERGREEN_FEEDBACK_KEYS"))
    told = {"request_id": look.answered[-1]["request_id"], "label": 0}
    url = look.here.url("router") + "/v1/feedback"
    return httpx.post(url, json=told, headers={"X-API-Key": key}).status_code == 202


def _prefect_has_flow_runs(look: Look) -> bool:
    return int(httpx.post(look.here.url("prefect") + "/api/flow_runs/count", json={}).json()) > 0


def _mlflow_has_versions(look: Look) -> bool:
    return look.get("mlflow", "/api/2.0/mlflow/model-versions/get?name=absa&version=1").status_code == 200


def _router_port(look: Look) -> bool:
    return look.get("router", "/healthz").status_code == 200


def _environment(name: str, variable: str) -> Callable[[Look], str]:
    return lambda look: look.here.processes[name].environment[variable]


_POSTGRES: Final = ("PGHOST", "PGPORT", "PGUSER", "PGPASSWORD")
_PREFECT_DATABASE: Final = tuple(
    f"PREFECT_SERVER_DATABASE_{part}" for part in ("DRIVER", "HOST", "PORT", "USER", "NAME", "PASSWORD")
)
OBSERVED: Final[Mapping[tuple[str, str], Seen]] = {
    ("router", "AWS_DEFAULT_REGION"): lambda look: look.regions("router") == {REGION},
    ("router", "EVERGREEN_HOME"): lambda look: look.has("router", "serving"),
    ("router", "EVERGREEN_LAKE"): lambda look: bool(look.lake.list("predictions/")),
    ("router", "EVERGREEN_ROUTER_HOST"): _router_port,
    ("router", "EVERGREEN_ROUTER_PORT"): _router_port,
    ("router", "EVERGREEN_ADMIN_PORT"): _admin_port,
    ("router", "EVERGREEN_WORKERS"): lambda look: (
        str(len(look.get("router", "/v1/models", port=1).json()["workers"]))
        == _environment("router", "EVERGREEN_WORKERS")(look)
    ),
    ("router", "EVERGREEN_METRICS"): lambda look: look.metric("router", "router"),
    ("router", "EVERGREEN_METRICS_INTERVAL_S"): lambda look: min(look.intervals_s("router"), default=60.0) < 20,
    ("router", "EVERGREEN_ADMIN_TOKEN"): _admin_token,
    ("router", "EVERGREEN_PREDICT_KEY"): _predict_key,
    ("router", "EVERGREEN_FEEDBACK_KEYS"): _feedback_key,
    ("router", "EVERGREEN_SECRET"): lambda look: look.units_are_hashed_with(
        look.here.secret(look.here.processes["router"], "EVERGREEN_SECRET")
    ),
    **{("prefect-database", each): _prefect_has_flow_runs for each in _POSTGRES},
    **{("mlflow-database", each): _mlflow_has_versions for each in _POSTGRES},
    **{("mlflow", each): _mlflow_has_versions for each in _POSTGRES},
    **{("prefect", each): _prefect_has_flow_runs for each in _PREFECT_DATABASE},
    ("prefect", "PREFECT_HOME"): lambda look: look.has("prefect", "prefect"),
    ("prefect", "PREFECT_UI_API_URL"): lambda look: (
        look.get("prefect", "/ui-settings").json()["api_url"] == _environment("prefect", "PREFECT_UI_API_URL")(look)
    ),
    ("mlflow", "AWS_DEFAULT_REGION"): lambda look: look.regions("mlflow") == {REGION},
    ("mlflow", "MLFLOW_SERVER_ALLOWED_HOSTS"): lambda look: (
        look.get("mlflow", "/api/2.0/mlflow/experiments/get?experiment_id=0").status_code == 200
        and look.get("mlflow", "/", host="elsewhere").status_code == 403
    ),
    ("mlflow", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION"): _no_job_workers,
    ("worker", "AWS_DEFAULT_REGION"): lambda look: look.regions("worker") == {REGION},
    ("worker", "EVERGREEN_HOME"): lambda look: look.has("worker", "metrics"),
    ("worker", "EVERGREEN_LAKE"): lambda look: bool(look.lake.list("verdicts/")),
    ("worker", "EVERGREEN_EVIDENTLY_URL"): lambda look: len(look.get("evidently", "/api/projects").json()) > 0,
    ("worker", "EVERGREEN_METRICS"): lambda look: look.metric("worker", "monitor"),
    ("worker", "MLFLOW_TRACKING_URI"): lambda look: (
        look.rows("prefect", "artifact", "key = 'verdict'") > 0
        and look.rows("prefect", "artifact", "key = 'verdict' AND data::text LIKE '%aliases lag%'") == 0
    ),
    ("worker", "PREFECT_API_URL"): lambda look: look.rows("prefect", "deployment") == 4,
    ("worker", "EVERGREEN_TRAINING_QUEUES"): lambda look: (
        _environment("worker", "EVERGREEN_TRAINING_QUEUES")(look).partition(",")[0] in look.submitted()
    ),
    ("worker", "EVERGREEN_TRAINING_DEFINITION"): lambda look: (
        _environment("worker", "EVERGREEN_TRAINING_DEFINITION")(look) in look.submitted()
    ),
    ("training", "AWS_DEFAULT_REGION"): lambda look: look.regions("training") == {REGION},
    ("training", "EVERGREEN_HOME"): lambda look: look.has("training", "jobs"),
    ("training", "EVERGREEN_LAKE"): lambda look: bool(look.lake.list("runs/")),
    ("training", "MLFLOW_TRACKING_URI"): _mlflow_has_versions,
    ("training", "PREFECT_API_URL"): lambda look: look.rows("prefect", "artifact", "key = 'training-result'") > 0,
}
UNSEEN: Final[Mapping[tuple[str, str], str]] = {
    (EVERY, "DO_NOT_TRACK"): "what it stops could not leave the network anyway",
    (EVERY, "AWS_REGION"): "CDK adds it for containers on EC2; boto3 reads AWS_DEFAULT_REGION",
    ("prefect", "PREFECT_SERVER_ANALYTICS_ENABLED"): "what it stops could not leave the network anyway",
    ("mlflow", "MLFLOW_DISABLE_TELEMETRY"): "what it stops could not leave the network anyway",
    **{
        (name, "AWS_DEFAULT_REGION"): "every process is told; this one asks AWS for nothing"
        for name in ("prefect", "prefect-database", "mlflow-database", "evidently")
    },
    ("worker", "EVERGREEN_BUDGET_S"): "prod's is the default; tests/unit/infra/test_templates.py",
    ("worker", "EVERGREEN_SECRET"): "nothing is forgotten here; tests/unit/flows/monitoring/test_forgetting.py",
    (
        "worker",
        "EVERGREEN_MACHINE_WAIT_S",
    ): "no machine is late here; tests/unit/flows/training/test_training_machine.py",
    ("worker", "EVERGREEN_WINDOW_S"): "windows are named in the test; an hour is too long for one",
    ("training", "EVERGREEN_EVIDENTLY_URL"): "one environment for all that runs flows; a training writes no report",
    ("training", "EVERGREEN_METRICS"): "a training that ends well writes none",
}
UNUSED: Final[Mapping[tuple[str, str], str]] = {
    ("mlflow", "s3:GetObject"): "people read a run's files in the UI; test_older_packages.py downloads a package",
    ("mlflow", "s3:ListBucket"): "people list a run's files in the UI; test_older_packages.py downloads a package",
    ("evidently", "elasticfilesystem:ClientMount"): "ECS mounts the file system; there is none here",
    ("evidently", "elasticfilesystem:ClientWrite"): "ECS mounts the file system; there is none here",
    ("worker", "s3:DeleteObject"): "nothing is forgotten here; tests/unit/infra/test_templates.py",
    ("worker", "batch:TerminateJob"): "no machine is late here; tests/unit/flows/training/test_training_machine.py",
}
AT_ZERO: Final = {"ray-head", "ray-node"}  # stand at zero tasks; what they would do is the lake code of the others
