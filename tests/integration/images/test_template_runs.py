"""The template is what runs: the loop, by the processes, roles and secrets of the synthesised prod template.

PostgreSQL is real, S3 and Secrets Manager are moto's, Batch starts processes. `make test-template` goes from the first
training to the promotion, and takes every variable out once; EVERGREEN_TEST_TEMPLATE=short ends at a window's verdict.
"""

import contextlib
import json
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime
from itertools import islice
from typing import Any

import httpx
import pytest

from absa.adapters.lake_stores import S3Lake
from absa.data.bundled import FEEDBACK_CSV, bundled_traffic
from absa.data.ingest import ingest
from absa.data.snapshot import latest_manifest, load_side
from absa.data.traffic.known_drift import Drift
from absa.data.traffic.pool_traffic import PoolTraffic
from absa.errors import UnavailableError
from absa.ledger.store import Ledger
from absa.records.schema import SIDES, Window, utc_now
from absa.records.verdict import Verdict
from flows.demo.customer_stream import DEMO_FEEDBACK, known_texts
from flows.demo.pace import PACES
from monitoring.verdicts import VerdictStore
from tests.aws.account import account
from tests.aws.installation import Installation, Task, installed, loopback_address
from tests.aws.observations import AT_ZERO, EVERY, OBSERVED, UNSEEN, UNUSED, Look
from tests.aws.postgres import postgres
from tests.aws.synthesis import assembly, synthesised
from tests.aws.template import REGION, Process, Template, allows, listed, without

FULL = os.environ.get("EVERGREEN_TEST_TEMPLATE") == "full"
FEEDBACK_KEY = "customers-key"
pytestmark = [
    pytest.mark.timeout(1200),
    pytest.mark.skipif("EVERGREEN_TEST_TEMPLATE" not in os.environ, reason="minutes: `make test-template`"),
]


@dataclass
class Loop:
    """Act as operator and customers of an installation."""

    installation: Installation
    answered: list[dict[str, Any]] = field(default_factory=list)
    _customers: PoolTraffic | None = None

    def __post_init__(self) -> None:
        self.account = self.installation.account
        bucket = self.installation.processes["router"].environment["EVERGREEN_LAKE"]
        self.lake = S3Lake(bucket, self.account.client("s3"))
        self.ledger, self.verdicts = Ledger(self.lake), VerdictStore(self.lake)
        self.router = httpx.Client(base_url=self.installation.url("router"), timeout=20)
        self.prefect = httpx.Client(base_url=self.installation.processes["worker"].environment["PREFECT_API_URL"] + "/")

    def secret(self, name: str) -> str:
        """A secret's value, as an operator reads it."""
        manager = self.account.client("secretsmanager")
        return str(manager.get_secret_value(SecretId=f"evergreen/prod/{name}")["SecretString"])

    def open(self) -> None:
        """Secrets, buckets and databases; then every service, as ECS would start them."""
        here = self.installation
        here.provision()
        keys = json.dumps({FEEDBACK_KEY: {"source": "customer"}})
        self.account.client("secretsmanager").put_secret_value(
            SecretId="evergreen/prod/feedback-keys", SecretString=keys
        )
        here.run("prefect-database")
        here.run("mlflow-database")
        here.up("prefect", "mlflow")
        here.up("worker")  # ECS starts it again until Prefect answers; here it is started then
        ingest(self.lake, [str(FEEDBACK_CSV)])
        self.run("continuous-training", reason="first")
        here.up("router", "evidently")
        ready = lambda: self.router.get("/readyz").status_code == 200  # noqa: E731
        here.wait(ready, what="a router that is ready")

    def run(self, name: str, **parameters: Any) -> None:
        """Run a deployment to its end."""
        find = lambda: self.prefect.get(f"deployments/name/{name}/{name}").status_code == 200  # noqa: E731
        self.installation.wait(find, what=f"deployment {name}")
        deployment = self.prefect.get(f"deployments/name/{name}/{name}").json()["id"]
        run = self.prefect.post(f"deployments/{deployment}/create_flow_run", json={"parameters": parameters}).json()[
            "id"
        ]

        def over() -> str | None:
            state = self.prefect.get(f"flow_runs/{run}").json()["state"]
            return str(state) if state["type"] in {"COMPLETED", "FAILED", "CRASHED", "CANCELLED"} else None

        ended = self.installation.wait(over, what=f"the end of {name}", seconds=240)
        jobs = [task.said()[-3000:] for task in self.installation.jobs]
        assert "'COMPLETED'" in ended, (ended, jobs, self.installation.tasks["worker"].said()[-3000:])

    def customers(self, *, drift: bool) -> PoolTraffic:
        """One stream whose texts were never ingested."""
        if self._customers is None:
            newest = latest_manifest(self.lake)
            assert newest is not None
            known = known_texts([load_side(self.lake, newest.digest, side) for side in SIDES])
            self._customers = bundled_traffic(seed=1, feedback=DEMO_FEEDBACK, avoid=known)
        self._customers.switch(Drift(new_area_share=0.8) if drift else None)
        return self._customers

    def ask(self, count: int, *, drift: bool = False, at_once: int = 32) -> None:
        """Customers ask and say what was right."""
        customers = self.customers(drift=drift)
        asks, tells = {"X-API-Key": self.secret("predict-key")}, {"X-API-Key": FEEDBACK_KEY}
        for _ in range(0, count, at_once):
            some = list(islice(customers, at_once))
            instances = [{"text": each.text, "aspect": each.aspect, "unit_id": each.unit_id} for each in some]
            while (
                said := self.router.post("/v1/predict", json={"instances": instances}, headers=asks)
            ).status_code == 429:
                time.sleep(0.1)
            assert said.status_code == 200, said.text
            for request, answer in zip(some, said.json()["predictions"], strict=True):
                self.answered.append({**answer, "unit_id": request.unit_id})
                if request.feedback_label is not None:
                    told = {"request_id": answer["request_id"], "label": request.feedback_label}
                    assert self.router.post("/v1/feedback", json=told, headers=tells).status_code == 202

    def judge(self, start: datetime, *, retrain: bool) -> Verdict:
        """The monitor's verdict over what was asked since a time."""
        window = Window(start=start, end=utc_now())
        time.sleep(2)  # what was answered is shipped
        self.run("monitor", window=window.key, retrain=retrain)
        found = self.verdicts.latest(window)
        assert found is not None
        return found


