"""Rows of the lake: each kind is one type, from which its Arrow schema and its log line are made.

This module does not import pyarrow, because a router needs only the types at its start.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Final, NamedTuple

# `latency_histogram` counts answers up to each bound of LATENCY_BOUNDS_MS; the last cell counts slower answers.
LATENCY_BOUNDS_MS: Final = (1.0, 2.0, 5.0, 10.0, 25.0, 50.0, 100.0, 250.0, 500.0, 1000.0, 2500.0)

# The second argument of Annotated names the Arrow type: `absa.records.tables` has the list.
Timestamp = Annotated[int, "timestamp"]  # microseconds since 1970
Int8 = Annotated[int, "int8"]


class Prediction(NamedTuple):
    """One version's answer to one text. A shadow score has the request_id of the answer that it is compared with.

    `aspect` is an aspect or a topic; None for plain text. `scores` has as many values as the version has labels.
    `unit_hash` is the hash of the request_id unless `unit_given`. `text` and `aspect` are None if the log is redacted,
    `truncated` is None if an earlier release wrote the row, and `certain` is None without a promise. `replica` is empty
    in log lines; the shipper of the log sets it.
    """

    request_id: str
    at: Timestamp
    unit_hash: str | None
    unit_given: bool
    segment: str | None
    text: str | None
    aspect: str | None
    label: Int8
    scores: Annotated[list[float], "scores"]
    model_version: str
    arm: str
    experiment: str | None
    revision: int | None
    shadow: bool
    cached: bool
    truncated: bool | None = None
    latency_ms: Annotated[float | None, "float32"] = None
    replica: str = ""
    certain: bool | None = None


class Feedback(NamedTuple):
    """Label from a source, at its receipt. `sampling_probability` is None unless the label was requested."""

    request_id: str
    label: Int8
    at: Timestamp
    source: str
    sampling_probability: float | None


class OutcomeCount(NamedTuple):
    """Numbers of one version's and arm's items in one minute by outcome, and the latencies of answered items."""

    minute: Timestamp
    version: str
    arm: str
    ok: int
    error: int
    shed: int
    timeout: int
    latency_histogram: Annotated[list[int], "latency_histogram"]
    replica: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Example:
    """One text, with an aspect (a span of the text, in any case) or a topic (any phrase) if the task has one.

    `aspect` is the aspect or the topic; None for plain text. `label` is None if the label is unknown, `example_id` if
    it was not computed, and `unit_hash` if the row names no account or user.
    """

    example_id: str | None = None
    text: str
    aspect: str | None = None
    label: Annotated[int | None, "int8"] = None
    observed_at: Annotated[datetime, "timestamp"]
    source: str
    segment: str | None = None
    unit_hash: str | None = None
