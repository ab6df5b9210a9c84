"""A batch run forward and backward through the model: how precise, by which kernels, in how many parts."""

from dataclasses import dataclass
from typing import Any, Final

import numpy.typing as npt
import torch
from torch import Tensor

from absa.modeling.head import Classifier
from absa.training.rows.batches import Batch
from absa.training.step.objective import objective
from absa.training.training_settings import TrainingSettings

Inputs = tuple[Tensor, Tensor, Tensor, Tensor]
"""What `Classifier.forward_lines` takes: ids, types, rows and places, each (L, T)."""

_MIN_BATCH_TOKENS: Final = 128


@dataclass(frozen=True)
class Staged:
    """Batch as tensors, in pinned memory where it goes to a GPU: another copy would wait for the GPU's queue."""

    inputs: Inputs
    targets: Tensor  # labels (L, R), or the probability of each label (L, R, labels)
    rows: int
    tokens: int


class Execution:
    """One model on one device, run on parts of batches.

    Attributes:
        batch_tokens: most tokens that are run at once, padding included; falls where memory is too small for them.
    """

    def __init__(
        self,
        model: Classifier,
        settings: TrainingSettings,
        *,
        device: torch.device,
        dtype: torch.dtype,
        batch_tokens: int,
        compiled: bool = False,
    ) -> None:
        self._model, self._settings, self._device, self._dtype = model, settings, device, dtype
        self.batch_tokens = batch_tokens
        # one graph and one shape: kernels are made once, and a step is a few dozen launches
        self._compiled = torch.compile(self.loss, dynamic=False, fullgraph=True) if compiled else None

    def stage(self, batch: Batch) -> Staged:
        """Make ready for `backward`; may be called in another thread."""
        known = batch.labels if batch.targets is None else batch.targets
        arrays = (batch.input_ids, batch.token_types, batch.rows, batch.places)
        ids, types, rows, places = (self._hold(each) for each in arrays)
        return Staged((ids, types, rows, places), self._hold(known), batch.count, batch.tokens)

    def backward(self, batch: Staged, rows_of_step: int) -> Tensor:
        """Add a batch's gradients; gives its share of the step's loss.

        A batch for which the GPU's memory is too small is learned in halves from then on.
        """
        lines, total, done = len(batch.targets), torch.zeros((), device=self._device), 0
        while done < lines:
            some = slice(done, done + max(1, self.batch_tokens // batch.inputs[0].shape[1]))
            try:
                loss = self._loss(*(self._move(each[some]) for each in (*batch.inputs, batch.targets))) / rows_of_step
                loss.backward()  # type: ignore[no-untyped-call]
            except torch.OutOfMemoryError:
                if self.batch_tokens <= _MIN_BATCH_TOKENS:
                    raise
                self.batch_tokens = max(_MIN_BATCH_TOKENS, self.batch_tokens // 2)
                if self._device.type == "cuda":
                    torch.cuda.empty_cache()
                continue
            total += loss.detach()
            done = some.stop
        return total

    def logits(self, batch: Staged) -> Tensor:
        """Return logits (L, R, labels) in fp32 of a batch."""
        ids, types, rows, places = map(self._move, batch.inputs)
        return self._forward((ids, types, rows, places), batch.targets.shape[1])

    def loss(self, input_ids: Tensor, token_types: Tensor, rows: Tensor, places: Tensor, targets: Tensor) -> Tensor:
        """Return the loss summed over the rows of some lines."""
        inputs, most = (input_ids, token_types, rows, places), targets.shape[1]
        return objective(lambda: self._forward(inputs, most).flatten(0, 1), targets.flatten(0, 1), self._settings)

    def _loss(self, *tensors: Tensor) -> Tensor:
        if self._compiled is not None:
            try:
                made: Tensor = self._compiled(*tensors)
                return made
            except torch.OutOfMemoryError:
                raise
            except Exception:  # the compiler has many of its own; a training goes on without it
                self._compiled = None
        return self.loss(*tensors)

    def _forward(self, inputs: Inputs, most: int) -> Tensor:
        with torch.autocast(self._device.type, dtype=torch.bfloat16, enabled=self._dtype == torch.bfloat16):
            logits = self._model.forward_lines(*inputs, most)
        return logits.float()

    def _hold(self, values: npt.NDArray[Any]) -> Tensor:
        tensor = torch.from_numpy(values)
        return tensor.pin_memory() if self._device.type == "cuda" else tensor

    def _move(self, values: Tensor) -> Tensor:
        return values.to(self._device, non_blocking=True)