@pytest.fixture(scope="module")
def loop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Loop]:
    template = Template(synthesised(assembly(tmp_path_factory))["prod"])  # where other tests have it too
    roles = template.of("AWS::IAM::Role")
    pace = PACES["tiny"]
    with postgres() as database, account({role: template.statements(role) for role in roles}) as owned:
        arguments: dict[str, Any] = {
            "template": template,
            "account": owned,
            "folder": tmp_path_factory.mktemp("tasks"),
            "database": database,
            "configuration": pace.configuration(),
            "shortened": {
                "router": {"EVERGREEN_PROFILE": pace.profile},
                "worker": {"EVERGREEN_BUDGET_S": f"{pace.budget_s:g}"},
            },
        }
        with installed(**arguments) as installation:
            told = Loop(installation)
            told.open()
            start = utc_now()
            told.ask(384)
            told.judge(start, retrain=False)
            if FULL:
                _go_on(told)
            yield told


def _go_on(loop: Loop) -> None:
    """Drift until a window is STALE, retraining, experiment."""
    found: list[tuple[str, str]] = []
    while ("STALE", "retrain") not in found:
        assert len(found) < 3, found
        start = utc_now()
        loop.ask(1024, drift=True)
        verdict = loop.judge(start, retrain=True)
        found.append((verdict.verdict, verdict.action))
    deadline = time.monotonic() + 240
    while loop.ledger.follow()[-1].state.champion != "2":
        assert time.monotonic() < deadline, [record.reason for record in loop.ledger.follow()]
        loop.ask(32, drift=True)
        time.sleep(0.3)


def test_loop_reaches_verdict_and_ledger_is_whole(loop: Loop) -> None:
    assert loop.ledger.verify() == []
    assert loop.verdicts.history()[0].verdict in {"FRESH", "WATCH"}
    if FULL:
        assert loop.ledger.follow()[-1].state.champion == "2"


def test_tasks_request_only_what_role_allows(loop: Loop) -> None:
    assert {role for role, _, _ in loop.account.calls} >= {str(each.role) for each in _running(loop) if _asks(each)}
    assert loop.account.refused == set()


def _running(loop: Loop) -> list[Process]:
    return [each for name, each in loop.installation.processes.items() if name not in AT_ZERO]


def _asks(process: Process) -> bool:
    return process.name in {"router", "mlflow", "worker", "training"}


def test_granted_action_was_needed_or_has_reason(loop: Loop) -> None:
    for process in _running(loop):
        statements = loop.installation.template.statements(str(process.role))
        mine = [(action, target) for role, action, target in loop.account.calls if role == process.role]
        for action in {action for each in statements for action in listed(each["Action"])}:
            if (process.name.removesuffix("-database"), action) in UNUSED:
                continue
            less = without(statements, action)
            assert not all(allows(less, *call) for call in mine), f"{process.name} may {action} and never did"


def test_variables_and_secrets_have_seen_effect_or_reason(loop: Loop) -> None:
    look = Look(loop.installation, loop.lake, loop.answered)
    words = {(each.name, word) for each in _running(loop) for word in (*each.environment, *each.secrets)}
    known = {(name, word) for name, word in words if (name, word) in UNSEEN or (EVERY, word) in UNSEEN}
    assert set(OBSERVED) == words - known  # one that was taken out of the template, or put in, is named here
    unseen = [key for key, seen in OBSERVED.items() if not seen(look)]
    assert unseen == []


