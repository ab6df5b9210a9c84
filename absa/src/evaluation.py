"""Label a file of texts and aspects with a trained model, and measure the model if the file has labels.

python absa/src/evaluation.py                                       absa/data/test.csv by absa/models/champion
python absa/src/evaluation.py my_rows.csv --model path/to/package
python absa/src/evaluation.py my_rows.csv --model models:/absa@champion
"""

import argparse
import csv
import io
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple

sys.path.append(str(Path(__file__).resolve().parents[2]))  # for a checkout without installation

from absa.config_file import read_mapping
from absa.data.mapping import CONFIG_VARIABLE, DEFAULT_MAPPING, DataMapping, check_coding
from absa.errors import EvergreenError, InvalidDataError, NotFoundError, PermanentError
from absa.records.files import whole_file
from absa.task import EVALUATED, N_LABELS, sentiment

_ROOT: Final = Path(__file__).resolve().parents[2]
DEFAULT_MODEL: Final = _ROOT / "absa" / "models" / "champion"
TEST_FILE: Final = _ROOT / "absa" / "data" / "test.csv"
DEFAULT_OUTPUT: Final = _ROOT / "absa" / "data" / "results" / "test.csv"
INPUT_COLUMNS: Final = ("text", "aspect", "label")

_BAD_INPUT: Final = 2
_NO_TEXT: Final = "has no text or no aspect; fill it or drop it"
_SENTENCES: Final = {
    "malformed_row": "has more fields than the header, or fewer; put texts that hold commas between double quotes",
    "text_empty": _NO_TEXT,
    "aspect_empty": _NO_TEXT,
    "label_outside_0_2": "has a label that is not 0, 1 or 2 (0 negative, 1 neutral, 2 positive)",
}
_REGISTRY: Final = "models:/"


class InputRows(NamedTuple):
    """Rows of the file, in its order. `labels` is None unless every row has one."""

    pairs: list[tuple[str, str]]
    labels: list[int] | None


def read_input(path: Path, mapping: DataMapping = DEFAULT_MAPPING) -> InputRows:
    """Read texts, aspects and optional labels, as ingest and batch do; header names in any case.

    The output needs a line for each row, so a row that cannot be read is an error.

    Args:
        path: a CSV, TSV, JSONL or Parquet file.
        mapping: the form of the file.

    Raises:
        NotFoundError: there is no such file.
        InvalidDataError: the file is empty or not UTF-8, or lacks a column; or a row cannot be read, has no text or no
            aspect, or has a label that is unknown.
    """
    import polars as pl

    from absa.data.files.raw_rows import scan_file
    from absa.data.files.reasons import reason_sentence
    from absa.data.read import add_codes, code_column, telling_codes

    if not path.is_file():
        raise NotFoundError(f"there is no file {path}; name a CSV file with the columns text and aspect")
    codes: dict[str, int] = {}
    frames, first = [], None
    for raw in scan_file(path, require_label=False, mapping=mapping):
        add_codes(codes, telling_codes(raw))
        label = code_column(raw["label"])
        rows = raw.with_columns(
            number=label.replace_strict(dict(mapping.codes), default=None, return_dtype=pl.Int8),
            reason=pl.when(pl.col("reason").is_not_null())
            .then(pl.col("reason"))
            .when(pl.col("text").str.strip_chars().fill_null("") == "")
            .then(pl.lit("text_empty"))
            .when(pl.col("aspect").str.strip_chars().fill_null("") == "")
            .then(pl.lit("aspect_empty")),
            labelled=label.fill_null("") != "",
        ).with_columns(
            reason=pl.when(pl.col("reason").is_null() & pl.col("labelled") & pl.col("number").is_null())
            .then(pl.lit("label_outside_0_2"))
            .otherwise(pl.col("reason"))
        )
        bad = rows.filter(pl.col("reason").is_not_null()).select("row", "reason").head(1)
        first = bad.row(0) if first is None and bad.height else first
        for line in rows.filter(pl.col("as_written"))["row"].head(1):
            print(f"{path} line {line}: a double quote is not closed; read as written", file=sys.stderr)
        frames.append(rows.select("text", "aspect", "number"))
    check_coding(str(path), mapping.codes, codes)
    if first is not None:
        row, reason = first
        sentence = _SENTENCES.get(reason) or f"cannot be read: {reason_sentence(reason, row)}"
        raise InvalidDataError(f"{path} line {row} {sentence}")
    table = pl.concat(frames)
    if not table.height:
        raise InvalidDataError(f"{path} has a header and no rows; add rows below it")
    given = None if table["number"].has_nulls() else table["number"].to_list()
    return InputRows(pairs=list(table.select("text", "aspect").iter_rows()), labels=given)


