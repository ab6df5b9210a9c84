"""A batch run forward and backward through the model: how precise, by which kernels, in how many parts."""

from functools import partial
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from absa.modeling.architecture import Layer, PairClassifier, Through
from absa.modeling.head import Classifier
from absa.training.rows.batches import Batch
from absa.training.step.objective import objective
from absa.training.training_settings import TrainingSettings

_MIN_BATCH_TOKENS: Final = 128


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
    ) -> None:
        self._model, self._settings, self._device, self._dtype = model, settings, device, dtype
        self.batch_tokens = batch_tokens
        self._compiled = _compiled(model, settings.compiled, device)

    def backward(self, batch: Batch, rows_of_step: int) -> Tensor:
        """Add a batch's gradients; gives its share of the step's loss.

        A batch for which the GPU's memory is too small is learned in halves from then on.
        """
        rows, total, done = len(batch.labels), torch.zeros((), device=self._device), 0
        while done < rows:
            part = np.arange(done, min(rows, done + max(1, self.batch_tokens // batch.input_ids.shape[1])))
            try:
                known = batch.labels if batch.targets is None else batch.targets
                targets = self._move(known[part])
                loss = objective(partial(self.forward, batch, part), targets, self._settings) / rows_of_step
                loss.backward()  # type: ignore[no-untyped-call]
            except torch.OutOfMemoryError:
                if self.batch_tokens <= _MIN_BATCH_TOKENS:
                    raise
                self.batch_tokens = max(_MIN_BATCH_TOKENS, self.batch_tokens // 2)
                if self._device.type == "cuda":
                    torch.cuda.empty_cache()
                continue
            total += loss.detach()
            done += len(part)
        return total

    def forward(self, batch: Batch, index: npt.NDArray[np.int64]) -> Tensor:
        """Return logits (B, labels) in fp32 of some of a batch's rows."""
        whole = len(index) == len(batch.labels)

        def part(values: npt.NDArray[Any]) -> Tensor:
            return self._move(values if whole else values[index])

        mask = None if batch.mask is None else part(batch.mask)
        inputs = (part(batch.input_ids), part(batch.token_types), mask)
        bf16 = torch.autocast(self._device.type, dtype=torch.bfloat16, enabled=self._dtype == torch.bfloat16)
        with bf16:
            if self._compiled is not None and self._model.training:
                try:
                    made: Tensor = self._model(*inputs, through=self._compiled)
                    return made.float()
                except torch.OutOfMemoryError:
                    raise
                except Exception:  # the compiler has many of its own; a training goes on without it
                    self._compiled = None
            logits: Tensor = self._model(*inputs)
        return logits.float()

    def _move(self, values: npt.NDArray[Any]) -> Tensor:
        """Copy an array to the device, from pinned memory: another copy would wait for the GPU's queue."""
        tensor = torch.from_numpy(values)
        if self._device.type == "cuda":
            tensor = tensor.pin_memory()
        return tensor.to(self._device, non_blocking=True)


def _compiled(model: Classifier, wanted: str, device: torch.device) -> Through | None:
    """Return a layer with kernels made for it, the same for every layer and size; None where it runs as it is.

    Layer by layer: the whole model takes twice as long to compile, too much of a short budget.
    """
    if not isinstance(model, PairClassifier) or wanted == "off" or (wanted == "auto" and device.type != "cuda"):
        return None
    return torch.compile(Layer.forward, dynamic=True)
