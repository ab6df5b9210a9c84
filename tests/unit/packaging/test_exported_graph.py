"""The written ONNX graph gives what the model gives."""

import numpy as np
import onnxruntime as ort
import pytest
import torch
from onnx import numpy_helper

from absa.inference.tokenization import Encoded
from absa.modeling.architecture import Architecture, PairClassifier
from absa.packaging.export import INPUTS, Float32, Linear, export_graph
from absa.packaging.graphs import graph_of
from absa.packaging.quantize import Int8Products, observe_products, symmetric
from absa.task import ABSA, InputForm, TaskSpec

SIZES = Architecture(layers=2, hidden=32, heads=4, intermediate=64, vocabulary=200, positions=64)


def classifier(task: TaskSpec = ABSA) -> PairClassifier:
    torch.manual_seed(0)
    model = PairClassifier(SIZES, dropout=0.0, task=task)
    if model.mark is not None:
        torch.nn.init.normal_(model.mark)
    torch.nn.init.normal_(model.classifier.weight, std=0.3)
    return model.eval()


@pytest.fixture(scope="module")
def model() -> PairClassifier:
    return classifier()


def session(model: PairClassifier, linear: Linear) -> ort.InferenceSession:
    weights = {name: value.numpy() for name, value in model.state_dict().items()}
    graph = export_graph(model.architecture, weights, linear)
    return ort.InferenceSession(graph.SerializeToString(), providers=["CPUExecutionProvider"])


def int8(model: PairClassifier) -> Int8Products:
    """The int8 products of a model, with scales from twenty rows."""
    given = feeds(20, 17)
    rows = [
        Encoded(ids[mask == 1].astype(np.uint16), types[mask == 1].astype(np.uint8))
        for ids, mask, types in zip(*(given[name] for name in INPUTS), strict=True)
    ]
    return Int8Products(observe_products(graph_of(model), rows))


def feeds(rows: int, tokens: int) -> dict[str, np.ndarray]:
    chance = np.random.default_rng(rows * 100 + tokens)
    ids = chance.integers(3, 100, (rows, tokens))
    types, mask = np.zeros_like(ids), np.ones_like(ids)
    types[:, -4:] = 1
    ids[:, 1] = ids[:, -3]
    ids[:, -5] = ids[:, -1] = 102
    if rows > 1:
        ids[1:, -1] = types[1:, -1] = mask[1:, -1] = 0
        ids[1:, -2] = 102
    return dict(zip(INPUTS, (ids, mask, types), strict=True))


def reference(model: PairClassifier, given: dict[str, np.ndarray]) -> np.ndarray:
    ids, mask, types = (torch.from_numpy(given[name]) for name in INPUTS)
    with torch.no_grad():
        return model(ids, types, mask.bool()).numpy()


@pytest.mark.parametrize(("rows", "tokens"), [(1, 6), (1, 64), (5, 17), (32, 9)])
def test_float_graph_equals_model_for_each_shape(model: PairClassifier, rows: int, tokens: int) -> None:
    given = feeds(rows, tokens)
    out = session(model, Float32()).run(None, given)[0]
    np.testing.assert_allclose(out, reference(model, given), atol=2e-5)


@pytest.mark.parametrize("form", ["text", "text+topic", "text+aspect"])
def test_graph_of_another_task_equals_its_model(form: InputForm) -> None:
    model = classifier(TaskSpec(name="tickets", input=form, labels=("a", "b", "c", "d", "e")))
    given = feeds(5, 17)
    if form == "text":
        given["token_type_ids"][:] = 0
    out = session(model, Float32()).run(None, given)[0]
    assert out.shape == (5, 5)
    np.testing.assert_allclose(out, reference(model, given), atol=2e-5)
    assert np.mean(session(model, int8(model)).run(None, given)[0].argmax(1) == out.argmax(1)) >= 0.8


def test_int8_graph_is_near_model_and_smaller(model: PairClassifier) -> None:
    given = feeds(32, 17)
    out = session(model, int8(model)).run(None, given)[0]
    expected = reference(model, given)
    assert np.abs(out - expected).mean() < 0.02 * expected.std()
    assert np.mean(out.argmax(1) == expected.argmax(1)) >= 0.95
    weights = {name: value.numpy() for name, value in model.state_dict().items()}
    small, large = (export_graph(SIZES, weights, linear).ByteSize() for linear in (int8(model), Float32()))
    assert small < 0.55 * large


def test_row_score_is_independent_of_batch(model: PairClassifier) -> None:
    given = feeds(32, 17)
    running = session(model, int8(model))
    together = running.run(None, given)[0]
    alone = [running.run(None, {name: value[k : k + 1] for name, value in given.items()})[0][0] for k in range(32)]
    np.testing.assert_allclose(together, alone, atol=1e-5)


def test_byte_products_fit_16_bits_on_every_processor(model: PairClassifier) -> None:
    weights = {name: value.numpy() for name, value in model.state_dict().items()}
    graph = export_graph(SIZES, weights, int8(model)).graph
    held = {each.name: numpy_helper.to_array(each) for each in graph.initializer}
    multiplied = [held[node.input[1]] for node in graph.node if node.op_type == "MatMulIntegerToFloat"]
    assert len(multiplied) == 4 * SIZES.layers
    assert max(np.abs(weight.astype(int)).max() for weight in multiplied) * 255 * 2 < 2**15


def test_matrix_rows_are_off_by_half_step() -> None:
    matrix = np.random.default_rng(0).normal(size=(20, 50)) * np.logspace(-3, 3, 20)[:, None]
    quantised, scale = symmetric(matrix, 127)
    assert np.all(np.abs(quantised * scale[:, None] - matrix) <= 0.5 * scale[:, None] * 1.001)


def test_a_row_of_zeros_stays_zero() -> None:
    quantised, scale = symmetric(np.zeros((2, 3)), 64)
    assert not quantised.any()
    assert np.isfinite(scale).all()
