"""Windows of traffic drawn from labelled rows, for benchmarks/monitoring/drift.py.

Rows are drawn with replacement from the bundled ones, or from CSV files with text, aspect, label. Scores are drawn so
that a row with confidence c is right with probability c. Embeddings are those of the packaged base model, before any
training, so that nobody needs a trained version to run it.
"""

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from monitoring.drift.sample import Sample, make_sample

SAMPLE = Path(__file__).parents[2] / "absa" / "data" / "sample"
SEGMENTS = ("web", "mobile", "partner")
EMBED_ROWS = 500
"""As many rows a side as a deployment embeds by default."""
CALIBRATION_ROWS = 200


def load(path: Path) -> pl.DataFrame:
    """Rows with text, aspect, label and segment, "" without."""
    rows = pl.read_csv(path).rename(str.lower)
    segment = pl.col("segment") if "segment" in rows.columns else pl.lit("").alias("segment")
    return rows.select("text", "aspect", pl.col("label").cast(pl.Int64), segment.fill_null("")).drop_nulls()


@cache
def base_embedder() -> Any:
    """The embedder of the base model with an untrained head."""
    from absa.inference.tokenization import PairTokenizer
    from absa.modeling.bases import PACKAGED, find_base, load_base
    from absa.packaging.graphs import graph_of
    from absa.packaging.quantize import Int8Products, observe_products
    from monitoring.drift.embedding import ModelEmbedder

    folder = find_base(PACKAGED)
    model, _ = load_base(folder)
    write = graph_of(model.eval())
    tokenizer = PairTokenizer.from_file(folder / "tokenizer.json", 128)
    seen = load(SAMPLE / "feedback.csv").head(CALIBRATION_ROWS).select("text", "aspect").rows()
    graph = write(Int8Products(observe_products(write, tokenizer.encode(seen))))
    return ModelEmbedder(graph.SerializeToString(), tokenizer)


class Traffic:
    """Draws samples from rows of a known and of a new product area."""

    def __init__(self, known: pl.DataFrame, new: pl.DataFrame, *, embed: bool = True) -> None:
        self.rows = pl.concat([known, new])
        self.known, self.new = known.height, new.height
        self.texts = np.array(self.rows["text"].to_list(), dtype=object)
        self.aspects = np.array(self.rows["aspect"].to_list(), dtype=object)
        self.labels = self.rows["label"].to_numpy().astype(np.int64)
        self.embeddings = None
        if embed:
            self.embeddings = base_embedder()(list(zip(self.texts, self.aspects, strict=True)))

    def draw(
        self,
        rng: np.random.Generator,
        count: int,
        *,
        new_share: float = 0.0,
        shares: Sequence[float] | None = None,
        flipped: float = 0.0,
    ) -> Sample:
        """A window. `shares` sets the mix of predicted classes, `flipped` the share of rows whose truth is another."""
        from_new = rng.random(count) < new_share
        rows = np.where(from_new, self.known + rng.integers(self.new, size=count), rng.integers(self.known, size=count))
        predicted = self.labels[rows] if shares is None else rng.choice(3, count, p=shares)
        confidence = np.clip(rng.normal(0.83, 0.1, count), 0.4, 0.99)
        truth = np.where(rng.random(count) < confidence, predicted, (predicted + rng.integers(1, 3, count)) % 3)
        truth = np.where(rng.random(count) < flipped, (truth + rng.integers(1, 3, count)) % 3, truth)
        scores = np.repeat(((1.0 - confidence) / 2.0)[:, None], 3, axis=1)
        scores[np.arange(count), predicted] = confidence
        embeddings = None
        if self.embeddings is not None:
            embeddings = np.full((count, self.embeddings.shape[1]), np.nan, dtype=np.float32)
            embeddings[:EMBED_ROWS] = self.embeddings[rows[:EMBED_ROWS]]
        return make_sample(
            predicted,
            scores,
            truth=truth,
            texts=tuple(self.texts[rows]),
            aspects=tuple(self.aspects[rows]),
            segments=tuple(np.array(SEGMENTS, dtype=object)[rng.choice(3, count, p=[0.6, 0.3, 0.1])]),
            embeddings=embeddings,
        )
