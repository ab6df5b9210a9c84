"""AdamW of torch without torch's compiler, whose import is a third of the processor time of a short training."""

from collections.abc import Callable
from inspect import unwrap
from typing import Any, Final

import torch
from torch.optim import Optimizer

_STEP: Final = unwrap(torch.optim.Adam.step)


class AdamW(torch.optim.AdamW):
    """AdamW whose methods are those of torch without the wrappers around them; results and states are the same.

    The wrappers matter where torch.compile compiles an optimizer, and import it (`torch._dynamo`) wherever it is used.
    """

    add_param_group: Callable[..., Any] = unwrap(Optimizer.add_param_group)
    zero_grad: Callable[..., Any] = unwrap(Optimizer.zero_grad)
    state_dict: Callable[..., Any] = unwrap(Optimizer.state_dict)
    load_state_dict: Callable[..., Any] = unwrap(Optimizer.load_state_dict)

    @torch.no_grad()
    def step(self) -> None:  # type: ignore[override]
        """Make a step with the gradients that the parameters have."""
        _STEP(self)
