"""Engine: calibrated scores of the labels for each row, from an int8 ONNX graph on the CPU."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

import numpy as np
import numpy.typing as npt

from absa.errors import IntegrityError
from absa.inference.batching import TOKEN_BUDGET, group_by_length, padded
from absa.inference.package import ModelPackage, load_package
from absa.inference.tokenization import Encoded, ModelInput, PairTokenizer
from absa.task import TaskSpec

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

_Scores = npt.NDArray[np.float32]

_SLOW_FUSION: Final = (
    "SkipLayerNormFusion"  # its CPU kernel takes far longer than Add and LayerNormalization, which it joins
)
WARMUP_TOLERANCE: Final = 0.05  # int8 kernels of other processors round differently; a wrong file differs by far more


class Engine:
    """Scorer of rows with one model package. The name of the version is kept by the caller.

    Safe to use from several threads; a call uses the number of threads given to `load`.
    """

    def __init__(self, package: ModelPackage, tokenizer: PairTokenizer, session: "InferenceSession") -> None:
        self.package = package
        self.tokenizer = tokenizer
        self._session = session
        self._inputs = frozenset(each.name for each in session.get_inputs())

    @classmethod
    def load(cls, source: Path | str | ModelPackage, *, threads: int = 1) -> Self:
        """Load the model of a package.

        Args:
            source: a package, or the folder of a package.
            threads: threads of one forward pass. One process per core with one thread each is fastest on CPU.

        Raises:
            IntegrityError: a file is missing or unreadable, the model is not an ONNX model, or the graph has another
                number of labels than the config.
        """
        import onnxruntime as ort

        package = source if isinstance(source, ModelPackage) else load_package(Path(source))
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.add_session_config_entry("session.inter_op.allow_spinning", "0")
        options.log_severity_level = 3
        try:
            session = ort.InferenceSession(
                str(package.model_path),
                options,
                providers=["CPUExecutionProvider"],
                disabled_optimizers=[_SLOW_FUSION],
            )
        except Exception as error:  # onnxruntime's errors have no common public base
            raise IntegrityError(f"{package.model_path} cannot be loaded: {type(error).__name__}") from error
        task = package.config.task
        scores = session.get_outputs()[0].shape[-1]
        if isinstance(scores, int) and scores != task.n_labels:  # an axis may have a name instead of a size
            raise IntegrityError(
                f"{package.model_path} gives {scores} scores, expected {task.n_labels}, one per label of the config"
            )
        tokenizer = PairTokenizer.from_file(package.tokenizer_path, package.config.max_tokens, task=task)
        return cls(package, tokenizer, session)

    @property
    def task(self) -> TaskSpec:
        """Task of the package; the scores are in the order of its labels."""
        return self.package.config.task

    @property
    def digest(self) -> str:
        """Digest of the package behind the engine."""
        return self.package.digest

    def score(self, pairs: Sequence[ModelInput], *, token_budget: int = TOKEN_BUDGET) -> _Scores:
        """Return the calibrated scores of (text, phrase) pairs; the phrase is None for plain text.

        Returns:
            Probabilities (n, labels) in label order, in the order of the pairs; rows sum to 1.
        """
        return self.score_encoded(self.tokenizer.encode(pairs), token_budget=token_budget)

    def score_encoded(self, rows: Sequence[Encoded], *, token_budget: int = TOKEN_BUDGET) -> _Scores:
        """Return the scores as `score` does, for encoded rows.

        Args:
            rows: result of `tokenizer.encode`.
            token_budget: largest number of tokens of one forward pass, see `group_by_length`.
        """
        scores = np.empty((len(rows), self.task.n_labels), dtype=np.float32)
        for group in group_by_length([row.tokens for row in rows], token_budget):
            scores[group] = self.score_group([rows[index] for index in group])
        return scores

    def score_group(self, rows: Sequence[Encoded]) -> _Scores:
        """Score rows in one forward pass, padded to the longest row; for callers that group rows themselves.

        Returns:
            Probabilities (n, labels) as in `score`.
        """
        feeds = padded(rows)
        logits = self._session.run(None, {name: feeds[name] for name in self._inputs})[0]  # (n, labels)
        return softmax(np.asarray(logits, dtype=np.float32) / np.float32(self.package.temperature))

    def warm_up(self, *, tolerance: float = WARMUP_TOLERANCE) -> int:
        """Score the package's warm-up rows one by one, and compare the scores with those in the package.

        Returns:
            The number of rows.

        Raises:
            IntegrityError: there are no warm-up rows, or a score differs by more than `tolerance`.
        """
        path = self.package.warmup_path
        pairs, expected = self._warmup()
        for number, encoded in enumerate(self.tokenizer.encode(pairs), start=1):
            difference = float(np.abs(self.score_group([encoded])[0] - expected[number - 1]).max())
            if not difference <= tolerance:
                raise IntegrityError(
                    f"{path} row {number}: a score differs by {difference:.3f} from the packaged one, "
                    f"at most {tolerance} is allowed"
                )
        return len(pairs)

    def warmup_pairs(self) -> list[ModelInput]:
        """Return the package's warm-up rows, which are synthetic.

        Raises:
            IntegrityError: the package has no warm-up rows.
        """
        return self._warmup()[0]

    def _warmup(self) -> tuple[list[ModelInput], _Scores]:
        path = self.package.warmup_path
        try:
            rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
            pairs = [(str(row["text"]), None if self.task.phrase is None else str(row["aspect"])) for row in rows]
            expected = np.array([row["scores"] for row in rows], dtype=np.float32).reshape(-1, self.task.n_labels)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise IntegrityError(f"{path} holds no warm-up rows: {type(error).__name__}") from error
        if not pairs:
            raise IntegrityError(f"{path} holds no warm-up rows")
        return pairs, expected


def softmax(logits: _Scores) -> _Scores:
    """Return the softmax over the last axis; stable for large logits."""
    exponentials = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return np.asarray(exponentials / exponentials.sum(axis=-1, keepdims=True), dtype=np.float32)
