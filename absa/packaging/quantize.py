"""int8 quantisation: weights with a scale per column, activations with a scale per matrix from observed rows.

A few channels of a transformer's activations are far larger than the rest, and one common scale would round the rest
to zero. So each channel is divided by a factor and the weight is multiplied by this factor (SmoothQuant, Xiao et al.
2023, https://arxiv.org/abs/2211.10438). The strength of this balancing is searched per matrix (as in AWQ, Lin et al.
2023, https://arxiv.org/abs/2306.00978), and the remaining mean error is added to the bias. The largest channels of each
product stay in float32 (as in LLM.int8(), Dettmers et al. 2022, https://arxiv.org/abs/2208.07339), because they would
determine the scale of all other channels. No scale depends on the scored rows, so a row's answer does not depend on
the other rows of its batch.

Weights are within -64..64. Processors without dot products of bytes (AVX2, as in most GPU machines) add two products in
16 bits. 255 * 127 * 2 does not fit into 16 bits, so with larger weights the answers of such machines would differ from
those of the serving machine.

Only the matrix products and the word table of a graph change (graphs.py).
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from absa.inference.batching import padded
from absa.inference.tokenization import Encoded
from absa.packaging.export import Array, Float32, GraphWriter
from absa.packaging.graphs import WriteGraph

_TABLE_LIMIT: Final = 127
SEVEN_BITS: Final = 64  # 255 * 64 * 2 fits into 16 bits
EIGHT_BITS: Final = 127
_LEVELS: Final = 255
STRENGTHS: Final = (0.0, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
_SAMPLED_TOKENS: Final = 256
OUTLIERS: Final = 1 / 48  # share of a product's channels that stay in float32
_Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, kw_only=True, eq=False)
class Activations:
    """Observed input of one matrix product: range of each channel (K,), and a sample of tokens (n, K)."""

    low: _Floats
    high: _Floats
    sample: _Floats


@dataclass(frozen=True, kw_only=True, eq=False)
class Quantised:
    """Matrix product in int8: `x` times `factors` (None: `x`) is quantised with `scale` and `zero`.

    The channels `outliers` are multiplied in float32; their int8 weights are 0.
    """

    outliers: npt.NDArray[np.int64]
    outlier_weight: _Floats  # (N, outliers)
    factors: _Floats | None  # (K,)
    scale: np.float32
    zero: np.uint8
    weight: npt.NDArray[np.int8]  # (N, K)
    weight_scale: _Floats  # (N,)
    bias: _Floats  # (N,)


class Int8Products:
    """Products in int8 by onnxruntime's MatMulIntegerToFloat; the word table is int8 with a scale for each word.

    Args:
        activations: result of `observe_products`.
        strengths: strengths of the balancing of channels to try for each product, 0 to 1.
        outliers: share of a product's channels that stay in float32, 0 to 1.
        limit: largest weight in int8; more than `SEVEN_BITS` only for processors with dot products of bytes.
    """

    def __init__(
        self,
        activations: Mapping[str, Activations],
        *,
        strengths: Sequence[float] = STRENGTHS,
        outliers: float = OUTLIERS,
        limit: int = SEVEN_BITS,
    ) -> None:
        self._activations, self._strengths = activations, strengths
        self._outliers, self._limit = outliers, limit

    def multiply(self, graph: GraphWriter, name: str, x: str, weight: Array, bias: Array) -> str:
        """Add `x @ weight.T + bias`; x is quantised to uint8 with a fixed scale, the weight to int8 by column."""
        found = _quantise(
            weight, bias, self._activations[name], strengths=self._strengths, outliers=self._outliers, limit=self._limit
        )
        largest = graph.node(
            "Gather", [x, graph.constant(f"{name}.outliers", found.outliers)], f"{name}.picked", axis=-1
        )
        if found.factors is not None:
            x = graph.node("Mul", [x, graph.constant(f"{name}.factors", found.factors)], f"{name}.even")
        x_scale = graph.constant(f"{name}.x_scale", np.array(found.scale))
        x_zero = graph.constant(f"{name}.x_zero", np.array(found.zero))
        rounded = graph.node("QuantizeLinear", [x, x_scale, x_zero], f"{name}.x")
        integers = graph.node(
            "MatMulIntegerToFloat",
            [
                rounded,
                graph.constant(f"{name}.weight", found.weight.T),
                x_scale,
                graph.constant(f"{name}.scale", found.weight_scale),
                x_zero,
                graph.constant(f"{name}.zero", np.zeros(len(found.weight_scale), np.int8)),
                graph.constant(f"{name}.bias", found.bias),
            ],
            f"{name}.integers",
            domain="com.microsoft",
        )
        rest = graph.constant(f"{name}.outlier_weight", found.outlier_weight.T)
        return graph.node("Add", [integers, graph.node("MatMul", [largest, rest], f"{name}.floats")], name)

    def look_up(self, graph: GraphWriter, name: str, ids: str, table: Array) -> str:
        """Add `table[ids]` from int8 rows and their scales."""
        from onnx import TensorProto

        quantised, scale = symmetric(table, _TABLE_LIMIT)
        rows = graph.node("Gather", [graph.constant(f"{name}.table", quantised), ids], f"{name}.rows")
        scales = graph.node("Gather", [graph.constant(f"{name}.scale", scale[:, None]), ids], f"{name}.scales")
        wide = graph.node("Cast", [rows], f"{name}.float", to=TensorProto.FLOAT)
        return graph.node("Mul", [wide, scales], name)


def _quantise(
    weight: Array, bias: Array, seen: Activations, *, strengths: Sequence[float], outliers: float, limit: int
) -> Quantised:
    """Return the int8 form of `x @ weight.T + bias`, with weight (N, K), that is most exact on the sample."""
    reach = np.maximum(np.abs(seen.low), np.abs(seen.high)) * np.abs(weight).max(0)  # largest product of each channel
    largest = np.sort(np.argsort(-reach)[: math.ceil(outliers * len(reach))])
    exact = seen.sample @ weight.T  # (n, N)
    tried = []
    for strength in strengths:
        found = _at_strength(weight, bias, seen, strength, largest, limit)
        off = exact - _product(found, seen.sample)
        mean: _Floats = off.mean(0)
        tried.append((float(np.square(off - mean).mean()), mean, found))
    _, bias_error, best = min(tried, key=lambda each: each[0])
    return replace(best, bias=(bias + bias_error).astype(np.float32))


def _at_strength(
    weight: Array, bias: Array, seen: Activations, strength: float, outliers: npt.NDArray[np.int64], limit: int
) -> Quantised:
    """Return the int8 form for a strength: 0 does not change the channels, 1 makes them equally large."""
    factors = None
    outlier_weight, weight = weight[:, outliers].astype(np.float32), weight.copy()
    low, high = seen.low.copy(), seen.high.copy()
    weight[:, outliers] = low[outliers] = high[outliers] = 0.0
    if strength > 0:
        largest = np.maximum(np.maximum(np.abs(low), np.abs(high)), 1e-6)
        heaviest = np.maximum(np.abs(weight).max(0), 1e-6)
        spread = np.log(largest) * strength - np.log(heaviest) * (1 - strength)
        factors = np.exp(spread.mean() - spread).astype(np.float32)
        factors[outliers] = 1.0
        weight = weight / factors
        low, high = low * factors, high * factors
    bottom, top = min(float(low.min()), 0.0), max(float(high.max()), 0.0)
    scale = np.float32(max(top - bottom, 1e-12) / _LEVELS)
    zero = np.uint8(np.clip(np.rint(-bottom / scale), 0, _LEVELS))
    quantised, weight_scale = symmetric(weight, limit)
    return Quantised(
        outliers=outliers, outlier_weight=outlier_weight, factors=factors, scale=scale, zero=zero, weight=quantised,
        weight_scale=weight_scale, bias=np.asarray(bias),
    )  # fmt: skip


def _product(found: Quantised, x: _Floats) -> _Floats:
    """Return the int8 product of x, without the bias."""
    even = x if found.factors is None else x * found.factors
    middle = np.float32(found.zero)
    levels = np.clip(np.rint(even / found.scale) + middle, 0, _LEVELS) - middle
    product: _Floats = (levels * found.scale) @ (found.weight.T.astype(np.float32) * found.weight_scale)
    return product + x[:, found.outliers] @ found.outlier_weight.T


def symmetric(matrix: npt.NDArray[Any], limit: int) -> tuple[npt.NDArray[np.int8], _Floats]:
    """Quantise each row of a matrix to integers in -limit..limit.

    Returns:
        The int8 matrix and one scale per row; the error of each value is at most half the scale of its row.
    """
    scale = np.maximum(np.abs(matrix).max(axis=1), 1e-12).astype(np.float32) / np.float32(limit)
    return np.rint(matrix / scale[:, None]).astype(np.int8), scale


class _Recorder(Float32):
    """Products in float32; records the name of each product's input."""

    def __init__(self) -> None:
        self.inputs: dict[str, str] = {}

    def multiply(self, graph: GraphWriter, name: str, x: str, weight: Array, bias: Array) -> str:
        """Add the nodes of `Float32.multiply`, and record the input."""
        self.inputs[name] = x
        return super().multiply(graph, name, x, weight, bias)


