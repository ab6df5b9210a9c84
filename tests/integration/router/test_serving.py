"""The router as its users meet it: processes, HTTP, the lake."""

import http.server
import json
import os
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from itertools import repeat
from pathlib import Path
from typing import ClassVar
from uuid import UUID

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families
from pydantic import SecretStr

from absa.client import Client
from absa.data.traffic.pool_traffic import SimulatedRequest
from absa.errors import PermanentError, UnavailableError
from absa.ledger.routing import assign, single
from absa.records.identifiers import unit_hash
from absa.records.layout import prediction_prefix
from absa.records.schema import Window, parse_iso
from absa.records.verdict import VersionFigures
from flows.demo.customers import send_traffic
from monitoring.verdict_metrics import exposition
from tests.serving_replica import ADMIN, ITEM, ROOT, SURVEY, RunningReplica, ab, free_port, until
from tests.stand_ins import stale


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningReplica]:
    """A router with two versions, 1 in force, that several tests use."""
    replica = RunningReplica(tmp_path_factory.mktemp("replica"))
    replica.build("2", seed=4)
    try:
        yield replica.serve()
    finally:
        replica.end()


@pytest.fixture
def replica(tmp_path: Path) -> Iterator[RunningReplica]:
    """A router of one's own, not started."""
    made = RunningReplica(tmp_path)
    yield made
    made.end()


def test_router_without_model_serves_soon_after_first_record(
    replica: RunningReplica,
) -> None:
    replica.build("1", seed=0)
    replica.start()
    assert replica.client.get("/readyz").status_code == 503
    answer = replica.client.post("/v1/predict", json=ITEM)
    assert answer.status_code == 503
    assert answer.headers["content-type"] == "application/problem+json"
    assert replica.client.get("/v1/traffic").status_code == 503
    replica.append(single("1"), ready=False)
    until(lambda: replica.client.post("/v1/predict", json=ITEM).status_code == 200, seconds=2.0)
    assert replica.client.get("/readyz").status_code == 200
    assert replica.stop() == 0


def test_answer_has_contract_shape_and_record(shared: RunningReplica) -> None:
    answer = shared.client.post("/v1/predict", json={**ITEM, "unit_id": "acct-42", "segment": "mobile"}).json()
    assert set(answer) == {
        "request_id", "label", "name", "sentiment", "scores", "truncated", "model_version", "arm", "experiment",
        "cached", "certain",
    }  # fmt: skip
    assert (answer["label"], answer["sentiment"], answer["model_version"]) == (2, "positive", "1")
    assert answer["truncated"] is False
    assert sum(answer["scores"]) == pytest.approx(1.0, abs=1e-5)
    (row,) = until(lambda: [row for row in shared.rows() if row["request_id"] == answer["request_id"]])
    assert int(row["at"].timestamp()) == (UUID(answer["request_id"]).int >> 80) // 1000
    assert row["unit_hash"] == unit_hash("acct-42", b"unit-secret")
    assert (row["unit_given"], row["segment"], row["shadow"], row["replica"]) == (True, "mobile", False, "r1")
    assert row["scores"] == pytest.approx(answer["scores"], abs=1e-6)
    assert any(key.startswith(prediction_prefix(row["at"])) for key in shared.lake.list("predictions/"))


def test_instances_are_answered_in_order_and_cached(shared: RunningReplica) -> None:
    instances = [{"text": f"{word} service {k}", "aspect": "service"} for k, word in enumerate(("bad", "great", "it"))]
    with httpx.Client(base_url=shared.url) as client:  # one connection, so one worker
        first = client.post("/v1/predict", json={"instances": instances}).json()["predictions"]
        again = client.post("/v1/predict", json={"instances": instances}).json()["predictions"]
    assert [each["label"] for each in first] == [0, 2, 1]
    assert [each["cached"] for each in again] == [True] * 3
    assert [each["scores"] for each in again] == [each["scores"] for each in first]
    assert len({each["request_id"] for each in (*first, *again)}) == 6


def test_feedback_keeps_source_of_its_key(shared: RunningReplica) -> None:
    request_id = shared.client.post("/v1/predict", json=ITEM).json()["request_id"]
    body = {"request_id": request_id, "label": 0, "sampling_probability": 0.5}
    assert shared.client.post("/v1/feedback", json=body).status_code == 401
    assert shared.client.post("/v1/feedback", json=body, headers={"X-API-Key": "guess"}).status_code == 403
    assert shared.client.post("/v1/feedback", json={**body, "label": 3}, headers=SURVEY).status_code == 422
    assert shared.client.post("/v1/feedback", json={**body, "label": True}, headers=SURVEY).status_code == 422
    assert shared.client.post("/v1/feedback", json={**body, "request_id": "x" * 36}, headers=SURVEY).status_code == 422
    assert shared.client.post("/v1/feedback", json=body, headers=SURVEY).status_code == 202
    rows = until(lambda: [row for row in shared.rows("feedback") if row["request_id"] == request_id])
    assert [(row["label"], row["source"], row["sampling_probability"]) for row in rows] == [(0, "survey", 0.5)]


