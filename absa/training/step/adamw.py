"""AdamW of torch without torch's compiler, whose import takes a third of a short training's processor time."""

from collections.abc import Callable
from inspect import unwrap
from typing import Any, Final

import torch
from torch.optim import Optimizer

_STEP: Final = unwrap(torch.optim.Adam.step)


class AdamW(torch.optim.AdamW):
    """AdamW with torch's methods without their wrappers; results and states are the same.

    The wrappers are only needed if torch.compile compiles an optimizer, but they always import the compiler
    (`torch._dynamo`).
    """

    add_param_group: Callable[..., Any] = unwrap(Optimizer.add_param_group)
    zero_grad: Callable[..., Any] = unwrap(Optimizer.zero_grad)
    state_dict: Callable[..., Any] = unwrap(Optimizer.state_dict)
    load_state_dict: Callable[..., Any] = unwrap(Optimizer.load_state_dict)

    @torch.no_grad()
    def step(self) -> None:  # type: ignore[override]
        """Make a step with the gradients of the parameters."""
        _STEP(self)
