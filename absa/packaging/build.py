"""Build of a package folder from a trained model: graph, calibration, parity, warm-up rows, card. Atomic."""

import json
import os
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from absa.errors import PermanentError
from absa.evaluation.counts import confusion_counts, f1_of, task_f1
from absa.inference.engine import Engine
from absa.inference.package import (
    CALIBRATION_FILE,
    CONFIG_FILE,
    MODEL_FILE,
    TOKENIZER_FILE,
    WARMUP_FILE,
    input_form_of,
    package_digest,
)
from absa.inference.tokenization import ModelInput, PairTokenizer
from absa.modeling.head import Classifier
from absa.packaging.calibrate import Calibration, calibrate
from absa.packaging.card import CardFacts, write_card
from absa.packaging.export import INPUTS, Linear
from absa.packaging.graphs import graph_of
from absa.packaging.quantize import STRENGTHS, Int8Products, observe_products
from absa.task import TaskSpec
from absa.training.rows.scoring import score_as_teacher
from absa.training.rows.tokens import LabelledPair, tokenize
from absa.training.training_settings import TrainingSettings

_LEAST_EQUAL: Final = 0.9  # int8 that agrees less often with fp32 is broken, not only rounded
_FEWEST_TO_JUDGE: Final = 20
_CHUNK_ROWS: Final = 64
_FEWEST_CHECKED: Final = 64  # rows that are checked even on a slow machine


@dataclass(frozen=True, kw_only=True)
class Effort:
    """Work that goes into a package.

    Attributes:
        observed_rows: number of rows from which the scales of activations are computed; parity is judged on other rows.
        strengths: strengths of the balancing of channels to try for each matrix, see `quantize`.
        rows: largest number of validation rows to use, the observed rows included.
    """

    observed_rows: int = 128
    strengths: tuple[float, ...] = STRENGTHS
    rows: int = 400


FULL: Final = Effort()
QUICK: Final = Effort(observed_rows=32, strengths=(0.5, 0.8), rows=96)
"""About half of the work, for a package that is replaced by a better one soon."""

WARMUP_PAIRS: Final = (
    ("The search is fast and always right.", "search"),
    ("search broke again", "search"),
    ("Where do I change the billing address?", "billing address"),
    ("The courier was friendly but the box arrived crushed.", "courier"),
    ("The courier was friendly but the box arrived crushed.", "box"),
    ("meh", "meh"),
    ("I never had a problem with the calendar, and I use it every day.", "calendar"),
    ("Your reply did not help, the invoice is still wrong and nobody picks up the phone.", "invoice"),
    ("Is there a way to export the board as a spreadsheet?", "board"),
    ("Love the new editor!! 😍 it saves me an hour a day", "editor"),
    ("The editor used to be great, now it eats my notes.", "editor"),
    ("Compared with the old plan this one is cheaper, though the storage limit is a bad joke for a team of our size.",
     "storage limit"),
    ("Hi, thanks for writing in! I have passed your question about the refund on to our team.", "refund"),
    ("please stop moving the buttons around", "buttons"),
    ("App is OK.", "App"),
    ("We moved all of our documents here last spring, invited the whole company, connected the calendar and the chat, "
     "and after half a year of daily work I can say that the sync has not lost a single change.", "sync"),
)  # fmt: skip


_TOPICS_OF_WARMUP: Final = 4


def warmup_inputs(task: TaskSpec) -> tuple[ModelInput, ...]:
    """Return synthetic texts for the warm-up of a package, with an aspect or a topic if the task has one.

    Names of labels serve as topics, because they contain no customer's text.
    """
    if task.phrase_in_text:
        return WARMUP_PAIRS
    texts = dict.fromkeys(text for text, _ in WARMUP_PAIRS)
    topics = task.labels[:_TOPICS_OF_WARMUP]
    return tuple(
        (text, None if task.phrase is None else topics[index % len(topics)]) for index, text in enumerate(texts)
    )


