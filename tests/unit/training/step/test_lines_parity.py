"""Rows that share lines learn as padded rows do, in one graph without breaks."""

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from torch._dynamo.utils import counters

from absa.inference.tokenization import Template
from absa.modeling.architecture import Architecture, PairClassifier
from absa.task import ABSA, TaskSpec
from absa.training.rows.batches import Form, Plan, assemble
from absa.training.rows.tokens import TokenRows, join
from absa.training.step.execution import Execution, Staged
from absa.training.training_settings import TrainingSettings

SIZES = Architecture(layers=2, hidden=64, heads=2, intermediate=128, vocabulary=60, positions=128)
CPU = torch.device("cpu")
TASKS = [ABSA, TaskSpec(name="tickets", input="text", labels=("a", "b"))]
TOPICS = TaskSpec(name="topics", input="text+topic", labels=("a", "b"))


def rows_of(task: TaskSpec, count: int = 60, seed: int = 0) -> TokenRows:
    """Rows whose aspect is in their text, or without aspects."""
    chance = np.random.default_rng(seed)
    texts = [chance.integers(10, 60, chance.integers(2, 60)).astype(np.uint16) for _ in range(count)]
    aspects = [text[1 : 1 + chance.integers(1, 3)] if task.phrase else text[:0] for text in texts]
    labels = chance.integers(0, task.n_labels, count)
    return join(texts, aspects, labels, Template((1,), (2,) if task.phrase else (), (2,)))


def model_of(task: TaskSpec) -> PairClassifier:
    torch.manual_seed(0)
    model = PairClassifier(SIZES, dropout=0.0, task=task).train()
    if model.mark is not None:
        torch.nn.init.normal_(model.mark, std=0.1)
    return model


def execution_of(model: PairClassifier, dtype: torch.dtype = torch.float32, **more: object) -> Execution:
    settings = TrainingSettings(**more)  # type: ignore[arg-type]
    return Execution(model, settings, device=CPU, dtype=dtype, batch_tokens=65_536)


def gradients(model: PairClassifier) -> dict[str, torch.Tensor]:
    found = {name: value.grad for name, value in model.named_parameters() if value.grad is not None}
    model.zero_grad(set_to_none=True)
    return found


def learned(execution: Execution, batches: Sequence[Staged]) -> float:
    return sum(float(execution.backward(batch, 1)) for batch in batches)


def packed(rows: TokenRows, tokens: int = 1_024) -> list[tuple[Plan, Staged, np.ndarray]]:
    layout, execution = Form(tokens=tokens, full=True), execution_of(model_of(ABSA))
    plans = layout.plan(rows.lengths, np.random.default_rng(0))
    batches = [layout.assemble(rows, plan) for plan in plans]
    return [
        (plan, execution.stage(batch), batch.index) for plan, batch in zip(plans, batches, strict=True)
    ]  # fmt: skip


@pytest.mark.parametrize("task", [*TASKS, TOPICS], ids=lambda task: task.input)
def test_packed_rows_learn_as_padded_rows(task: TaskSpec) -> None:
    rows, model = rows_of(task), model_of(task)
    execution = execution_of(model)
    alone = [execution.stage(assemble(rows, np.arange(start, start + 20))) for start in (0, 20, 40)]
    batches = packed(rows)
    assert max((index >= 0).sum(1).max() for _, _, index in batches) > 2
    with torch.no_grad():
        padded = torch.cat([execution.logits(batch)[:, 0] for batch in alone])
        for plan, batch, index in batches:
            present = index >= 0
            logits = execution.logits(batch)[torch.from_numpy(present)]
            torch.testing.assert_close(logits, padded[plan.rows[index[present]]], atol=1e-5, rtol=1e-5)
    expected_loss = learned(execution, alone)
    expected = gradients(model)
    assert learned(execution, [batch for _, batch, _ in batches]) == pytest.approx(expected_loss, rel=1e-5)
    found = gradients(model)
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, atol=2e-4, rtol=1e-4, msg=lambda text, name=name: name + text)


def test_lines_equal_padded_forward_of_the_model() -> None:
    rows, model = rows_of(ABSA, 20), model_of(ABSA)
    batch = assemble(rows, np.arange(20))
    ids, types, mask = (torch.from_numpy(np.asarray(each)) for each in (batch.input_ids, batch.token_types, batch.mask))
    with torch.no_grad():
        shared = execution_of(model).logits(execution_of(model).stage(batch))[:, 0]
        torch.testing.assert_close(model(ids, types, mask), shared, atol=1e-5, rtol=1e-5)


def test_narrow_residual_stream_keeps_gradients() -> None:
    rows, model = rows_of(ABSA), model_of(ABSA)
    batches = [batch for _, batch, _ in packed(rows)]
    whole = learned(execution_of(model), batches)
    expected = gradients(model)
    assert learned(execution_of(model, torch.bfloat16), batches) == pytest.approx(whole, rel=0.01)
    found = gradients(model)
    off = sum(float((found[name] - value).square().sum()) for name, value in expected.items())
    assert off < 0.05**2 * sum(float(value.square().sum()) for value in expected.values())


def test_residual_stream_is_narrow_and_last_norm_wide() -> None:
    model, seen = model_of(ABSA), []
    for layer in model.layers:
        layer.expand.register_forward_pre_hook(lambda _, given: seen.append(given[0].dtype))
        layer.output_norm.register_forward_hook(lambda _, __, out: seen.append(out.dtype))
    execution = execution_of(model, torch.bfloat16)
    execution.logits(packed(rows_of(ABSA, 9))[0][1])
    assert seen == [torch.bfloat16, torch.float32] * 2


def test_step_is_one_graph_for_every_batch() -> None:
    torch._dynamo.reset()
    counters.clear()
    model = model_of(ABSA)
    execution = execution_of(model, torch.bfloat16)
    compiled = torch.compile(execution.loss, backend="aot_eager", dynamic=False, fullgraph=True)
    batches = [batch for _, batch, _ in packed(rows_of(ABSA), 512)]
    assert len(batches) >= 3
    for batch in batches[:3]:
        expected = execution.loss(*batch.inputs, batch.targets)
        made = compiled(*batch.inputs, batch.targets)
        made.backward()
        torch.testing.assert_close(made, expected, rtol=1e-2, atol=1e-2)
    assert counters["stats"]["unique_graphs"] == 1
    assert not counters["graph_break"]
    assert all(torch.isfinite(value).all() for value in gradients(model).values())