def model_folder(model: str) -> Path:
    """Return the package folder of a path, or download it from a registry URI (`models:/absa@champion`).

    Raises:
        NotFoundError: the package does not exist.
    """
    if not model.startswith(_REGISTRY):
        folder = Path(model)
        if not folder.is_dir():
            raise NotFoundError(
                f"there is no model at {folder}; absa/models/README.md describes how to add one, or name another "
                "by --model"
            )
        return folder
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # MLflow reads it at import
    try:
        import mlflow
    except ModuleNotFoundError:
        raise PermanentError(f"{model} needs MLflow; install mlflow, or name a package folder by --model") from None
    from absa.proxies import keep_local_direct

    keep_local_direct(os.environ)
    try:
        return Path(mlflow.artifacts.download_artifacts(model)) / "artifacts"
    except Exception as error:  # MLflow's stores raise errors of many libraries
        where = os.environ.get("MLFLOW_TRACKING_URI", "the default store")
        raise NotFoundError(f"{model} cannot be had from MLflow at {where}: {type(error).__name__}") from error


def write_rows(path: Path, pairs: Sequence[tuple[str, str]], labels: Sequence[int]) -> None:
    """Write a file of text, aspect and label, atomically.

    Raises:
        PermanentError: the folder cannot be written to, or the disk is full.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(path) as file, io.TextIOWrapper(file, encoding="utf-8", newline="") as text:
            writer = csv.writer(text, lineterminator="\n")
            writer.writerow(INPUT_COLUMNS)
            writer.writerows((*pair, label) for pair, label in zip(pairs, labels, strict=True))
    except OSError as error:
        raise PermanentError(f"{path} cannot be written: {error.strerror}") from error


def describe(labels: Sequence[int], predicted: Sequence[int]) -> str:
    """Return precision, recall and F1 of negative and positive, and their mean, as lines of text."""
    from sklearn.metrics import accuracy_score, f1_score, precision_recall_fscore_support  # the import takes a second

    by_label = precision_recall_fscore_support(labels, predicted, labels=list(EVALUATED), zero_division=0)
    primary, macro = (
        f1_score(labels, predicted, labels=counted, average="macro", zero_division=0)
        for counted in (list(EVALUATED), list(range(N_LABELS)))
    )
    return "\n".join(
        [
            f"{'':10}{'precision':>10}{'recall':>10}{'F1':>10}{'rows':>8}",
            *(
                f"{sentiment(label):10}{precision:10.3f}{recall:10.3f}{f1:10.3f}{rows:8,}"
                for label, precision, recall, f1, rows in zip(EVALUATED, *by_label, strict=True)
            ),
            f"pos/neg F1 {primary:.3f} (mean of the two over all {len(labels):,} rows, the neutral ones included)",
            f"accuracy   {accuracy_score(labels, predicted):.3f}, macro F1 {macro:.3f}",
        ]
    )


def evaluate_file(test_file: Path, model: str, output: Path) -> None:
    """Label a file, write the answers, and print the metrics if the file has labels.

    Raises:
        EvergreenError: the input cannot be used; the message is one sentence.
    """
    from absa.inference.engine import Engine

    rows = read_input(test_file, read_mapping(os.environ.get(CONFIG_VARIABLE)))
    engine = Engine.load(model_folder(model))
    encoded = engine.tokenizer.encode(rows.pairs)
    scores = engine.score_encoded(encoded)
    predicted = [int(label) for label in scores.argmax(axis=1)]
    write_rows(output, rows.pairs, predicted)
    counts = ", ".join(f"{predicted.count(label):,} {sentiment(label)}" for label in range(N_LABELS))
    print(f"{len(predicted):,} rows labelled ({counts}) and written to {output}")
    if truncated := sum(each.truncated for each in encoded):
        most = engine.tokenizer.max_tokens
        print(f"{truncated:,} rows have more than {most} tokens; their texts were cut around the aspect")
    if rows.labels is not None:
        print(describe(rows.labels, predicted))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return the exit code: 0, or 2 if the input cannot be used."""
    parser = argparse.ArgumentParser(
        prog="evaluation.py",
        description="Label a CSV, TSV, JSONL or Parquet file of texts and aspects with a trained model (0 negative, "
        "1 neutral, 2 positive), "
        "and print the metrics of the positive and negative classes if the file has labels.",
        epilog="example: python absa/src/evaluation.py my_rows.csv --model models:/absa@champion",
    )
    parser.add_argument(
        "test_file",
        nargs="?",
        type=Path,
        default=TEST_FILE,
        help="file with the columns text and aspect, and perhaps label (default: absa/data/test.csv)",
    )
    parser.add_argument(
        "--model",
        default=str(DEFAULT_MODEL),
        help="package folder, or registry URI such as models:/absa@champion (default: absa/models/champion)",
    )
    parser.add_argument(
        "--output", type=Path, default=DEFAULT_OUTPUT, help="CSV to write (default: absa/data/results/test.csv)"
    )
    chosen = parser.parse_args(arguments)
    try:
        evaluate_file(chosen.test_file, chosen.model, chosen.output)
    except EvergreenError as error:
        print(f"error: {error}", file=sys.stderr)
        return _BAD_INPUT
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