def observe_products(write: WriteGraph, rows: Sequence[Encoded], *, seed: int = 0) -> dict[str, Activations]:
    """Run rows through the float32 graph and observe the input of each matrix product.

    Args:
        write: function that writes the classifier's graph.
        rows: at least one row; a hundred are enough.
        seed: seed of the sample of tokens.

    Returns:
        Activations by the name of the product.
    """
    import onnxruntime as ort
    from onnx import TensorProto, helper

    recorder = _Recorder()
    model = write(recorder)
    names = list(dict.fromkeys(recorder.inputs.values()))
    model.graph.output.extend(helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in names)
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    chance = np.random.default_rng(seed)
    share = min(1.0, _SAMPLED_TOKENS / sum(row.tokens for row in rows))
    kept: dict[str, list[_Floats]] = {name: [] for name in names}
    low: dict[str, _Floats] = {}
    high: dict[str, _Floats] = {}
    for row in rows:
        found = session.run(names, padded([row]))
        picked = chance.random(row.tokens) < share
        for name, value in zip(names, found, strict=True):
            x = value[0]  # (tokens, K)
            low[name] = np.minimum(low.get(name, x[0]), x.min(0))
            high[name] = np.maximum(high.get(name, x[0]), x.max(0))
            kept[name].append(x[picked])
    seen = {name: Activations(low=low[name], high=high[name], sample=np.concatenate(kept[name])) for name in names}
    return {product: seen[name] for product, name in recorder.inputs.items()}
