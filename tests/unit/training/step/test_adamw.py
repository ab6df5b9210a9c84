"""The lean AdamW beside that of torch."""

import torch

from absa.training.step.adamw import AdamW


def trained(kind: type[torch.optim.AdamW]) -> tuple[list[torch.Tensor], dict[str, object]]:
    """Return the parameters and the state after some steps, the last ones from a loaded state."""
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(8, 4), torch.nn.Linear(4, 2))
    groups = [{"params": [each], "lr": 0.01 * (n + 1)} for n, each in enumerate(model.parameters())]
    optimizer = kind(groups, betas=(0.9, 0.98), eps=1e-6, fused=True)
    for step in range(6):
        if step == 3:
            state = optimizer.state_dict()
            optimizer = kind(groups, betas=(0.9, 0.98), eps=1e-6, fused=True)
            optimizer.load_state_dict(state)
        model(torch.ones(3, 8)).square().sum().backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        assert all(each.grad is None for each in model.parameters())
    return [each.detach() for each in model.parameters()], optimizer.state_dict()


def test_steps_and_states_equal_torch() -> None:
    ours, state = trained(AdamW)
    theirs, their_state = trained(torch.optim.AdamW)
    assert all(torch.equal(one, other) for one, other in zip(ours, theirs, strict=True))
    torch.testing.assert_close(state, their_state, rtol=0, atol=0)