def test_client_sends_labels_of_many_answers(shared: RunningReplica) -> None:
    with Client(shared.url, feedback_key="survey-key") as client:
        asked = [answer["request_id"] for answer in client.predict_many([ITEM] * 5)]
        assert client.feedback_many([(asked[0], 1), *((each, "positive") for each in asked)], batch=4) == 6
        assert client.labels() == ("negative", "neutral", "positive")
    rows = until(
        lambda: (
            rows if len(rows := [each for each in shared.rows("feedback") if each["request_id"] in asked]) == 6 else []
        )
    )
    last = {row["request_id"]: row["label"] for row in sorted(rows, key=lambda row: row["at"])}
    assert last == dict.fromkeys(asked, 2)


def test_plan_of_older_revision_is_409(shared: RunningReplica) -> None:
    shared.append(ab("1", "2", 0.25))  # makes version 2 known to the ledger
    seen = shared.client.get("/v1/traffic").json()
    plan = ab("1", "2", 0.5)
    body = {"revision": seen["revision"], "plan": plan.to_json(), "reason": "ramp"}
    assert shared.client.put("/v1/traffic", json=body).status_code == 401
    wrong_key = {"Authorization": "Bearer guess"}
    assert shared.client.put("/v1/traffic", json=body, headers=wrong_key).status_code == 403
    assert shared.client.put("/v1/traffic", json=body, headers=ADMIN).status_code == 200
    assert shared.client.put("/v1/traffic", json=body, headers=ADMIN).status_code == 409
    shared.wait_for(seen["revision"] + 1)
    now = shared.client.get("/v1/traffic").json()
    assert (now["plan"], now["champion"], now["challenger"]) == (plan.to_json(), "1", "2")
    for other in (single("2"), ab("1", "99", 0.5)):
        refused = shared.client.put(
            "/v1/traffic", json={"revision": now["revision"], "plan": other.to_json()}, headers=ADMIN
        )
        assert refused.status_code == 422


def test_unit_has_same_arm_on_every_worker(shared: RunningReplica) -> None:
    plan = ab("1", "2", 0.5)
    shared.append(plan)
    for unit in range(20):
        expected = assign(plan, f"u{unit}").name
        for _ in range(3):
            with httpx.Client(base_url=shared.url) as client:  # a new connection: either worker
                answer = client.post("/v1/predict", json={**ITEM, "unit_id": f"u{unit}"}).json()
            assert (answer["arm"], answer["experiment"]) == (expected, "e")


def test_shadow_challenger_scores_behind_champion(shared: RunningReplica) -> None:
    shared.append(ab("1", "2", 0.0, mode="shadow"))
    texts = [f"the app is great {k}" for k in range(10)]
    answers = [shared.client.post("/v1/predict", json={"text": text, "aspect": "app"}).json() for text in texts]
    assert {answer["model_version"] for answer in answers} == {"1"}
    ids = {answer["request_id"] for answer in answers}

    def both() -> list[dict[str, object]]:
        rows = [row for row in shared.rows() if row["request_id"] in ids]
        return rows if len(rows) == 20 else []

    shadow = [row for row in until(both) if row["shadow"]]
    assert {(row["model_version"], row["arm"]) for row in shadow} == {("2", "challenger")}
    assert len({row["request_id"] for row in shadow}) == 10


def test_oversized_unknown_or_forbidden_request_is_problem(shared: RunningReplica) -> None:
    cases = [
        shared.client.post("/v1/predict", content=b"x" * 1_100_000),
        shared.client.post("/v1/predict", content=(b"x" * 60_000 for _ in range(20))),
        shared.client.get("/v1/predict"),
        shared.client.get("/v1/nothing"),
        shared.client.delete("/v1/feedback"),
        shared.client.post("/v1/predict", json=ITEM, headers={"X-Timeout-Ms": "soon"}),
    ]
    assert [case.status_code for case in cases] == [413, 413, 405, 404, 405, 422]
    for case in cases:
        assert case.headers["content-type"] == "application/problem+json"
        assert case.headers["x-content-type-options"] == "nosniff"
        assert {"type", "title", "status", "detail"} <= set(case.json())


