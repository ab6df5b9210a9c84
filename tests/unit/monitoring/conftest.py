"""Served traffic in a lake, made from a few words: fast, seeded, and known to be right or wrong."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from absa.adapters.lake_stores import FolderLake
from absa.records.lake import Lake
from absa.records.layout import feedback_prefix, prediction_prefix
from absa.records.schema import Window
from absa.records.tables import FEEDBACK, PREDICTIONS, write_parquet
from monitoring.drift.sample import Sample, make_sample

START = datetime(2026, 11, 23, 10, 0, tzinfo=UTC)
COMMON = ("the", "is", "works", "feels", "looks", "fine", "bad", "slow", "great", "broken", "again")
WORDS = {
    "office": ("printer", "desk", "chair", "screen", "keyboard", "lamp", "are", *COMMON),
    "garden": ("spade", "hose", "tulip", "compost", "hedge", "mower", "are", *COMMON),
}


def texts(rng: np.random.Generator, count: int, topic: str = "office") -> list[str]:
    """Texts of 6 to 12 words of a topic."""
    return [" ".join(rng.choice(WORDS[topic], rng.integers(6, 13))) for _ in range(count)]


def scored(
    rng: np.random.Generator, count: int, accuracy: float = 0.85, shares: tuple[float, ...] = (0.3, 0.2, 0.5)
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Truth, predictions and calibrated scores: a row with confidence c is right with probability c."""
    truth = rng.choice(3, count, p=shares)
    confidence = np.clip(rng.normal(accuracy, 0.08, count), 0.4, 0.99)
    right = rng.random(count) < confidence
    predicted = np.where(right, truth, (truth + rng.integers(1, 3, count)) % 3)
    scores = np.repeat(((1.0 - confidence) / 2.0)[:, None], 3, axis=1)
    scores[np.arange(count), predicted] = confidence
    return truth, predicted, scores


def sample(
    seed: int,
    count: int,
    *,
    accuracy: float = 0.85,
    topic: str = "office",
    labelled: float = 1.0,
    **shares: tuple[float, ...],
) -> Sample:
    """A sample of so many rows, each of a unit of its own."""
    rng = np.random.default_rng(seed)
    truth, predicted, scores = scored(rng, count, accuracy, **shares)
    known = np.where(rng.random(count) < labelled, truth, -1)
    words = texts(rng, count, topic)
    return make_sample(
        predicted,
        scores,
        truth=known,
        texts=tuple(words),
        aspects=tuple(text.split()[0] for text in words),
        segments=(topic,) * count,
    )


def request_id(at: datetime, number: int) -> str:
    """A UUIDv7 of this time, as routers give them."""
    text = f"{int(at.timestamp() * 1000):012x}"
    return f"{text[:8]}-{text[8:]}-7000-8000-{number:012x}"


@dataclass
class Traffic:
    """Writes served predictions and feedback into a lake."""

    lake: Lake
    seed: int = 0
    written: int = 0
    requests: list[str] = field(default_factory=list)

    def send(
        self,
        window: Window,
        count: int,
        *,
        accuracy: float = 0.85,
        confidence: float | None = None,
        topic: str = "office",
        version: str = "1",
        labelled: float = 0.6,
        arm: str = "champion",
        experiment: str | None = None,
        revision: int = 1,
        shadow: bool = False,
        source: str = "survey",
        units: int | None = None,
        units_of: int | None = None,
        segment: str | None = None,
        redacted: bool = False,
        feedback_at: datetime | None = None,
        probability: float | None = None,
        text: str | None = None,
        slower: float = 1.0,
    ) -> list[str]:
        """Serve so many requests in a window, right as often as `accuracy` says; returns their ids.

        `units_of` is the number (`written`) of an earlier part whose units come back, `probability` the chance that
        the labels were asked for with; `text` is every request's, with a number of its own; `slower` multiplies the
        latency.
        """
        self.written += 1
        rng = np.random.default_rng([self.seed, self.written])
        truth, predicted, scores = scored(rng, count, accuracy)
        if confidence is not None:
            scores[:] = (1.0 - confidence) / 2.0
            scores[np.arange(count), predicted] = confidence
        step = (window.end - window.start) / max(count, 1)
        rows, said, ids = [], [], []
        written = texts(rng, count, topic) if text is None else [f"{text} {i}" for i in range(count)]
        for i, text in enumerate(written):
            at = window.start + i * step
            request = request_id(at, 1_000_000 * self.written + i)
            ids.append(request)
            rows.append(
                {
                    "schema_version": 1,
                    "request_id": request,
                    "at": at,
                    "unit_hash": f"u{units_of or self.written}-{i if units is None else i % units}",
                    "unit_given": True,
                    "segment": segment,
                    "text": None if redacted else text,
                    "aspect": None if redacted else text.split()[0],
                    "label": int(predicted[i]),
                    "scores": scores[i].astype(np.float32).tolist(),
                    "model_version": version,
                    "arm": arm,
                    "experiment": experiment,
                    "revision": revision,
                    "shadow": shadow,
                    "cached": False,
                    "latency_ms": slower * float(rng.gamma(3.0, 2.0)),
                    "replica": "r1",
                }
            )
            if rng.random() < labelled:
                told_at = feedback_at or at + timedelta(seconds=1)
                said.append(_feedback(request, int(truth[i]), told_at, source, probability))
        write_parquet(
            self.lake,
            f"{prediction_prefix(window.start)}r1-{self.written}.parquet",
            pa.Table.from_pylist(rows, schema=PREDICTIONS),
        )
        self.tell(said)
        return ids

    def tell(self, said: list[dict[str, object]]) -> None:
        """Feedback records, by their day."""
        for day in {record["at"].date() for record in said}:  # type: ignore[attr-defined]
            part = [record for record in said if record["at"].date() == day]  # type: ignore[attr-defined]
            self.written += 1
            key = f"{feedback_prefix(part[0]['at'])}r1-{self.written}.parquet"  # type: ignore[arg-type]
            write_parquet(self.lake, key, pa.Table.from_pylist(part, schema=FEEDBACK))

    def label(self, request: str, label: int, at: datetime, source: str = "survey") -> None:
        """One feedback record."""
        self.tell([_feedback(request, label, at, source)])


def _feedback(
    request: str, label: int, at: datetime, source: str, probability: float | None = None
) -> dict[str, object]:
    return {
        "schema_version": 1,
        "request_id": request,
        "label": label,
        "at": at,
        "source": source,
        "sampling_probability": probability,
    }


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    """An empty lake."""
    return FolderLake(tmp_path / "lake")


@pytest.fixture
def traffic(lake: Lake) -> Traffic:
    """Return a writer of served traffic into the lake."""
    return Traffic(lake)


@pytest.fixture
def window() -> Callable[[int], Window]:
    """The k-th window of a minute."""
    return lambda k: Window(start=START + timedelta(minutes=k), end=START + timedelta(minutes=k + 1))


@pytest.fixture
def make() -> Callable[..., Sample]:
    """Samples of so many rows: make(seed, count, accuracy=, topic=, labelled=, shares=)."""
    return sample
