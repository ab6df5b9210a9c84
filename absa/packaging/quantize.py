"""int8: weights a column each at its own scale, activations at a scale that is found as they come.

The graph stays that of export.py; only its matrix products and the word table change.
"""

from typing import Any, Final

import numpy as np
import numpy.typing as npt

from absa.packaging.export import Array, GraphWriter

_LIMIT: Final = 127


class Int8:
    """Multiplies in int8 by onnxruntime's DynamicQuantizeMatMul; keeps the word table in int8, a scale a word."""

    def multiply(self, graph: GraphWriter, name: str, x: str, weight: Array, bias: Array) -> str:
        """`x @ weight.T + bias`, x quantised to uint8 on the fly, the weight to int8 by column."""
        quantised, scale = symmetric(weight)
        inputs = [
            x,
            graph.constant(f"{name}.weight", quantised.T),
            graph.constant(f"{name}.scale", scale),
            graph.constant(f"{name}.zero", np.zeros(len(scale), np.int8)),
            graph.constant(f"{name}.bias", bias),
        ]
        return graph.node("DynamicQuantizeMatMul", inputs, name, domain="com.microsoft")

    def look_up(self, graph: GraphWriter, name: str, ids: str, table: Array) -> str:
        """`table[ids]` from int8 rows and their scales."""
        from onnx import TensorProto

        quantised, scale = symmetric(table)
        rows = graph.node("Gather", [graph.constant(f"{name}.table", quantised), ids], f"{name}.rows")
        scales = graph.node("Gather", [graph.constant(f"{name}.scale", scale[:, None]), ids], f"{name}.scales")
        wide = graph.node("Cast", [rows], f"{name}.float", to=TensorProto.FLOAT)
        return graph.node("Mul", [wide, scales], name)


def symmetric(matrix: npt.NDArray[Any]) -> tuple[npt.NDArray[np.int8], npt.NDArray[np.float32]]:
    """Quantise each row of a matrix to -127..127.

    Returns:
        The int8 matrix and a scale a row; their product is the matrix, each value off by at most half its row's scale.
    """
    scale = np.maximum(np.abs(matrix).max(axis=1), 1e-12).astype(np.float32) / _LIMIT
    return np.rint(matrix / scale[:, None]).astype(np.int8), scale
