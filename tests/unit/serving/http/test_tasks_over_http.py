"""The routes of a router whose package is of a user's own task: plain text, topics, and labels that were appended."""

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest

from absa.inference.package import package_digest
from absa.ledger.routing import Arm, TrafficPlan, assign, single
from absa.records.log_lines import read_log
from absa.records.rows import Feedback, Prediction
from absa.router_settings import FeedbackSource, RouterSettings
from absa.task import ABSA, TaskSpec
from serving.console.compare_versions import Comparer
from serving.console.console_routes import add_console
from serving.engine.answer_cache import AnswerCache
from serving.engine.batcher import Batcher
from serving.engine.pool import ModelPool
from serving.http.api import WorkerPorts, build_api
from serving.http.api_keys import Keys
from serving.http.bodies import BodiesByTask
from serving.http.predict_route import Predictor
from serving.http.router import Router
from serving.log.log_records import prediction_parts
from serving.log.spool import SpoolWriter
from serving.observe.outcomes import OutcomeCounts
from serving.observe.replica_metrics import Status
from serving.replica_state import RouterState
from tests.homes import words_of_default_task
from tests.toy_package import build_toy_package

SIX = ("billing", "bug", "praise", "refund", "delivery", "account")
TICKETS = TaskSpec(name="tickets", input="text", labels=SIX)
TOPICS = TaskSpec(name="topics", input="text+topic", labels=("no", "yes"))
KEY = {"X-API-Key": "survey-key"}


class TaskRouter:
    """A worker's routes in this process, with the packages of a plan.

    Args:
        root: where packages and log are.
        tasks: task of each version.
        plan: the active plan.
    """

    def __init__(self, root: Path, tasks: Mapping[str, TaskSpec], plan: TrafficPlan) -> None:
        folders = {version: root / version for version in tasks}
        for seed, (version, task) in enumerate(tasks.items()):
            build_toy_package(folders[version], task=task, seed=seed)
        self._state = _state(folders, plan)
        self.pool, self._spool_folder = ModelPool(), root / "spool"
        self.spool = SpoolWriter(self._spool_folder, "w0_1_1", limit_bytes=1e9)
        self.batcher = Batcher(asyncio.get_running_loop(), token_budget=256, after_batch=self._flush)
        unused: Any = None
        anyone = Keys.of(RouterSettings())
        keys = Keys(admin_token=None, predict_key=None, feedback={"survey-key": FeedbackSource(source="survey")})
        bodies = BodiesByTask(max_text_chars=200, max_instances=9)
        self._predictor = Predictor(
            pool=self.pool, batcher=self.batcher, cache=AnswerCache(100), spool=self.spool, outcomes=OutcomeCounts(),
            keys=anyone, bodies=bodies, secret=b"secret", queue_ms=1e6, body_limit_bytes=9_000, request_timeout_s=30.0,
            redact_text=False,
        )  # fmt: skip
        ports = WorkerPorts(
            task=lambda: self.pool.in_force.task if self.pool.in_force else None, home_task=TICKETS, bodies=bodies,
            spool=self.spool,
            keys=keys, state=lambda: None, statuses=self._statuses, set_plan=unused, ready=unused,
            body_limit_bytes=9_000,
        )  # fmt: skip
        compare = Comparer(
            pool=self.pool, batcher=self.batcher, keys=anyone, bodies=bodies, queue_ms=1e6, timeout_s=30
        )  # fmt: skip
        app = build_api(ports)
        add_console(
            app,
            folder=root,
            statuses=list,
            state=lambda: None,
            task=ports.task,
            compare=compare,
            links={},
            body_limit_bytes=9_000,
        )
        self._app = Router(predict=self._predictor, rest=app, body_limit_bytes=9_000, admin_port=None, cors=None)

    def _flush(self) -> None:
        self._predictor.flush()

    def _statuses(self) -> list[Status]:
        return [Status(worker="0", models=self.pool.describe())]

    async def follow(self) -> bool:
        return await self.pool.follow(self._state)

    async def ask(self, method: str, path: str, **more: Any) -> httpx.Response:
        transport = httpx.ASGITransport(app=self._app)  # type: ignore[arg-type]
        async with httpx.AsyncClient(transport=transport, base_url="http://router") as client:
            return await client.request(method, path, **more)

    async def predict(self, **item: Any) -> httpx.Response:
        return await self.ask("POST", "/v1/predict", json=item)

    def logged(self, kind: str, row: type[Any]) -> list[Any]:
        self.spool.rotate()
        segments = [path.read_bytes() for path in sorted(self._spool_folder.rglob(f"*{kind}*"))]
        return [each for data in segments for each in read_log(data, row).rows]


