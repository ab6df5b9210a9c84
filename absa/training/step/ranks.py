"""Processes that train one model together (torchrun): their parts of a step, and their agreement once per step.

Every process has the same batches, and learns from its own part of the batches of each step. Gradients are summed, so
all processes have the same weights. Once per step they agree on the time, the learning rate and the end: clocks differ,
and if only one process left the loop, the other processes would wait for it.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, distributed, nn

from absa.errors import TransientError


@dataclass(frozen=True)
class Ranks:
    """This process among the processes of the training."""

    rank: int = 0
    world: int = 1
    local_rank: int = 0

    @classmethod
    def from_environment(cls) -> "Ranks":
        """Join the processes of torchrun, with NCCL on GPUs and gloo on CPUs; without torchrun there is one process."""
        world = int(os.environ.get("WORLD_SIZE", "1"))
        if world == 1:
            return cls()
        if not distributed.is_initialized():
            distributed.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
        return cls(distributed.get_rank(), world, int(os.environ.get("LOCAL_RANK", "0")))

    @property
    def leads(self) -> bool:
        """Return True in the process that keeps checkpoints, reports and packages."""
        return self.rank == 0

    def agree(
        self, *, over: bool, missing: bool, stop: bool, progress: float, device: torch.device
    ) -> tuple[bool, bool, bool, float]:
        """Return if any process is out of time, if any lacks rows, if any was stopped, and the progress of rank 0.

        Raises:
            TransientError: another process has ended.
        """
        if self.world == 1:
            return over, missing, stop, progress
        own = [float(over), float(missing), float(stop), progress if self.leads else -1.0]
        shared = torch.tensor(own, device=device)
        self._reduce(shared, distributed.ReduceOp.MAX)
        return bool(shared[0]), bool(shared[1]), bool(shared[2]), float(shared[3])

    def from_leader(self, value: float, device: torch.device) -> float:
        """Return the value of rank 0, which must be positive, so that all processes use the same measured value.

        Raises:
            TransientError: another process has ended.
        """
        if self.world == 1:
            return value
        shared = torch.tensor([value if self.leads else 0.0], device=device, dtype=torch.float64)
        self._reduce(shared, distributed.ReduceOp.MAX)
        return float(shared[0])

    def add_up(self, parameters: Sequence[nn.Parameter], loss: Tensor) -> Tensor:
        """Sum gradients and loss over all processes; return the loss.

        Raises:
            TransientError: another process has ended.
        """
        if self.world == 1:
            return loss
        for parameter in parameters:
            if parameter.grad is None:  # this process had no batch in this step
                parameter.grad = torch.zeros_like(parameter)
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        flat = torch.cat([loss.reshape(1), *(gradient.reshape(-1) for gradient in gradients)])
        self._reduce(flat, distributed.ReduceOp.SUM)
        parts = torch.split(flat[1:], [gradient.numel() for gradient in gradients])
        for gradient, part in zip(gradients, parts, strict=True):
            gradient.copy_(part.view_as(gradient))
        return flat[0]

    def _reduce(self, values: Tensor, operation: "distributed.ReduceOp.RedOpType") -> None:
        try:
            distributed.all_reduce(values, operation)
        except RuntimeError as error:
            raise TransientError("another process of the training ended; start the training again to resume") from error
