"""ONNX graph of a fast-path classifier, written node by node from its weights.

Writing takes half a second and needs no tracing. onnxruntime has a fused CPU kernel for every node
(https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md). A `Linear` writes the products with
matrices: in float32 here, in int8 in quantize.py.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final, Protocol

import numpy as np
import numpy.typing as npt

from absa.modeling.architecture import Architecture

if TYPE_CHECKING:
    import onnx

INPUTS: Final = ("input_ids", "attention_mask", "token_type_ids")
OUTPUT_NAME: Final = "logits"

_OPSET: Final = 17
_MICROSOFT: Final = "com.microsoft"

Array = npt.NDArray[Any]
Weights = dict[str, npt.NDArray[np.float32]]


class Linear(Protocol):
    """Writer of the nodes for products with weight matrices, and for look-ups of words."""

    def multiply(self, graph: "GraphWriter", name: str, x: str, weight: Array, bias: Array) -> str:
        """Add nodes for `x @ weight.T + bias`; return the name of the result."""

    def look_up(self, graph: "GraphWriter", name: str, ids: str, table: Array) -> str:
        """Add nodes for `table[ids]`; return the name of the result."""


class GraphWriter:
    """Collector of a graph's nodes and constants."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.constants: list[Any] = []

    def constant(self, name: str, value: Array) -> str:
        """Add a constant; return its name."""
        from onnx import numpy_helper

        self.constants.append(numpy_helper.from_array(np.asarray(value, order="C"), name))
        return name

    def node(
        self, operator: str, inputs: Sequence[str], output: str, *, domain: str = "", outputs: Sequence[str] = (),
        **attributes: Any,
    ) -> str:  # fmt: skip
        """Add a node; return the name of its first output. `outputs`, if given, are the names of all outputs."""
        from onnx import helper

        names = list(outputs) or [output]
        self.nodes.append(helper.make_node(operator, list(inputs), names, name=output, domain=domain, **attributes))
        return output


class Float32:
    """Products and look-ups in float32."""

    def multiply(self, graph: GraphWriter, name: str, x: str, weight: Array, bias: Array) -> str:
        """Add `x @ weight.T + bias` as MatMul and Add."""
        product = graph.node("MatMul", [x, graph.constant(f"{name}.weight", weight.T)], f"{name}.product")
        return graph.node("Add", [product, graph.constant(f"{name}.bias", bias)], name)

    def look_up(self, graph: GraphWriter, name: str, ids: str, table: Array) -> str:
        """Add `table[ids]` as Gather."""
        return graph.node("Gather", [graph.constant(f"{name}.table", table), ids], name)


def export_graph(architecture: Architecture, weights: Weights, linear: Linear) -> "onnx.ModelProto":
    """Return the graph of a classifier.

    Args:
        architecture: sizes of the classifier.
        weights: arrays by their names in `PairClassifier.state_dict()`.
        linear: writer of the products and look-ups.

    Returns:
        A model with the int64 inputs `input_ids`, `attention_mask`, `token_type_ids` (rows, tokens) and the float32
        output `logits` (rows, labels), both axes dynamic.
    """
    from onnx import TensorProto, helper

    graph = GraphWriter()
    mentions = _find_aspect(graph, architecture) if "mark" in weights else None
    x = _embed(graph, architecture, weights, linear, mentions)
    mask = graph.node("Cast", ["attention_mask"], "mask", to=TensorProto.INT32)
    for index in range(architecture.layers):
        x = _layer(graph, architecture, weights, linear, index, x, mask)
    _head(graph, architecture, weights, x, mentions)
    model = helper.make_model(
        helper.make_graph(
            graph.nodes,
            "absa",
            [helper.make_tensor_value_info(name, TensorProto.INT64, ["rows", "tokens"]) for name in INPUTS],
            [helper.make_tensor_value_info(OUTPUT_NAME, TensorProto.FLOAT, ["rows", len(weights["classifier.bias"])])],
            graph.constants,
        ),
        opset_imports=[helper.make_opsetid("", _OPSET), helper.make_opsetid(_MICROSOFT, 1)],
        producer_name="evergreen",
    )
    model.ir_version = 9
    return model


def _find_aspect(graph: GraphWriter, architecture: Architecture) -> str:
    """Add nodes for 1.0 at the tokens of the text that are also in the aspect, else 0.0 (rows, tokens)."""
    from onnx import TensorProto

    separator = graph.constant("separator", np.array(architecture.separator))
    in_aspect = graph.node("Cast", ["token_type_ids"], "in_aspect", to=TensorProto.BOOL)
    ends = graph.node("Equal", ["input_ids", separator], "ends")
    asked = graph.node("And", [in_aspect, graph.node("Not", [ends], "words_only")], "asked")
    last, middle = graph.constant("last_axis", np.array([2])), graph.constant("middle_axis", np.array([1]))
    left = graph.node("Unsqueeze", ["input_ids", last], "ids.left")  # (rows, tokens, 1)
    right = graph.node("Unsqueeze", ["input_ids", middle], "ids.right")  # (rows, 1, tokens)
    same = graph.node("Equal", [left, right], "same")
    same = graph.node("And", [same, graph.node("Unsqueeze", [asked, middle], "asked.wide")], "same.asked")
    same = graph.node("Cast", [same], "same.float", to=TensorProto.FLOAT)
    found = graph.node("ReduceMax", [same], "found", axes=[2], keepdims=0)
    in_text = graph.node("Cast", [graph.node("Not", [in_aspect], "in_text")], "in_text.float", to=TensorProto.FLOAT)
    return graph.node("Mul", [found, in_text], "mentions")


