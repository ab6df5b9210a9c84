"""Tests of the model's own view of texts, and of drift that is seen in it."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from absa.inference.tokenization import PairTokenizer
from absa.modeling.architecture import Architecture, PairClassifier
from absa.modeling.bases import PACKAGED, find_base
from absa.packaging.export import Float32, export_graph
from monitoring.drift.detect import detect_drift
from monitoring.drift.embedding import ModelEmbedder, embed_sample
from monitoring.drift.sample import Sample

Make = Callable[..., Sample]


@pytest.fixture(scope="module")
def embedder() -> ModelEmbedder:
    import torch

    torch.manual_seed(0)
    sizes = Architecture(layers=1, hidden=16, heads=2, intermediate=32, vocabulary=30_522, positions=128)
    weights = {name: value.numpy() for name, value in PairClassifier(sizes, dropout=0.0).state_dict().items()}
    tokenizer = PairTokenizer.from_file(Path(find_base(PACKAGED)) / "tokenizer.json", 128)
    return ModelEmbedder(export_graph(sizes, weights, Float32()).SerializeToString(), tokenizer)


def test_pair_embedding_is_independent_of_batch(embedder: ModelEmbedder) -> None:
    pairs = [("the app is slow again and again", "app"), ("fine", "fine"), ("great lamp on the desk", "lamp")]
    together = embedder(pairs)
    assert together.shape == (3, 64)
    for pair, found in zip(pairs, together, strict=True):
        np.testing.assert_allclose(embedder([pair])[0], found, atol=1e-4)


def test_only_so_many_rows_are_embedded(make: Make) -> None:
    def ones(pairs: Sequence[tuple[str, str]]) -> np.ndarray:
        return np.ones((len(pairs), 4), dtype=np.float32)

    found = embed_sample(make(1, 300), ones, max_rows=80)
    assert found.embeddings is not None
    assert int(np.isfinite(found.embeddings[:, 0]).sum()) == 80
    redacted = replace(make(1, 300), texts=None)
    assert embed_sample(redacted, ones, max_rows=80).embeddings is None


def embedded(sample: Sample, seed: int, shift: float) -> Sample:
    values = np.random.default_rng(seed).normal(size=(sample.rows, 8)).astype(np.float32)
    values[sample.rows // 2 :] = np.nan
    return replace(sample, embeddings=values + np.float32(shift))


def test_rows_that_the_model_sees_elsewhere_are_found(make: Make) -> None:
    moved = detect_drift(embedded(make(1, 600), 1, 0.0), embedded(make(2, 400), 2, 0.6))
    assert "embedding" in {finding.kind for finding in moved.drifted}
    calm = detect_drift(embedded(make(1, 600), 1, 0.0), embedded(make(2, 400), 2, 0.0))
    assert "embedding" in {finding.kind for finding in calm.findings}
    assert not calm.drifted


def test_too_few_embedded_rows_leave_the_column_out(make: Make) -> None:
    few = embedded(make(2, 60), 2, 0.0)
    report = detect_drift(embedded(make(1, 600), 1, 0.0), few)
    assert "embedding" not in {finding.kind for finding in report.findings}