def _bucket(loop: Loop) -> str:
    return loop.lake.uri.removeprefix("s3://").partition("/")[0]


def test_missing_permission_fails_the_loop(loop: Loop) -> None:
    role = str(loop.installation.processes["router"].role)
    statements = without(loop.installation.template.statements(role), "s3:PutObject")
    statements = json.loads(json.dumps(statements).replace(_bucket(loop), "poorer"))
    with account({role: statements}) as poorer:
        poorer.client("s3").create_bucket(Bucket="poorer", CreateBucketConfiguration={"LocationConstraint": REGION})
        with pytest.raises(UnavailableError, match="AccessDenied"):
            S3Lake("s3://poorer/lake", poorer.client("s3", role)).write("k", b"")
        assert {action for _, action, _ in poorer.refused} == {"s3:PutObject"}


@pytest.mark.parametrize("word", ["PGHOST", "PGPASSWORD"])
def test_database_needs_every_template_variable(loop: Loop, word: str) -> None:
    task = loop.installation.start("mlflow-database", _less(loop.installation.processes["mlflow-database"], word))
    assert task.child.wait(60) != 0


def test_router_without_secret_is_noticed(loop: Loop) -> None:
    assert not _is_seen(loop, "router", "EVERGREEN_PREDICT_KEY", taken_out=True)


_SHOWS_AFTER_S = {"EVERGREEN_METRICS": 15.0, "EVERGREEN_METRICS_INTERVAL_S": 25.0}  # a line of metrics, and two
WORDS = [key for key in OBSERVED if key[0] in {"router", "mlflow", "prefect"}]


@pytest.mark.skipif(not FULL, reason="minutes: `make test-template`")
@pytest.mark.parametrize(("name", "word"), WORDS)
def test_a_word_that_is_taken_out_is_missed(loop: Loop, name: str, word: str) -> None:
    assert not _is_seen(loop, name, word, taken_out=True)


@pytest.mark.skipif(not FULL, reason="minutes: `make test-template`")
@pytest.mark.parametrize(
    ("name", "word"),
    [
        ("router", "EVERGREEN_LAKE"),
        ("router", "EVERGREEN_METRICS"),
        ("router", "EVERGREEN_METRICS_INTERVAL_S"),
        ("mlflow", "PGHOST"),
        ("mlflow", "AWS_DEFAULT_REGION"),
        ("prefect", "PREFECT_SERVER_DATABASE_HOST"),
    ],
)
def test_restarted_process_shows_all_its_variables(loop: Loop, name: str, word: str) -> None:
    assert _is_seen(loop, name, word, taken_out=False)


def _less(process: Process, word: str) -> Process:
    """A process without a variable or secret."""
    environment = {key: value for key, value in process.environment.items() if key != word}
    return replace(process, environment=environment, secrets={k: v for k, v in process.secrets.items() if k != word})


def _is_seen(loop: Loop, name: str, word: str, *, taken_out: bool) -> bool:
    """Start a process once more, with or without a word: does it become ready, and is what the word does seen?"""
    here = loop.installation
    process = here.processes[name]
    address, kept = here.address, here.tasks[name]
    here.address = loopback_address()
    loop.account.regions.clear()
    here.tasks[name] = task = here.start(name, _less(process, word) if taken_out else process)
    try:
        if not _comes_up(here, task, "/readyz" if name == "router" else None):
            return False
        asked = _asked_once(loop, here.url("router")) if name == "router" else loop.answered
        look = Look(here, loop.lake, asked)
        if name == "mlflow":
            look.get("mlflow", "/api/2.0/mlflow-artifacts/artifacts").raise_for_status()  # it asks S3
        time.sleep(_SHOWS_AFTER_S.get(word, 3.0))
        return OBSERVED[name, word](look)
    except httpx.HTTPError:
        return False
    finally:
        task.stop()
        here.tasks[name], here.address = kept, address


def _comes_up(here: Installation, task: Task, path: str | None, seconds: float = 25.0) -> bool:
    ends = time.monotonic() + seconds
    while time.monotonic() < ends and task.child.poll() is None:
        with contextlib.suppress(httpx.HTTPError):
            ready = path is None or httpx.get(here.url(task.process.name) + path).status_code == 200
            if ready and here.is_healthy(task):
                return True
        time.sleep(0.3)
    return False


def _asked_once(loop: Loop, url: str) -> list[dict[str, Any]]:
    item = {"text": "the app is great", "aspect": "app", "unit_id": f"unit-{time.time_ns()}"}
    said = httpx.post(f"{url}/v1/predict", json=item, headers={"X-API-Key": loop.secret("predict-key")})
    return [{**said.json(), "unit_id": item["unit_id"]}]