@dataclass(frozen=True, kw_only=True)
class PackageParity:
    """Comparison of the packaged int8 engine with the fp32 model on the same validation rows. Shares are 0 to 1.

    F1 is the primary metric of the task. `f1_by_label` is the F1 of int8, in label order.
    """

    rows: int
    labels_equal: float
    f1_fp32: float
    f1_int8: float
    f1_by_label: tuple[float, ...]


@dataclass(frozen=True, kw_only=True)
class BuildReport:
    """Digest of a built package, and its measurements."""

    digest: str
    parity: PackageParity
    calibration: Calibration
    size_mb: float


def build_package(
    model: Classifier,
    tokenizer_json: str,
    settings: TrainingSettings,
    validation: Sequence[LabelledPair],
    folder: Path,
    *,
    snapshot: str | None = None,
    run: str | None = None,
    training: dict[str, Any] | None = None,
    linear: Linear | None = None,
    checking_s: float = 60.0,
    effort: Effort = FULL,
    phase: Callable[[str], None] = lambda _: None,
) -> BuildReport:
    """Build the package of a trained model.

    Args:
        model: model in fp32 on the CPU.
        tokenizer_json: content of tokenizer.json.
        settings: settings of the training; saved in config.json.
        validation: rows for calibration and parity; a sample is used if there are many. The scales of activations
            are computed from some of them, parity is judged on the rest.
        folder: folder of the package; created or replaced when the package is complete.
        snapshot: digest of the data.
        run: id of the tracking run; saved in config.json.
        training: report of the trainer, for the card.
        linear: operations of the graph's products; None: int8.
        effort: number of rows, and effort of the search for scales.
        checking_s: time limit of the scoring in seconds; after it, calibration and parity use the rows scored so far.
        phase: called with the name of each phase at its start.

    Raises:
        PermanentError: the labels of int8 and fp32 differ in more than a tenth of the rows.
    """
    making = folder.with_name(f".{folder.name}.{os.getpid()}")
    shutil.rmtree(making, ignore_errors=True)
    making.mkdir(parents=True)
    try:
        phase("export")
        rows = _sample(validation, effort.rows, settings.seed)
        observed = min(effort.observed_rows, len(rows) // 2)
        (making / TOKENIZER_FILE).write_text(tokenizer_json, encoding="utf-8")
        _write_json(making / CONFIG_FILE, _config(model, settings, snapshot, run))
        _write_model(model, making, rows[:observed], settings, linear, effort)
        phase("calibrate")
        _write_json(making / CALIBRATION_FILE, {"temperature": 1.0})
        rows = [*rows[observed:], *rows[:observed]]  # rows that were not observed first: parity is judged on them
        int8, fp32 = _scored(model, making, rows, len(rows) - observed, settings, checking_s)
        labels = np.array([row.label for row in rows[: len(int8)]], dtype=np.int64)
        calibration = calibrate(np.log(np.maximum(int8, 1e-12)), labels)
        _write_json(making / CALIBRATION_FILE, calibration.to_json())
        phase("parity")
        parity = _compare(fp32, int8[: len(fp32)], labels[: len(fp32)], model.task)
        if parity.rows >= _FEWEST_TO_JUDGE and parity.labels_equal < _LEAST_EQUAL:
            raise PermanentError(
                f"the int8 model gives {parity.labels_equal:.1%} of {parity.rows} validation rows the label that the "
                f"fp32 model gives, expected at least {_LEAST_EQUAL:.0%}"
            )
        phase("warmup")
        _write_warmup(making, warmup_inputs(model.task))
        write_card(
            making,
            CardFacts(
                task=model.task,
                base_model=_base_name(settings),
                layers=model.architecture.layers,
                snapshot=snapshot,
                training=training or {},
                settings=_shown(settings),
                calibration=calibration.to_json(),
                parity=asdict(parity),
            ),
        )
        digest = package_digest(making)
        size_mb = sum(path.stat().st_size for path in making.iterdir()) / 1e6
        shutil.rmtree(folder, ignore_errors=True)
        making.replace(folder)
    finally:
        shutil.rmtree(making, ignore_errors=True)
    return BuildReport(digest=digest, parity=parity, calibration=calibration, size_mb=round(size_mb, 3))


def _write_model(
    model: Classifier,
    folder: Path,
    rows: Sequence[LabelledPair],
    settings: TrainingSettings,
    linear: Linear | None,
    effort: Effort,
) -> None:
    write = graph_of(model)
    if linear is None:
        pairs = [*warmup_inputs(model.task), *((row.text, row.aspect) for row in rows)]
        tokenizer = PairTokenizer.from_file(folder / TOKENIZER_FILE, settings.max_tokens, task=model.task)
        seen = observe_products(write, tokenizer.encode(pairs), seed=settings.seed)
        linear = Int8Products(seen, strengths=effort.strengths)
    (folder / MODEL_FILE).write_bytes(write(linear).SerializeToString())


def _config(model: Classifier, settings: TrainingSettings, snapshot: str | None, run: str | None) -> dict[str, Any]:
    return {
        "schema_version": 1,
        "base_model": _base_name(settings),
        "layers": model.architecture.layers,
        "hidden": model.architecture.hidden,
        "max_tokens": settings.max_tokens,
        "inputs": list(INPUTS),
        "task": model.task.to_json(),
        "labels": list(model.task.labels),
        "input_form": input_form_of(model.task),
        "snapshot": snapshot,
        "run": run,
        "training": _shown(settings),
    }


def _base_name(settings: TrainingSettings) -> str:
    return _name(settings.base_model)


def _name(base: str) -> str:
    """Return a name on the hub unchanged, or the last part of a folder: a package must not contain local paths."""
    return Path(base).name if Path(base).expanduser().is_dir() or Path(base).is_absolute() else base


def _shown(settings: TrainingSettings) -> dict[str, Any]:
    warm_start = settings.warm_start and _name(settings.warm_start)
    return settings.to_json() | {"base_model": _base_name(settings), "warm_start": warm_start}


def _sample(rows: Sequence[LabelledPair], most: int, seed: int) -> list[LabelledPair]:
    if len(rows) <= most:
        return list(rows)
    picked = np.random.default_rng(seed).choice(len(rows), most, replace=False)
    return [rows[int(index)] for index in picked]


def _scored(
    model: Classifier,
    folder: Path,
    rows: Sequence[LabelledPair],
    both: int,
    settings: TrainingSettings,
    seconds: float,
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Return scores by int8 of as many rows as the time allows, and by fp32 of at most the first `both` rows."""
    engine, ends = Engine.load(folder), time.perf_counter() + seconds
    tokenizer = PairTokenizer.from_file(folder / TOKENIZER_FILE, settings.max_tokens, task=model.task)
    int8, fp32 = [], []
    for start in range(0, len(rows), _CHUNK_ROWS):
        if start >= _FEWEST_CHECKED and time.perf_counter() > ends:
            break
        part = rows[start : start + _CHUNK_ROWS]
        int8.append(engine.score([(row.text, row.aspect) for row in part]))
        if start < both:
            fp32.append(score_as_teacher(model, tokenize(part[: both - start], tokenizer)))
    return np.concatenate(int8), np.concatenate(fp32)


def _compare(
    fp32: npt.NDArray[Any], int8: npt.NDArray[Any], labels: npt.NDArray[np.int64], task: TaskSpec
) -> PackageParity:
    by_label = f1_of(confusion_counts(labels, int8.argmax(1), n_labels=task.n_labels))
    return PackageParity(
        rows=len(labels),
        labels_equal=float((fp32.argmax(1) == int8.argmax(1)).mean()),
        f1_fp32=task_f1(labels, fp32.argmax(1), task),
        f1_int8=task_f1(labels, int8.argmax(1), task),
        f1_by_label=tuple(round(float(f1), 4) for f1 in by_label),
    )


def _write_warmup(folder: Path, inputs: Sequence[ModelInput]) -> None:
    engine = Engine.load(folder)
    lines = []
    for text, aspect in inputs:
        scores = [round(float(score), 6) for score in engine.score([(text, aspect)])[0]]
        beside = {} if aspect is None else {"aspect": aspect}
        lines.append(json.dumps({"text": text, **beside, "scores": scores}, ensure_ascii=False))
    (folder / WARMUP_FILE).write_text("\n".join(lines) + "\n", encoding="utf-8")


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