def test_docs_page_needs_no_network(shared: RunningReplica) -> None:
    page = shared.client.get("/docs")
    assert page.status_code == 200
    assert "http://" not in page.text
    assert "https://" not in page.text
    api = shared.client.get("/openapi.json").json()
    assert set(api["paths"]) == {
        "/v1/predict", "/v1/feedback", "/v1/traffic", "/v1/models", "/healthz", "/readyz", "/metrics", "/v1/console",
        "/v1/compare",
    }  # fmt: skip
    references = [part.split('"')[0] for part in json.dumps(api).split('"#/components/schemas/')[1:]]
    assert set(references) <= set(api["components"]["schemas"])


def test_metrics_and_models_cover_all_workers(shared: RunningReplica) -> None:
    before = shared.metric('evergreen_requests_total{arm="champion",outcome="ok",version="1"}')
    shared.append(single("1", salt="s"))
    for k in range(30):
        with httpx.Client(base_url=shared.url) as client:
            client.post("/v1/predict", json={"text": f"app {k}", "aspect": "app"})
    until(lambda: shared.metric('evergreen_requests_total{arm="champion",outcome="ok",version="1"}') == before + 30)
    assert len({each["pid"] for each in shared.models()}) == 2
    assert {model["state"] for each in shared.models() for model in each["models"]} == {"serving"}


def test_dashboard_queries_metrics_that_exist(shared: RunningReplica) -> None:
    """Every metric and label of infra/grafana is one of a router's /metrics or of the monitor's monitor.prom."""
    shared.append(single("1", salt="s"))
    shared.client.post("/v1/predict", json=ITEM)
    shared.client.post("/v1/predict", json={})  # a refusal
    until(lambda: shared.metric("evergreen_requests_total") and shared.metric("evergreen_refused_total"))
    until(lambda: "evergreen_lake_age_seconds" in shared.client.get("/metrics").text)
    figures = VersionFigures(
        rows=9, labelled=9, f1=0.9, estimated_f1=0.9, promise=0.9, coverage=0.9, certain_labelled=9, certain_right=9
    )
    window = Window(start=parse_iso("2026-11-30T12:00:00Z"), end=parse_iso("2026-11-30T13:00:00Z"))
    verdict = replace(stale(window), by_version={"1": figures})
    labels: dict[str, set[str]] = {}
    for text in (shared.client.get("/metrics").text, exposition([verdict])):
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                labels.setdefault(sample.name, set()).update(sample.labels)
    panels = json.loads((ROOT / "infra/grafana/evergreen.json").read_text(encoding="utf-8"))["panels"]
    queries = [target["expr"] for panel in panels for target in panel["targets"]]
    assert len(queries) > 20
    for query in queries:
        named = set(re.findall(r"evergreen_\w+", query))
        assert named
        assert named <= labels.keys(), query
        used = {each for group in re.findall(r"by \(([^)]*)\)", query) for each in re.split(r", *", group)}
        used |= set(re.findall(r"(\w+)=", query))
        assert used <= set().union(*(labels[name] for name in named)), query


def test_broken_version_leaves_old_one_serving(shared: RunningReplica) -> None:
    shared.append(single("1", salt="s"))
    head = shared.ledger.head()
    assert head is not None
    shared.append(ab("1", "broken", 0.5), digests={"broken": "0" * 64}, ready=False)
    until(lambda: any("broken" in json.dumps(each["models"]) for each in shared.models()))
    assert shared.client.post("/v1/predict", json=ITEM).json()["model_version"] == "1"
    errors = [m["last_error"] for each in shared.models() for m in each["models"] if m["version"] == "broken"]
    assert errors
    assert all(errors)
    assert shared.metric("evergreen_follow_failures_total") > 0 or until(
        lambda: shared.metric("evergreen_follow_failures_total") > 0
    )
    assert {each["revision"] for each in shared.models()} == {head.number}
    shared.append(single("1", salt="s"))


def test_model_load_is_retried(replica: RunningReplica) -> None:
    replica.workers = 1
    replica.serve()
    digest = replica.build("2", seed=4)
    warmup = replica.lake.read(f"packages/{digest}/warmup.jsonl")
    replica.lake.write(f"packages/{digest}/warmup.jsonl", b"")
    record = replica.append(ab("1", "2", 0.5), ready=False)
    until(lambda: replica.metric("evergreen_model_load_failures_total"), what="a failure")
    (replica.root / "serving" / "models" / digest / "warmup.jsonl").write_bytes(warmup)
    replica.wait_for(record.number)


