"""Microseconds of a request by step: each step alone, in one process, on the rows of the benchmark."""

import asyncio
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import orjson

from absa.inference.batching import group_by_length
from absa.inference.engine import Engine
from absa.ledger.routing import Arm, TrafficPlan, assign
from benchmarks.figures import Row, median_row

_RUNS = 3
_BATCH = 8  # rows of a batch under load, for steps that are paid by the batch
Pairs = Sequence[tuple[str, str]]


def measure_steps(name: str, package: Path, rows: Pairs) -> list[Row]:
    """Return the CPU microseconds of a request by step, and the bytes of its log line.

    Args:
        name: of the model.
        package: its folder.
        rows: pairs of text and aspect.
    """
    engine = Engine.load(package)
    log_us, line_bytes = _log(rows)
    steps = {
        "http": _http(rows),
        "json_in": _json_in(rows),
        "assignment": _assignment(),
        "json_out": _json_out(),
        "tokens": _tokens(engine, rows),
        "queue": _queue(engine, rows),
        "engine": _engine(engine, rows),
        "log": log_us,
    }
    found = [median_row("prediction log", "bytes_per_prediction", [line_bytes], "B")]
    for step, values in steps.items():
        target, met = ("<= 5", statistics.median(values) <= 5.0) if step == "assignment" else (None, None)
        found.append(median_row(f"a request by step, {name}", step, values, "us", target=target, met=met))
    return found


def _timed(once: Callable[[int], object], count: int, *, rows_each: int = 1) -> list[float]:
    """CPU microseconds a row of the whole process, some runs."""
    values = []
    for _ in range(_RUNS):
        begin = time.process_time()
        for k in range(count):
            once(k)
        values.append((time.process_time() - begin) / (count * rows_each) * 1e6)
    return values


def _bodies(rows: Pairs) -> list[bytes]:
    return [
        json.dumps({"text": text, "aspect": aspect, "unit_id": f"u{k}"}).encode()
        for k, (text, aspect) in enumerate(rows)
    ]


class _Socket(asyncio.Transport):
    """A transport that throws away what is written."""

    def write(self, data: Any) -> None:
        """Take an answer."""

    def is_closing(self) -> bool:
        """Never."""
        return False


def _http(rows: Pairs) -> list[float]:
    """The protocol alone: bytes in, request out, answer in, bytes out. The sockets themselves come on top."""
    import uvicorn

    from serving.http.edge import Edge
    from serving.http.hot_protocol import HotProtocol

    body = b'{"label":0}'
    predictor = SimpleNamespace(key_needed=False, ask=lambda _headers, _body, answer, _started: answer(body))
    app: Any = SimpleNamespace(edge=Edge(body_limit_bytes=2**20), cors=None, predictor_on=lambda _port: predictor)
    config = uvicorn.Config(app, interface="asgi3", log_config=None, lifespan="off", proxy_headers=False)
    config.load()
    loop = asyncio.new_event_loop()
    state = uvicorn.Server(config).server_state
    state.default_headers = [(b"date", b"Tue, 24 Nov 2026 12:00:00 GMT")]
    protocol = HotProtocol(config, state, {}, loop)
    protocol.connection_made(_Socket())
    requests = [
        b"POST /v1/predict HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b"
        % (len(each), each)
        for each in _bodies(rows)
    ]
    values = _timed(lambda k: protocol.data_received(requests[k % len(requests)]), 20_000)
    loop.close()
    return values


def _json_in(rows: Pairs) -> list[float]:
    from absa.task import ABSA
    from serving.http.bodies import TaskBodies
    from serving.http.parsing import parse_predict

    bodies, limits = _bodies(rows), TaskBodies(ABSA, max_text_chars=10_000, max_instances=128)
    return _timed(lambda k: parse_predict(bodies[k % len(bodies)], limits), 20_000)


