"""HTTP abuse over raw sockets against a running router: it answers as it should, and others do not notice."""

import http.client
import json
import re
import socket
import struct
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import httpx
import psutil
import pytest

from tests.serving_replica import ITEM, SURVEY, RunningReplica, until

BODY = json.dumps(ITEM).encode()
HEAD = b"POST /v1/predict HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
LENGTH = b"Content-Length: %d\r\n" % len(BODY)
SMUGGLED = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
PLAIN = HEAD + LENGTH + b"\r\n" + BODY
MAX_GROWTH_MB = 100.0
ORIGIN = "https://app.example"


@pytest.fixture(scope="module")
def router(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningReplica]:
    """One worker that web pages of one origin may call."""
    made = RunningReplica(
        tmp_path_factory.mktemp("abuse"), workers=1, environment={"EVERGREEN_CORS_ORIGINS": ORIGIN},
        tuning={"request_timeout_s": 3},
    )  # fmt: skip
    try:
        yield made.serve()
    finally:
        made.end()


@pytest.fixture(autouse=True)
def _survived(router: RunningReplica) -> Iterator[None]:
    """Every case leaves the same worker, which serves and logged no traceback."""
    (before,) = router.pids()
    yield
    assert router.pids() == [before]
    assert router.client.post("/v1/predict", json=ITEM).status_code == 200
    assert "raceback" not in router.log()


def talk(router: RunningReplica, *parts: bytes, wait_s: float = 0.05, read_s: float = 5.0) -> bytes:
    """Send parts with pauses between them and return what comes until the router closes, or stops for a while."""
    with socket.create_connection(("127.0.0.1", router.port), timeout=read_s) as connection:
        got = b""
        try:
            for index, part in enumerate(parts):
                if index:
                    time.sleep(wait_s)
                connection.sendall(part)
            while chunk := connection.recv(65_536):
                got += chunk
                connection.settimeout(0.3)
        except OSError:
            pass  # cut off, or silent: what came is the result
    return got


def statuses(answers: bytes) -> list[int]:
    """Statuses of answers, in order."""
    return [int(code) for code in re.findall(rb"HTTP/1\.1 (\d{3}) ", answers)]


@pytest.mark.parametrize("path", [b"/v1/predict", b"/v1/compare", b"/v1/predict?x=1"])
@pytest.mark.parametrize("offer", [b"websocket", b"h2c", b"foo"])
def test_upgrade_offer_smuggles_no_request(router: RunningReplica, offer: bytes, path: bytes) -> None:
    head = HEAD.replace(b"/v1/predict", path)
    smuggling = head + b"Connection: Upgrade\r\nUpgrade: %b\r\nContent-Length: %d\r\n\r\n" % (offer, len(SMUGGLED))
    assert statuses(talk(router, smuggling, SMUGGLED)) == [400]
    assert statuses(talk(router, smuggling + SMUGGLED)) == [400]
    offering = (
        head + b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: %b\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n" % offer
    )
    assert statuses(talk(router, offering + LENGTH + b"\r\n" + BODY)) == [200]
    assert statuses(talk(router, offering + LENGTH, b"\r\n" + BODY[:5], BODY[5:])) == [200]