def _embed(
    graph: GraphWriter, architecture: Architecture, weights: Weights, linear: Linear, mentions: str | None
) -> str:
    words = linear.look_up(graph, "words", "input_ids", weights["words.weight"])
    types = graph.node("Gather", [graph.constant("types.table", weights["types.weight"]), "token_type_ids"], "types")
    zero, one = graph.constant("zero", np.array([0])), graph.constant("one", np.array([1]))
    shape = graph.node("Shape", ["input_ids"], "shape")
    length = graph.node("Slice", [shape, one, graph.constant("two", np.array([2]))], "length")
    table = graph.constant("places.table", weights["places.weight"])
    places = graph.node("Slice", [table, zero, length, zero], "places")
    x = graph.node("Add", [words, types], "words_and_types")
    x = graph.node("Add", [x, places], "words_in_places")
    if mentions is not None:
        wide = graph.node("Unsqueeze", [mentions, graph.constant("wide_axis", np.array([2]))], "mentions.wide")
        mark = graph.node("Mul", [wide, graph.constant("mark_row", weights["mark"])], "marks")
        x = graph.node("Add", [x, mark], "embedded")
    scale = graph.constant("embedding_norm.scale", weights["embedding_norm.weight"])
    shift = graph.constant("embedding_norm.shift", weights["embedding_norm.bias"])
    epsilon = architecture.layer_norm_eps
    return graph.node("LayerNormalization", [x, scale, shift], "embedding_norm", epsilon=epsilon)


def _layer(
    graph: GraphWriter, architecture: Architecture, weights: Weights, linear: Linear, index: int, x: str, mask: str
) -> str:
    name = f"layers.{index}"

    def multiply(part: str, value: str) -> str:
        weight, bias = weights[f"{name}.{part}.weight"], weights[f"{name}.{part}.bias"]
        return linear.multiply(graph, f"{name}.{part}", value, weight, bias)

    def add_and_norm(part: str, value: str, skip: str) -> str:
        scale = graph.constant(f"{name}.{part}.scale", weights[f"{name}.{part}.weight"])
        shift = graph.constant(f"{name}.{part}.shift", weights[f"{name}.{part}.bias"])
        total = graph.node("Add", [value, skip], f"{name}.{part}.sum")
        epsilon = architecture.layer_norm_eps
        return graph.node("LayerNormalization", [total, scale, shift], f"{name}.{part}", epsilon=epsilon)

    joined = multiply("attend", x)
    parts = [f"{name}.{part}" for part in ("query", "key", "value")]
    graph.node("Split", [joined], f"{name}.split", outputs=parts, axis=2)
    mixed = graph.node(
        "MultiHeadAttention", [*parts, "", mask], f"{name}.mixed", domain=_MICROSOFT, num_heads=architecture.heads
    )
    x = add_and_norm("attention_norm", multiply("project", mixed), x)
    inner = graph.node("Gelu", [multiply("expand", x)], f"{name}.gelu", domain=_MICROSOFT)
    return add_and_norm("output_norm", multiply("contract", inner), x)


def _head(graph: GraphWriter, architecture: Architecture, weights: Weights, x: str, mentions: str | None) -> None:
    from onnx import TensorProto

    first = graph.node("Gather", [x, graph.constant("first_index", np.array(0))], "first", axis=1)
    present = graph.node("Cast", ["attention_mask"], "present", to=TensorProto.FLOAT)
    parts = [("whole", present)]
    if weights["classifier.weight"].shape[1] > 2 * architecture.hidden:
        types = graph.node("Cast", ["token_type_ids"], "types_float", to=TensorProto.FLOAT)
        parts.append(("aspect", graph.node("Mul", [types, present], "of_aspect")))
    if mentions is not None:
        parts.append(("mention", mentions))
    axis, tokens = graph.constant("axis", np.array([1])), graph.constant("tokens_axis", np.array([1]))
    views = [first]
    for name, which in parts:
        wide = graph.node("Unsqueeze", [which, axis], f"{name}.wide")  # (rows, 1, tokens)
        total = graph.node("Squeeze", [graph.node("MatMul", [wide, x], f"{name}.sum"), axis], f"{name}.total")
        count = graph.node("ReduceSum", [which, tokens], f"{name}.count", keepdims=1)
        least = graph.constant(f"{name}.least", np.array(1.0, np.float32))
        views.append(graph.node("Div", [total, graph.node("Max", [count, least], f"{name}.n")], name))
    seen = graph.node("Concat", views, "seen", axis=1)
    head = [graph.constant(f"classifier.{kind}", weights[f"classifier.{kind}"]) for kind in ("weight", "bias")]
    graph.node("Gemm", [seen, *head], OUTPUT_NAME, transB=1)
