"""Would a second engine pay? `python -m benchmarks.second_engine --run FOLDER` writes results/second_engine.json.

OpenVINO (pip install openvino nncf) beside ONNX Runtime, both int8 of the same trained weights, one thread, inside the
router's own batcher with 64 rows in flight. OpenVINO runs once with free shapes and once with fixed ones, padded to the
next bucket of rows and tokens. It would be adopted from 1.3 times the rate on, with 99 % of the labels equal to fp32's.
FOLDER is what `evergreen train` left in `.evergreen/jobs/<run>`: weights/ and package/.
"""

import argparse
import asyncio
import time
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from absa.inference.engine import Engine, softmax
from absa.inference.tokenization import Encoded, PairTokenizer
from benchmarks.figures import Row, write_result
from benchmarks.serving import SAMPLE, read_rows
from serving.engine.batcher import Batcher, Job

RESULT = Path(__file__).parent / "results" / "second_engine.json"
IN_FLIGHT = 64
ROWS = (1, 2, 4, 8, 12, 16, 24, 32)
TOKENS = (8, 10, 12, 14, 16, 18, 20, 22, 24, 28, 32, 40, 48, 64, 96, 128)
CALIBRATION_ROWS = 300
Arrays = tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.int64]]


def padded(rows: Sequence[Encoded], shape: tuple[int, int]) -> Arrays:
    """Ids, mask and types of some rows in arrays of a shape; rows of the bucket that are not there have one token."""
    ids, mask, types = (np.zeros(shape, np.int64) for _ in range(3))
    mask[:, 0] = 1
    for k, row in enumerate(rows):
        ids[k, : row.tokens], mask[k, : row.tokens], types[k, : row.tokens] = row.input_ids, 1, row.token_type_ids
    return ids, mask, types


class OpenVino:
    """The engine's surface as the batcher needs it, on OpenVINO's CPU plugin.

    Args:
        model: an OpenVINO model with free shapes.
        tokenizer: of the same weights.
        fixed: whether batches are padded to a bucket, each with a network of its own.
    """

    def __init__(self, model: Any, tokenizer: PairTokenizer, *, fixed: bool) -> None:
        self.tokenizer, self._model, self._fixed = tokenizer, model, fixed
        self._requests: dict[tuple[int, int], Any] = {}
        self._free = None if fixed else self._compiled(model)

    @staticmethod
    def _compiled(model: Any) -> Any:
        import openvino

        options = {"INFERENCE_NUM_THREADS": 1, "NUM_STREAMS": 1, "PERFORMANCE_HINT": "LATENCY"}
        return openvino.Core().compile_model(model, "CPU", options).create_infer_request()

    def _request(self, shape: tuple[int, int]) -> Any:
        if self._free is not None:
            return self._free
        found = self._requests.get(shape)
        if found is None:
            model = self._model.clone()
            model.reshape({each.get_any_name(): list(shape) for each in model.inputs})
            found = self._requests[shape] = self._compiled(model)
        return found

    def score_group(self, rows: Sequence[Encoded]) -> npt.NDArray[np.float32]:
        """As `Engine.score_group`, without the temperature, which changes no label."""
        shape = (len(rows), max(row.tokens for row in rows))
        if self._fixed:
            shape = (_bucket(shape[0], ROWS), _bucket(shape[1], TOKENS))
        found = self._request(shape).infer(dict(enumerate(padded(rows, shape))), share_inputs=True)
        return softmax(np.array(next(iter(found.values())))[: len(rows)])


def _bucket(size: int, buckets: Sequence[int]) -> int:
    return next((each for each in buckets if each >= size), size)


def quantised(run: Path, rows: Sequence[Encoded]) -> tuple[Any, Any]:
    """The fp32 model of a run for OpenVINO, and its static int8 form by NNCF's preset for transformers."""
    import nncf
    import openvino
    import torch

    from absa.modeling.bases import load_base

    classifier, has_head = load_base(run / "weights")
    if not has_head:
        raise SystemExit(f"{run} holds no trained head; its labels could not be compared")

    class AsExported(torch.nn.Module):
        """Takes what the ONNX graph takes."""

        def __init__(self) -> None:
            super().__init__()
            self.model = classifier.requires_grad_(False)

        def forward(self, ids: torch.Tensor, mask: torch.Tensor, types: torch.Tensor) -> torch.Tensor:
            return self.model(ids, types, mask.bool())  # type: ignore[no-any-return]

    example = tuple(torch.from_numpy(each) for each in padded(rows[:2], (2, max(row.tokens for row in rows[:2]))))
    with torch.no_grad():
        converted = openvino.convert_model(AsExported().eval(), example_input=example)
    converted.reshape({each.get_any_name(): [-1, -1] for each in converted.inputs})
    samples = nncf.Dataset(list(rows[:CALIBRATION_ROWS]), lambda row: dict(enumerate(padded([row], (1, row.tokens)))))
    int8 = nncf.quantize(
        converted, samples, model_type=nncf.ModelType.TRANSFORMER, subset_size=CALIBRATION_ROWS,
        preset=nncf.QuantizationPreset.MIXED,
    )  # fmt: skip
    return converted, int8


