"""int8: weights a column each at its own scale, activations at one scale a matrix, found on calibration rows.

Activations of a transformer have a few channels that are far larger than the rest, and one scale for all would round
the rest away. So each channel is divided by a factor first and the weight multiplied by it (SmoothQuant, Xiao et al.
2023, https://arxiv.org/abs/2211.10438); how strongly is searched for each matrix on its own (as AWQ does, Lin et al.
2023, https://arxiv.org/abs/2306.00978), and what is off on average after that goes into the bias. The few products that
are still too far off get a second one for what the first rounded away. As no scale depends on the rows that are scored,
neither does a row's answer depend on who shares its batch.

Weights stay within -64..64. Processors without dot products of bytes (AVX2, and so most GPU machines) add two products
in 16 bits, and 255 * 127 * 2 does not fit: they would answer otherwise than the machine that serves.

Only the matrix products and the word table of a graph change (graphs.py).
"""

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
_WEIGHT_LIMIT: Final = 64  # 255 * 64 * 2 fits into 16 bits
_LEVELS: Final = 255
STRENGTHS: Final = (0.0, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
_SAMPLED_TOKENS: Final = 256
_TOO_FAR: Final = 0.025  # error of a product as a share of its spread, above which it is done in two terms
_MIDDLE: Final = np.uint8(128)
_Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, kw_only=True, eq=False)
class Activations:
    """Observed input of one matrix product: the range of each channel (K,), and a sample of rows (n, K)."""

    low: _Floats
    high: _Floats
    sample: _Floats


@dataclass(frozen=True, kw_only=True, eq=False)
class Quantised:
    """One matrix product in int8: `x` times `factors` (None: as it is) is rounded to `scale` and `zero`.

    With `twice` what that rounds away is rounded again, at a scale 255 times as fine around 128, and multiplied too.
    """

    factors: _Floats | None  # (K,)
    twice: bool
    scale: np.float32
    zero: np.uint8
    weight: npt.NDArray[np.int8]  # (N, K)
    weight_scale: _Floats  # (N,)
    bias: _Floats  # (N,)


class Int8Products:
    """Multiplies in int8 by onnxruntime's MatMulIntegerToFloat; keeps the word table in int8, a scale a word.

    Args:
        activations: by the names of the products, as `observe_products` gives them.
        strengths: ways to balance channels that are tried for each product.
    """

    def __init__(self, activations: Mapping[str, Activations], *, strengths: Sequence[float] = STRENGTHS) -> None:
        self._activations, self._strengths = activations, strengths

    def multiply(self, graph: GraphWriter, name: str, x: str, weight: Array, bias: Array) -> str:
        """`x @ weight.T + bias`, x quantised to uint8 at a fixed scale, the weight to int8 by column."""
        found = quantise(weight, bias, self._activations[name], strengths=self._strengths)
        if found.factors is not None:
            x = graph.node("Mul", [x, graph.constant(f"{name}.factors", found.factors)], f"{name}.even")
        shift = graph.constant(f"{name}.bias", found.bias)
        parts = (
            graph.constant(f"{name}.weight", found.weight.T),
            graph.constant(f"{name}.scale", found.weight_scale),
            graph.constant(f"{name}.zero", np.zeros(len(found.weight_scale), np.int8)),
        )
        if not found.twice:
            return _term(graph, name, x, parts, shift, scale=found.scale, zero=found.zero)
        coarse = _term(graph, f"{name}.coarse", x, parts, shift, scale=found.scale, zero=found.zero)
        back = [f"{name}.coarse.{part}" for part in ("x", "x_scale", "x_zero")]
        rest = graph.node("Sub", [x, graph.node("DequantizeLinear", back, f"{name}.back")], f"{name}.rest")
        fine_scale = np.float32(found.scale / _LEVELS)
        fine = _term(graph, f"{name}.fine", rest, parts, "", scale=fine_scale, zero=_MIDDLE)
        return graph.node("Add", [coarse, fine], name)

    def look_up(self, graph: GraphWriter, name: str, ids: str, table: Array) -> str:
        """`table[ids]` from int8 rows and their scales."""
        from onnx import TensorProto

        quantised, scale = symmetric(table, _TABLE_LIMIT)
        rows = graph.node("Gather", [graph.constant(f"{name}.table", quantised), ids], f"{name}.rows")
        scales = graph.node("Gather", [graph.constant(f"{name}.scale", scale[:, None]), ids], f"{name}.scales")
        wide = graph.node("Cast", [rows], f"{name}.float", to=TensorProto.FLOAT)
        return graph.node("Mul", [wide, scales], name)


