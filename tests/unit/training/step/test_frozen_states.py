"""Layers that do not learn run once per row, and what learns above them is the same."""

from collections.abc import Iterator

import numpy as np
import pytest
import torch

from absa.inference.tokenization import Template
from absa.modeling.architecture import Architecture, PairClassifier
from absa.training.deadline import Deadline
from absa.training.rows.batches import Batch, Form, move
from absa.training.rows.compose import Composer, Connectors
from absa.training.rows.stream import BatchStream, Position
from absa.training.rows.tokens import TokenRows, join
from absa.training.step.execution import Execution
from absa.training.step.frozen import FrozenStates, capacity_tokens
from absa.training.step.parameters import frozen_layers, parameter_groups
from absa.training.trainer import Trainer
from absa.training.training_settings import TrainingSettings

SIZES = Architecture(layers=3, hidden=32, heads=2, intermediate=64, vocabulary=60, positions=128)
TOP = TrainingSettings(
    train_layers=1, threads=1, batch_tokens=256, max_epochs=3, precision="fp32", device="cpu", learning_rate=1e-3
)  # fmt: skip
ROWS = 80


def rows() -> TokenRows:
    chance = np.random.default_rng(0)
    texts = [chance.integers(10, 59, chance.integers(2, 30)).astype(np.uint16) for _ in range(ROWS)]
    return join(texts, [text[:1] for text in texts], chance.integers(0, 3, ROWS), Template.bert(1, 2))


def model_of(settings: TrainingSettings = TOP) -> PairClassifier:
    torch.manual_seed(0)
    model = PairClassifier(SIZES, dropout=settings.dropout).train()
    assert model.mark is not None
    torch.nn.init.normal_(model.mark, std=0.1)
    parameter_groups(model, settings, new_head=True)
    return model


def execution_of(model: PairClassifier, settings: TrainingSettings = TOP, capacity: int | None = None) -> Execution:
    execution = Execution(
        model, settings, device=torch.device("cpu"), dtype=torch.float32, batch_tokens=256,
        frozen=frozen_layers(model, settings),
    )  # fmt: skip
    if capacity is not None:
        torch.use_deterministic_algorithms(True)  # fills memory that is not set with NaN
        execution.states = FrozenStates(rows=ROWS, width=SIZES.hidden, capacity=capacity)
        torch.use_deterministic_algorithms(False)
    return execution


def passes(count: int) -> Iterator[tuple[int, Batch]]:
    """Batches of some passes over rows of which a part is joined anew in each, and the pass of each batch."""
    compose = Composer(Connectors((np.array([59], np.uint16),), frozenset()), 0.4, 128)
    stream, at = BatchStream(rows(), layout=Form(tokens=256), seed=0, compose=compose), Position()
    for after, _, batch in stream.from_position(at):
        if at.epoch == count:
            return
        yield at.epoch, batch
        at = after


def learned(execution: Execution, model: PairClassifier, batch: Batch) -> tuple[float, torch.Tensor]:
    """Return a batch's loss and all its gradients end to end."""
    loss = float(execution.backward(execution.stage(batch), batch.count))
    found = torch.cat([value.grad.flatten() for value in model.parameters() if value.grad is not None])
    model.zero_grad(set_to_none=True)
    return loss, found


@pytest.mark.parametrize("capacity", [10_000, 300])
@pytest.mark.parametrize("layers", [0, 1, 2])
def test_kept_states_give_equal_loss_and_gradients(layers: int, capacity: int) -> None:
    settings = TrainingSettings.from_json(TOP.to_json() | {"train_layers": layers})
    model = model_of(settings)
    plain, keeping = execution_of(model, settings), execution_of(model, settings, capacity)
    for epoch, batch in passes(3):
        loss, slopes = learned(plain, model, batch)
        kept_loss, kept_slopes = learned(keeping, model, batch)
        exact = epoch == 0  # what is kept is rounded to two bytes
        assert kept_loss == pytest.approx(loss, rel=1e-6 if exact else 2e-4)
        assert (kept_slopes - slopes).norm() < (1e-5 if exact else 2e-3) * slopes.norm()
    assert plain.lower_share == 1.0
    assert keeping.states is not None
    assert 0 < keeping.states.tokens <= capacity
    assert keeping.lower_share < (0.8 if capacity > 1_000 else 1.0)


