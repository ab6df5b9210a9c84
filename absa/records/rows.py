"""Rows of the lake: each is defined once, as the type that its Arrow schema and log line follow from.

No pyarrow here: a router that starts needs the types alone.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Final, NamedTuple

# `latency_histogram` counts answers up to each bound of LATENCY_BOUNDS_MS, the last cell those above.
LATENCY_BOUNDS_MS: Final = (1.0, 2.0, 5.0, 10.0, 25.0, 50.0, 100.0, 250.0, 500.0, 1000.0, 2500.0)

# The word beside a type names its Arrow type: `absa.records.tables` has the list.
Timestamp = Annotated[int, "timestamp"]  # microseconds since 1970
Int8 = Annotated[int, "int8"]


class Prediction(NamedTuple):
    """One version's answer to one text. A shadow score repeats the request_id of the answer that it is compared with.

    `aspect` holds an aspect or a topic, None for plain text; `scores` has as many values as the version has labels.
    `unit_hash` is that of the request_id unless `unit_given`. Text and aspect are None where the log is redacted,
    `truncated` where a release wrote the row that did not know it, `certain` where nothing was promised. The log leaves
    `replica` to its shipper.
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
    """Label of a prediction from a source, at its receipt. `sampling_probability` is None where it came unasked."""

    request_id: str
    label: Int8
    at: Timestamp
    source: str
    sampling_probability: float | None


class OutcomeCount(NamedTuple):
    """Items of one version and arm in one minute, by their end, and the latencies of those answered."""

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
    """One text, with an aspect of it (found case-insensitively) or a topic (any phrase) where the task has one.

    `aspect` holds either; it is None for plain text. `label` is None where there is none yet, `example_id` where it was
    not computed, `unit_hash` where the row names no account or user.
    """

    example_id: str | None = None
    text: str
    aspect: str | None = None
    label: Annotated[int | None, "int8"] = None
    observed_at: Annotated[datetime, "timestamp"]
    source: str
    segment: str | None = None
    unit_hash: str | None = None
