"""Execution of a batch, forward and backward: precision, kernels, and parts of a batch.

Frozen layers have no dropout. If their output for a row is kept, they run once per row, otherwise in every pass.
"""

from dataclasses import dataclass
from typing import Any, Final

import numpy.typing as npt
import torch
from torch import Tensor

from absa.modeling.head import Classifier
from absa.training.rows.batches import Batch, move
from absa.training.step.frozen import FrozenStates
from absa.training.step.objective import objective
from absa.training.training_settings import TrainingSettings

Inputs = tuple[Tensor, Tensor, Tensor, Tensor]
"""Inputs of `Classifier.forward_lines`: ids, types, rows and places, each (L, T)."""

_MIN_BATCH_TOKENS: Final = 128


@dataclass(frozen=True)
class Staged:
    """Batch as tensors; in pinned memory for a GPU, because an ordinary copy would wait for the GPU's queue."""

    inputs: Inputs
    targets: Tensor  # labels (L, R), or the probability of each label (L, R, labels)
    rows: int
    tokens: int
    numbers: Tensor | None = None  # numbers of the rows in the corpus (L, R), on the CPU


class Execution:
    """One model on one device, run on parts of batches.

    Attributes:
        batch_tokens: largest number of tokens run at once, padding included; reduced if the memory is too small.
        states: output of the frozen layers for rows of earlier passes; None: nothing is kept.
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
        frozen: int = 0,
    ) -> None:
        """Prepare to run batches.

        Args:
            model: model on the device.
            settings: settings of the training.
            device: device of the model and the batches.
            dtype: number format of the products.
            batch_tokens: largest number of tokens run at once.
            compiled: True if kernels are compiled for the step.
            frozen: number of the lowest layers that do not learn; 0 for a model whose layers cannot be run separately.
        """
        self._model, self._settings, self._device, self._dtype = model, settings, device, dtype
        self.batch_tokens, self._frozen = batch_tokens, frozen
        self.states: FrozenStates | None = None
        self._tokens = self._lower_tokens = 0  # counted over batches for which states are kept
        # one graph and one shape: kernels are compiled once, and a step launches few kernels
        self._compiled = torch.compile(self.loss, dynamic=False, fullgraph=True) if compiled else None

    def stage(self, batch: Batch) -> Staged:
        """Prepare a batch for `backward`; may be called in another thread."""
        known = batch.labels if batch.targets is None else batch.targets
        arrays = (batch.input_ids, batch.token_types, batch.rows, batch.places)
        ids, types, rows, places = (self._hold(each) for each in arrays)
        numbers = None if batch.numbers is None else torch.from_numpy(batch.numbers)
        return Staged((ids, types, rows, places), self._hold(known), batch.count, batch.tokens, numbers)

    @property
    def lower_share(self) -> float:
        """Share of the tokens so far for which the frozen layers had to run, 0 to 1."""
        return self._lower_tokens / self._tokens if self._tokens else 1.0

    def backward(self, batch: Staged, rows_of_step: int) -> Tensor:
        """Add the gradients of a batch; return its part of the step's loss.

        If the GPU's memory is too small for a batch, the number of tokens run at once is halved from then on.
        """
        lines, total, done = len(batch.targets), torch.zeros((), device=self._device), 0
        while done < lines:
            some = slice(done, done + max(1, self.batch_tokens // batch.inputs[0].shape[1]))
            try:
                ids, types, rows, places, targets = (self._move(each[some]) for each in (*batch.inputs, batch.targets))
                lower = self._lower((ids, types, rows, places), batch.numbers, some)
                loss = self._loss(ids, types, rows, places, targets, lower=lower) / rows_of_step
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
        """Return the logits (L, R, labels) of a batch in fp32."""
        ids, types, rows, places = map(self._move, batch.inputs)
        return self._forward((ids, types, rows, places), batch.targets.shape[1])

    def loss(
        self, input_ids: Tensor, token_types: Tensor, rows: Tensor, places: Tensor, targets: Tensor, *,
        lower: Tensor | None = None,
    ) -> Tensor:  # fmt: skip
        """Return the sum of the loss over the rows of some lines; `lower` is the output (L, T, H) of frozen layers."""
        inputs, most = (input_ids, token_types, rows, places), targets.shape[1]
        if self._frozen and lower is None:
            lower = self._run_lower(inputs)
        return objective(
            lambda: self._forward(inputs, most, lower).flatten(0, 1), targets.flatten(0, 1), self._settings
        )

    def _loss(self, *tensors: Tensor, lower: Tensor | None) -> Tensor:
        if self._compiled is not None:
            try:
                made: Tensor = self._compiled(*tensors, lower=lower)
                return made
            except torch.OutOfMemoryError:
                raise
            except Exception:  # the compiler raises many kinds of errors; the training continues without it
                self._compiled = None
        return self.loss(*tensors, lower=lower)

    def _lower(self, inputs: Inputs, numbers: Tensor | None, some: slice) -> Tensor | None:
        """Return the output (L, T, H) of the frozen layers, and keep new rows of it; None if nothing is kept."""
        if self.states is None or numbers is None:
            return None
        numbers, (ids, types, rows, places) = numbers[some], inputs
        states, missing = self.states.read(numbers, rows, places)
        self._tokens += int((rows >= 0).sum())
        if missing.any():
            moved = move(rows.numpy(), missing.numpy(), numbers.shape[1])
            before, after = torch.from_numpy(moved.before), torch.from_numpy(moved.after)

            def laid(values: Tensor, nothing: int = 0) -> Tensor:
                lines = values.new_full((moved.lines, rows.shape[1]), nothing)
                lines.view(-1)[after] = values
                return lines

            some_ids, some_types, some_places = (laid(each.flatten()[before]) for each in (ids, types, places))
            made = self._run_lower((some_ids, some_types, laid(torch.from_numpy(moved.rows), -1), some_places))
            states.flatten(0, 1)[before] = made.flatten(0, 1)[after].float()
            self.states.write(numbers, rows, places, states)
            self._lower_tokens += len(before)
        return states

    def _run_lower(self, inputs: Inputs) -> Tensor:
        with torch.no_grad(), self._autocast():
            return self._model.lower_lines(*inputs, self._frozen)

    def _forward(self, inputs: Inputs, most: int, lower: Tensor | None = None) -> Tensor:
        with self._autocast():
            if lower is None:
                logits = self._model.forward_lines(*inputs, most)
            else:
                logits = self._model.upper_lines(lower, *inputs, most, self._frozen)
        return logits.float()

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self._device.type, dtype=torch.bfloat16, enabled=self._dtype == torch.bfloat16)

    def _hold(self, values: npt.NDArray[Any]) -> Tensor:
        tensor = torch.from_numpy(values)
        return tensor.pin_memory() if self._device.type == "cuda" else tensor

    def _move(self, values: Tensor) -> Tensor:
        return values.to(self._device, non_blocking=True)