def test_lower_layers_run_for_new_rows_only() -> None:
    model = model_of()
    execution, seen = execution_of(model, capacity=10_000), np.zeros(ROWS, np.bool_)
    lines: list[int] = []
    model.layers[0].register_forward_pre_hook(lambda _, given: lines.append(len(given[0])))
    for epoch, batch in passes(4):
        lines.clear()
        execution.backward(execution.stage(batch), batch.count)
        assert batch.numbers is not None
        present = batch.index >= 0
        new = present & ((batch.numbers < 0) | ~seen[batch.numbers])
        seen[batch.numbers[present & (batch.numbers >= 0)]] = True
        needed = sum(int(new[line, row]) * int((batch.rows[line] == row).sum()) for line, row in np.argwhere(present))
        assert sum(lines) == -(-needed // 128) or sum(lines) == -(-needed // 128) + 1
        assert epoch > 0 or sum(lines) == len(batch.rows)
    assert seen.all()


def test_moved_rows_fill_fewer_lines() -> None:
    _, batch = next(passes(1))
    wanted = (batch.rows >= 0) & (batch.rows % 3 == 1)
    moved = move(batch.rows, wanted, 16)
    assert moved.before.tolist() == np.flatnonzero(wanted).tolist()
    assert len(set(moved.after.tolist())) == len(moved.after)
    assert moved.lines < len(batch.rows)
    keys = moved.after // batch.rows.shape[1] * 16 + moved.rows
    old = moved.before // batch.rows.shape[1] * 16 + batch.rows.reshape(-1)[moved.before]
    assert len(set(zip(keys.tolist(), old.tolist(), strict=True))) == len(set(keys.tolist())) == len(set(old.tolist()))
    places = np.concatenate([np.diff(moved.after[old == key]) for key in set(old.tolist())])
    assert (places == 1).all()


def test_frozen_layers_drop_nothing_learning_ones_do() -> None:
    settings = TrainingSettings.from_json(TOP.to_json() | {"dropout": 0.5, "r_drop": 1.0})
    model = model_of(settings)
    execution = execution_of(model, settings)
    _, batch = next(passes(1))
    ids, types, line_rows, places = execution.stage(batch).inputs
    one, other = (model.lower_lines(ids, types, line_rows, places, 2) for _ in range(2))
    assert torch.equal(one, other)
    high, low = (model.upper_lines(one, ids, types, line_rows, places, 16, 2) for _ in range(2))
    assert not torch.allclose(high, low)


def test_second_pass_of_r_drop_reuses_frozen_layers() -> None:
    settings = TrainingSettings.from_json(TOP.to_json() | {"dropout": 0.1, "r_drop": 1.0})
    model = model_of(settings)
    calls = [0, 0, 0]
    for number, layer in enumerate(model.layers):
        layer.register_forward_pre_hook(lambda _, __, number=number: calls.__setitem__(number, calls[number] + 1))
    execution = execution_of(model, settings)
    _, batch = next(passes(1))
    execution.backward(execution.stage(batch), batch.count)
    assert calls == [1, 1, 2]


def test_training_of_top_layers_keeps_states_by_row() -> None:
    trainer = Trainer(model_of(), rows(), None, TOP, Deadline.after(1e6))
    result = trainer.run()
    states = trainer._execution.states
    assert states is not None
    assert states.tokens == rows().lengths.sum()
    assert trainer._execution.lower_share == pytest.approx(1 / 3, abs=0.01)
    assert result.rows == 3 * ROWS


@pytest.mark.parametrize("changed", [{"train_layers": None}, {"train_layers": 3}, {"max_epochs": 1.0}])
def test_states_are_kept_only_for_rows_seen_again(changed: dict[str, object]) -> None:
    settings = TrainingSettings.from_json({**TOP.to_json(), "max_epochs": 1.1, **changed})
    trainer = Trainer(model_of(settings), rows(), None, settings, Deadline.after(1e6))
    trainer.run()
    assert trainer._execution.states is None


def test_kept_states_are_bounded_by_memory() -> None:
    sizes = {"width": 384, "rows": 10_000_000, "max_tokens": 128}
    assert capacity_tokens(**sizes, available_bytes=None) * 384 * 2 <= 1e9
    assert capacity_tokens(**sizes, available_bytes=1e9) * 384 * 2 <= 0.25e9
    assert capacity_tokens(width=384, rows=10, max_tokens=128, available_bytes=None) == 1_280
