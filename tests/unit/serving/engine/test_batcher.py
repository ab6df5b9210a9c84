"""Batches form greedily, change no score, and drop first what nobody waits for."""

import asyncio
import random
import time
from collections.abc import Callable, Sequence

import numpy as np
import pytest

from absa.inference.engine import Engine
from absa.inference.tokenization import Encoded
from serving.engine.batcher import Batcher, WaitingRow
from tests.toy_package import WORDS, build_toy_package


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Engine:
    return Engine.load(build_toy_package(tmp_path_factory.mktemp("toy")))


class SlowEngine:
    """A real engine that takes its time, and remembers the groups that it was given."""

    def __init__(self, engine: Engine, seconds: float = 0.0) -> None:
        self._engine, self._seconds = engine, seconds
        self.tokenizer = engine.tokenizer
        self.groups: list[list[int]] = []

    def score_group(self, rows: Sequence[Encoded]) -> object:
        self.groups.append([row.tokens for row in rows])
        time.sleep(self._seconds)
        if any(3 not in row.input_ids for row in rows):
            raise RuntimeError("every row has a [SEP]")
        return self._engine.score_group(rows)


def texts(count: int) -> list[str]:
    chosen = random.Random(5)
    return [" ".join(chosen.choices(list(WORDS), k=chosen.randint(1, 60))) for _ in range(count)]


def run(scenario: Callable[[asyncio.AbstractEventLoop], object]) -> None:
    async def inside() -> None:
        await scenario(asyncio.get_running_loop())  # type: ignore[misc]

    asyncio.run(inside())


def job(
    engine: object, text: str, done: Callable[[WaitingRow], None], *, in_s: float = 60.0, shadow: bool = False
) -> WaitingRow:
    return WaitingRow(
        engine, text, text.split(maxsplit=1)[0], deadline=time.perf_counter() + in_s, done=done, shadow=shadow
    )  # type: ignore[arg-type]


def test_batches_change_no_score_and_hold_budget(engine: Engine) -> None:
    async def scenario(loop: asyncio.AbstractEventLoop) -> None:
        slow = SlowEngine(engine)
        batcher = Batcher(loop, token_budget=256)
        finished: list[WaitingRow] = []
        everything = asyncio.Event()

        def done(each: WaitingRow) -> None:
            finished.append(each)
            if len(finished) == 300:
                everything.set()

        batcher.submit([job(slow, text, done) for text in texts(300)])
        await asyncio.wait_for(everything.wait(), 20)
        batcher.stop(5)
        alone = [engine.score([(each.text, each.phrase)])[0] for each in finished]
        assert np.allclose([each.scores for each in finished], alone, atol=2e-6)
        assert [each.scores.index(max(each.scores)) for each in finished if each.scores] == [
            int(row.argmax()) for row in alone
        ]
        assert len(slow.groups) < 150
        for group in slow.groups:
            assert len(group) == 1 or max(group) * len(group) <= 256
            assert max(group) * len(group) - sum(group) <= 0.1 * max(group) * len(group)
        assert batcher.rows_waiting == 0
        assert batcher.waiting_ms == 0.0

    run(scenario)


def test_a_row_of_another_length_does_not_starve(engine: Engine) -> None:
    async def scenario(loop: asyncio.AbstractEventLoop) -> None:
        slow = SlowEngine(engine, 0.002)
        batcher = Batcher(loop, token_budget=64)
        odd = asyncio.Event()
        stop = asyncio.Event()

        def again(_each: WaitingRow) -> None:
            if not stop.is_set():
                batcher.submit([job(slow, "the app", again)])

        batcher.submit([job(slow, "the app", again) for _ in range(40)])
        batcher.submit([job(slow, "the " * 30, lambda _: odd.set())])
        await asyncio.wait_for(odd.wait(), 2)
        stop.set()
        batcher.stop(5)

    run(scenario)


