"""Requests that share a batch do not share a failure."""

import asyncio
import gc
import time
from collections.abc import Callable, Coroutine
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pytest

from absa.inference.engine import Engine
from absa.ledger.routing import Arm, TrafficPlan, assign
from absa.records.log_lines import read_log
from absa.records.rows import Prediction
from absa.router_settings import RouterSettings
from serving.engine.answer_cache import AnswerCache, CachedAnswer
from serving.engine.batcher import Batcher
from serving.engine.pool import InForce, LoadedModel, ModelPool
from serving.http.api_keys import Keys
from serving.http.bodies import BodiesByTask
from serving.http.predict_route import Predictor
from serving.log.spool import SpoolWriter
from serving.observe.outcomes import OutcomeCounts
from serving.problems import Problem
from tests.toy_package import build_toy_package


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Engine:
    return Engine.load(build_toy_package(tmp_path_factory.mktemp("toy")))


class BrokenEngine:
    """Reads every row and scores none."""

    def __init__(self, engine: Engine) -> None:
        self.tokenizer, self.task = engine.tokenizer, engine.task

    def score_group(self, _rows: object) -> None:
        raise RuntimeError("no")


PLAN = TrafficPlan(
    mode="ab",
    experiment="e",
    salt="s",
    arms=(Arm(name="champion", version="1", share=0.5), Arm(name="challenger", version="2", share=0.5)),
)


CACHED = CachedAnswer([0.1, 0.2, 0.7], truncated=False)


def unit_of(arm: str) -> str:
    """A unit that the plan gives to an arm."""
    return next(unit for unit in map(str, range(100)) if assign(PLAN, unit).name == arm)


class House:
    """A predictor with a batcher of its own; version 1 scores, version 2 cannot."""

    def __init__(self, root: Path, engine: Engine) -> None:
        self.outcomes = OutcomeCounts()
        self.cache = AnswerCache(100)
        self.spool = SpoolWriter(root / "spool", "w0_1_1", limit_bytes=1e9)
        self.batcher = Batcher(asyncio.get_running_loop(), token_budget=256, after_batch=self._flush)
        pool = ModelPool()
        engines: dict[str, Any] = {"1": engine, "2": BrokenEngine(engine)}
        self.models = models = {
            version: LoadedModel(version=version, digest=f"d{version}", engine=each, loaded_at="")
            for version, each in engines.items()
        }
        pool.in_force = InForce(revision=1, plan=PLAN, models=models)
        self.predictor = Predictor(
            pool=pool,
            batcher=self.batcher,
            cache=self.cache,
            spool=self.spool,
            outcomes=self.outcomes,
            keys=Keys.of(RouterSettings()),
            bodies=BodiesByTask(max_text_chars=10_000, max_instances=128),
            secret=b"secret",
            queue_ms=1e6,
            body_limit_bytes=10_000,
            request_timeout_s=30.0,
            redact_text=False,
        )

    def _flush(self) -> None:
        self.predictor.flush()

    def ask(self, content: dict[str, Any], answer: Callable[[bytes | Problem], None]) -> None:
        self.predictor.ask([], orjson.dumps(content), answer, time.perf_counter())


def run(root: Path, engine: Engine, scenario: Callable[[House], Coroutine[Any, Any, None]]) -> None:
    async def inside() -> None:
        house = House(root, engine)
        try:
            await asyncio.wait_for(scenario(house), 20)
        finally:
            house.batcher.stop(5)

    asyncio.run(inside())


def test_unsendable_answer_does_not_hold_its_batch(tmp_path: Path, engine: Engine) -> None:
    async def scenario(house: House) -> None:
        def broken(_result: bytes | Problem) -> None:
            raise RuntimeError("the handler is closed")

        item = {"text": "the app is great", "aspect": "app", "unit_id": unit_of("champion")}
        house.cache.put(("d1", item["text"], item["aspect"]), CACHED)  # both complete at once
        answered: asyncio.Future[bytes | Problem] = asyncio.get_running_loop().create_future()
        house.ask(item, broken)
        house.ask(item, answered.set_result)
        answer = await answered
        assert isinstance(answer, bytes)
        assert orjson.loads(answer)["label"] == 2

    run(tmp_path, engine, scenario)


def test_failed_request_counts_each_item_once(tmp_path: Path, engine: Engine) -> None:
    async def scenario(house: House) -> None:
        champion, challenger = unit_of("champion"), unit_of("challenger")
        house.cache.put(("d1", "a cached app", "app"), CACHED)
        items = [("a cached app", champion), ("the app is great", champion), ("a broken app", challenger)]
        instances = [{"text": text, "aspect": "app", "unit_id": unit} for text, unit in items]
        answered: asyncio.Future[bytes | Problem] = asyncio.get_running_loop().create_future()
        house.ask({"instances": instances}, answered.set_result)
        problem = await answered
        assert isinstance(problem, Problem)
        assert problem.status == 500
        counts = {(version, arm): numbers for version, arm, *numbers in house.outcomes.totals()}
        nobody_was_answered = [0.0, [0] * 12]
        assert counts["1", "champion"] == [2, 0, 0, 0, *nobody_was_answered]
        assert counts["2", "challenger"] == [0, 1, 0, 0, *nobody_was_answered]

    run(tmp_path, engine, scenario)


