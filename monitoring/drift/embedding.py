"""Embeddings of a text and its aspect: the input of the model's last layer."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from absa.errors import IntegrityError
from absa.inference.batching import group_by_length, padded
from absa.inference.tokenization import Encoded, PairTokenizer
from monitoring.drift.sample import Sample

Embeddings = npt.NDArray[np.float32]
Embedder = Callable[[Sequence[tuple[str, str | None]]], Embeddings]
"""(text, aspect, topic or None) pairs to embeddings (n, d)."""

_LOGITS: Final = "logits"


class ModelEmbedder:
    """Embeds pairs by the input of a packaged model's last layer (means of the text, the aspect and its mention)."""

    def __init__(self, model: bytes, tokenizer: PairTokenizer) -> None:
        """Load a graph that `absa.packaging.export` wrote.

        Raises:
            IntegrityError: the graph has no classifier at its end.
        """
        import onnxruntime as ort

        session_options = ort.SessionOptions()
        session_options.intra_op_num_threads = session_options.inter_op_num_threads = 1
        session_options.log_severity_level = 3
        graph, self._output = _with_last_layer_shown(model)
        self._session = ort.InferenceSession(graph, session_options, providers=["CPUExecutionProvider"])
        self._tokenizer = tokenizer

    @classmethod
    def load(cls, model: Path, tokenizer: Path, max_tokens: int) -> "ModelEmbedder":
        """Load the embedder of a package's files."""
        return cls(model.read_bytes(), PairTokenizer.from_file(tokenizer, max_tokens))

    def __call__(self, pairs: Sequence[tuple[str, str | None]]) -> Embeddings:
        """Return embeddings (n, d) in the order of the pairs."""
        rows = self._tokenizer.encode(pairs)
        found: list[Any] = [None] * len(rows)
        for group in group_by_length([row.tokens for row in rows]):
            for index, embedding in zip(group, self._embed([rows[k] for k in group]), strict=True):
                found[index] = embedding
        return np.array(found, dtype=np.float32)

    def _embed(self, rows: Sequence[Encoded]) -> Embeddings:
        return np.asarray(self._session.run([self._output], padded(rows))[0], dtype=np.float32)


def embed_sample(sample: Sample, embedder: Embedder | None, *, max_rows: int, seed: int = 0) -> Sample:
    """Return the sample with embeddings of at most `max_rows` random rows; unchanged without texts."""
    if embedder is None or sample.texts is None or sample.aspects is None or sample.rows == 0 or max_rows == 0:
        return sample
    chosen = np.arange(sample.rows)
    if sample.rows > max_rows:
        chosen = np.sort(np.random.default_rng(seed).choice(sample.rows, max_rows, replace=False))
    paired = sample.task.phrase is not None
    found = embedder([(sample.texts[i], sample.aspects[i] if paired else None) for i in chosen])
    embeddings = np.full((sample.rows, found.shape[1]), np.nan, dtype=np.float32)
    embeddings[chosen] = found
    return replace(sample, embeddings=embeddings)


def _with_last_layer_shown(model: bytes) -> tuple[bytes, str]:
    import onnx

    graph = onnx.load_from_string(model)
    last = [node for node in graph.graph.node if _LOGITS in node.output]
    if not last:
        raise IntegrityError(f"the model's graph has no output {_LOGITS!r}")
    name = str(last[0].input[0])
    graph.graph.output.append(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None))
    return graph.SerializeToString(), name