def test_row_past_its_deadline_is_not_scored(engine: Engine) -> None:
    async def scenario(loop: asyncio.AbstractEventLoop) -> None:
        slow = SlowEngine(engine, 0.05)
        batcher = Batcher(loop, token_budget=8)
        results: asyncio.Queue[WaitingRow] = asyncio.Queue()
        batcher.submit([job(slow, "the app", results.put_nowait)])
        await asyncio.sleep(0.01)
        batcher.submit([job(slow, "a service", results.put_nowait, in_s=0.01)])
        first, second = await results.get(), await results.get()
        assert first.scores is not None
        assert (second.scores, second.failure) == (None, "timeout")
        assert len(slow.groups) == 1
        batcher.stop(5)

    run(scenario)


def test_work_of_long_text_ends_at_model_length(engine: Engine) -> None:
    full, cut = (job(engine, "app " * words, lambda _: None) for words in (128, 2_500))
    assert len(engine.tokenizer.encode([(cut.text, cut.phrase)])[0].input_ids) == 128
    assert cut.work == full.work == 128


def test_failing_engine_fails_only_its_rows(engine: Engine) -> None:
    class Broken(SlowEngine):
        def score_group(self, rows: Sequence[Encoded]) -> object:
            raise RuntimeError("no")

    async def scenario(loop: asyncio.AbstractEventLoop) -> None:
        batcher = Batcher(loop, token_budget=256)
        results: asyncio.Queue[WaitingRow] = asyncio.Queue()
        batcher.submit([job(Broken(engine), "the app", results.put_nowait)])
        assert (await results.get()).failure == "error"
        batcher.submit([job(engine, "the app", results.put_nowait)])
        assert (await results.get()).scores is not None
        batcher.stop(5)

    run(scenario)


def test_shadow_rows_come_last_and_are_dropped_first(engine: Engine) -> None:
    async def scenario(loop: asyncio.AbstractEventLoop) -> None:
        slow = SlowEngine(engine, 0.01)
        batcher = Batcher(loop, token_budget=8, shadow_rows=3)
        order: list[str] = []
        batcher.submit([job(slow, "the app", lambda _: order.append("main")) for _ in range(4)])
        taken = [
            batcher.submit_shadow(job(slow, "a service", lambda _: order.append("shadow"), shadow=True))
            for _ in range(5)
        ]
        assert taken == [True, True, True, False, False]
        assert batcher.shadow_dropped == 2
        for _ in range(100):
            await asyncio.sleep(0.02)
            if len(order) == 7:
                break
        assert order == ["main"] * 4 + ["shadow"] * 3
        batcher.stop(5)

    run(scenario)


def test_client_rows_go_before_taken_shadow_rows(engine: Engine) -> None:
    async def scenario(loop: asyncio.AbstractEventLoop) -> None:
        slow = SlowEngine(engine, 0.02)
        batcher = Batcher(loop, token_budget=8)  # a group a row
        order: list[str] = []
        everything = asyncio.Event()

        def done(each: WaitingRow) -> None:
            order.append("shadow" if each.shadow else "main")
            if len(order) == 1:
                batcher.submit([job(slow, "the app", done)])
            if len(order) == 9:
                everything.set()

        for _ in range(8):
            assert batcher.submit_shadow(job(slow, "a service", done, shadow=True))
        await asyncio.wait_for(everything.wait(), 20)
        assert order.index("main") < 8
        batcher.stop(5)

    run(scenario)


def test_stopping_does_not_wait_for_shadow_rows(engine: Engine) -> None:
    async def scenario(loop: asyncio.AbstractEventLoop) -> None:
        slow = SlowEngine(engine, 0.02)
        batcher = Batcher(loop, token_budget=8)
        begun = asyncio.Event()
        for _ in range(100):
            batcher.submit_shadow(job(slow, "a service", lambda _: begun.set(), shadow=True))
        await asyncio.wait_for(begun.wait(), 20)
        batcher.stop(20)
        assert len(slow.groups) < 100

    run(scenario)