def _state(folders: Mapping[str, Path], plan: TrafficPlan) -> RouterState:
    digests = {version: package_digest(folder) for version, folder in folders.items()}
    return RouterState(
        lake="l", revision=1, champion=plan.champion.version, plan=plan, versions=digests,
        folders={digests[version]: str(folder) for version, folder in folders.items()},
    )  # fmt: skip


Scenario = Callable[[TaskRouter], Coroutine[Any, Any, None]]


def run(root: Path, tasks: Mapping[str, TaskSpec], plan: TrafficPlan, scenario: Scenario) -> None:
    async def inside() -> None:
        router = TaskRouter(root, tasks, plan)
        try:
            await router.follow()
            await asyncio.wait_for(scenario(router), 20)
        finally:
            router.batcher.stop(5)
            router.pool.close()

    asyncio.run(inside())


def ab() -> TrafficPlan:
    arms = (Arm(name="champion", version="1", share=0.5), Arm(name="challenger", version="2", share=0.5))
    return TrafficPlan(mode="ab", experiment="e", salt="s", arms=arms)


@pytest.mark.parametrize("labels", [2, 3, 6])
def test_plain_text_is_answered_and_logged(tmp_path: Path, labels: int) -> None:
    task = TaskSpec(name="tickets", input="text", labels=SIX[:labels])

    async def scenario(router: TaskRouter) -> None:
        for cached in (False, True):
            answer = (await router.predict(text="a bug in the app", unit_id="u")).json()
            assert (answer["label"], answer["name"], answer["cached"]) == (1, "bug", cached)
            assert len(answer["scores"]) == labels
            assert "sentiment" not in answer
        rows = router.logged("predictions", Prediction)
        assert [(row.text, row.aspect, row.label, len(row.scores)) for row in rows] == [
            ("a bug in the app", None, 1, labels)
        ] * 2

    run(tmp_path, {"1": task}, single("1"), scenario)


def test_plain_text_refuses_a_phrase(tmp_path: Path) -> None:
    async def scenario(router: TaskRouter) -> None:
        refused = await router.predict(text="a bug in the app", aspect="app")
        assert (refused.status_code, refused.json()["detail"]) == (
            422,
            "aspect is not known; expected segment, text, unit_id",
        )

    run(tmp_path, {"1": TICKETS}, single("1"), scenario)


@pytest.mark.parametrize("field", ["topic", "aspect"])
def test_topic_needs_not_be_in_text(tmp_path: Path, field: str) -> None:
    async def scenario(router: TaskRouter) -> None:
        answer = (await router.predict(text="yes they charged me twice", **{field: "billing"})).json()
        assert (answer["label"], answer["name"], len(answer["scores"])) == (1, "yes", 2)
        several = await router.ask(
            "POST", "/v1/predict", json={"instances": [{"text": "no", "topic": each} for each in ("billing", "refund")]}
        )
        assert [each["name"] for each in several.json()["predictions"]] == ["no", "no"]
        assert [row.aspect for row in router.logged("predictions", Prediction)] == ["billing", "billing", "refund"]

    run(tmp_path, {"1": TOPICS}, single("1"), scenario)


@pytest.mark.parametrize(
    ("item", "sentence"),
    [
        ({}, "topic is missing"),
        ({"topic": " "}, "topic must not be empty"),
        ({"topic": "a", "aspect": "a"}, "aspect is not known; expected segment, text, topic, unit_id"),
    ],
)
def test_bad_topic_is_422_with_one_sentence(tmp_path: Path, item: dict[str, str], sentence: str) -> None:
    async def scenario(router: TaskRouter) -> None:
        refused = await router.predict(text="they charged me twice", **item)
        assert (refused.status_code, refused.json()["detail"]) == (422, sentence)

    run(tmp_path, {"1": TOPICS}, single("1"), scenario)