def batcher_rate(engine: Any, rows: Sequence[tuple[str, str]], seconds: float) -> float:
    """Rows a second through the router's batcher, so many in flight at any time."""

    async def ask() -> float:
        batcher = Batcher(asyncio.get_running_loop(), token_budget=256)
        ends = time.perf_counter() + seconds
        over = asyncio.Event()
        scored = waiting = number = 0

        def next_job() -> Job:
            nonlocal number, waiting
            text, aspect = rows[number % len(rows)]
            number, waiting = number + 1, waiting + 1
            return Job(engine, text, aspect, deadline=ends + 60, done=done)

        def done(job: Job) -> None:
            nonlocal scored, waiting
            assert job.failure is None
            scored, waiting = scored + 1, waiting - 1
            if time.perf_counter() < ends:
                batcher.submit([next_job()])
            elif not waiting:
                over.set()

        begin = time.perf_counter()
        batcher.submit([next_job() for _ in range(IN_FLIGHT)])
        await over.wait()
        rate = scored / (time.perf_counter() - begin)
        batcher.stop(5.0)
        return rate

    return asyncio.run(ask())


def labels_of(score: Callable[[Sequence[Encoded]], npt.NDArray[np.float32]], rows: Sequence[Encoded]) -> list[int]:
    """The label of each row, scored in groups of like length."""
    order = sorted(range(len(rows)), key=lambda k: rows[k].tokens)
    labels = [0] * len(rows)
    for start in range(0, len(order), 8):
        group = order[start : start + 8]
        for k, scores in zip(group, score([rows[k] for k in group]), strict=True):
            labels[k] = int(scores.argmax())
    return labels


def main() -> None:
    """Run everything and write the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--run", type=Path, required=True, help="a finished training: weights/ and package/")
    parser.add_argument("--seconds", type=float, default=5.0, help="of one run")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--rows", type=int, default=600, help="rows whose labels are compared")
    parser.add_argument("--out", type=Path, default=RESULT)
    options = parser.parse_args()
    pairs = read_rows(list(SAMPLE))
    ours = Engine.load(options.run / "package")
    encoded = ours.tokenizer.encode(pairs)
    fp32, int8 = quantised(options.run, encoded)
    free, fixed = (OpenVino(int8, ours.tokenizer, fixed=each) for each in (False, True))
    engines = {"onnxruntime int8": ours, "openvino int8, free shapes": free, "openvino int8, fixed shapes": fixed}
    compared = encoded[-options.rows :]
    truth = labels_of(OpenVino(fp32, ours.tokenizer, fixed=False).score_group, compared)
    rates: dict[str, list[float]] = {name: [] for name in engines}
    for engine in engines.values():
        batcher_rate(engine, pairs, options.seconds)  # meets every bucket before it is timed
    for _ in range(options.runs):  # in turns, because the machine's speed changes
        for name, engine in engines.items():
            rates[name].append(batcher_rate(engine, pairs, options.seconds))
    table: list[Row] = []

    def add(case: str, metric: str, values: Sequence[float], unit: str, target: str | None, bound: float) -> None:
        value = sorted(values)[len(values) // 2]
        met = None if target is None else value >= bound
        table.append(
            Row(
                case=case,
                metric=metric,
                value=round(value, 4),
                low=round(min(values), 4),
                high=round(max(values), 4),
                runs=len(values),
                unit=unit,
                target=target,
                met=met,
            )
        )
        print(f"{case:32} {metric:28} {value:10.3f} {unit:6} {target or ''} {'' if met is None else met}", flush=True)

    for name, engine in engines.items():
        add(name, "rows_per_s_in_the_batcher", rates[name], "1/s", None, 0.0)
        if engine is not ours:
            gains = [each / beside for each, beside in zip(rates[name], rates["onnxruntime int8"], strict=True)]
            add(name, "times_onnxruntime", gains, "", ">= 1.3 to adopt it", 1.3)
        equal = np.mean([a == b for a, b in zip(labels_of(engine.score_group, compared), truth, strict=True)])
        add(name, "labels_equal_to_fp32", [float(equal)], "share", ">= 0.99", 0.99)
    write_result(
        options.out, name="second_engine", command="python -m benchmarks.second_engine --run .evergreen/jobs/<run>",
        seed=0, rows=table, versions={name: version(name) for name in ("onnxruntime", "openvino", "nncf")},
    )  # fmt: skip


if __name__ == "__main__":
    main()
