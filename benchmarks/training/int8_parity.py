"""int8 beside float32: `python -m benchmarks int8_parity`.

Labels and speed of one trained model in several forms: weights of seven bits, which every processor multiplies alike,
and of eight, for processors with dot products of bytes (VNNI, or ARM's); with and without the largest channels of each
product in float32. The model is that of `quality`'s cell `bundled`, trained here (minutes) unless it was kept. Labels
are compared on bundled rows that gave no scales; rows/s are of one thread, the forms in turns, rows of like length
together.
"""

import argparse
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

from absa.data.bundled import FEEDBACK_CSV
from absa.inference.batching import TOKEN_BUDGET, group_by_length, padded
from absa.inference.tokenization import Encoded, PairTokenizer
from absa.modeling.bases import TOKENIZER, load_base
from absa.packaging.build import FULL, warmup_inputs
from absa.packaging.export import Float32, Linear
from absa.packaging.graphs import graph_of
from absa.packaging.quantize import EIGHT_BITS, OUTLIERS, SEVEN_BITS, Int8Products, observe_products
from absa.task import ABSA
from benchmarks.figures import Row, median_row, share, write_result
from benchmarks.training import quality_data
from benchmarks.training.quality import bundled_sides, run_cell
from benchmarks.training.quality_recipes import BUNDLED, Cell

RESULT: Final = Path(__file__).parents[2] / "benchmarks" / "results" / "int8_parity.json"
FORMS: Final = {
    "seven bits, all channels": {"limit": SEVEN_BITS, "outliers": 0.0},
    "seven bits, largest channels in float32": {"limit": SEVEN_BITS, "outliers": OUTLIERS},
    "eight bits, all channels": {"limit": EIGHT_BITS, "outliers": 0.0},
    "eight bits, largest channels in float32": {"limit": EIGHT_BITS, "outliers": OUTLIERS},
}
SERVED: Final = "seven bits, largest channels in float32"
_OTHERS: Final = ("traffic.csv", "new_area.csv")  # bundled rows that no model of `bundled` learned from
_TIMED_ROWS: Final = 256


class Form:
    """One form of the model.

    Args:
        model: its ONNX graph.
        rows: that are scored.
    """

    def __init__(self, model: Any, rows: list[Encoded]) -> None:
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        options.log_severity_level = 3
        self._session = ort.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"],
            disabled_optimizers=["SkipLayerNormFusion"],
        )  # fmt: skip
        self._groups = group_by_length([row.tokens for row in rows], TOKEN_BUDGET)
        self._feeds = [padded([rows[index] for index in group]) for group in self._groups]
        self._rows = len(rows)

    def logits(self) -> npt.NDArray[np.float32]:
        """Return the logits of all rows."""
        found = np.empty((self._rows, ABSA.n_labels), np.float32)
        for group, feeds in zip(self._groups, self._feeds, strict=True):
            found[group] = self._session.run(None, feeds)[0]
        return found

    def rows_per_s(self) -> float:
        """Return the rows per second of the first groups."""
        done, started = 0, time.perf_counter()
        for group, feeds in zip(self._groups, self._feeds, strict=True):
            self._session.run(None, feeds)
            done += len(group)
            if done >= _TIMED_ROWS:
                break
        return done / (time.perf_counter() - started)


def main() -> None:
    """Measure and write the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--weights", type=Path, help="folder of a trained model's weights, in place of `bundled`'s")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, default=RESULT)
    options = parser.parse_args()
    cell = Cell(BUNDLED, 0, 0)
    folder = options.weights or cell.folder / "weights"
    if not folder.is_dir():
        run_cell(cell)
    model, _ = load_base(folder)
    model.float().eval()
    tokenizer = PairTokenizer.from_file(folder / TOKENIZER, 128, task=model.task)
    _, validation, test = bundled_sides()
    scaled = [*warmup_inputs(model.task), *((row.text, row.aspect) for row in validation[: FULL.observed_rows])]
    others = [row for name in _OTHERS for row in quality_data.read(FEEDBACK_CSV.parent / name)]
    rows = tokenizer.encode([(row.text, row.aspect) for row in [*validation[FULL.observed_rows :], *test, *others]])
    write = graph_of(model)
    seen = observe_products(write, tokenizer.encode(scaled))
    linears: dict[str, Linear] = {
        "float32": Float32(), **{name: Int8Products(seen, **how) for name, how in FORMS.items()}
    }  # fmt: skip
    forms = {name: Form(write(linear), rows) for name, linear in linears.items()}
    exact = forms["float32"].logits()
    speeds: dict[str, list[float]] = {name: [] for name in forms}
    for _ in range(options.rounds):
        for name, form in forms.items():
            speeds[name].append(form.rows_per_s())
    found: list[Row] = []
    for name, form in forms.items():
        if name != "float32":
            same = int((form.logits().argmax(1) == exact.argmax(1)).sum())
            target = {"target": ">= 0.99", "met": same >= 0.99 * len(rows)} if name == SERVED else {}
            found.append(share(name, "labels equal to float32's", same, len(rows), **target))
        found.append(median_row(name, "rows_per_s", speeds[name], "1/s"))
    write_result(
        options.out, name="int8_parity", command="make benchmark-int8_parity", seed=0, rows=found,
        versions={name: version(name) for name in ("onnxruntime", "torch")},
    )  # fmt: skip


if __name__ == "__main__":
    main()
