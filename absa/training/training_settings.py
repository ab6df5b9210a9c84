"""Settings of a training, saved with the model. Equal settings give equal batches if all passes fit."""

import dataclasses
import json
from dataclasses import dataclass
from typing import Any, Self

from absa.errors import PermanentError


@dataclass(frozen=True, kw_only=True)
class TrainingSettings:
    """Hyperparameters of a training. The defaults were measured with the bundled data, one minute and two cores.

    Attributes:
        base_model: `minilm-l6` (installed with the requirements), a local folder, or a name on the hub.
        layers: number of the base's layers to keep; None: all.
        hidden: width of a student with the base's words and untrained layers; None: the base's width.
        max_tokens: largest number of tokens of a row, special tokens included.
        batch_tokens: number of tokens of a batch, padding included; None: 256 to 1,024 on a CPU, depending on the
            time, and up to 65,536 on a GPU.
        batches_per_step: number of batches of a step, shared among the processes; None: one per process.
        learning_rate: peak learning rate of the last layer.
        head_learning_rate: peak learning rate of a new head. After a warm start, the head has `learning_rate`.
        label_smoothing: share of a label's weight that is spread over all labels.
        r_drop: weight of the disagreement between two passes with different dropout; needs `dropout`.
        dropout: share of units dropped in the encoder and before the head.
        max_epochs: number of passes after which the training stops, even if time is left.
        ema_horizon: the averaged model looks back over this share of the steps so far.
        train_layers: number of layers that learn, from the top; None: all. Lower layers do not change, have no dropout
            and take a third of the time; on a CPU they take no time for rows of earlier passes.
        train_words: True if the word embeddings learn; frozen embeddings take no time and forget nothing.
        compose_share: share of rows that are joined with another text, so that the aspect decides (see compose.py);
            not used if the task has no aspects.
        contrast_share: number of rows of contrast sets (contrast.py) per row; only for sentiment labels.
        warm_start: folder of weights to start from instead of the base model.
        precision: auto (measured), fp32 or bf16.
        compiled: use of torch.compile for the step: on, off, or auto (on a GPU if at least two minutes are left).
        device: auto, cpu or cuda.
        threads: number of threads of one process; None: all cores that the process may use.
        checkpoint_every_s: least time between two checkpoints in seconds; checkpoints never take more than 4 % of the
            time.
        seed: seed of all random numbers.
    """

    base_model: str = "minilm-l6"
    layers: int | None = None
    hidden: int | None = None
    max_tokens: int = 128
    batch_tokens: int | None = None
    batches_per_step: int | None = None
    learning_rate: float = 1e-4
    head_learning_rate: float = 2e-3
    label_smoothing: float = 0.0
    r_drop: float = 0.0
    dropout: float = 0.0
    max_epochs: float = 6.0
    ema_horizon: float = 0.1
    train_layers: int | None = None
    train_words: bool = False
    compose_share: float = 0.3
    contrast_share: float = 0.0
    warm_start: str | None = None
    precision: str = "auto"
    compiled: str = "auto"
    device: str = "auto"
    threads: int | None = None
    checkpoint_every_s: float = 5.0
    seed: int = 0

    def __post_init__(self) -> None:
        for name, allowed in (
            ("precision", ("auto", "fp32", "bf16")),
            ("device", ("auto", "cpu", "cuda")),
            ("compiled", ("auto", "on", "off")),
        ):
            value = getattr(self, name)
            if value not in allowed:
                raise PermanentError(f"{name}: expected one of {', '.join(allowed)}, got {value!r}")
        for name in ("learning_rate", "head_learning_rate", "max_epochs", "batch_tokens", "max_tokens"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise PermanentError(f"{name}: expected a value above 0, got {value}")
        for name in ("label_smoothing", "dropout", "compose_share", "contrast_share"):
            if not 0 <= getattr(self, name) < 1:
                raise PermanentError(f"{name}: expected 0 or more and below 1, got {getattr(self, name)}")
        if self.train_layers is not None and self.train_layers < 0:
            raise PermanentError(f"train_layers: expected 0 or more, got {self.train_layers}")
        if not self.r_drop >= 0:
            raise PermanentError(f"r_drop: expected 0 or more, got {self.r_drop}")
        if self.r_drop and not self.dropout:
            raise PermanentError("r_drop compares two passes that drop different units: set dropout too")
        if not 8 <= self.max_tokens <= 512:
            raise PermanentError(f"max_tokens: expected 8 to 512, got {self.max_tokens}")

    def to_json(self) -> dict[str, Any]:
        """Return all settings as JSON values."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Self:
        """Return settings from JSON values; missing settings have their defaults.

        Raises:
            PermanentError: a name is unknown, or a value is out of range.
        """
        known = {field.name for field in dataclasses.fields(cls)}
        unknown = sorted(values.keys() - known)
        if unknown:
            raise PermanentError(
                f"training settings: expected some of {', '.join(sorted(known))}, got {', '.join(unknown)}"
            )
        try:
            return cls(**values)
        except TypeError as error:
            raise PermanentError(f"a training setting has the wrong type: {json.dumps(values)}") from error
