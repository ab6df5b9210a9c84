"""Simulated customers of the demo and the command line. Their texts are bundled, or come from a user's file."""

from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import polars as pl

from absa.config_file import is_demo_home
from absa.data.bundled import BUNDLED, BundledSample, bundled_traffic, file_traffic, split_file
from absa.data.mapping import DEFAULT_MAPPING, DataMapping
from absa.data.read import read_examples
from absa.data.snapshot import latest_manifest, load_side, manifests
from absa.data.traffic.feedback_habits import FeedbackHabits
from absa.data.traffic.known_drift import Drift, drift_of
from absa.data.traffic.pool_traffic import PoolTraffic, SimulatedRequest
from absa.data.traffic.row_pool import known_texts
from absa.errors import InvalidDataError, PermanentError
from absa.records.schema import SIDES
from flows.platform.services import Services

DEMO_FEEDBACK = FeedbackHabits(answer_rate_right=0.8, delay_mean_s=0.8)
DEMO_DRIFT_SHARE = 0.8


class Stream(Protocol):
    """Data of a demo: rows to ingest, and customers with other texts than these."""

    drift_sentence: str

    def write_ingest(self, file: Path) -> Path:
        """Return the file that the first training ingests. A stream may write it to `file`."""

    def customers(self, services: Services) -> PoolTraffic:
        """Return an endless stream of requests; its method `switch` makes it drift."""

    def drift(self) -> Drift:
        """Return the drift of this stream, for `switch`."""


class BundledStream:
    """Bundled sample; it drifts to a new product area with a vocabulary of its own."""

    def __init__(self, sample: BundledSample) -> None:
        self._sample = sample
        self.drift_sentence = f"{DEMO_DRIFT_SHARE:.0%} of it comes from {sample.new_area_in_words}."

    def write_ingest(self, file: Path) -> Path:
        """Return the bundled file."""
        del file
        return self._sample.ingested

    def customers(self, services: Services) -> PoolTraffic:
        """Return customers over the bundled pool."""
        return bundled_traffic(self._sample, seed=_seed(services), feedback=DEMO_FEEDBACK, avoid=ingested(services))

    def drift(self) -> Drift:
        """Return the new area."""
        return Drift(new_area_share=DEMO_DRIFT_SHARE)


class OwnStream:
    """User's file: some rows are ingested, the others are sent as traffic.

    Args:
        data: CSV, JSONL or Parquet with text, aspect, label and optionally segment.
        drift_file: rows that the traffic drifts to; None: the user's own rows with new words and changed meanings.
        mapping: task, and columns of the files.

    Raises:
        InvalidDataError: a file is invalid, or has too few texts.
    """

    def __init__(self, data: Path, drift_file: Path | None, mapping: DataMapping = DEFAULT_MAPPING) -> None:
        self._mapping = mapping
        self._ingest, self._held_back = split_file(data, mapping=mapping)
        self._drift_file = drift_file
        if drift_file is not None:
            read_examples(drift_file, mapping=mapping)
        if not self._held_back.height or not self._ingest.height:
            raise InvalidDataError(
                f"{data} has too few texts: the demo needs some for the training and others for the traffic"
            )
        self.drift_sentence = (
            f"{DEMO_DRIFT_SHARE:.0%} of it comes from {drift_file.name}."
            if drift_file is not None
            else f"all texts get new words, and a third of the {mapping.task.phrase or 'label'}s change their meaning."
        )

    def write_ingest(self, file: Path) -> Path:
        """Write the rows for the training to a CSV file. It has the names of the labels, which are always valid."""
        names = pl.col("label").replace_strict(dict(enumerate(self._mapping.task.labels)), return_dtype=pl.String)
        self._ingest.select(*self._mapping.inputs, names, "segment").write_csv(file)
        return file

    def customers(self, services: Services) -> PoolTraffic:
        """Return customers over the rows for the traffic."""
        return file_traffic(
            self._held_back,
            self._drift_file,
            seed=_seed(services),
            feedback=DEMO_FEEDBACK,
            avoid=ingested(services),
            mapping=self._mapping,
        )

    def drift(self) -> Drift:
        """Return a drift to the rows of the other file, or a drift of words and meanings."""
        if self._drift_file is not None:
            return Drift(new_area_share=DEMO_DRIFT_SHARE)
        return Drift(vocabulary_share=1.0, concept_share=0.35)


def ingested(services: Services) -> frozenset[int]:
    """Return the keys of all texts in the newest snapshot, which customers must not send."""
    manifest = latest_manifest(services.lake)
    if manifest is None:
        return frozenset()
    return known_texts([load_side(services.lake, manifest.digest, side) for side in SIDES])


def _seed(services: Services) -> int:
    """Return the number of the ledger's head as a seed: the same history gives the same stream."""
    head = services.ledger.head()
    return head.number if head else 0


def refuse_real_data(services: Services) -> None:
    """Refuse a home with a user's own rows: feedback on sample texts would train its model.

    Raises:
        PermanentError: the lake holds rows of a file that is not bundled, and no demo made the home.
    """
    if is_demo_home(services.settings.root):
        return
    bundled = {file.parts[-3:] for each in BUNDLED.values() for file in (each.ingested, each.traffic, each.new_area)}
    files = (Path(str(source["uri"])) for manifest in manifests(services.lake) for source in manifest.sources)
    if theirs := next((file for file in files if file.suffix and file.parts[-3:] not in bundled), None):
        raise PermanentError(
            f"{services.settings.root} holds rows of {theirs}: simulated customers would send sample texts, and your "
            "model would learn from their feedback; use the home of a demo (EVERGREEN_HOME), or --force"
        )


def named_customers(services: Services, *, drift: str, strength: float, seed: int | None) -> Iterator[SimulatedRequest]:
    """Return customers over the bundled pool with a named drift, for the command line.

    Raises:
        PermanentError: the drift is unknown, the strength is not in 0 to 1, or the task has no bundled rows.
    """
    task = services.settings.task
    sample = next((each for each in BUNDLED.values() if each.task == task), None)
    if sample is None:
        raise PermanentError(
            f"simulated customers have texts for the tasks {', '.join(BUNDLED)} only; the task of this home is "
            f"{task.describe()}: send requests of your own"
        )
    try:
        chosen = drift_of(drift, strength, n_labels=task.n_labels)
    except ValueError as error:
        raise PermanentError(str(error)) from None
    chosen_seed = seed if seed is not None else _seed(services)
    return bundled_traffic(sample, seed=chosen_seed, drift=chosen, feedback=FeedbackHabits(), avoid=ingested(services))
