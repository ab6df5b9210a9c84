"""ONNX graph of any classifier: written for the fast path (export.py), traced from torch for other encoders.

The tracer of torch.onnx needs no further packages; the newer exporter needs two. A traced graph multiplies in float32.
This module finds its products with weight matrices and its look-ups of words, and replaces them by nodes of a `Linear`.
So int8 is the same for every encoder.
"""

import tempfile
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch
from torch import Tensor, nn

from absa.errors import PermanentError
from absa.modeling.architecture import PairClassifier
from absa.modeling.head import Classifier
from absa.packaging.export import INPUTS, OUTPUT_NAME, Array, GraphWriter, Linear, export_graph

if TYPE_CHECKING:
    import onnx

WriteGraph = Callable[[Linear], "onnx.ModelProto"]
"""Function that returns a model's graph, with products and look-ups of a `Linear`."""

_OPSET: Final = 17
_IR_VERSION: Final = 9
_TRACED: Final = (2, 11)  # rows and tokens of the traced example
_CHECKED: Final = ((1, 6), (2, 11), (3, 40))  # shapes on which the graph is compared with the model
_TOLERANCE: Final = 1e-3  # largest difference of a logit
_SMALLEST: Final = 8  # smaller matrices stay in float32


def graph_of(model: Classifier) -> WriteGraph:
    """Return a function that writes a model's graph, with the inputs `INPUTS` and the output `logits`.

    Args:
        model: model in fp32 on the CPU, in evaluation mode. An encoder of transformers is switched to eager attention.

    Raises:
        PermanentError: a traced graph returns other logits than the model.
    """
    if isinstance(model, PairClassifier):
        weights = {name: value.detach().float().cpu().numpy() for name, value in model.state_dict().items()}
        return partial(export_graph, model.architecture, weights)
    return partial(with_products, _traced(model))


class _Positional(nn.Module):
    """Classifier with inputs in the order of `INPUTS`."""

    def __init__(self, model: Classifier) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor) -> Tensor:
        logits: Tensor = self.model(input_ids, token_type_ids, attention_mask.bool())
        return logits


def _traced(model: Classifier) -> "onnx.ModelProto":
    """Trace a classifier with an encoder of transformers, and compare the graph with the classifier."""
    import onnx

    encoder: Any = model.encoder
    encoder.set_attn_implementation("eager")  # fused kernels have no ONNX operator
    positional = _Positional(model).eval()
    with tempfile.TemporaryDirectory() as scratch, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # sizes may become constants: `_compare` would find such errors
        torch.onnx.export(
            positional,
            _example(model, *_TRACED),
            Path(scratch) / "traced.onnx",
            dynamo=False,
            opset_version=_OPSET,
            input_names=list(INPUTS),
            output_names=[OUTPUT_NAME],
            dynamic_axes={name: {0: "rows", 1: "tokens"} for name in INPUTS} | {OUTPUT_NAME: {0: "rows"}},
        )
        traced = onnx.load(Path(scratch) / "traced.onnx")
    _compare(positional, model, traced.SerializeToString())
    return traced


