"""A trace says who answered, joins its caller's, and holds no text."""

import time

import pytest
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode

from serving.observe.traces import Traces, open_traces
from serving.problems import Problem, invalid

PARENT = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def test_span_joins_callers_trace():
    exporter = InMemorySpanExporter()
    traces = Traces(exporter, "0")
    started = time.perf_counter() - 0.25
    traces.note([(b"traceparent", PARENT), (b"host", b"x")], started, {"evergreen.version": "7"})
    longest_s = time.perf_counter() - started
    traces.close()
    (span,) = exporter.get_finished_spans()
    assert f"{span.context.trace_id:032x}" == "0af7651916cd43dd8448eb211c80319c"
    assert span.parent is not None
    assert f"{span.parent.span_id:016x}" == "b7ad6b7169203331"
    assert 0.249 < (span.end_time - span.start_time) / 1e9 < longest_s + 0.001
    assert span.attributes["evergreen.version"] == "7"
    assert span.attributes["http.response.status_code"] == 200
    assert span.resource.attributes["service.instance.id"] == "0"


@pytest.mark.parametrize(
    ("problem", "status"),
    [(invalid("text", "is missing"), StatusCode.UNSET), (Problem(504, "t", "x"), StatusCode.ERROR)],
)
def test_only_what_is_our_fault_is_an_error(problem: Problem, status: StatusCode):
    exporter = InMemorySpanExporter()
    traces = Traces(exporter, "0")
    traces.note([(b"traceparent", b"rubbish")], time.perf_counter(), {}, problem)
    traces.close()
    (span,) = exporter.get_finished_spans()
    assert span.attributes["http.response.status_code"] == problem.status
    assert span.status.status_code is status
    assert span.parent is None


def test_without_an_endpoint_nothing_is_traced(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("OTEL_EXPORTER_OTLP_ENDPOINT", raising=False)
    monkeypatch.delenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", raising=False)
    assert open_traces("0") is None