def test_answer_of_a_cut_text_says_truncated(tmp_path: Path, engine: Engine) -> None:
    """Scored, from the cache and in the log; opposite reviews of an aspect beyond the model's length differ."""
    texts = [f"{'it is the app and ' * 60}. the waiter is {word}" for word in ("great", "terrible")]

    async def scenario(house: House) -> None:
        instances = [{"text": text, "aspect": "waiter", "unit_id": unit_of("champion")} for text in texts]
        instances.append({"text": "the waiter is great", "aspect": "waiter", "unit_id": unit_of("champion")})
        for cached in (False, True):
            answered: asyncio.Future[bytes | Problem] = asyncio.get_running_loop().create_future()
            house.ask({"instances": instances}, answered.set_result)
            answer = await answered
            assert isinstance(answer, bytes)
            found = orjson.loads(answer)["predictions"]
            assert [each["truncated"] for each in found] == [True, True, False]
            assert [each["label"] for each in found] == [2, 0, 2]
            assert [each["cached"] for each in found] == [cached] * 3
        house.spool.rotate()

    run(tmp_path, engine, scenario)
    (segment,) = tmp_path.rglob("*.log")
    logged = read_log(segment.read_bytes(), Prediction)
    assert logged.unreadable == 0
    assert [row.truncated for row in logged.rows] == [True, True, False] * 2


def test_answer_outside_the_promise_is_not_certain(tmp_path: Path, engine: Engine) -> None:
    """In the answer, in the log and in the counts; before, nothing was promised."""

    async def scenario(house: House) -> None:
        for least in (None, (None, 0.0, 0.5)):
            house.models["1"] = replace(house.models["1"], least_scores=least)
            words = ("great", "terrible")
            instances = [{"text": f"the app is {w}", "aspect": "app", "unit_id": unit_of("champion")} for w in words]
            answered: asyncio.Future[bytes | Problem] = asyncio.get_running_loop().create_future()
            house.ask({"instances": instances}, answered.set_result)
            answer = await answered
            assert isinstance(answer, bytes)
            found = [each["certain"] for each in orjson.loads(answer)["predictions"]]
            assert found == [None if least is None else True, None if least is None else False]
        assert house.predictor.certain == {True: 1, False: 1, None: 2}
        house.spool.rotate()

    run(tmp_path, engine, scenario)
    (segment,) = tmp_path.rglob("*.log")
    assert [row.certain for row in read_log(segment.read_bytes(), Prediction).rows] == [None, None, True, False]


@pytest.mark.parametrize(
    ("content", "status"),
    [({"text": "the app is great", "aspect": "app"}, 200), ({"text": "the app"}, 422), ([], 422), ("{", 400)],
)
def test_request_leaves_no_reference_cycle(tmp_path: Path, engine: Engine, content: Any, status: int) -> None:
    body = content.encode() if isinstance(content, str) else orjson.dumps(content)

    async def scenario(house: House) -> None:
        for version in ("d1", "d2"):
            house.cache.put((version, "the app is great", "app"), CACHED)
        for turn in range(2):  # the first one fills what is made once
            gc.freeze()  # what other tests made is not looked through, now or later: that takes a second
            gc.disable()
            answered: asyncio.Future[bytes | Problem] = asyncio.get_running_loop().create_future()
            house.predictor.ask([], body, answered.set_result, time.perf_counter())
            result = await answered
            assert (result.status if isinstance(result, Problem) else 200) == status
            del answered, result
            await asyncio.sleep(0)
            kept = gc.collect()
            gc.enable()
            assert turn == 0 or kept == 0

    run(tmp_path, engine, scenario)


def test_wrong_key_is_refused_before_the_body(tmp_path: Path, engine: Engine) -> None:
    async def scenario(house: House) -> None:
        house.predictor._keys = Keys(admin_token=None, predict_key="secret", feedback={})
        sent: list[Any] = []

        async def receive() -> Any:
            raise AssertionError("the body was read")

        async def send(message: Any) -> None:
            sent.append(message)

        for headers, status in (([], 401), ([(b"x-api-key", b"guess")], 403)):
            await house.predictor({"type": "http", "headers": headers}, receive, send)
            assert sent[-2]["status"] == status

    run(tmp_path, engine, scenario)


def test_overload_leaves_no_reference_cycle(tmp_path: Path, engine: Engine) -> None:
    async def scenario(house: House) -> None:
        house.predictor._queue_ms = -1.0
        for turn in range(2):
            gc.freeze()  # what other tests made is not looked through, now or later: that takes a second
            gc.disable()
            answers: list[bytes | Problem] = []
            house.ask({"text": "the app is great", "aspect": "app"}, answers.append)
            (problem,) = answers
            assert isinstance(problem, Problem)
            assert problem.status == 429
            del problem, answers
            kept = gc.collect()
            gc.enable()
            assert turn == 0 or kept == 0

    run(tmp_path, engine, scenario)


@pytest.mark.parametrize(
    "value", [b"9" * 5000, b"9" * 4301, b"0", b"-1", b"1e3", b"0x10", "\u0663".encode(), b"", b"1 2"]
)
def test_timeout_that_is_no_number_is_422(tmp_path: Path, engine: Engine, value: bytes) -> None:
    async def scenario(house: House) -> None:
        answers: list[bytes | Problem] = []
        house.predictor.ask([(b"x-timeout-ms", value)], b"{}", answers.append, time.perf_counter())
        (problem,) = answers
        assert isinstance(problem, Problem)
        assert (problem.status, problem.errors[0].path) == (422, "X-Timeout-Ms")

    run(tmp_path, engine, scenario)
