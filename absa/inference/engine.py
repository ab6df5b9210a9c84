"""The engine: calibrated scores of the labels for each row, from an int8 ONNX graph on one CPU thread."""

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
    "SkipLayerNormFusion"  # its CPU kernel takes far longer than the Add and LayerNormalization it joins
)
WARMUP_TOLERANCE: Final = 0.05  # int8 kernels of other processors round otherwise; a wrong file is off by far more


class Engine:
    """Scores rows with one model version. It does not know which version: the caller does.

    Safe to use from several threads; a call uses the number given to `load`.
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
            source: a package, or the folder of one.
            threads: threads of one forward pass. One process per core with one thread each is fastest on CPU.

        Raises:
            IntegrityError: a file is missing, unreadable or no model, or the graph has another number of labels than
                the config.
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
        except Exception as error:  # onnxruntime's errors share no public base
            raise IntegrityError(f"{package.model_path} cannot be loaded: {type(error).__name__}") from error
        task = package.config.task
        scores = session.get_outputs()[0].shape[-1]
        if isinstance(scores, int) and scores != task.n_labels:  # an axis may have a name instead of a number
            raise IntegrityError(
                f"{package.model_path} gives {scores} scores, expected {task.n_labels}, one per label of the config"
            )
        tokenizer = PairTokenizer.from_file(package.tokenizer_path, package.config.max_tokens, task=task)
        return cls(package, tokenizer, session)

    @property
    def task(self) -> TaskSpec:
        """Task of the package: its labels are those of the scores."""
        return self.package.config.task

    @property
    def digest(self) -> str:
        """Digest of the package behind the engine."""
        return self.package.digest

    def score(self, pairs: Sequence[ModelInput], *, token_budget: int = TOKEN_BUDGET) -> _Scores:
        """Calibrated scores of (text, aspect or topic) pairs; the second is None for plain text.

        Returns:
            Probabilities (n, labels) in label order, in the order of the pairs; rows sum to 1.
        """
        return self.score_encoded(self.tokenizer.encode(pairs), token_budget=token_budget)

    def score_encoded(self, rows: Sequence[Encoded], *, token_budget: int = TOKEN_BUDGET) -> _Scores:
        """As `score`, for rows that are encoded already.

        Args:
            rows: what `tokenizer.encode` gave.
            token_budget: most tokens of one forward pass, see `group_by_length`.
        """
        scores = np.empty((len(rows), self.task.n_labels), dtype=np.float32)
        for group in group_by_length([row.tokens for row in rows], token_budget):
            scores[group] = self.score_group([rows[index] for index in group])
        return scores

    def score_group(self, rows: Sequence[Encoded]) -> _Scores:
        """Score rows in one forward pass, padded to the longest of them: for a caller that has grouped them already.

        Returns:
            Probabilities (n, labels) as in `score`.
        """
        feeds = padded(rows)
        logits = self._session.run(None, {name: feeds[name] for name in self._inputs})[0]  # (n, labels)
        return softmax(np.asarray(logits, dtype=np.float32) / np.float32(self.package.temperature))

    def warm_up(self, *, tolerance: float = WARMUP_TOLERANCE) -> int:
        """Score the package's warm-up rows one by one, and check them against the scores that they were packaged with.

        Returns:
            How many rows were scored.

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
            IntegrityError: there are none.
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
    """Softmax over the last axis, stable for large logits."""
    exponentials = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return np.asarray(exponentials / exponentials.sum(axis=-1, keepdims=True), dtype=np.float32)