def exchange(connection: socket.socket, request: bytes) -> bytes:
    """Send a request and read its answer to the end of the JSON."""
    connection.sendall(request)
    answer = b""
    while not answer.endswith(b"}"):
        answer += connection.recv(65536)
    return answer


def test_slow_client_is_cut_off_alone(replica: RunningReplica) -> None:
    replica.tuning = {"request_timeout_s": 1}
    replica.workers = 1
    replica.serve()
    slow = [socket.create_connection(("127.0.0.1", replica.port)) for _ in range(3)]
    slow[0].sendall(b"POST /v1/pre")
    slow[1].sendall(b"POST /v1/predict HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{")
    body = json.dumps(ITEM).encode()
    request = b"POST /v1/predict HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)
    assert b"200 OK" in exchange(slow[2], request)
    for each in slow[:2]:
        each.settimeout(5)
        try:
            assert each.recv(100) == b""
        except ConnectionResetError:
            continue
    assert b"200 OK" in exchange(slow[2], request)  # one that behaves keeps its connection
    assert replica.metric("evergreen_slow_clients_closed_total") >= 2


def test_overload_is_refused_at_once(replica: RunningReplica) -> None:
    replica.workers = 1
    replica.environment = {"EVERGREEN_QUEUE_MS": "0.2"}
    replica.serve()

    def ask(client: int) -> list[httpx.Response]:
        with httpx.Client(base_url=replica.url, timeout=10.0) as mine:
            texts = [f"the app {client} {number} " + "is great " * 50 for number in range(30)]
            return [mine.post("/v1/predict", json={"text": text, "aspect": "app"}) for text in texts]

    with ThreadPoolExecutor(8) as pool:
        answers = [answer for each in pool.map(ask, range(8)) for answer in each]
    refused = [answer for answer in answers if answer.status_code == 429]
    assert {answer.status_code for answer in answers} == {200, 429}
    assert all(int(answer.headers["retry-after"]) >= 1 for answer in refused)
    assert refused[0].json()["status"] == 429
    until(lambda: replica.metric('evergreen_refused_total{status="429"}') == len(refused), what="their count")
    assert replica.client.post("/v1/predict", json=ITEM).status_code == 200


def test_sigterm_answers_and_ships_everything(replica: RunningReplica) -> None:
    replica.tuning = {"ship_interval_s": 60}  # only the end ships
    replica.serve()
    answered: list[str] = []
    refused = threading.Event()

    def ask(worker: int) -> None:
        with httpx.Client(base_url=replica.url) as client:
            for k in range(100_000):
                try:
                    answer = client.post("/v1/predict", json={"text": f"app {worker} {k}", "aspect": "app"})
                except httpx.HTTPError:
                    refused.set()
                    return
                assert answer.status_code == 200, answer.text
                answered.append(answer.json()["request_id"])

    with ThreadPoolExecutor(4) as pool:
        asking = [pool.submit(ask, worker) for worker in range(4)]
        time.sleep(0.7)
        assert replica.stop() == 0
        for each in asking:
            each.result(10)
    assert refused.is_set()
    rows = replica.rows()
    assert len(rows) == len({row["request_id"] for row in rows})
    assert {row["request_id"] for row in rows} >= set(answered)
    assert sum(row["ok"] for row in replica.rows("outcomes")) == len(rows)


