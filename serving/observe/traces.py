"""OpenTelemetry traces of predictions, if OTEL_EXPORTER_OTLP_ENDPOINT is set: one span per request.

A span joins its caller's trace. The span is made when the request is complete, so requests that are not sampled cost
little. The exporter has its own thread and a bounded queue; it drops spans if the queue is full.
"""

import os
import threading
import time
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final

from serving.problems import Problem

if TYPE_CHECKING:
    from opentelemetry.sdk.trace.export import SpanExporter

_ENDPOINTS: Final = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
_SERVICE: Final = "evergreen-router"
_SPAN: Final = "POST /v1/predict"


class Traces:
    """Makes spans and exports them.

    Args:
        exporter: gets completed spans.
        worker: name of this process in every span.
    """

    def __init__(self, exporter: "SpanExporter", worker: str) -> None:
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        named = {"service.name": os.environ.get("OTEL_SERVICE_NAME", _SERVICE), "service.instance.id": worker}
        self._provider = TracerProvider(resource=Resource.create(named), shutdown_on_exit=False)
        self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self._tracer = self._provider.get_tracer("evergreen.serving")
        self._propagator = TraceContextTextMapPropagator()

    def note(
        self,
        headers: Iterable[tuple[bytes, bytes]],
        started: float,
        attributes: Mapping[str, Any],
        problem: Problem | None = None,
    ) -> None:
        """Trace a completed request.

        Args:
            headers: headers of the request; `traceparent` joins the span to the caller's trace.
            started: `time.perf_counter()` at the arrival of the request.
            attributes: attributes of the span; no text.
            problem: the answer, if it is not a 200.
        """
        from opentelemetry.trace import SpanKind, Status, StatusCode

        carrier = {
            name.decode("latin-1"): value.decode("latin-1")
            for name, value in headers
            if name in {b"traceparent", b"tracestate"}
        }
        ended_ns = time.time_ns()
        span = self._tracer.start_span(
            _SPAN,
            context=self._propagator.extract(carrier) if carrier else None,
            kind=SpanKind.SERVER,
            start_time=ended_ns - int((time.perf_counter() - started) * 1e9),
        )
        if span.is_recording():
            span.set_attributes({"http.request.method": "POST", "http.route": "/v1/predict", **attributes})
            span.set_attribute("http.response.status_code", 200 if problem is None else problem.status)
            if problem is not None and problem.status >= 500:
                span.set_status(Status(StatusCode.ERROR, problem.detail))
        span.end(ended_ns)

    def close(self, timeout_s: float = 2.0) -> None:
        """Export the remaining spans; wait for it up to `timeout_s`."""
        closing = threading.Thread(target=self._provider.shutdown, daemon=True)
        closing.start()
        closing.join(timeout_s)


def open_traces(worker: str) -> Traces | None:
    """Return traces over OTLP/HTTP as the OTEL_* environment configures them; None without an endpoint."""
    if not any(os.environ.get(name) for name in _ENDPOINTS):
        return None
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

    return Traces(OTLPSpanExporter(), worker)