CASES = {
    "a plain request": (PLAIN, [200]),
    "two requests in one packet": (PLAIN * 2, [200, 200]),
    "a number of 5,000 digits": (HEAD + b"X-Timeout-Ms: " + b"9" * 5000 + b"\r\n" + LENGTH + b"\r\n" + BODY, [422]),
    "100 kB of one header": (HEAD + b"X: " + b"a" * 100_000 + b"\r\n" + LENGTH + b"\r\n" + BODY, [431]),
    "2,000 headers": (HEAD + b"".join(b"X-%d: a\r\n" % k for k in range(2000)) + LENGTH + b"\r\n" + BODY, [431]),
    "100 kB of target": (b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n", [431]),
    "no host": (HEAD.replace(b"Host: x\r\n", b"") + LENGTH + b"\r\n" + BODY, [400]),
    "two hosts": (HEAD + b"Host: y\r\n" + LENGTH + b"\r\n" + BODY, [400]),
    "a length of 5 GB": (HEAD + b"Content-Length: 5000000000\r\n\r\n{", [413]),
    "a length of 5 GB elsewhere": (
        b"POST /v1/feedback HTTP/1.1\r\nHost: x\r\nContent-Length: 5000000000\r\n\r\n{",
        [413],
    ),
    "a length of 40 digits": (HEAD + b"Content-Length: " + b"9" * 40 + b"\r\n\r\n{", [400]),
    "no number as length": (b"POST /v1/predict HTTP/1.1\r\nHost: x\r\nContent-Length: abc\r\n\r\n", [400]),
    "length and chunks": (HEAD + LENGTH + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + SMUGGLED, [400]),
    "chunks with an extension": (
        HEAD + b"Transfer-Encoding: chunked\r\n\r\n%x;a=b\r\n%b\r\n0\r\n\r\n" % (len(BODY), BODY),
        [200],
    ),
    "a bare line feed": (PLAIN.replace(b"\r\n", b"\n"), [400]),
    "a folded header": (HEAD + b"X: a\r\n b\r\n" + LENGTH + b"\r\n" + BODY, [400]),
    "a space before a colon": (HEAD + LENGTH.replace(b":", b" :") + b"\r\n" + BODY, [400]),
    "an absolute target": (PLAIN.replace(b"/v1/predict", b"http://elsewhere/v1/predict"), [200]),
    "a gzip body": (HEAD + b"Content-Encoding: gzip\r\n" + LENGTH + b"\r\n" + BODY, [415]),
    "100-continue and too long": (HEAD + b"Expect: 100-continue\r\nContent-Length: 5000000000\r\n\r\n", [413]),
    "TLS": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", [400]),
    "HTTP/2": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", [400]),
    "a request after an error": (b"RUBBISH\r\n\r\n" + PLAIN, [400]),
    "an error after a request": (PLAIN + b"RUBBISH\r\n\r\n" + PLAIN, [200, 400]),
}


@pytest.mark.parametrize("name", CASES)
def test_raw_request_has_its_answer(router: RunningReplica, name: str) -> None:
    data, expected = CASES[name]
    began = time.perf_counter()
    got = talk(router, data)
    assert statuses(got) == expected
    assert time.perf_counter() - began < 2.5
    if expected[-1] >= 400:
        assert b"content-type: application/problem+json\r\n" in got


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/metrics", "/docs", "/openapi.json", "/", "/v1/models"])
def test_head_has_headers_and_no_body(router: RunningReplica, path: str) -> None:
    request = f"HEAD {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode()
    head, _, body = talk(router, request).partition(b"\r\n\r\n")
    assert statuses(head) == [200]
    assert body == b""


def test_continue_is_answered_with_100_then_200(router: RunningReplica) -> None:
    got = talk(router, HEAD + b"Expect: 100-continue\r\n" + LENGTH + b"\r\n", BODY)
    assert statuses(got) == [100, 200]


JSON = {
    "a repeated name": (b'{"text": "an app", "text": "an app", "aspect": "app"}', 400),
    "NaN": (b'{"text": NaN, "aspect": "app"}', 400),
    "Infinity": (b'{"text": "an app", "aspect": "app", "unit_id": -Infinity}', 400),
    "a number beyond double": (b'{"text": "an app", "aspect": "app", "unit_id": 1e999}', 400),
    "5,000 digits": (b'{"text": "an app", "aspect": "app", "unit_id": ' + b"9" * 5000 + b"}", 400),
    "a number of 65 bits": (b'{"text": "an app", "aspect": "app", "unit_id": 36893488147419103232}', 422),
    "nested lists": (b"[" * 500_000, 400),
    "nested objects": (b'{"a":' * 100_000 + b"1" + b"}" * 100_000, 400),
    "nesting within bounds": (b'{"a":' * 500 + b"1" + b"}" * 500, 422),
    "a lone surrogate": (b'{"text": "an app \\ud83d", "aspect": "app"}', 400),
    "surrogates reversed": (b'{"text": "an app \\ude00\\ud83d", "aspect": "app"}', 400),
    "a surrogate in UTF-8": (b'{"text": "an app \xed\xa0\xbd", "aspect": "app"}', 400),
    "a surrogate pair": (b'{"text": "an app \\ud83d\\ude00", "aspect": "app"}', 200),
    "a byte order mark": (b"\xef\xbb\xbf" + BODY, 400),
    "UTF-16": (json.dumps(ITEM).encode("utf-16"), 400),
    "overlong UTF-8": (b'{"text": "an app \xc0\xaf", "aspect": "app"}', 400),
    "a NUL": (b'{"text": "an app \x00", "aspect": "app"}', 400),
    "an escaped NUL": (b'{"text": "an app \\u0000", "aspect": "app"}', 200),
    "nothing": (b"", 400),
    "two values": (BODY + BODY, 400),
    "a list": (b"[]", 422),
    "null": (b"null", 422),
    "a string": (b'"text"', 422),
}


@pytest.mark.parametrize("name", JSON)
def test_json_corner_case_has_its_status(router: RunningReplica, name: str) -> None:
    body, status = JSON[name]
    answer = router.client.post("/v1/predict", content=body)
    assert answer.status_code == status
    if status != 200:
        assert answer.headers["content-type"] == "application/problem+json"
        assert router.client.post("/v1/feedback", content=body, headers=SURVEY).status_code == status


def test_web_page_of_allowed_origin_may_predict(router: RunningReplica) -> None:
    asked = {"Origin": ORIGIN, "Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "x-api-key"}
    preflight = router.client.options("/v1/predict", headers=asked)
    assert preflight.status_code == 204
    assert "content-length" not in preflight.headers
    answer = router.client.post("/v1/predict", json=ITEM, headers={"Origin": ORIGIN})
    assert answer.headers["access-control-allow-origin"] == ORIGIN


SLOW = {
    "nothing": b"",
    "part of a head": b"POST /v1/pre",
    "part of a body": HEAD + b"Content-Length: 100\r\n\r\n{",
    "part of the next head": PLAIN + b"POST /v1/pre",
}


def seconds_until_cut_off(router: RunningReplica, sent: bytes) -> float:
    """Send bytes, then nothing, and wait for the end of the connection."""
    with socket.create_connection(("127.0.0.1", router.port), timeout=10) as connection:
        connection.sendall(sent)
        began = time.perf_counter()
        try:
            while connection.recv(65_536):
                continue
        except ConnectionResetError:
            pass  # cut off
        return time.perf_counter() - began


def test_slow_requests_are_cut_off(router: RunningReplica) -> None:
    with ThreadPoolExecutor(len(SLOW)) as side_by_side:
        took = dict(zip(SLOW, side_by_side.map(partial(seconds_until_cut_off, router), SLOW.values()), strict=True))
    assert {name: seconds for name, seconds in took.items() if not 2.0 < seconds < 7.0} == {}


def test_endless_headers_slow_nobody_down(router: RunningReplica) -> None:
    stop = threading.Event()

    def endless() -> None:
        while not stop.is_set():
            try:
                with socket.create_connection(("127.0.0.1", router.port), timeout=5) as connection:
                    connection.sendall(HEAD + b"X: ")
                    while not stop.is_set():
                        connection.sendall(b"a" * 262_144)
            except OSError:
                time.sleep(0.05)

    def median_ms(seconds: float) -> float:
        took, ends = [], time.perf_counter() + seconds
        while time.perf_counter() < ends:
            began = time.perf_counter()
            connection = http.client.HTTPConnection("127.0.0.1", router.port, timeout=8)
            connection.request("POST", "/v1/predict", BODY)
            assert connection.getresponse().status == 200
            connection.close()
            took.append((time.perf_counter() - began) * 1000)
        return sorted(took)[len(took) // 2]

    calm = median_ms(0.5)
    threads = [threading.Thread(target=endless, daemon=True) for _ in range(4)]
    for thread in threads:
        thread.start()
    busy = median_ms(1.5)
    stop.set()
    for thread in threads:
        thread.join(10)
    assert busy < 10 * max(calm, 5.0)


ABORTED = {
    "hot": HEAD,
    "through ASGI": HEAD.replace(b"/v1/predict", b"/v1/predict?x=1"),
    "feedback": b"POST /v1/feedback HTTP/1.1\r\nHost: x\r\nX-API-Key: survey-key\r\n",
    "without a key": b"POST /v1/feedback HTTP/1.1\r\nHost: x\r\n",
}


@pytest.mark.parametrize("name", ABORTED)
def test_aborted_uploads_keep_no_memory(router: RunningReplica, name: str) -> None:
    (pid,) = router.pids()
    before = psutil.Process(pid).memory_info().rss
    for number in range(200):
        with socket.create_connection(("127.0.0.1", router.port), timeout=5) as connection:
            try:
                connection.sendall(ABORTED[name] + b"Content-Length: 1048000\r\n\r\n{" + b"x" * 1_040_000)
            except OSError:
                continue  # refused before its body had come
            if number % 2:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # ends with RST
    until(lambda: router.metric("evergreen_unfinished_body_bytes") == 0, what="no unfinished body")
    assert (psutil.Process(pid).memory_info().rss - before) / 1e6 < MAX_GROWTH_MB


def test_unfinished_uploads_are_bounded(router: RunningReplica) -> None:
    (pid,) = router.pids()
    before = psutil.Process(pid).memory_info().rss
    connections = []
    for _ in range(100):
        connection = socket.create_connection(("127.0.0.1", router.port), timeout=5)
        connections.append(connection)
        try:
            connection.sendall(HEAD + b"Content-Length: 1048000\r\n\r\n{" + b"x" * 1_040_000)
        except OSError:
            continue  # refused before its body had come
    assert httpx.post(f"{router.url}/v1/predict", json=ITEM).status_code == 200
    until(lambda: router.metric('evergreen_refused_total{status="429"}') > 0, what="a refusal")
    assert (psutil.Process(pid).memory_info().rss - before) / 1e6 < MAX_GROWTH_MB
    for connection in connections:
        connection.close()
    until(lambda: router.metric("evergreen_unfinished_body_bytes") == 0, what="no unfinished body")