def _term(
    graph: GraphWriter, name: str, x: str, parts: Sequence[str], bias: str, *, scale: np.float32, zero: np.uint8
) -> str:
    """`x` rounded, times the weight whose int8 form, scales and zeros are `parts`."""
    x_scale, x_zero = (
        graph.constant(f"{name}.x_scale", np.array(scale)),
        graph.constant(f"{name}.x_zero", np.array(zero)),
    )
    rounded = graph.node("QuantizeLinear", [x, x_scale, x_zero], f"{name}.x")
    weight, weight_scale, weight_zero = parts
    inputs = [rounded, weight, x_scale, weight_scale, x_zero, weight_zero, bias]
    return graph.node("MatMulIntegerToFloat", inputs, name, domain="com.microsoft")


def quantise(weight: Array, bias: Array, seen: Activations, *, strengths: Sequence[float] = STRENGTHS) -> Quantised:
    """Return the int8 form of `x @ weight.T + bias` that is nearest to it on the sampled rows.

    Args:
        weight: (N, K).
        bias: (N,).
        seen: what goes in.
        strengths: ways to balance channels, 0 to 1, of which the best is taken.
    """
    exact = seen.sample @ weight.T  # (n, N)
    spread = float(exact.std()) + 1e-12
    best, bias_error, error = _nearest(weight, bias, seen, exact, strengths, twice=False)
    if error > _TOO_FAR * spread:
        best, bias_error, _ = _nearest(weight, bias, seen, exact, strengths, twice=True)
    return replace(best, bias=(bias + bias_error).astype(np.float32))


def _nearest(
    weight: Array, bias: Array, seen: Activations, exact: _Floats, strengths: Sequence[float], *, twice: bool
) -> tuple[Quantised, _Floats, float]:
    """Return the best of the strengths, what it is off by on average, and its error besides (a root mean square)."""
    tried = []
    for strength in strengths:
        found = _at_strength(weight, bias, seen, strength, twice=twice)
        off = exact - _product(found, seen.sample)
        mean: _Floats = off.mean(0)
        tried.append((found, mean, float(np.sqrt(np.square(off - mean).mean()))))
    return min(tried, key=lambda each: each[2])


def _at_strength(weight: Array, bias: Array, seen: Activations, strength: float, *, twice: bool) -> Quantised:
    """Strength 0 leaves the channels as they are, 1 makes all of them equally large."""
    factors = None
    low, high = seen.low, seen.high
    if strength > 0:
        largest = np.maximum(np.maximum(np.abs(low), np.abs(high)), 1e-6)
        heaviest = np.maximum(np.abs(weight).max(0), 1e-6)
        spread = np.log(largest) * strength - np.log(heaviest) * (1 - strength)
        factors = np.exp(spread.mean() - spread).astype(np.float32)
        weight = weight / factors
        low, high = low * factors, high * factors
    bottom, top = min(float(low.min()), 0.0), max(float(high.max()), 0.0)
    scale = np.float32(max(top - bottom, 1e-12) / _LEVELS)
    zero = np.uint8(np.clip(np.rint(-bottom / scale), 0, _LEVELS))
    quantised, weight_scale = symmetric(weight, _WEIGHT_LIMIT)
    return Quantised(
        factors=factors, twice=twice, scale=scale, zero=zero, weight=quantised, weight_scale=weight_scale,
        bias=np.asarray(bias),
    )  # fmt: skip


def _product(found: Quantised, x: _Floats) -> _Floats:
    """Return the int8 product of x, without the bias."""
    even = x if found.factors is None else x * found.factors
    rounded = _rounded(even, found.scale, found.zero)
    if found.twice:
        rounded += _rounded(even - rounded, found.scale / np.float32(_LEVELS), _MIDDLE)
    product: _Floats = rounded @ (found.weight.T.astype(np.float32) * found.weight_scale)
    return product


def _rounded(x: _Floats, scale: np.float32, zero: np.uint8) -> _Floats:
    middle = np.float32(zero)
    levels: _Floats = np.clip(np.rint(x / scale) + middle, 0, _LEVELS) - middle
    return levels * scale


def symmetric(matrix: npt.NDArray[Any], limit: int) -> tuple[npt.NDArray[np.int8], _Floats]:
    """Quantise each row of a matrix to -limit..limit.

    Returns:
        The int8 matrix and one scale per row; their product is off by at most half the row's scale per value.
    """
    scale = np.maximum(np.abs(matrix).max(axis=1), 1e-12).astype(np.float32) / np.float32(limit)
    return np.rint(matrix / scale[:, None]).astype(np.int8), scale


class _Recorder(Float32):
    """Multiplies in float32 and remembers which value went into which product."""

    def __init__(self) -> None:
        self.inputs: dict[str, str] = {}

    def multiply(self, graph: GraphWriter, name: str, x: str, weight: Array, bias: Array) -> str:
        """As Float32."""
        self.inputs[name] = x
        return super().multiply(graph, name, x, weight, bias)


def observe_products(write: WriteGraph, rows: Sequence[Encoded], *, seed: int = 0) -> dict[str, Activations]:
    """Run rows through the float32 graph and look at what goes into each matrix product.

    Args:
        write: writes the classifier's graph.
        rows: at least one; a hundred are enough.
        seed: of the sample of tokens.

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
