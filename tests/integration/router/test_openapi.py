"""The router does what its OpenAPI document says, on what schemathesis makes of it: valid input and broken input."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from absa.ledger.routing import single
from tests.serving_replica import ADMIN, ITEM, SURVEY, RunningReplica

CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]
MADE = settings(
    max_examples=25,
    deadline=None,
    database=None,
    derandomize=True,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningReplica]:
    """A router that serves."""
    folder: Path = tmp_path_factory.mktemp("openapi")
    replica = RunningReplica(folder, workers=1)
    try:
        yield replica.serve()
    finally:
        replica.end()


def _hold(operation: Any, served: RunningReplica, mode: GenerationMode) -> set[int]:
    """Ask an operation many things, and check each answer; gives their statuses."""
    statuses: set[int] = set()
    keys = SURVEY if operation.path == "/v1/feedback" else ADMIN

    @MADE
    @given(case=operation.as_strategy(generation_mode=mode))
    def holds(case: schemathesis.Case) -> None:
        if mode is GenerationMode.POSITIVE:
            _fit(case, served)
        answer = case.call(base_url=served.url, headers=keys)
        statuses.add(answer.status_code)
        case.validate_response(answer, checks=CHECKS)

    holds()
    return statuses


def _fit(case: schemathesis.Case, served: RunningReplica) -> None:
    """Make a request fit what the document cannot say: the aspect stands in the text, the prediction was answered."""
    body: Any = case.body
    if case.operation.label in {"POST /v1/predict", "POST /v1/compare"}:
        case.headers["X-Timeout-Ms"] = "9000"  # a client that waits
        for item in body.get("instances", [body]):
            item["aspect"] = item["text"][:500]
    elif case.operation.label == "POST /v1/feedback":
        for label in body.get("instances", [body]):
            label["request_id"] = served.client.post("/v1/predict", json=ITEM).json()["request_id"]
    elif case.operation.label == "PUT /v1/traffic":
        head = served.ledger.head()
        assert head is not None
        body["revision"] = head.number
        body["plan"] |= single("1", salt="s").to_json()


@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE])
def test_answers_match_the_openapi_document(served: RunningReplica, mode: GenerationMode) -> None:
    document = httpx.get(f"{served.url}/openapi.json").json()
    schema = schemathesis.openapi.from_dict(document)
    seen: dict[str, set[int]] = {}
    for found in schema.get_all_operations():
        operation = found.ok()
        if mode is GenerationMode.NEGATIVE and operation.method == "get":
            continue  # there is nothing in it to break
        seen[operation.label] = _hold(operation, served, mode)
    if mode is GenerationMode.POSITIVE:
        assert "POST /v1/predict" in seen
        assert [label for label, statuses in seen.items() if not statuses & {200, 202}] == [], seen
    if mode is GenerationMode.NEGATIVE:
        assert 200 not in seen["PUT /v1/traffic"]
        assert 422 in seen["POST /v1/predict"] | seen["POST /v1/feedback"]
    assert served.client.get("/readyz").status_code == 200
    assert "raceback" not in served.log()