def _example(model: Classifier, rows: int, tokens: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return inputs: rows of a text and an aspect in it; all rows but the first are padded."""
    chance = torch.Generator().manual_seed(rows * tokens)
    ids = torch.randint(model.architecture.vocabulary, (rows, tokens), generator=chance)
    mask, types = torch.ones_like(ids), torch.zeros_like(ids)
    types[:, -3:] = 1
    ids[:, 1] = ids[:, -3]
    mask[1:, -1] = types[1:, -1] = ids[1:, -1] = 0
    return ids, mask, types


def _compare(positional: nn.Module, model: Classifier, graph: bytes) -> None:
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    session = ort.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    taken = {each.name for each in session.get_inputs()}
    for shape in _CHECKED:
        example = _example(model, *shape)
        with torch.no_grad():
            expected = positional(*example).numpy()
        given = {name: value.numpy() for name, value in zip(INPUTS, example, strict=True) if name in taken}
        difference = float(np.abs(session.run(None, given)[0] - expected).max())
        if not difference <= _TOLERANCE:
            raise PermanentError(
                f"the ONNX graph differs from the model by {difference:.2g} for {shape[0]} rows of {shape[1]} tokens, "
                f"at most {_TOLERANCE:g} is allowed: this encoder cannot be served"
            )


def with_products(traced: "onnx.ModelProto", linear: Linear) -> "onnx.ModelProto":
    """Return a traced graph in which a `Linear` has written the matrix products and look-ups of words.

    Args:
        traced: traced graph; not changed.
        linear: writer of `x @ weight.T + bias` for each weight matrix that is multiplied with tokens.
    """
    from onnx import TensorProto, helper, numpy_helper

    graph = traced.graph
    constants = {each.name: each for each in graph.initializer}
    of_tokens = _of_tokens(graph)
    users: dict[str, list[Any]] = {}
    for node in graph.node:
        for name in node.input:
            users.setdefault(name, []).append(node)
    writer, waiting = GraphWriter(), dict[str, tuple[str, Array, Array]]()
    for node in graph.node:
        name = str(node.output[0])
        if name in waiting:
            x, weight, bias = waiting[name]
            linear.multiply(writer, name, x, weight, bias)
        elif _is_look_up(node, constants):
            linear.look_up(writer, name, node.input[1], numpy_helper.to_array(constants[node.input[0]]))
        elif not _is_product(node, constants, of_tokens):
            writer.nodes.append(node)
        else:
            weight = numpy_helper.to_array(constants[node.input[1]]).T
            added = _bias_of(users.get(name, ()), name, constants, len(weight))
            if added is None:
                linear.multiply(writer, name, node.input[0], weight, np.zeros(len(weight), np.float32))
            else:
                end, other = added
                waiting[end] = (node.input[0], weight, numpy_helper.to_array(constants[other]))
    used = {name for node in writer.nodes for name in node.input}
    kept = [each for name, each in constants.items() if name in used]
    inputs = [helper.make_tensor_value_info(name, TensorProto.INT64, ["rows", "tokens"]) for name in INPUTS]
    model = helper.make_model(
        helper.make_graph(writer.nodes, "evergreen", inputs, list(graph.output), [*kept, *writer.constants]),
        opset_imports=[helper.make_opsetid("", _OPSET), helper.make_opsetid("com.microsoft", 1)],
        producer_name="evergreen",
    )
    model.ir_version = _IR_VERSION
    return model


def _of_tokens(graph: Any) -> set[str]:
    """Return the names of values that depend on the content of the inputs, not only on their shape."""
    found = set(INPUTS)
    for node in graph.node:
        if node.op_type != "Shape" and any(name in found for name in node.input):
            found.update(node.output)
    return found


def _is_product(node: Any, constants: dict[str, Any], of_tokens: set[str]) -> bool:
    if node.op_type != "MatMul" or node.input[0] not in of_tokens or node.input[1] not in constants:
        return False
    sides = constants[node.input[1]].dims
    return len(sides) == 2 and min(sides) >= _SMALLEST


def _is_look_up(node: Any, constants: dict[str, Any]) -> bool:
    return bool(node.op_type == "Gather" and node.input[0] in constants and node.input[1] == INPUTS[0])


def _bias_of(users: Sequence[Any], product: str, constants: dict[str, Any], width: int) -> tuple[str, str] | None:
    """Return the names of the sum of a product with its bias, and of the bias; None if no bias is added."""
    if len(users) != 1 or users[0].op_type != "Add":
        return None
    (other,) = [name for name in users[0].input if name != product] or [""]
    if other not in constants or list(constants[other].dims) != [width]:
        return None
    return str(users[0].output[0]), other