def test_taken_port_is_one_sentence(tmp_path: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        run = subprocess.run(
            [sys.executable, "-m", "serving"], check=False, cwd=ROOT, capture_output=True, text=True, timeout=30,
            env={"PATH": "/usr/bin:/bin", "EVERGREEN_HOME": str(tmp_path), "EVERGREEN_ROUTER_PORT": str(port)},
        )  # fmt: skip
    assert run.returncode == 1
    assert run.stderr.strip().splitlines()[-1].startswith(f"port {port} of 127.0.0.1 is taken")
    assert "Traceback" not in run.stderr


def test_admin_port_removes_admin_routes_from_public(replica: RunningReplica) -> None:
    admin_port = free_port()
    replica.environment = {"EVERGREEN_ADMIN_PORT": str(admin_port), "EVERGREEN_PREDICT_KEY": "predict-key"}
    replica.workers = 1
    replica.build("1", seed=0)
    replica.start()
    replica.append(single("1"), ready=False)
    until(lambda: replica.client.get("/readyz").status_code == 200)
    assert replica.client.get("/metrics").status_code == 404
    assert replica.client.get("/v1/traffic").status_code == 404
    assert httpx.get(f"http://127.0.0.1:{admin_port}/metrics").status_code == 200
    assert httpx.post(f"http://127.0.0.1:{admin_port}/v1/predict", json=ITEM).status_code == 404
    assert replica.client.post("/v1/predict", json=ITEM).status_code == 401
    assert replica.client.post("/v1/predict", json=ITEM, headers={"X-API-Key": "predict-key"}).status_code == 200
    url = str(replica.client.base_url)
    assert Client(url, predict_key="predict-key").predict(**ITEM)["model_version"] == "1"
    with pytest.raises(PermanentError, match="401"):
        Client(url).predict(**ITEM)
    customer = SimulatedRequest(
        number=0, **ITEM, true_label=0, unit_id="u", segment=None, feedback_label=None, feedback_delay_s=0.0
    )
    send = partial(send_traffic, url=url, feedback_key="unused", rate=20.0, duration_s=0.3)
    assert send(repeat(customer), predict_key=SecretStr("predict-key")).answered > 0
    with pytest.raises(UnavailableError, match="401"):
        send(repeat(customer))


def test_failed_disk_does_not_end_log(replica: RunningReplica) -> None:
    replica.workers = 1
    replica.serve()
    ready = replica.root / "serving" / "replicas" / "r1" / "spool" / "ready"
    away = ready.with_name("away")
    ready.rename(away)
    ready.touch()  # nothing can be moved into it
    answers = [replica.client.post("/v1/predict", json=ITEM).json()]
    until(lambda: '"process": "0", "logger": "evergreen.worker", "message": "a background task failed' in replica.log())
    ready.unlink()
    away.rename(ready)
    answers.append(replica.client.post("/v1/predict", json=ITEM).json())
    ids = {answer["request_id"] for answer in answers}
    until(lambda: {row["request_id"] for row in replica.rows()} == ids, what="both records in the lake")


def test_hanging_lake_still_shows_log_lag(replica: RunningReplica) -> None:
    ready = replica.root / "serving" / "replicas" / "r1" / "spool" / "ready"
    ready.mkdir(parents=True)
    segment = ready / "predictions.w0_1_1-00000001.log"
    row = ["id", 1_795_470_037_401_255, "hash", True, None, "a text", "text", 2, [0.1, 0.2, 0.7], "1", "champion"]
    segment.write_text(json.dumps([*row, None, 1, False, False, 1.5]) + "\n", encoding="utf-8")
    os.utime(segment, (time.time() - 1000, time.time() - 1000))

    def lags() -> list[float]:
        return [json.loads(line)["LogLag"] for line in replica.log().splitlines() if '"LogLag"' in line]

    with socket.create_server(("127.0.0.1", 0)) as silent:
        replica.workers = 1
        replica.tuning = {"stop_timeout_s": 1}
        replica.environment = {
            "EVERGREEN_LAKE": "s3://bucket/lake", "AWS_ENDPOINT_URL": f"http://127.0.0.1:{silent.getsockname()[1]}",
            "AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_DEFAULT_REGION": "us-east-1",
            "EVERGREEN_METRICS": "emf", "EVERGREEN_METRICS_INTERVAL_S": "0.5",
        }  # fmt: skip
        replica.start()
        until(lambda: max(lags(), default=0.0) >= 1000, seconds=15.0, what="the lag")
        replica.end()


class Collector(http.server.BaseHTTPRequestHandler):
    """Takes spans over OTLP."""

    bodies: ClassVar[list[bytes]] = []

    def do_POST(self) -> None:
        self.bodies.append(self.rfile.read(int(self.headers["Content-Length"])))
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Be quiet."""


def test_prediction_is_span_of_callers_trace(replica: RunningReplica) -> None:
    trace = "0af7651916cd43dd8448eb211c80319c"
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Collector) as collector:
        threading.Thread(target=collector.serve_forever, daemon=True).start()
        replica.environment = {"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{collector.server_port}"}
        replica.serve()
        parent = {"traceparent": f"00-{trace}-b7ad6b7169203331-01"}
        assert replica.client.post("/v1/predict", json=ITEM, headers=parent).status_code == 200
        assert replica.stop() == 0
        collector.shutdown()
    sent = b"".join(Collector.bodies)
    assert bytes.fromhex(trace) in sent
    assert b"evergreen.version" in sent
    assert ITEM["text"].encode() not in sent


def test_no_customers_text_stands_in_the_routers_log(shared: RunningReplica) -> None:
    shared.client.post("/v1/predict", json={"text": "canary-4711 app", "aspect": "app"})
    shared.client.post("/v1/predict", json={"text": "canary-4711 app", "aspect": "canary-0815"})
    shared.client.post("/v1/predict", content=b'{"text": "canary-4711')
    assert "canary" not in shared.log()
    assert datetime.now(UTC).strftime("%Y-%m-%d") in shared.log()