def _json_out() -> list[float]:
    answer = {
        "request_id": "019a8f0e-0000-7000-8000-000000000000", "label": 0, "name": "negative",
        "sentiment": "negative",
        "scores": [0.931234, 0.051234, 0.017532], "truncated": False, "model_version": "7", "arm": "champion",
        "experiment": None, "cached": False,
    }  # fmt: skip
    return _timed(lambda _k: orjson.dumps(answer), 50_000)


def _assignment() -> list[float]:
    arms = (Arm(name="champion", version="1", share=0.75), Arm(name="challenger", version="2", share=0.25))
    plan = TrafficPlan(mode="ab", experiment="e", salt="s", arms=arms)
    return _timed(lambda k: assign(plan, f"u{k}"), 50_000)


def _tokens(engine: Engine, rows: Pairs) -> list[float]:
    batches = [list(rows[k : k + _BATCH]) for k in range(0, len(rows) - _BATCH, _BATCH)]
    return _timed(lambda k: engine.tokenizer.encode(batches[k % len(batches)]), 2_000, rows_each=_BATCH)


def _engine(engine: Engine, rows: Pairs) -> list[float]:
    encoded = engine.tokenizer.encode(rows)
    groups = [[encoded[k] for k in group] for group in group_by_length([row.tokens for row in encoded])]
    values = []
    for _ in range(_RUNS):
        begin = time.process_time()
        for group in groups:
            engine.score_group(group)
        values.append((time.process_time() - begin) / len(rows) * 1e6)
    return values


def _queue(engine: Engine, rows: Pairs) -> list[float]:
    """Through the batcher and back, less the tokens and the engine: its model answers at once."""
    import numpy as np

    from serving.engine.batcher import Batcher, WaitingRow

    encoded = dict(zip(rows, engine.tokenizer.encode(rows), strict=True))
    ready = np.tile(np.array([[0.7, 0.2, 0.1]], dtype=np.float32), (512, 1))
    stub: Any = SimpleNamespace(
        tokenizer=SimpleNamespace(
            encode=lambda pairs: [encoded[pair] for pair in pairs], max_tokens=engine.tokenizer.max_tokens
        ),
        score_group=lambda group: ready[: len(group)],
    )

    async def once() -> float:
        loop = asyncio.get_running_loop()
        batcher = Batcher(loop, token_budget=256)
        left, everything = len(rows), asyncio.Event()

        def done(_job: WaitingRow) -> None:
            nonlocal left
            left -= 1
            if not left:
                everything.set()

        begin = time.process_time()
        for k in range(0, len(rows), 64):
            ends = time.perf_counter() + 60
            batcher.submit([WaitingRow(stub, t, a, deadline=ends, done=done) for t, a in rows[k : k + 64]])
            await asyncio.sleep(0)
        await everything.wait()
        spent_us = (time.process_time() - begin) / len(rows) * 1e6
        batcher.stop(5.0)
        return spent_us

    return [asyncio.run(once()) for _ in range(_RUNS)]


def _log(rows: Pairs) -> tuple[list[float], float]:
    """Return the time of a line per row and a write per batch, and the bytes of a line."""
    from absa.records.identifiers import RequestIds, unit_hash
    from absa.records.log_lines import json_line
    from absa.records.rows import Prediction
    from serving.log.spool import PREDICTION_LOG, SpoolWriter

    ids = RequestIds()
    with tempfile.TemporaryDirectory() as name:
        spool = SpoolWriter(Path(name), "w0", limit_bytes=1e12)

        def line(k: int) -> bytes:
            text, aspect = rows[k % len(rows)]
            at_us = time.time_ns() // 1000
            answer = (2, [0.117532, 0.211234, 0.671234], "1", "champion", None, 1, False, False, False, 12.345)
            unit = unit_hash(f"u{k}", b"secret")
            return json_line(Prediction(ids.new(at_us), at_us, unit, True, None, text, aspect, *answer))

        def batch(k: int) -> None:
            lines = b"".join([line(k * _BATCH + j) for j in range(_BATCH)])
            spool.append(PREDICTION_LOG, lines, _BATCH)

        values = _timed(batch, 2_000, rows_each=_BATCH)
        return values, spool.appended_bytes / (_RUNS * 2_000 * _BATCH)