@pytest.mark.parametrize(("written", "status"), [("Account", 202), (5, 202), (6, 422), ("negative", 422)])
def test_feedback_takes_labels_of_the_task(tmp_path: Path, written: object, status: int) -> None:
    async def scenario(router: TaskRouter) -> None:
        request_id = (await router.predict(text="a bug in the app")).json()["request_id"]
        body = {"request_id": request_id, "label": written}
        answer = await router.ask("POST", "/v1/feedback", json=body, headers=KEY)
        assert answer.status_code == status
        assert [row.label for row in router.logged("feedback", Feedback)] == [5] * (status == 202)

    run(tmp_path, {"1": TICKETS}, single("1"), scenario)


def test_versions_answer_with_their_own_labels(tmp_path: Path) -> None:
    """The champion does not know the appended label; feedback may name it because the challenger does."""
    older = TaskSpec(name="tickets", input="text", labels=SIX[:3])
    units = {assign(ab(), unit).name: unit for unit in map(str, range(20))}

    async def scenario(router: TaskRouter) -> None:
        text = "a refund for the bug"
        old, new = [(await router.predict(text=text, unit_id=units[arm])).json() for arm in ("champion", "challenger")]
        assert (old["name"], len(old["scores"]), new["name"], len(new["scores"])) == ("bug", 3, "bug", 4)
        feedback = {"request_id": old["request_id"], "label": "refund"}
        assert (await router.ask("POST", "/v1/feedback", json=feedback, headers=KEY)).status_code == 202
        (part,) = prediction_parts(router.logged("predictions", Prediction), "r-1", "r")
        assert [len(scores) for scores in part.table["scores"].to_pylist()] == [3, 4]
        models = (await router.ask("GET", "/v1/models")).json()["workers"][0]["models"]
        assert [(each["task"], each["input"], each["labels"]) for each in models] == [
            ("tickets", "text", list(SIX[:3])),
            ("tickets", "text", list(SIX[:4])),
        ]
        compared = (await router.ask("POST", "/v1/compare", json={"text": "a refund"})).json()["versions"]
        assert [(each["name"], len(each["scores"])) for each in compared][1] == ("refund", 4)

    run(tmp_path, {"1": older, "2": TaskSpec(name="tickets", input="text", labels=SIX[:4])}, ab(), scenario)


def test_feedback_before_first_model_is_503(tmp_path: Path) -> None:
    async def scenario(router: TaskRouter) -> None:
        router.pool.in_force = None
        answer = await router.ask("POST", "/v1/feedback", json={"request_id": "x", "label": 0}, headers=KEY)
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
        assert words_of_default_task((await router.ask("GET", "/openapi.json")).text) == []

    run(tmp_path, {"1": TICKETS}, single("1"), scenario)


@pytest.mark.parametrize("task", [TICKETS, TOPICS, ABSA], ids=lambda task: task.input)
def test_document_shows_what_is_answered(tmp_path: Path, task: TaskSpec) -> None:
    async def scenario(router: TaskRouter) -> None:
        api = (await router.ask("GET", "/openapi.json")).json()
        schemas = api["components"]["schemas"]
        example = api["paths"]["/v1/predict"]["post"]["requestBody"]["content"]["application/json"]["example"]
        answer = (await router.predict(**example)).json()
        assert set(answer) == set(schemas["PredictAnswer"]["properties"])
        assert schemas["PredictAnswer"]["properties"]["name"]["enum"] == list(task.labels)
        phrases = {"aspect", "topic"} & set(schemas["PredictItem"]["properties"])
        assert phrases == ({task.phrase} if task.phrase else set())
        assert schemas["FeedbackBody"]["properties"]["label"]["enum"] == [*range(task.n_labels), *task.labels]
        example = api["paths"]["/v1/compare"]["post"]["requestBody"]["content"]["application/json"]["example"]
        (by_version,) = (await router.ask("POST", "/v1/compare", json=example)).json()["versions"]
        assert set(by_version) == set(schemas["VersionAnswer"]["properties"])
        pages = [(await router.ask("GET", path)).text for path in ("/", "/v1/console", "/docs", "/metrics")]
        if task.phrase is None:
            assert words_of_default_task(f"{api} {pages}") == []

    run(tmp_path, {"1": task}, single("1"), scenario)
